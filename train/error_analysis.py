"""What a run gets wrong in a split: the surest mistakes of each label, and which labels it takes for which."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfr.errors import UsageError

from . import run_dir
from .metrics import UNKNOWN
from .prediction.saved_predictions import Predictions

KINDS = ("false_positive", "false_negative")


class Mistake(NamedTuple):
    """A label that a run gives an image wrongly ('false_positive'), or misses on it ('false_negative').

    Attributes:
      label: the label.
      kind: one of KINDS.
      place: of the example in its split, in stored order: what records.StoredImages and Predictions go by.
      id: of the example; '' where the dataset has no ids.
      probability: that the run gives the label.
    """

    label: str
    kind: str
    place: int
    id: str
    probability: float


class Confusion(NamedTuple):
    """A label that is given where another one is missed.

    Attributes:
      missed, given: the labels.
      num_images: on which one is missed and the other given wrongly.
      num_missed: images on which `missed` is missed, whatever is given.
      lift: `num_images` as a multiple of what it would be if the two had nothing to do with each other.
    """

    missed: str
    given: str
    num_images: int
    num_missed: int
    lift: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelMistakes:
    """The mistakes of one label.

    Attributes:
      false_positives: most probable first, so the surest.
      false_negatives: least probable first, so the surest.
      num_positives: images that carry the label.
      num_given: images that the run gives it.
    """

    false_positives: list[Mistake]
    false_negatives: list[Mistake]
    num_positives: int
    num_given: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Analysis:
    """The mistakes of a run.

    Attributes:
      num_examples: images in the split.
      num_with_mistakes: those with a mistake in any label.
      labels: label to its mistakes; those that were asked for, in the order of the run's outputs.
      confusions: pairs of them, most frequent first; those that occur.
    """

    num_examples: int
    num_with_mistakes: int
    labels: dict[str, LabelMistakes]
    confusions: list[Confusion]


def analyse(run: run_dir.Run, found: Predictions, labels: Sequence[str] = ()) -> Analysis:
    """Finds the mistakes in predictions.

    A label counts as given from its threshold on; in single-label runs the likeliest one does. What is not known of an
    image is no mistake.

    Args:
      run: the run that made the predictions.
      found: of a split, see saved_predictions.of_split.
      labels: those to look at; default: all.

    Raises:
      UsageError: the run does not know one of the labels.
    """
    check_labels(run, labels)
    known, given = known_labels(run, found), given_labels(run, found)
    present = found.targets == 1
    wrong, missed = known & given & ~present, known & present & ~given
    columns = [i for i, name in enumerate(run.labels) if not labels or name in labels]
    return Analysis(
        num_examples=len(present),
        num_with_mistakes=int((wrong | missed).any(axis=1).sum()),
        labels={
            run.labels[i]: LabelMistakes(
                false_positives=_ranked(run.labels[i], KINDS[0], found, i, wrong[:, i], -1),
                false_negatives=_ranked(run.labels[i], KINDS[1], found, i, missed[:, i], 1),
                num_positives=int((known & present)[:, i].sum()),
                num_given=int((known & given)[:, i].sum()),
            )
            for i in columns
        },
        confusions=_confusions([run.labels[i] for i in columns], missed[:, columns], wrong[:, columns]),
    )


def check_labels(run: run_dir.Run, labels: Sequence[str]) -> None:
    """Raises UsageError where a run does not know one of the labels."""
    if unknown := [name for name in labels if name not in run.labels]:
        raise UsageError(f"--label: {run.path} has no labels {unknown}. It has {', '.join(run.labels)}.")


def given_labels(run: run_dir.Run, found: Predictions) -> np.ndarray:
    """Which labels the run gives which image, bool (num_examples, num_labels)."""
    if run.multi_label:
        return found.probabilities >= run.thresholds.per_label
    return found.probabilities.argmax(axis=1)[:, None] == np.arange(len(run.labels))


def known_labels(run: run_dir.Run, found: Predictions) -> np.ndarray:
    """Of which labels the truth is known, bool (num_examples, num_labels)."""
    known = found.targets != UNKNOWN
    if run.multi_label:
        return known
    return known & (found.targets == 1).any(axis=1, keepdims=True)  # TFDS writes -1 for an image without a label


def _ranked(label: str, kind: str, found: Predictions, column: int, at: np.ndarray, sign: int) -> list[Mistake]:
    """The mistakes at these places, by probability: ascending with sign 1, descending with -1."""
    (places,) = np.nonzero(at)
    order = places[np.argsort(sign * found.probabilities[places, column], kind="stable")].tolist()
    ids = found.ids or [""] * len(at)
    return [Mistake(label, kind, place, ids[place], float(found.probabilities[place, column])) for place in order]


def _confusions(names: Sequence[str], missed: np.ndarray, wrong: np.ndarray) -> list[Confusion]:
    counts = missed.T.astype(np.float64) @ wrong  # (label missed, label given)
    num_missed, num_wrong = missed.sum(axis=0), wrong.sum(axis=0)
    pairs = [(int(-counts[i, j]), i, j) for i, j in np.argwhere(counts).tolist()]
    return [
        Confusion(
            names[i], names[j], -count, int(num_missed[i]), float(-count * len(missed) / num_missed[i] / num_wrong[j])
        )
        for count, i, j in sorted(pairs)
    ]
