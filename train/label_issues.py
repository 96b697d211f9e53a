"""Labels that are probably wrong, by confident learning."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from . import cross_validation, input_pipeline, run_dir
from .prediction import saved_predictions
from .preprocessing import UNKNOWN

PRESENT, ABSENT = "present", "absent"
_ROUNDING = 1e-6  # of a mean of equal probabilities


class LabelIssue(NamedTuple):
    """A label of an image that is probably wrong.

    Attributes:
      split, place: where the example is, in stored order.
      id: of the example; '' where the dataset has no ids.
      label: what is to be decided on.
      replaces: in single-label datasets the label that goes if `label` comes; else ''.
      given: what the dataset says of `label`, PRESENT or ABSENT.
      probability: of `label`, out of sample.
      score: probability of what the dataset says; the lower the more doubtful.
      labels: all labels that the dataset gives the image.
    """

    split: str
    place: int
    id: str
    label: str
    replaces: str
    given: str
    probability: float
    score: float
    labels: tuple[str, ...]

    @property
    def suggested(self) -> str:
        """The opposite of what is given."""
        return ABSENT if self.given == PRESENT else PRESENT


def find_issues(
    run: run_dir.Run, splits: Sequence[str], *, dataset: str | None = None, batch_size: int = 32
) -> list[LabelIssue]:
    """Finds labels that are probably wrong, the most doubtful first.

    Every label is judged out of sample: those of splits that the run was not trained on by the run's own
    probabilities, those of the split that it was trained on by cross-validation, see cross_validation.predict.

    Args:
      run: a finished run.
      splits: splits, or slices of them; they are judged together.
      dataset: dataset directory or TFDS name; default: the one that the run was trained on.
      batch_size: images per step.

    Raises:
      RunDirError: the run's labels are not those of the dataset.
      DatasetError: no such dataset or split.
    """
    builder = input_pipeline.open_dataset(run.locate_dataset(dataset))
    saved_predictions.check_labels(run, builder)
    found = [_out_of_sample(run, builder, dataset, split, batch_size) for split in splits]
    targets = np.concatenate([one.targets for one in found])
    probabilities = np.concatenate([one.probabilities for one in found])
    places = [
        (split, place, id_)
        for split, one in zip(splits, found, strict=True)
        for place, id_ in enumerate(one.ids or [""] * len(one.targets))
    ]
    doubtful = doubtful_tags(targets, probabilities) if run.multi_label else doubtful_classes(targets, probabilities)
    issues = [
        LabelIssue(
            *places[row],
            label=run.labels[column],
            replaces="" if given is None else run.labels[given],
            given=PRESENT if targets[row, column] == 1 else ABSENT,
            probability=float(probabilities[row, column]),
            score=score,
            labels=tuple(name for name, target in zip(run.labels, targets[row], strict=True) if target == 1),
        )
        for row, column, given, score in doubtful
    ]
    return sorted(issues, key=lambda issue: issue.score)


def _out_of_sample(
    run: run_dir.Run, builder: tfds.core.DatasetBuilder, dataset: str | None, split: str, batch_size: int
) -> saved_predictions.Predictions:
    resolved = run.config["resolved"]
    seen = _names(resolved["train_split"]) & _names(split) and split != resolved["validation_split"]
    if seen:
        return cross_validation.predict(run, builder, split, batch_size=batch_size)
    return saved_predictions.of_split(run, dataset=dataset, split=split, batch_size=batch_size)


def _names(split: str) -> set[str]:
    """The splits that 'train[:50%]+test' is made of."""
    return {part.partition("[")[0].strip() for part in split.split("+")}


def doubtful_tags(targets: np.ndarray, probabilities: np.ndarray) -> Iterator[tuple[int, int, None, float]]:
    """Pairs of an example and a label that confident learning takes for wrong: (row, column, None, score).

    Each label is a problem of two classes of its own, of the examples where it is known. Source: Thyagarajan et al.,
    "Identifying Incorrect Annotations in Multi-Label Classification Data", 2022.

    Args:
      targets: (num_examples, num_labels) of 1, 0 and UNKNOWN.
      probabilities: same shape, out of sample.
    """
    for column in range(targets.shape[1]):
        (rows,) = np.nonzero(targets[:, column] != UNKNOWN)
        given = targets[rows, column].astype(int)
        if 0 < given.sum() < len(given):
            of_present = probabilities[rows, column].astype(np.float64)
            both = np.stack([1 - of_present, of_present], axis=1)
            for i in np.flatnonzero(confident_classes(given, both) != given).tolist():
                yield int(rows[i]), column, None, float(both[i, given[i]])


def doubtful_classes(targets: np.ndarray, probabilities: np.ndarray) -> Iterator[tuple[int, int, int, float]]:
    """Examples whose one label confident learning takes for wrong: (row, label it should be, given label, score).

    Args:
      targets: (num_examples, num_labels), a 1 in each row; rows without one are left out.
      probabilities: same shape, out of sample; rows add up to 1.
    """
    (rows,) = np.nonzero((targets == 1).any(axis=1))
    used = np.flatnonzero((targets == 1).any(axis=0))  # no example is confidently of a class that none is of
    given, classes = targets[rows][:, used].argmax(axis=1), probabilities[rows][:, used].astype(np.float64)
    better = confident_classes(given, classes)
    for i in np.flatnonzero(better != given).tolist():
        yield int(rows[i]), int(used[better[i]]), int(used[given[i]]), float(classes[i, given[i]])


def confident_classes(given: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The class that each example is confidently of, int (n,): where there is none, the given one.

    An example is confidently of a class where its probability reaches the mean probability of the class over the
    examples given it; of several such classes the likeliest counts. As in the authors' own program, a class that is
    less likely than the given one does not: for rare classes that mean is low. Source: Northcutt, Jiang and Chuang,
    "Confident Learning: Estimating Uncertainty in Dataset Labels", 2021.

    Args:
      given: int (n,), of 0 to num_classes - 1, each at least once.
      probabilities: (n, num_classes), out of sample.
    """
    rows = np.arange(len(given))
    own = probabilities[rows, given]
    num_classes = probabilities.shape[1]
    means = np.bincount(given, own, num_classes) / np.bincount(given, minlength=num_classes)
    confident = probabilities >= means - _ROUNDING
    likeliest = np.where(confident, probabilities, -1.0).argmax(axis=1)
    return np.where(confident.any(axis=1) & (probabilities[rows, likeliest] > own), likeliest, given)
