"""Bootstrap over examples: how sure the headline figures are, and whether one run is better than another.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993 (bias-corrected percentile intervals, paired
differences). The correction matters here: examples drawn twice raise the average precision of rare labels. Resampled
examples are whole-number weights, so that each label is sorted once and not for every resample.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np
from scipy import special

from . import metrics

_MAX_SAMPLES, _MIN_SAMPLES = 1000, 100
_NUMBERS_AT_ONCE = 20_000_000  # of weights held in memory
_WORK = 60_000_000  # resamples times pairs of an example and a label: some seconds

# Targets and probabilities as for metrics.compute_metrics, weights (num_samples, num_examples): (num_samples,).
Figure = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Interval:
    """A bias-corrected percentile interval, and how many resamples it comes from."""

    low: float
    high: float
    num_samples: int


def intervals(
    targets: np.ndarray, probabilities: np.ndarray, *, multi_label: bool = True, confidence: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Intervals for the headline figures.

    Args:
      targets: (num_examples, num_labels) of 1, 0 and -1 for unknown.
      probabilities: same shape.
      multi_label: False adds accuracy.
      confidence: share of the resamples inside the interval.
      seed: fixes the resamples.

    Returns:
      Figure to interval; NaN where a figure is not defined. A label that has no positive in a resample is left out of
      that resample's macro average.
    """
    figures = headline(multi_label)
    drawn, values = resampled(targets, probabilities, figures, seed), whole(targets, probabilities, figures)
    return {key: interval(drawn[key], values[key], confidence) for key in figures}


def interval(samples: np.ndarray, value: float, confidence: float = 0.95) -> Interval:
    """The interval of a figure from its resamples (num_samples,), and its value on the examples themselves.

    It holds the value always: on a few dozen examples nearly all resamples may lie on one side of it, since rare labels
    are missing in many of them.
    """
    usable = samples[np.isfinite(samples)]
    if not len(usable) or not math.isfinite(value):
        return Interval(math.nan, math.nan, 0)
    below = np.mean(usable < value) + np.mean(usable == value) / 2
    shift = 2 * special.ndtri(np.clip(below, 1 / len(usable), 1 - 1 / len(usable)))
    tail = special.ndtri((1 - confidence) / 2)
    low, high = np.quantile(usable, special.ndtr([shift + tail, shift - tail]))
    return Interval(min(float(low), value), max(float(high), value), len(usable))


def whole(targets: np.ndarray, probabilities: np.ndarray, figures: dict[str, Figure]) -> dict[str, float]:
    """Each figure on the examples themselves."""
    once = np.ones((1, len(targets)), np.float32)
    return {key: float(figure(targets, probabilities, once)[0]) for key, figure in figures.items()}


def headline(multi_label: bool) -> dict[str, Figure]:
    """The figures that have intervals."""
    figures: dict[str, Figure] = {
        "macro_map": lambda t, p, w: _macro(_average_precision, t, p, w),
        "micro_map": _micro_map,
        "macro_roc_auc": lambda t, p, w: _macro(_roc_auc, t, p, w),
    }
    return figures if multi_label else {**figures, "accuracy": _accuracy}


def resampled(
    targets: np.ndarray, probabilities: np.ndarray, figures: dict[str, Figure], seed: int = 0
) -> dict[str, np.ndarray]:
    """Each figure on every resample; the same seed and number of examples give the same resamples."""
    parts = [
        {key: figure(targets, probabilities, weights) for key, figure in figures.items()}
        for weights in _weights(len(targets), targets.shape[1], seed)
    ]
    return {key: np.concatenate([part[key] for part in parts]) for key in figures}


def _weights(num_examples: int, num_labels: int, seed: int) -> Iterator[np.ndarray]:
    """How often each example is drawn, (some, num_examples), until there are enough resamples."""
    rng = np.random.default_rng(seed)
    left = int(np.clip(_WORK // (num_examples * num_labels), _MIN_SAMPLES, _MAX_SAMPLES))
    step = max(1, _NUMBERS_AT_ONCE // (num_examples * num_labels))  # the micro average has every pair in one list
    while left > 0:
        counts = rng.multinomial(num_examples, np.full(num_examples, 1 / num_examples), size=min(step, left))
        yield counts.astype(np.float32)  # whole numbers, exact up to 16 million pairs
        left -= step


def _macro(figure: Figure, targets: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    columns = []
    for truth, scores in zip(targets.T, probabilities.T, strict=True):
        known = truth != metrics.UNKNOWN
        if 0 < np.sum(truth == 1) < known.sum():
            columns.append(figure(truth[known], scores[known], weights[:, known]))
    if not columns:
        return np.full(len(weights), math.nan)
    values = np.stack(columns)
    defined = np.isfinite(values)
    return np.where(defined, values, 0).sum(axis=0) / np.where(defined.any(axis=0), defined.sum(axis=0), np.nan)


def _micro_map(targets: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    examples, labels = np.nonzero(targets != metrics.UNKNOWN)
    return _average_precision(targets[examples, labels], probabilities[examples, labels], weights[:, examples])


def _accuracy(targets: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    labelled = (targets == 1).any(axis=1)
    right = targets.argmax(axis=1) == probabilities.argmax(axis=1)
    drawn = weights[:, labelled].sum(axis=1)
    return np.where(drawn > 0, weights[:, labelled] @ right[labelled] / np.maximum(drawn, 1), np.nan)


def _average_precision(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision of (n,) under each of the weights (num_samples, n), ties in one step as scikit-learn has it."""
    order, last = _ranking(scores)
    positives = np.cumsum(weights[:, order] * (truth[order] == 1), axis=1)[:, last]
    selected = np.cumsum(weights[:, order], axis=1)[:, last]
    gained = np.diff(positives, axis=1, prepend=0)
    total = positives[:, -1]
    precision = positives / np.maximum(selected, 1)
    return np.where(total > 0, (gained * precision).sum(axis=1) / np.maximum(total, 1), np.nan)


def _roc_auc(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of (n,) under each of the weights (num_samples, n), by trapezoids."""
    order, last = _ranking(scores)
    hits = np.cumsum(weights[:, order] * (truth[order] == 1), axis=1)[:, last]
    misses = np.cumsum(weights[:, order] * (truth[order] != 1), axis=1)[:, last]
    steps = np.diff(misses, axis=1, prepend=0)
    area = (steps * (hits - np.diff(hits, axis=1, prepend=0) / 2)).sum(axis=1)
    total = hits[:, -1] * misses[:, -1]
    return np.where(total > 0, area / np.maximum(total, 1), np.nan)


def _ranking(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Likeliest first; and the place of the last of each run of equal scores."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    return order, np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
