"""What a phase's tagger says of the validation split, for TensorBoard: precision-recall curves and sample images."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorboard.plugins.pr_curve import metadata as pr_metadata

from tfr import contact_sheet

from . import input_pipeline
from .preprocessing import UNKNOWN
from .task import Task

_NUM_THRESHOLDS = 101
_NUM_SAMPLES = 12
_NUM_TAGS = 3


def write_predictions(task: Task, phase: str, targets: np.ndarray, probabilities: np.ndarray, epoch: int) -> None:
    """Writes a precision-recall curve a label, and a sheet of the first images with what is said of them.

    Args:
      task: the run; on workers other than the chief nothing is written.
      phase: its name.
      targets, probabilities: (num_examples, num_labels), of the validation split in stored order.
      epoch: how many epochs the phase had.
    """
    writer = task.history.writer(phase, "validation")
    if writer is None:
        return
    has_images = "image" in task.builder.info.features  # not where bottlenecks stand for a dataset that is gone
    sheet = _draw_samples(task, targets, probabilities) if has_images else None
    with writer.as_default(step=epoch):
        for column, name in enumerate(task.names):
            write_pr_curve(f"pr_curve/{name}", targets[:, column], probabilities[:, column])
        if sheet is not None:
            tf.summary.image("samples", sheet[np.newaxis], description="Likeliest tags, and what is right.")
    writer.flush()


def write_pr_curve(tag: str, targets: np.ndarray, probabilities: np.ndarray) -> None:
    """Writes a curve in the format of TensorBoard's plugin, whose own functions for that need TensorFlow 1."""
    curve = pr_curve(targets, probabilities)
    plugin = pr_metadata.create_summary_metadata(tag, "", curve.shape[1])
    tf.summary.write(tag, curve, metadata=plugin.SerializeToString())


def pr_curve(targets: np.ndarray, probabilities: np.ndarray, num_thresholds: int = _NUM_THRESHOLDS) -> np.ndarray:
    """Counts, precision and recall by threshold.

    Args:
      targets: (num_examples,) of 1, 0 and UNKNOWN; the last are left out.
      probabilities: (num_examples,).
      num_thresholds: evenly spaced from 0 to 1; predicted is what is at least the threshold.

    Returns:
      float32 (6, num_thresholds): true positives, false positives, true negatives, false negatives, precision, recall.
    """
    is_known = targets != UNKNOWN
    places = np.floor(probabilities[is_known] * (num_thresholds - 1)).astype(int)
    positive = targets[is_known] == 1
    counts = [np.bincount(places[chosen], minlength=num_thresholds) for chosen in (positive, ~positive)]
    true_positives, false_positives = (np.cumsum(count[::-1])[::-1] for count in counts)
    true_negatives, false_negatives = false_positives[0] - false_positives, true_positives[0] - true_positives
    precision = true_positives / np.maximum(true_positives + false_positives, 1)
    recall = true_positives / np.maximum(true_positives[0], 1)
    rows = [true_positives, false_positives, true_negatives, false_negatives, precision, recall]
    return np.stack(rows).astype(np.float32)


def _draw_samples(task: Task, targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """uint8 (height, width, 3)."""
    shape = task.shape._replace(batch_size=_NUM_SAMPLES)
    batch = next(input_pipeline.for_evaluation(task.builder, task.validation_split, shape).as_numpy_iterator())
    captions = [
        caption(task.names, target, row) for target, row in zip(targets, probabilities[:_NUM_SAMPLES], strict=False)
    ]
    images = [Image.fromarray(image) for image in batch["image"]]
    return np.asarray(contact_sheet.draw(list(zip(images, captions, strict=True))))


def caption(names: Sequence[str], target: np.ndarray, probabilities: np.ndarray) -> str:
    """The likeliest tags, and what is right: 'cat 0.91, dog 0.20 (right: cat, sofa)'."""
    likeliest = np.argsort(-probabilities, kind="stable")[:_NUM_TAGS]
    said = ", ".join(f"{names[i]} {probabilities[i]:.2f}" for i in likeliest)
    return f"{said} (right: {', '.join(names[i] for i in np.flatnonzero(target == 1).tolist()) or 'none'})"
