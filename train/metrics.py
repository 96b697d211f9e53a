"""Exact metrics of multi-label and single-label predictions, computed with scikit-learn on all examples at once."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn import metrics as sk

from tfr.errors import DatasetError

from . import ranking_metrics

UNKNOWN = -1  # as in preprocessing.UNKNOWN; masked out of everything here
FEW_POSITIVES = 10  # a label with fewer is measured, but its figures say little: it is marked
_CALIBRATION_BINS = 15


def check_known(targets: np.ndarray, dataset: str, split: str) -> None:
    """Raises DatasetError where nothing is known of the labels of a split, so that it can teach and measure nothing."""
    if not (targets != UNKNOWN).any():
        raise DatasetError(
            f"{dataset}: no example in split {split!r} has a label that is known. Name another split; `tfr predict` "
            "takes this one."
        )


def compute_metrics(
    targets: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    *,
    threshold: float | np.ndarray = 0.5,
    ks: Sequence[int] = (1, 3, 5),
    multi_label: bool = True,
) -> dict[str, Any]:
    """Measures predictions against the truth.

    Args:
      targets: (num_examples, num_labels) of 1 present, 0 absent, -1 unknown (left out of every metric).
      probabilities: same shape, 0 to 1.
      names: the label names.
      threshold: probabilities from here on count as a predicted tag, for F1, precision, recall, Hamming loss and
        subset accuracy; one number, or one for each label, (num_labels,). Of single-label classification the likeliest
        label counts, whatever its probability, as it does in prediction.
      ks: for precision and recall at k.
      multi_label: False adds the metrics of single-label classification, with `confusion_matrix`, a list of rows:
        truth by row, prediction by column. They are of the examples that have a label.

    Returns:
      A dict of floats, plus `per_label`: a dict for each label, `undefined_labels`: names of the labels that have
      no positive or no negative example here, which macro averages leave out, and `rare_labels`: those averaged whose
      positives are fewer than FEW_POSITIVES. A metric that is not defined is NaN.
    """
    thresholds = np.broadcast_to(np.asarray(threshold, np.float64), len(names))
    if not multi_label:
        thresholds = np.full(len(names), math.nan)
    known = targets != UNKNOWN
    predicted = probabilities >= thresholds if multi_label else _likeliest(probabilities)
    per_label = {
        name: _label_metrics(targets[at, i], probabilities[at, i], predicted[at, i], float(thresholds[i]))
        for i, (name, at) in enumerate(zip(names, known.T, strict=True))
    }
    defined = {name: m for name, m in per_label.items() if 0 < m["support"] < m["examples"]}
    result: dict[str, Any] = {
        "num_examples": len(targets),
        **_averages(defined),
        **_micro(targets[known], probabilities[known], predicted[known]),
        "threshold": float(np.mean(thresholds)),
        "hamming_loss": _share(predicted[known] != (targets[known] == 1)),
        "subset_accuracy": _share(np.all((predicted == (targets == 1)) | ~known, axis=1)[known.any(axis=1)]),
        **ranking_metrics.at_k(targets, probabilities, [k for k in ks if k <= len(names)]),
        **ranking_metrics.of_examples(targets, probabilities),
    }
    if not multi_label:
        result |= _single_label_metrics(targets, probabilities, [k for k in ks if k <= len(names)])
    rare = [name for name, m in defined.items() if m["support"] < FEW_POSITIVES]
    undefined = [name for name in names if name not in defined]
    return result | {"per_label": per_label, "undefined_labels": undefined, "rare_labels": rare}


def _likeliest(probabilities: np.ndarray) -> np.ndarray:
    """Which label of each example is the likeliest, bool (num_examples, num_labels)."""
    return probabilities.argmax(axis=1)[:, None] == np.arange(probabilities.shape[1])


def _label_metrics(
    targets: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, threshold: float
) -> dict[str, Any]:
    """The metrics of one label, from its known examples; `best_f1` is what the best threshold here would reach."""
    both = 0 < targets.sum() < len(targets)
    best_f1, best_threshold = best_f1_point(targets, probabilities) if both else (math.nan, math.nan)
    return {
        "examples": len(targets),
        "support": int(targets.sum()),
        "average_precision": float(sk.average_precision_score(targets, probabilities)) if both else math.nan,
        "roc_auc": float(sk.roc_auc_score(targets, probabilities)) if both else math.nan,
        "threshold": threshold,
        **_precision_recall_f1(targets, predicted),
        "best_f1": best_f1,
        "best_f1_threshold": best_threshold,
        "calibration_error": calibration_error(targets, probabilities),
    }


def _precision_recall_f1(targets: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    if not len(targets):
        return dict.fromkeys(("precision", "recall", "f1"), math.nan)
    values = sk.precision_recall_fscore_support(targets, predicted, average="binary", zero_division=0.0)
    return {key: float(value) for key, value in zip(("precision", "recall", "f1"), values, strict=False)}


def _averages(defined: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Means over labels: plain, and of average precision also weighted by the labels' positives."""
    columns = {key: np.array([m[key] for m in defined.values()]) for key in ("average_precision", "roc_auc", "f1")}
    support = np.array([m["support"] for m in defined.values()])
    return {
        "macro_map": _mean(columns["average_precision"]),
        "weighted_map": float(np.average(columns["average_precision"], weights=support)) if len(support) else math.nan,
        "macro_roc_auc": _mean(columns["roc_auc"]),
        "macro_f1": _mean(columns["f1"]),
    }


