"""What a tagger says of one image, and which of its labels are given as tags."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from tfr.errors import UsageError

from .. import run_dir

DEFAULT_TOP_K = 10


class Tag(NamedTuple):
    """A label and its probability."""

    label: str
    probability: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a tagger says of one image, or why it says nothing.

    Attributes:
      image: path, or id in a dataset; the number in the input for images that have neither.
      tags: as TagRule chooses them, likeliest first; empty where there is an error.
      probabilities: of all labels, float32 (num_labels,); None where there is an error.
      embedding: what the head is given, float32 (embedding_size,), if asked for.
      target: 1, 0 or preprocessing.UNKNOWN for each label, float32 (num_labels,), of examples of a dataset.
      error: why the image cannot be used: a reason of tfr.images.REASONS, a colon and details. None if it can.
    """

    image: str
    tags: list[Tag] = dataclasses.field(default_factory=list)
    probabilities: np.ndarray | None = None
    embedding: np.ndarray | None = None
    target: np.ndarray | None = None
    error: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TagRule:
    """Which labels become tags; see `make_rule`.

    Attributes:
      labels: names in the order of the model's outputs.
      limits: probability of each label from which on an image has it, float64 (num_labels,).
      multi_label: whether an image has any number of labels; otherwise it has at most its likeliest.
      only_above: whether tags below their limit are left out.
      top_k: how many tags there are at most; None: any number.
    """

    labels: list[str]
    limits: np.ndarray
    multi_label: bool
    only_above: bool
    top_k: int | None

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Which labels an image has; bool (num_labels,)."""
        decided = probabilities >= self.limits
        if not self.multi_label:
            decided &= np.arange(len(probabilities)) == probabilities.argmax()
        return decided

    def tags(self, probabilities: np.ndarray) -> list[Tag]:
        """The tags of an image, likeliest first."""
        order = np.argsort(-probabilities, kind="stable")
        if self.only_above:
            decided = self.decide(probabilities)
            order = order[decided[order]]
        return [Tag(self.labels[i], float(probabilities[i])) for i in order[: self.top_k]]


def make_rule(run: run_dir.Run, *, top_k: int | None = None, thresholds: str | float = "none") -> TagRule:
    """The rule by which a run's probabilities become tags.

    Args:
      run: a finished run.
      top_k: tags at most. Default: 10 without thresholds, any number with them.
      thresholds: 'none' for the likeliest tags, however unlikely; 'run' for those from the run's thresholds on; a
        number from 0 to 1, one threshold for all labels. In single-label runs the likeliest label is the tag, with a
        number only from there on.

    Raises:
      UsageError: `thresholds` is none of these.
    """
    number = _threshold(thresholds)
    limits = run.thresholds.per_label if run.multi_label else np.zeros(len(run.labels))
    return TagRule(
        labels=run.labels,
        limits=limits if number is None else np.full(len(run.labels), number),
        multi_label=run.multi_label,
        only_above=thresholds != "none",
        top_k=top_k or (DEFAULT_TOP_K if thresholds == "none" else None),
    )


def check_thresholds(value: str | float) -> None:
    """Raises UsageError where `make_rule` would."""
    _threshold(value)


def _threshold(value: str | float) -> float | None:
    """The number that is meant; None for those that are words."""
    if value in ("none", "run"):
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise UsageError(f"--thresholds must be none, run, or a number from 0 to 1. Received: --thresholds={value}")
    return number
