"""The run directory: what a training run leaves, and all that later steps need to know of it."""

import contextlib
import csv
import dataclasses
import json
import math
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tfr import files, folder_lock
from tfr.errors import DatasetError, RunDirError, UsageError

from . import thresholds as thresholds_lib

if TYPE_CHECKING:
    import keras

MODEL_FILE = "model.keras"  # pixels to probabilities
LABELS_FILE = "labels.txt"  # a label name a line, in the order of the model's outputs
THRESHOLDS_FILE = "thresholds.json"  # from which probability on a tag is shown: over all labels, and for each
PREDICTIONS_DIR = "predictions"  # <split>.npz: what the model said of each example; see saved_predictions
CONFIG_FILE = "config.json"  # the TrainConfig, what it was resolved to, and the dataset
HISTORY_FILE = "history.csv"  # a row an epoch
METRICS_FILE = "metrics.json"  # split to metrics
RESULTS_FILE = "results.csv"  # a row an evaluation, columns a label
CHECKPOINT_DIR = "checkpoints"  # the state of an unfinished run
TENSORBOARD_DIR = "tensorboard"
PLOTS_DIR = "plots"
REPORT_FILE = "report.html"
PLAIN_FOLDER = "run"  # what a run's folder is called in a folder that `tfr run` makes
_LOCK_DIR = ".lock"
# All that a training run writes, and that a run in its place replaces; results.csv is a log, and stays.
_ENTRIES = (
    MODEL_FILE, LABELS_FILE, THRESHOLDS_FILE, CONFIG_FILE, HISTORY_FILE, METRICS_FILE, PREDICTIONS_DIR, CHECKPOINT_DIR,
    TENSORBOARD_DIR, PLOTS_DIR,
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run.

    Attributes:
      path: the run directory.
      labels: label names in the order of the model's outputs.
      thresholds: probabilities from which on a tag is shown.
      config: what config.json holds.
    """

    path: str
    labels: list[str]
    thresholds: thresholds_lib.Thresholds
    config: dict[str, Any]

    @property
    def multi_label(self) -> bool:
        """Whether an image has any number of labels, or exactly one."""
        return self.config["resolved"]["label_mode"] == "multi"

    @property
    def image_size(self) -> int:
        """Side of the model's square input in pixels."""
        return self.config["resolved"]["image_size"]

    @property
    def resize(self) -> str:
        """How images become square; see DataConfig."""
        return self.config["data"]["resize"]

    @property
    def epoch_was_chosen(self) -> bool:
        """Whether the validation split decided which epoch's weights were kept; fine-tuning always asks it."""
        return self.config.get("keep") != "last" or self.config["finetune_epochs"] > 0

    def locate_dataset(self, given: str | None = None) -> str:
        """The dataset directory that is given, or the one of the training: where it was, or beside the run as it was.

        Raises:
          DatasetError: it is at neither place.
        """
        if given:
            return given
        resolved = self.config["resolved"]
        places = [resolved["dataset_dir"]]
        if beside := resolved.get("dataset_from_run"):  # both moved together
            places.append(os.path.abspath(os.path.join(self.path, beside)))
        for place in places:
            if files.is_dir(place):
                return place
        raise DatasetError(
            f"No dataset directory at {' nor at '.join(dict.fromkeys(places))}: there is no such folder. {self.path} "
            "was trained on it; if it lies elsewhere now, say where: --dataset=DIRECTORY."
        )

    def load_model(self) -> "keras.Model":
        """The model: float32 (n, image_size, image_size, 3) pixels of 0 to 255 to (n, num_labels) probabilities."""
        import keras

        path = os.path.join(self.path, MODEL_FILE)
        try:
            return keras.models.load_model(path, compile=False)
        except Exception as err:  # Keras raises many kinds on a damaged file
            raise RunDirError(f"{path} cannot be loaded: {type(err).__name__}: {err}. Train again.") from err


@contextlib.contextmanager
def claim(path: str, overwrite: bool) -> Iterator[None]:
    """Makes a run directory as `create` does, and keeps other trainings out of it until the block ends.

    Raises:
      UsageError: as for `create`.
      ConversionError: another process trains there.
    """
    _check_free(path, overwrite)
    with folder_lock.hold(os.path.join(path, _LOCK_DIR), "tfr train", path):
        create(path, overwrite)
        yield


def create(path: str, overwrite: bool) -> None:
    """Makes a run directory; with `overwrite`, empties it of the run that is in it.

    Raises:
      UsageError: there is a finished run, or something that is no run, in it.
    """
    _check_free(path, overwrite)
    os.makedirs(path, exist_ok=True)
    for name in _ENTRIES if overwrite else ():
        full = os.path.join(path, name)
        shutil.rmtree(full) if os.path.isdir(full) else pathlib.Path(full).unlink(missing_ok=True)


def _check_free(path: str, overwrite: bool) -> None:
    """Raises UsageError where there is a finished run that is not to be replaced, or something that is no run."""
    if os.path.isfile(path):
        raise UsageError(f"--run_dir={path} is a file; give a folder.")
    entries = set(os.listdir(path)) - {_LOCK_DIR} if os.path.isdir(path) else set()
    if MODEL_FILE in entries and not overwrite:
        raise UsageError(f"{path} holds a finished run. Give another --run_dir, or --overwrite to replace it.")
    if entries and not entries & {*_ENTRIES, RESULTS_FILE}:
        raise UsageError(f"{path} holds files that are no run's, such as {min(entries)}. Give another --run_dir.")


def name_of(path: str) -> str:
    """What to call a run: the name of its folder, or, where that is only 'run', of the folder that it is in."""
    folder, name = os.path.split(os.path.abspath(path))
    return (os.path.basename(folder) if name == PLAIN_FOLDER else "") or name


def save_model(path: str, model: "keras.Model") -> None:
    """Writes the model of a run; it appears under its name when it is complete."""
    temporary = os.path.join(path, ".tmp-model.keras")
    model.save(temporary)
    os.replace(temporary, os.path.join(path, MODEL_FILE))


def load(path: str) -> Run:
    """Opens a finished run.

    Raises:
      RunDirError: it is not one; says what is missing.
    """
    if not os.path.isdir(path):
        raise RunDirError(f"No run directory at {path}: there is no such folder.")
    missing = [name for name in (MODEL_FILE, LABELS_FILE, CONFIG_FILE) if not os.path.exists(os.path.join(path, name))]
    if missing:
        below = sorted(entry.path for entry in os.scandir(path) if os.path.exists(os.path.join(entry.path, MODEL_FILE)))
        hint = f"{below[0]} is one." if below else "`tfr train` makes one."
        raise RunDirError(f"{path} is not a finished run: it has no {', '.join(missing)}. {hint}")
    with open(os.path.join(path, LABELS_FILE), encoding="utf-8", newline="\n") as file:
        labels = file.read().removesuffix("\n").split("\n")  # names may hold what else ends lines, such as U+0085
    where = os.path.join(path, THRESHOLDS_FILE)
    thresholds = thresholds_lib.from_json(_read_json(path, THRESHOLDS_FILE), labels, where)
    return Run(path=path, labels=labels, thresholds=thresholds, config=_read_json(path, CONFIG_FILE))


def _read_json(path: str, name: str) -> dict[str, Any]:
    full = os.path.join(path, name)
    if not os.path.exists(full):
        return {}
    try:
        with open(full, encoding="utf-8") as file:
            return json.load(file)
    except ValueError as err:
        raise RunDirError(f"{full} is not valid JSON: {err}. Train again.") from err


def write_text(path: str, name: str, text: str) -> None:
    """Writes a text file of the run directory, in UTF-8."""
    write_bytes(path, name, text.encode("utf-8"))


def write_bytes(path: str, name: str, data: bytes) -> None:
    """Writes a file of the run directory; it appears under its name when it is complete."""
    with files.atomic_write(os.path.join(path, name)) as file:
        file.write(data)


def write_arrays(path: str, name: str, **arrays: np.ndarray) -> None:
    """Writes an .npz file of the run directory; it appears under its name when it is complete."""
    full = os.path.join(path, name)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with files.atomic_write(full) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def write_json(path: str, name: str, value: Any) -> None:
    """Writes a JSON file of the run directory."""
    write_text(path, name, to_json(value) + "\n")


def to_json(value: Any) -> str:
    """JSON text; figures that are not defined (NaN, which JSON does not know) become null."""
    return json.dumps(_without_nan(value), indent=1, ensure_ascii=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_metrics(path: str) -> dict[str, Any]:
    """What metrics.json holds: split to metrics; empty where nothing was measured."""
    return _read_json(path, METRICS_FILE)


def update_metrics(path: str, split: str, metrics: dict[str, Any]) -> None:
    """Puts a split's metrics into metrics.json, the other splits' kept."""
    with folder_lock.wait(path):
        write_json(path, METRICS_FILE, {**_read_json(path, METRICS_FILE), split: metrics})


def append_results(path: str, row: dict[str, Any]) -> None:
    """Appends a row to a CSV file of results; columns that are new are added, for all rows.

    Raises:
      RunDirError: the file is there and is no CSV file with a header.
    """
    with folder_lock.wait(os.path.dirname(os.path.abspath(path))):
        _append(path, row)


def _append(path: str, row: dict[str, Any]) -> None:
    rows: list[dict[str, Any]] = []
    columns: list[str] = []
    if os.path.exists(path):
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), list(reader.fieldnames or [])
        if "run" not in columns:
            raise RunDirError(f"{path} is not a results file: it has no column 'run'. Give another --results.")
    columns += [name for name in row if name not in columns]
    temporary = f"{path}.tmp-{os.getpid()}"
    with open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows([*rows, row])
    os.replace(temporary, path)
