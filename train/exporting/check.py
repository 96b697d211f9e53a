"""Whether what was exported says what the run's model says, on real images, and how fast it does."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfr import progress
from tfr.errors import TfrError

from .. import forward, memory, metrics, run_dir
from . import runtimes, speed
from .config import FLOAT16, INT8, KERAS, ONNX, SAVED_MODEL, TFLITE
from .model import ExportModel
from .runtimes import Image

# The largest difference of a probability that is let pass. int8 is approximate: of it the mean difference counts, and
# the limit only tells a coarser network from a broken one.
LIMITS = {SAVED_MODEL: 1e-3, TFLITE: 1e-3, FLOAT16: 2e-2, ONNX: 1e-3, KERAS: 1e-3}
INT8_MEAN_LIMIT = 0.05
RUN_ROW = "the run's model"
_BATCH = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One way to run an exported network, against the run's network in float32.

    Attributes:
      name: format, and which signature.
      key: file and signature.
      format: one of config.FORMATS, or '' for the run's own model.
      max_difference, mean_difference: of probabilities, over all images and labels.
      equal_tags: share of images with the very same tags by the run's thresholds.
      equal_top: share of images with the same likeliest label.
      macro_map, micro_map: on these images; NaN where no label has positives and negatives among them.
      images_per_second, images_per_second_one_thread: one image at a time.
    """

    name: str
    key: str
    format: str
    max_difference: float
    mean_difference: float
    equal_tags: float
    equal_top: float
    macro_map: float
    micro_map: float
    images_per_second: float = float("nan")
    images_per_second_one_thread: float = float("nan")

    @property
    def is_sound(self) -> bool:
        """Whether it is within the limits; what is not a number is not."""
        if self.format == INT8:
            return self.mean_difference <= INT8_MEAN_LIMIT
        return not self.format or self.max_difference <= LIMITS[self.format]


def check(
    tagger: ExportModel, folder: str, file_names: dict[str, str], images: Sequence[Image], targets: np.ndarray
) -> list[Row]:
    """Compares exported formats with the run's network, and then measures how fast they are.

    Args:
      tagger: what was exported.
      folder: of the export.
      file_names: format to its file or folder there.
      images: at least one.
      targets: what is true of them, (n, num_labels) of 1, 0 and -1 for unknown.

    Returns:
      The run's own model (in its own precision), then a row or two for each format.

    Raises:
      TfrError: a format is not within the limits.
    """
    model_file = os.path.join(os.path.abspath(tagger.run.path), run_dir.MODEL_FILE)
    entries = [speed.Entry(KERAS, model_file)]
    entries += [speed.Entry(*item) for item in file_names.items()]
    reference = _reference(tagger, images)
    rows: list[Row] = []
    for entry in progress.count(entries, "checking", "formats"):
        rows += _rows(entry, folder, entry.file_name == model_file, images, reference, targets, tagger)
        memory.give_back()  # before the next one is opened
    if wrong := complaints(rows):
        raise TfrError(f"{'; '.join(wrong)} (on {len(images)} images).")
    alone = speed.on_one_thread(folder, entries, images)
    return [dataclasses.replace(row, images_per_second_one_thread=alone[row.key]) for row in rows]


def _rows(
    entry: speed.Entry,
    folder: str,
    is_run: bool,
    images: Sequence[Image],
    reference: np.ndarray,
    targets: np.ndarray,
    tagger: ExportModel,
) -> list[Row]:
    """A row for each way to call one format, `is_run` for the run's own model."""
    return [
        Row(
            name=RUN_ROW if is_run else name,
            key=f"{entry.file_name}:{name}",
            format="" if is_run else entry.format,
            **compare(np.array([predict(image) for image in images]), reference, targets, tagger),
            images_per_second=speed.measure(predict, images),
        )
        for name, predict in runtimes.open_format(folder, *entry).items()
    ]


def _reference(tagger: ExportModel, images: Sequence[Image]) -> np.ndarray:
    predict = forward.compile_forward(tagger.model, dtype=tf.uint8)
    pixels = tf.constant(np.array([image.pixels for image in images]))
    return np.concatenate([predict(pixels[i : i + _BATCH]).numpy() for i in range(0, len(images), _BATCH)])


def compare(
    probabilities: np.ndarray, reference: np.ndarray, targets: np.ndarray, tagger: ExportModel
) -> dict[str, float]:
    """The figures of a Row about probabilities, all arrays (n, num_labels)."""
    difference = np.abs(probabilities.astype(np.float64) - reference)
    tags, expected = (np.array([tagger.rule.decide(row) for row in rows]) for rows in (probabilities, reference))
    measured = _measure(probabilities, targets, tagger.run)
    return {
        "max_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
        "equal_tags": float((tags == expected).all(axis=1).mean()),
        "equal_top": float((probabilities.argmax(axis=1) == reference.argmax(axis=1)).mean()),
        "macro_map": measured.get("macro_map", float("nan")),
        "micro_map": measured.get("micro_map", float("nan")),
    }


def _measure(probabilities: np.ndarray, targets: np.ndarray, run: run_dir.Run) -> dict[str, Any]:
    if not np.isfinite(probabilities).all():
        return {}
    limits = run.thresholds.per_label
    return metrics.compute_metrics(targets, probabilities, run.labels, threshold=limits, multi_label=run.multi_label)


_COLUMNS = {
    "max_difference": ("max diff", "{:.6f}"),
    "mean_difference": ("mean diff", "{:.6f}"),
    "equal_tags": ("same tags", "{:.3f}"),
    "equal_top": ("same top", "{:.3f}"),
    "macro_map": ("macro mAP", "{:.4f}"),
    "micro_map": ("micro mAP", "{:.4f}"),
    "images_per_second": ("images/s", "{:.1f}"),
    "images_per_second_one_thread": ("1 thread", "{:.1f}"),
}


def text(rows: Sequence[Row]) -> str:
    """The rows as a table."""
    lines = [f"  {'':<20}" + "".join(f"{title:>11}" for title, _ in _COLUMNS.values())]
    for row in rows:
        cells = (f"{form.format(getattr(row, key)):>11}" for key, (_, form) in _COLUMNS.items())
        lines.append(f"  {row.name:<20}" + "".join(cells))
    return "\n".join(lines)


def complaints(rows: Sequence[Row]) -> list[str]:
    """A line for each row that is not within the limits."""
    lines = []
    for row in rows:
        if row.is_sound:
            continue
        if row.format == INT8:
            what, limit = f"by {row.mean_difference:.3g} on average", INT8_MEAN_LIMIT
        else:
            what, limit = f"by up to {row.max_difference:.3g}", LIMITS[row.format]
        lines.append(f"{row.name}: probabilities differ from the run's model {what}; allowed is {limit:g}")
    return lines
