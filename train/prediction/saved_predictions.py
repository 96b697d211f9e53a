"""What a run says of a split, computed once and kept in the run directory for everything that looks at it."""

import dataclasses
import errno
import hashlib
import os
import sys

import numpy as np
import tensorflow_datasets as tfds

from tfr import dataset_dir
from tfr.errors import RunDirError

from .. import forward, input_pipeline, metrics, run_dir

_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Of a split, in stored order: targets and probabilities, (num_examples, num_labels), and ids if there are any."""

    targets: np.ndarray
    probabilities: np.ndarray
    ids: list[str]


def of_split(run: run_dir.Run, *, dataset: str | None = None, split: str = "test", batch_size: int = 32) -> Predictions:
    """Probabilities and targets of every example of a split.

    Kept in `<run_dir>/predictions/`, and read from there as long as neither the model nor the dataset changed.

    Args:
      run: a finished run.
      dataset: dataset directory or TFDS name; default: the one that the run was trained on.
      split: a split, or a slice of one.
      batch_size: images per step.

    Raises:
      RunDirError: the run's labels are not those of the dataset.
      DatasetError: no such dataset or split, or one whose labels are kept secret.
    """
    builder = input_pipeline.open_dataset(run.locate_dataset(dataset))
    check_labels(run, builder)
    input_pipeline.num_examples(builder, split)  # a clear error for a split that is not there
    key = _key(run, builder, split)
    name = os.path.join(run_dir.PREDICTIONS_DIR, f"{key}.npz")
    if os.path.exists(os.path.join(run.path, name)):
        with np.load(os.path.join(run.path, name)) as saved:
            return Predictions(saved["targets"], saved["probabilities"], saved["ids"].tolist())
    found = _predict(run, builder, split, batch_size)
    metrics.check_known(found.targets, builder.info.full_name, split)
    _keep(run, name, found)
    return found


def _keep(run: run_dir.Run, name: str, found: Predictions) -> None:
    """Writes predictions into the run directory; of one that may only be read they are made anew each time."""
    try:
        run_dir.write_arrays(
            run.path, name, targets=found.targets, probabilities=found.probabilities, ids=np.array(found.ids, dtype=str)
        )
    except OSError as err:
        if err.errno not in _READ_ONLY:
            raise
        print(f"Predictions are not kept in {run.path}: {err.strerror}.", file=sys.stderr, flush=True)


def _predict(run: run_dir.Run, builder: tfds.core.DatasetBuilder, split: str, batch_size: int) -> Predictions:
    shape = input_pipeline.BatchShape(run.image_size, batch_size, run.resize)
    batches = input_pipeline.for_evaluation(builder, split, shape)
    total = input_pipeline.num_examples(builder, split)
    found = forward.collect(forward.run(run.load_model(), batches, total=total, description=f"predicting {split}"))
    ids = [value.decode("utf-8") for value in found.get("id", [])]
    return Predictions(found["target"], found["output"], ids)


def _key(run: run_dir.Run, builder: tfds.core.DatasetBuilder, split: str) -> str:
    """A file name that changes with the model, the dataset and the split."""
    model = os.stat(os.path.join(run.path, run_dir.MODEL_FILE))
    parts = [f"{model.st_size} {model.st_mtime_ns}", *dataset_dir.identity(builder), split]
    readable = "".join(c if c.isalnum() else "_" for c in split)
    return f"{readable}-{hashlib.blake2b(repr(parts).encode(), digest_size=6).hexdigest()}"


def check_labels(run: run_dir.Run, builder: tfds.core.DatasetBuilder) -> None:
    """Raises RunDirError where the run's labels are not the dataset's, in the same order."""
    names, dataset = dataset_dir.label_names(builder), builder.info.full_name
    if run.labels == names:
        return
    only_run, only_data = sorted(set(run.labels) - set(names)), sorted(set(names) - set(run.labels))
    difference = f"only in the run: {only_run}; only in the dataset: {only_data}"
    if not only_run and not only_data:
        difference = "the same labels in another order"
    raise RunDirError(
        f"The labels of {run.path} are not those of {dataset}: {difference}. Convert the dataset with "
        f"--labels_file={os.path.join(run.path, run_dir.LABELS_FILE)}, or evaluate on the dataset of the training."
    )
