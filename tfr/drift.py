"""How far two splits differ: TFDV's two distances, and which differences are more than chance."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tfr.statistics import SplitStatistics, Statistics

_NUM_BINS = 20
_MAX_CHANCE = 1e-3  # chance, over all labels together, of calling out a difference where there is none
_MIN_DIVERGENCE = 0.05  # less is of no consequence, however sure


class Drift(NamedTuple):
    """How a split differs from the reference split in one respect.

    Attributes:
      split, reference: the two splits.
      what: 'labels', 'width', ...
      l_infinity: the largest difference of a value's share; of labels only, else None.
      divergence: Jensen-Shannon divergence, 0 (equal) to 1 (nothing in common).
      by_chance: the divergence to be expected of two random halves of these sizes.
      farthest: the label with the largest difference; '' where there is none.
    """

    split: str
    reference: str
    what: str
    l_infinity: float | None
    divergence: float
    by_chance: float
    farthest: str = ""

    @property
    def is_notable(self) -> bool:
        """Whether the divergence is large, and four times what chance makes."""
        return self.divergence > max(_MIN_DIVERGENCE, 4 * self.by_chance)


def l_infinity(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference between two distributions: what TFDV compares categorical features by.

    Source: TensorFlow Data Validation, `skew_comparator.infinity_norm`.
    """
    return float(np.abs(one - other).max(initial=0.0))


def jensen_shannon(one: np.ndarray, other: np.ndarray) -> float:
    """The Jensen-Shannon divergence of two distributions, to base 2: what TFDV compares numbers by.

    Source: J. Lin, "Divergence Measures Based on the Shannon Entropy", IEEE Trans. Inf. Theory 37(1), 1991.
    """
    middle = (one + other) / 2
    return (_relative_entropy(one, middle) + _relative_entropy(other, middle)) / 2


def _relative_entropy(one: np.ndarray, other: np.ndarray) -> float:
    there = one > 0
    return float(np.sum(one[there] * np.log2(one[there] / other[there])))


def compare_splits(statistics: Statistics) -> list[Drift]:
    """How each split differs from the first, which is 'train' where there is one."""
    (reference, base), *others = statistics.splits.items()
    found = []
    for name, split in others:
        if statistics.label_names and base.label_counts and split.label_counts:
            found.append(_label_drift(statistics.label_names, name, split, reference, base))
        for what in ("labels_per_image", "widths", "heights", "aspect_ratios", "image_bytes"):
            one, other = getattr(base, what), getattr(split, what)
            if one and other:
                found.append(Drift(name, reference, what.replace("_", " "), None, *_divergence(*_binned(one, other))))
    return found


def _label_drift(
    names: Sequence[str], split: str, counts: SplitStatistics, reference: str, base: SplitStatistics
) -> Drift:
    one, other = (np.array([s.label_counts[i] for i in range(len(names))], float) for s in (base, counts))
    shares = one / one.sum(), other / other.sum()
    farthest = names[int(np.abs(shares[0] - shares[1]).argmax())]
    return Drift(split, reference, "labels", l_infinity(*shares), *_divergence(one, other), farthest)


def _divergence(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """The divergence of two histograms, and what to expect by chance (its second-order expansion around equality)."""
    bins = int(np.count_nonzero(one + other))
    by_chance = (bins - 1) / (8 * math.log(2)) * float(1 / one.sum() + 1 / other.sum())
    return jensen_shannon(one / one.sum(), other / other.sum()), by_chance


def _binned(one: Mapping[float, int], other: Mapping[float, int]) -> tuple[np.ndarray, np.ndarray]:
    """Two counters as histograms over the same bins: the values themselves where they are few."""
    values = np.array(sorted({*one, *other}), float)
    if len(values) <= _NUM_BINS:
        edges = np.append(values, np.inf)
    else:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, _NUM_BINS + 1)))
        edges[-1] = np.inf
    first, second = (np.histogram(list(c), edges, weights=list(c.values()))[0].astype(float) for c in (one, other))
    return first, second


def drifting_labels(statistics: Statistics) -> list[tuple[str, str, float, float]]:
    """Labels whose share of images differs between a split and the first one by more than chance.

    Two-proportion z-test, Bonferroni-corrected over labels and splits.

    Returns:
      (split, label, share there, share in the first split) each.
    """
    (_, base), *others = statistics.splits.items()
    tests = len(others) * len(statistics.label_names)
    found = []
    for name, split in others:
        for label, label_name in enumerate(statistics.label_names):
            if _chance(base, split, label) * tests < _MAX_CHANCE:
                found.append((name, label_name, split.share(label), base.share(label)))
    return found


def _chance(one: SplitStatistics, other: SplitStatistics, label: int) -> float:
    """The chance of shares that differ at least so much in random splits."""
    known = [s.num_images - s.unknown_counts[label] for s in (one, other)]
    if not all(known):
        return 1.0
    pooled = (one.label_counts[label] + other.label_counts[label]) / sum(known)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / known[0] + 1 / known[1]))
    if not spread:
        return 1.0
    return math.erfc(abs(one.share(label) - other.share(label)) / spread / math.sqrt(2))
