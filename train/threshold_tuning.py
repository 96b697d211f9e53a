"""Tuning of thresholds on a validation split."""

from collections.abc import Sequence

import numpy as np

from . import metrics
from .thresholds import DEFAULT, Thresholds

# How many positives of a label weigh as much as the global threshold; infinity is the global threshold alone.
_STRENGTHS = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, np.inf)
_FOLDS, _ROUNDS = 5, 4


def tune(
    targets: np.ndarray,
    probabilities: np.ndarray,
    *,
    method: str = "auto",
    objective: str = "micro_f1",
    tuned_on: str = "",
) -> Thresholds:
    """Tunes thresholds for F1.

    The global one has the best micro F1. A label's own has its best F1, and is moved towards the global one on the
    scale of log odds: with n positives and strength s it keeps the weight n / (n + s), so that rare labels, whose own
    optimum is mostly chance, stay near the global one. `s` is chosen by repeated cross-validation within this split
    for the best objective, and 'auto' only leaves the global threshold where that is better by more than a standard
    error. Micro F1 asks for few wrong tags in all; macro F1 for finding rare tags too, at the price of wrong ones.

    Args:
      targets: (num_examples, num_labels) of 1, 0 and -1 for unknown, of a split that the model is not measured on.
      probabilities: same shape.
      method: one of METHODS.
      objective: one of OBJECTIVES.
      tuned_on: the split's name, kept for people.
    """
    strengths = {"auto": _STRENGTHS, "global": (np.inf,), "per_label": _STRENGTHS[:-1]}[method]
    strength = strengths[0] if len(strengths) == 1 else _choose_strength(targets, probabilities, strengths, objective)
    overall = global_threshold(targets, probabilities)
    own = _shrunk(targets, probabilities, overall, [strength])[0]
    return Thresholds(overall=overall, per_label=own, strength=strength, tuned_on=tuned_on)


def global_threshold(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """The one threshold over all labels with the best micro F1; 0.5 where nothing is present.

    Args:
      targets, probabilities: as for `tune`.
    """
    known = targets != metrics.UNKNOWN
    if not np.any(targets[known] == 1):
        return DEFAULT
    return metrics.best_f1_point(targets[known], probabilities[known])[1]


def _shrunk(
    targets: np.ndarray, probabilities: np.ndarray, overall: float, strengths: Sequence[float]
) -> list[np.ndarray]:
    """Each label's own threshold, moved towards the global one, for every strength."""
    own, weights = np.full(targets.shape[1], overall), np.zeros(targets.shape[1])
    for i, column in enumerate(targets.T):
        known = column != metrics.UNKNOWN
        if 0 < (positives := int(np.sum(column == 1))) < known.sum():
            own[i] = metrics.best_f1_point(column[known], probabilities[known, i])[1]
            weights[i] = positives
    start, shift = _logit(overall), _logit(own) - _logit(overall)
    kept = [weights / (weights + s) if np.isfinite(s) else np.zeros_like(weights) for s in strengths]
    return [np.where(share > 0, _sigmoid(start + shift * share), overall) for share in kept]


def _choose_strength(
    targets: np.ndarray, probabilities: np.ndarray, strengths: Sequence[float], objective: str
) -> float:
    """The strength with the best objective on examples that the thresholds were not tuned on."""
    rng = np.random.default_rng(0)
    scores = np.array([_fold_scores(targets, probabilities, strengths, objective, rng) for _ in range(_ROUNDS)])
    best = int(np.argmax(scores.mean(axis=0)))
    if np.isinf(strengths[-1]):
        gain = scores[:, best] - scores[:, -1]
        if gain.mean() <= gain.std(ddof=1) / np.sqrt(_ROUNDS):
            return strengths[-1]
    return strengths[best]


def _fold_scores(
    targets: np.ndarray,
    probabilities: np.ndarray,
    strengths: Sequence[float],
    objective: str,
    rng: np.random.Generator,
) -> list[float]:
    """The objective for every strength, each example judged by thresholds tuned on the other folds."""
    fold = rng.permutation(len(targets)) % _FOLDS
    predicted = np.empty((len(strengths), *targets.shape), bool)
    for k in range(_FOLDS):
        inside, outside = fold != k, fold == k
        overall = global_threshold(targets[inside], probabilities[inside])
        tried = _shrunk(targets[inside], probabilities[inside], overall, strengths)
        predicted[:, outside] = [probabilities[outside] >= thresholds for thresholds in tried]
    return [_f1(targets, p, objective) for p in predicted]


def _f1(targets: np.ndarray, predicted: np.ndarray, objective: str) -> float:
    """Micro F1, or the mean F1 over the labels that are present at least once."""
    hits = np.sum(predicted & (targets == 1), axis=0)
    total = np.sum(predicted & (targets != metrics.UNKNOWN), axis=0) + np.sum(targets == 1, axis=0)
    if objective == "micro_f1":
        return float(2 * hits.sum() / max(total.sum(), 1))
    some = np.any(targets == 1, axis=0)
    return float(np.mean(2 * hits[some] / total[some])) if some.any() else 0.0


def _logit(p: float | np.ndarray) -> np.ndarray:
    clipped = np.clip(p, 1e-6, 1 - 1e-6)
    return np.log(clipped / (1 - clipped))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