def _micro(targets: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Metrics over all known pairs of an example and a label."""
    both = 0 < targets.sum() < len(targets)
    found = _precision_recall_f1(targets, predicted)
    return {
        "micro_map": float(sk.average_precision_score(targets, probabilities)) if both else math.nan,
        "micro_roc_auc": float(sk.roc_auc_score(targets, probabilities)) if both else math.nan,
        "micro_f1": found["f1"],
        "micro_precision": found["precision"],
        "micro_recall": found["recall"],
        "log_loss": _log_loss(targets, probabilities),
        "calibration_error": calibration_error(targets, probabilities),
    }


def _single_label_metrics(targets: np.ndarray, probabilities: np.ndarray, ks: Sequence[int]) -> dict[str, Any]:
    labelled = (targets == 1).any(axis=1)  # test splits of TFDS may keep their labels secret
    targets, probabilities = targets[labelled], probabilities[labelled]
    truth, guess = targets.argmax(axis=1), probabilities.argmax(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of labels predicted that do not occur in the truth
        balanced = float(sk.balanced_accuracy_score(truth, guess))
    ranked = np.argsort(-probabilities, axis=1, kind="stable")
    result: dict[str, Any] = {"accuracy": _share(truth == guess), "balanced_accuracy": balanced}
    for k in ks[1:]:
        result[f"top_{k}_accuracy"] = _share((ranked[:, :k] == truth[:, None]).any(axis=1))
    labels = np.arange(probabilities.shape[1])
    return result | {"confusion_matrix": sk.confusion_matrix(truth, guess, labels=labels).tolist()}


def calibration_error(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error: how far probabilities are from frequencies, on average over 15 equal bins of 0 to 1.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017, here of the probability of presence.

    Args:
      targets: (n,) of 1 and 0.
      probabilities: (n,).
    """
    if not len(targets):
        return math.nan
    bins = np.minimum((probabilities * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=np.asarray(probabilities, np.float64) - targets)
    return float(np.abs(gaps).sum() / len(targets))


def best_f1_point(targets: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """The best F1 that one threshold reaches on these, (n,) each, with something present; and that threshold."""
    precision, recall, thresholds = sk.precision_recall_curve(targets, probabilities)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(np.argmax(f1[:-1]))
    return float(f1[best]), float(thresholds[best])


def _log_loss(targets: np.ndarray, probabilities: np.ndarray) -> float:
    clipped = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(targets == 1, np.log(clipped), np.log1p(-clipped)))) if len(targets) else math.nan


def _share(flags: np.ndarray) -> float:
    return float(np.mean(flags)) if len(flags) else math.nan


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan
