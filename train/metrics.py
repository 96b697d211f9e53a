"""Exact metrics of multi-label and single-label predictions, computed with scikit-learn on all examples at once."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn import metrics as sk

_UNKNOWN = -1  # as in preprocessing.UNKNOWN; masked out of everything here


def compute_metrics(
    targets: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    *,
    threshold: float = 0.5,
    ks: Sequence[int] = (1, 3, 5),
    multi_label: bool = True,
) -> dict[str, Any]:
    """Measures predictions against the truth.

    Args:
      targets: (num_examples, num_labels) of 1 present, 0 absent, -1 unknown (left out of every metric).
      probabilities: same shape, 0 to 1.
      names: the label names.
      threshold: probabilities from here on count as a predicted tag, for F1, precision and recall.
      ks: for precision and recall at k.
      multi_label: False adds the metrics of single-label classification.

    Returns:
      A dict of floats, plus `per_label`: a dict for each label, and `undefined_labels`: names of the labels that have
      no positive or no negative example here; macro averages leave them out. A metric that is not defined is NaN.
    """
    known = targets != _UNKNOWN
    per_label = {
        name: _label_metrics(targets[known[:, i], i], probabilities[known[:, i], i], threshold)
        for i, name in enumerate(names)
    }
    defined = {name: m for name, m in per_label.items() if 0 < m["support"] < m["examples"]}
    flat_targets, flat_probabilities = targets[known], probabilities[known]
    micro = _label_metrics(flat_targets, flat_probabilities, threshold)
    result: dict[str, Any] = {
        "num_examples": len(targets),
        "macro_map": _mean(m["average_precision"] for m in defined.values()),
        "micro_map": micro["average_precision"],
        "macro_roc_auc": _mean(m["roc_auc"] for m in defined.values()),
        "micro_roc_auc": micro["roc_auc"],
        "threshold": threshold,
        "macro_f1": _mean(m["f1"] for m in defined.values()),
        "micro_f1": micro["f1"],
        "micro_precision": micro["precision"],
        "micro_recall": micro["recall"],
        "log_loss": _log_loss(flat_targets, flat_probabilities),
        **_at_k(targets, probabilities, known, [k for k in ks if k <= len(names)]),
    }
    if not multi_label:
        result |= _single_label_metrics(targets, probabilities, [k for k in ks if k <= len(names)])
    return result | {"per_label": per_label, "undefined_labels": [name for name in names if name not in defined]}


def _label_metrics(targets: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, float]:
    """The metrics of one label, from its known examples."""
    positives = int(targets.sum())
    both = 0 < positives < len(targets)
    predicted = probabilities >= threshold
    precision, recall, f1, _ = (
        sk.precision_recall_fscore_support(targets, predicted, average="binary", zero_division=0.0)
        if len(targets)
        else (math.nan,) * 4
    )
    return {
        "examples": len(targets),
        "support": positives,
        "average_precision": float(sk.average_precision_score(targets, probabilities)) if both else math.nan,
        "roc_auc": float(sk.roc_auc_score(targets, probabilities)) if both else math.nan,
        "f1": float(f1),
        "precision": float(precision),
        "recall": float(recall),
    }


def _at_k(targets: np.ndarray, probabilities: np.ndarray, known: np.ndarray, ks: Sequence[int]) -> dict[str, float]:
    """Precision at k: share of the k likeliest known labels that are present; recall at k: share of those present
    that are among them, over examples with at least one label."""
    ranked = np.argsort(-np.where(known, probabilities, -1.0), axis=1, kind="stable")
    hits = np.take_along_axis(targets == 1, ranked, axis=1)
    present = (targets == 1).sum(axis=1)
    some = present > 0
    result = {}
    for k in ks:
        found = hits[:, :k].sum(axis=1)
        result[f"precision_at_{k}"] = float(np.mean(found / k)) if len(found) else math.nan
        result[f"recall_at_{k}"] = float(np.mean(found[some] / present[some])) if some.any() else math.nan
    return result


def _single_label_metrics(targets: np.ndarray, probabilities: np.ndarray, ks: Sequence[int]) -> dict[str, float]:
    truth, guess = targets.argmax(axis=1), probabilities.argmax(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of labels predicted that do not occur in the truth
        balanced = float(sk.balanced_accuracy_score(truth, guess))
    ranked = np.argsort(-probabilities, axis=1, kind="stable")
    result = {"accuracy": float(np.mean(truth == guess)), "balanced_accuracy": balanced}
    for k in ks[1:]:
        result[f"top_{k}_accuracy"] = float(np.mean((ranked[:, :k] == truth[:, None]).any(axis=1)))
    return result


def _log_loss(targets: np.ndarray, probabilities: np.ndarray) -> float:
    clipped = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(targets == 1, np.log(clipped), np.log1p(-clipped)))) if len(targets) else math.nan


def _mean(values: Any) -> float:
    listed = list(values)
    return float(np.mean(listed)) if listed else math.nan


def best_f1_threshold(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """The one threshold over all labels with the best micro F1; 0.5 where nothing is present.

    Args:
      targets, probabilities: as for compute_metrics; of a split that the model is not measured on.
    """
    known = targets != _UNKNOWN
    truth, scores = targets[known], probabilities[known]
    if not truth.any():
        return 0.5
    precision, recall, thresholds = sk.precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[int(np.argmax(f1[:-1]))])
