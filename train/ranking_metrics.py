"""Metrics of how each example's labels are ranked, unknown labels left out; averages over examples.

Defined as in scikit-learn (`coverage_error`, `label_ranking_loss`, `label_ranking_average_precision_score`), which
knows no unknown labels and no memory bound.
"""

import math
from collections.abc import Sequence

import numpy as np

_PAIRS_AT_ONCE = 20_000_000  # (present label, label) pairs held in memory


def at_k(targets: np.ndarray, probabilities: np.ndarray, ks: Sequence[int]) -> dict[str, float]:
    """Precision at k: share of the k likeliest known labels that are present, over examples of which any is known;
    recall at k: share of those present that are among them, over examples with at least one label."""
    ranked = np.argsort(-np.where(targets >= 0, probabilities, -1.0), axis=1, kind="stable")
    hits = np.take_along_axis(targets == 1, ranked, axis=1)
    present = (targets == 1).sum(axis=1)
    some, judged = present > 0, (targets >= 0).any(axis=1)
    result = {}
    for k in ks:
        found = hits[:, :k].sum(axis=1)
        result[f"precision_at_{k}"] = float(np.mean(found[judged] / k)) if judged.any() else math.nan
        result[f"recall_at_{k}"] = float(np.mean(found[some] / present[some])) if some.any() else math.nan
    return result


def of_examples(targets: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Average precision by example, coverage and ranking loss, over the examples for which they are defined.

    Args:
      targets: (num_examples, num_labels) of 1, 0 and -1 for unknown.
      probabilities: same shape.

    Returns:
      samples_map: mean over examples with a label of the average precision of their own ranking.
      coverage: how far down the ranking one must go, on average, to have met all of an example's labels.
      ranking_loss: share of (present, absent) pairs of labels in the wrong order; ties are wrong.
    """
    examples, labels = np.nonzero(targets == 1)
    if not len(examples):
        return dict.fromkeys(("samples_map", "coverage", "ranking_loss"), math.nan)
    not_below, present_not_below = _not_below(targets, probabilities, examples, labels)
    num_present = np.bincount(examples, minlength=len(targets))
    some = num_present > 0
    precision = np.bincount(examples, weights=present_not_below / not_below, minlength=len(targets))
    depth = np.zeros(len(targets))
    np.maximum.at(depth, examples, not_below)
    num_pairs = num_present * (targets == 0).sum(axis=1)
    wrong = np.bincount(examples, weights=not_below - present_not_below, minlength=len(targets))
    comparable = num_pairs > 0
    return {
        "samples_map": float(np.mean(precision[some] / num_present[some])),
        "coverage": float(np.mean(depth[some])),
        "ranking_loss": float(np.mean(wrong[comparable] / num_pairs[comparable])) if comparable.any() else math.nan,
    }


def _not_below(
    targets: np.ndarray, probabilities: np.ndarray, examples: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each present label: how many known, and how many present labels of its example are as likely or likelier."""
    known, present = np.zeros(len(examples)), np.zeros(len(examples))
    step = max(1, _PAIRS_AT_ONCE // targets.shape[1])
    for start in range(0, len(examples), step):
        part = slice(start, start + step)
        rows = examples[part]
        reach = probabilities[rows] >= probabilities[rows, labels[part]][:, None]
        known[part] = (reach & (targets[rows] >= 0)).sum(axis=1)
        present[part] = (reach & (targets[rows] == 1)).sum(axis=1)
    return known, present
