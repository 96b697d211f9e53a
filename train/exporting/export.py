"""Export: a run as files that are used without tfr, compared with the run before they appear."""

import contextlib
import dataclasses
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

from tfr import files, progress
from tfr.errors import TfrError, UsageError

from .. import input_pipeline, memory, run_dir
from . import check, manifest, model, model_card, onnx, sample_images, saved_model, tflite
from .config import INT8, KERAS, ONNX, SAVED_MODEL, ExportConfig
from .model import ExportModel

EXPORT_FILE = "export.json"  # written last: a folder without it is no export
CARD_FILE = "MODEL_CARD.md"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """What an export made.

    Attributes:
      output: the folder.
      file_names: format to its file or folder in it.
      checked: what was compared, see check.check; empty without a check.
      num_checked, check_split: on how many images, and of which split.
    """

    output: str
    file_names: dict[str, str]
    checked: list[check.Row]
    num_checked: int
    check_split: str


def export(config: ExportConfig) -> Export:
    """Writes a run in other formats.

    Everything is made in a folder beside `output` (on the local disk for a URI), checked there, and then appears at
    once. An export that fails or is stopped leaves nothing under `output`.

    Raises:
      RunDirError: it is no finished run, or the dataset has other labels.
      UsageError: `output` holds something else, or an export that is not to be replaced.
      MissingDependencyError: a format needs a package that is not installed.
      DatasetError: no such dataset or split.
      TfrError: a format cannot take this network, or says something else than the run's model.
    """
    run = run_dir.load(config.run)
    _check_output(config)
    if ONNX in config.formats:
        onnx.check_installed()
    builder = _open_dataset(config, run)
    split = _check_split(config, run, builder)
    with _staging(config) as folder:
        tagger = model.load(run)
        for format in progress.count(config.formats, "exporting", "formats"):
            _write(tagger, config, format, os.path.join(folder, config.file_name(format)), builder)
            memory.give_back()
        rows, num_checked = _check(tagger, config, folder, builder, split)
        described = manifest.describe(config, run, folder, split, num_checked, rows)
        shutil.copy(os.path.join(run.path, run_dir.LABELS_FILE), folder)
        run_dir.write_text(folder, CARD_FILE, model_card.text(run, described, run_dir.read_metrics(run.path)))
        run_dir.write_json(folder, EXPORT_FILE, described)
    return Export(
        output=config.output,
        file_names=config.file_names,
        checked=rows,
        num_checked=num_checked,
        check_split=split,
    )


def _check_output(config: ExportConfig) -> None:
    """Raises where something is in the way."""
    if not files.exists(config.output):
        return
    if not files.is_dir(config.output):
        raise UsageError(f"--output={config.output} is a file; give a folder.")
    names = files.list_names(config.output)
    if names and EXPORT_FILE not in names:
        raise UsageError(
            f"{config.output} holds files that are no export's, such as {names[0]}. Give another --output."
        )
    if names and not config.overwrite:
        raise UsageError(f"{config.output} holds an export. Give another --output, or --overwrite to replace it.")


def _open_dataset(config: ExportConfig, run: run_dir.Run) -> tfds.core.DatasetBuilder | None:
    """The dataset, if images are needed."""
    if not config.check and INT8 not in config.formats:
        return None
    try:
        return input_pipeline.open_dataset(run.locate_dataset(config.dataset))
    except TfrError as err:
        reason = "--format=tflite_int8 needs images" if INT8 in config.formats else "the check needs images"
        raise type(err)(
            f"{err} ({reason}: name them with --dataset{'' if config.dataset else ', or --nocheck'})"
        ) from err


def _check_split(config: ExportConfig, run: run_dir.Run, builder: tfds.core.DatasetBuilder | None) -> str:
    """The split to compare on; a dataset without a test split lends the one of the validation."""
    if builder is None or not config.check:
        return ""
    missing = config.check_split == "test" and "test" not in builder.info.splits
    split = run.config["resolved"]["validation_split"] if missing else config.check_split
    input_pipeline.num_examples(builder, split)  # a clear error before anything is written
    return split


def _write(
    tagger: ExportModel, config: ExportConfig, format: str, path: str, builder: tfds.core.DatasetBuilder | None
) -> None:
    """Writes one format."""
    if format == SAVED_MODEL:
        saved_model.write(tagger, path)
    elif format == ONNX:
        onnx.write(tagger, path, manifest.facts(tagger.run))
    elif format == KERAS:
        tagger.model.save(path)
    elif format == INT8:
        split = tagger.run.config["resolved"]["train_split"]
        images, _ = sample_images.read(tagger.run, builder, split, config.calibration_images)
        tflite.write(tagger, path, format, np.array([image.pixels for image in images]))
    else:
        tflite.write(tagger, path, format)


def _check(
    tagger: ExportModel,
    config: ExportConfig,
    folder: str,
    builder: tfds.core.DatasetBuilder | None,
    split: str,
) -> tuple[list[check.Row], int]:
    """Compares, and raises where a format is not what it should be; rows, and the number of images."""
    if not config.check:
        return [], 0
    images, targets = sample_images.read(tagger.run, builder, split, config.check_images)
    try:
        rows = check.check(tagger, folder, config.file_names, images, targets)
    except TfrError as err:
        raise TfrError(f"{err} Nothing was exported. Leave the format out, or --nocheck if you know better.") from err
    return rows, len(images)


@contextlib.contextmanager
def _staging(config: ExportConfig) -> Iterator[str]:
    """A local folder to export to, which becomes `output` when the block ends, and goes if it raises."""
    output = config.output.rstrip("/")
    if not files.is_local(output):
        with tempfile.TemporaryDirectory() as folder:
            yield folder
            _upload(folder, output)
        return
    staging = f"{output}.tmp-{uuid.uuid4().hex[:12]}"
    os.makedirs(staging)
    try:
        yield staging
        if os.path.isdir(output):
            os.replace(output, replaced := f"{staging}-replaced")
            os.replace(staging, output)
            shutil.rmtree(replaced)
        else:
            os.replace(staging, output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _upload(folder: str, output: str) -> None:
    """Copies an export to a URI in the place of what is there, the file that says it is whole last."""
    files.remove_tree(output)
    names = sorted((file.path for file in files.list_files(folder)), key=lambda name: (name == EXPORT_FILE, name))
    for name in progress.count(names, "uploading", "files"):
        with open(os.path.join(folder, name), "rb") as source, files.atomic_write(files.join(output, name)) as target:
            shutil.copyfileobj(source, target)


def summary(result: Export) -> str:
    """What was made, in plain words."""
    lines = [f"Exported to {result.output}:"]
    lines += [f"  {format:<16}{name}" for format, name in result.file_names.items()]
    if result.checked:
        lines += ["", f"On {result.num_checked} images of {result.check_split}, one at a time:"]
        lines.append(check.text(result.checked))
    else:
        lines.append("  (not compared with the run's model)")
    return "\n".join(lines)
