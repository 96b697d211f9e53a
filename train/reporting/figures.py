"""The figures of a report: what guessing would reach, stricter thresholds, what is confused, calibration."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import error_analysis, metrics, run_dir
from ..prediction.saved_predictions import Predictions
from .material import Material
from .shares import wilson

RELIABLE, WEAK = 0.5, 0.3  # a label is relied on where precision and recall reach the one; weak below this F1
_WANTED_PRECISIONS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclasses.dataclass(frozen=True)
class Setting:
    """What another threshold would do: shares of shown tags that are right, of present ones found, tags an image.

    `wanted` is the share of right ones that it was chosen for on the validation split.
    """

    wanted: float
    threshold: float
    right: float
    found: float
    tags: float


def stricter_settings(material: Material) -> list[Setting]:
    """Thresholds at which, on the validation split, so many of the tags shown are right; measured on this one."""
    if material.validation is None or material.served_for:
        return []
    settings: list[Setting] = []
    for wanted in _WANTED_PRECISIONS:
        threshold = _least_threshold(material.run, material.validation, wanted)
        if threshold is None:
            break
        if settings and settings[-1].threshold == threshold:
            settings.pop()  # as good as the stricter wish
        shown = (material.found.probabilities >= threshold) & _can_be_shown(material.run, material.found)
        hits = float((shown & material.present).sum())
        settings.append(
            Setting(
                wanted=wanted,
                threshold=threshold,
                right=hits / shown.sum() if shown.any() else math.nan,
                found=hits / max(material.present.sum(), 1),
                tags=float(shown.sum() / max(len(shown), 1)),
            )
        )
    return settings


def _least_threshold(run: run_dir.Run, found: Predictions, precision: float) -> float | None:
    """The least threshold over all labels from which on at least that share of what is shown is right."""
    possible = _can_be_shown(run, found)
    order = np.argsort(-found.probabilities[possible], kind="stable")
    hits = np.cumsum(found.targets[possible][order] == 1)
    enough = np.flatnonzero(hits / np.arange(1, len(order) + 1) >= precision)
    return float(found.probabilities[possible][order][enough[-1]]) if len(enough) else None


def _can_be_shown(run: run_dir.Run, found: Predictions) -> np.ndarray:
    """Known pairs of an example and a label; for single-label runs each example with its likeliest label alone."""
    known = error_analysis.known_labels(run, found)
    return known if run.multi_label else known & error_analysis.given_labels(run, found)


def given_instead(material: Material, chosen: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """What is shown on images with a label.

    Args:
      material: see there.
      chosen: labels, by number; the rows and columns.

    Returns:
      Shares, and the counts behind them, (n, n): on the diagonal the images with the label of the row on which it is
      shown, elsewhere those on which the label of the column is shown although it is not there. For single-label
      runs what is shown is the likeliest label: the confusion matrix. Rows of labels that are not here are NaN.
    """
    shown = material.given
    present, wrong = material.present[:, chosen].astype(np.float64), shown & ~material.present
    counts = present.T @ wrong[:, chosen]
    np.fill_diagonal(counts, (present * shown[:, chosen]).sum(axis=0))
    totals = present.sum(axis=0)[:, None]
    return np.where(totals > 0, counts / np.maximum(totals, 1), np.nan), counts.astype(int)


@dataclasses.dataclass(frozen=True)
class LabelRow:
    """One label.

    Attributes:
      name: its name.
      shown: images on which it is shown.
      right, found, f1: share of these that is right, share of the images with it on which it is shown, and its F1.
      group: see label_rows.
      num_found: images with it on which it is shown.
    """

    name: str
    shown: int
    right: float
    found: float
    f1: float
    group: str
    num_found: int


def label_rows(material: Material) -> list[LabelRow]:
    """Each label, the most frequent first; `group` says what can be said of it.

    Groups are 'reliable', 'mixed', 'weak' and, with too few examples to say, 'unsure'. Single-label runs are judged by
    the likeliest label of each image, whatever its probability.
    """
    return [_label_row(material, name) for name in material.labels_by_support()]


def _label_row(material: Material, name: str) -> LabelRow:
    one, label = material.measured["per_label"][name], material.run.labels.index(name)
    shown = int(material.given[:, label].sum())
    right, found, f1 = one["precision"], one["recall"], one["f1"]
    few = min(one["support"], one["examples"] - one["support"]) < metrics.FEW_POSITIVES
    group = "reliable" if min(right, found) >= RELIABLE else "weak" if f1 < WEAK else "mixed"
    num_found = round(found * one["support"]) if one["support"] else 0
    return LabelRow(name, shown, right, found, f1, "unsure" if few else group, num_found)


@dataclasses.dataclass(frozen=True)
class Bin:
    """Predictions with nearly the same probability: how many, their mean, and the share that is right with bounds."""

    count: int
    said: float
    right: float
    low: float
    high: float


def reliability_bins(material: Material, num_bins: int = 10) -> list[Bin]:
    """All known pairs of an image and a label in bins of equal width of their probability."""
    targets, probabilities = material.found.targets[material.known], material.found.probabilities[material.known]
    places = np.minimum((probabilities * num_bins).astype(int), num_bins - 1)
    bins = []
    for place in np.unique(places):
        inside = places == place
        count, right = int(inside.sum()), float(np.mean(targets[inside] == 1))
        low, high = wilson(right, count)
        bins.append(Bin(count, float(probabilities[inside].mean()), right, low, high))
    return bins


def guess_metrics(material: Material) -> dict[str, Any]:
    """What `measured` would be for somebody who says of every image how frequent each label is, and shows `guess`."""
    guess, prior = material.guess, material.prior
    targets = material.found.targets
    return metrics.compute_metrics(
        targets,
        np.broadcast_to(prior, targets.shape),
        material.run.labels,
        threshold=np.where(guess, 0.0, 2.0),  # shown always, or never
        multi_label=material.run.multi_label,
    )
