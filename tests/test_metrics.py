"""Metrics against scikit-learn on the same numbers, and against numbers worked out by hand."""

import json
import math

import numpy as np
import pytest
from sklearn import metrics as sk

from tfr.train import metrics, run_dir


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    targets = (rng.random((200, 4)) < [0.5, 0.2, 0.1, 0.0]).astype(np.float32)
    return targets, np.clip(0.4 * targets + 0.6 * rng.random((200, 4)), 0, 1)


NAMES = ["a", "b", "c", "never"]


def test_macro_averages_are_those_of_sklearn_over_the_labels_that_occur(predictions):
    targets, probabilities = predictions
    measured = metrics.compute_metrics(targets, probabilities, NAMES)
    assert measured["undefined_labels"] == ["never"]
    for key, average, function in (
        ("macro_map", "macro", sk.average_precision_score),
        ("macro_roc_auc", "macro", sk.roc_auc_score),
    ):
        expected = function(targets[:, :3], probabilities[:, :3], average=average)
        assert measured[key] == pytest.approx(expected, abs=1e-9)


def test_micro_averages_are_those_of_sklearn(predictions):
    targets, probabilities = predictions
    measured = metrics.compute_metrics(targets, probabilities, NAMES, threshold=0.6)
    flat, scores = targets.ravel(), probabilities.ravel()
    assert measured["micro_map"] == pytest.approx(sk.average_precision_score(flat, scores))
    assert measured["micro_f1"] == pytest.approx(sk.f1_score(flat, scores >= 0.6))
    assert measured["log_loss"] == pytest.approx(sk.log_loss(flat, np.clip(scores, 1e-7, 1 - 1e-7)), rel=1e-6)


def test_each_label_has_its_own_figures(predictions):
    targets, probabilities = predictions
    measured = metrics.compute_metrics(targets, probabilities, NAMES, threshold=0.6)
    for i, name in enumerate(NAMES[:3]):
        label = measured["per_label"][name]
        assert label["support"] == targets[:, i].sum()
        assert label["average_precision"] == pytest.approx(
            sk.average_precision_score(targets[:, i], probabilities[:, i])
        )
        assert label["f1"] == pytest.approx(sk.f1_score(targets[:, i], probabilities[:, i] >= 0.6))
    assert math.isnan(measured["per_label"]["never"]["average_precision"])


def test_unknown_labels_are_left_out_of_everything(predictions):
    targets, probabilities = predictions
    masked = targets.copy()
    masked[:50, 0] = -1
    measured = metrics.compute_metrics(masked, probabilities, NAMES)
    expected = sk.average_precision_score(targets[50:, 0], probabilities[50:, 0])
    assert measured["per_label"]["a"]["average_precision"] == pytest.approx(expected)
    known = masked != -1
    assert measured["micro_map"] == pytest.approx(sk.average_precision_score(masked[known], probabilities[known]))
    # What is predicted for unknown labels changes nothing.
    moved = metrics.compute_metrics(masked, np.where(known, probabilities, 1 - probabilities), NAMES)
    for key in ("macro_map", "micro_map", "micro_f1", "log_loss", "precision_at_1", "recall_at_3"):
        assert moved[key] == pytest.approx(measured[key])


def test_precision_and_recall_at_k_by_hand():
    targets = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]], dtype=np.float32)
    probabilities = np.array([[0.9, 0.8, 0.1], [0.5, 0.4, 0.3], [0.6, 0.7, 0.1]])
    measured = metrics.compute_metrics(targets, probabilities, ["a", "b", "c"], ks=(1, 2, 5))
    assert measured["precision_at_1"] == pytest.approx((1 + 0 + 1) / 3)
    assert measured["precision_at_2"] == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert measured["recall_at_1"] == pytest.approx((0.5 + 1) / 2)  # the second image has no labels
    assert "precision_at_5" not in measured  # there are only three labels


def test_single_label_metrics_are_those_of_sklearn():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 5, 100)
    probabilities = rng.dirichlet(np.ones(5), 100) + 0.3 * np.eye(5)[truth]
    measured = metrics.compute_metrics(np.eye(5)[truth], probabilities, list("abcde"), multi_label=False)
    assert measured["accuracy"] == pytest.approx(sk.accuracy_score(truth, probabilities.argmax(1)))
    assert measured["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, probabilities.argmax(1)))
    assert measured["top_3_accuracy"] == pytest.approx(sk.top_k_accuracy_score(truth, probabilities, k=3))


def test_of_single_labels_the_likeliest_counts_whatever_the_threshold():
    """As prediction has it, and the confusion matrix."""
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 4, 80)
    probabilities = rng.dirichlet(np.ones(4), 80) + 0.2 * np.eye(4)[truth]
    limits = np.array([0.05, 0.9, 0.3, 0.5])
    measured = metrics.compute_metrics(np.eye(4)[truth], probabilities, NAMES, threshold=limits, multi_label=False)
    guess = probabilities.argmax(axis=1)
    expected = sk.precision_recall_fscore_support(truth, guess)
    for number, key in enumerate(("precision", "recall", "f1")):
        found = [measured["per_label"][name][key] for name in NAMES]
        np.testing.assert_allclose(found, expected[number])
    assert measured["macro_f1"] == pytest.approx(sk.f1_score(truth, guess, average="macro"))
    assert measured["micro_f1"] == measured["subset_accuracy"] == pytest.approx(measured["accuracy"])
    assert np.isnan(measured["threshold"])


def test_examples_without_a_label_count_in_no_figure():
    """Test splits of TFDS whose labels are kept secret say -1; some datasets have a few such examples."""
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 5, 60)
    probabilities = rng.dirichlet(np.ones(5), 60) + 0.3 * np.eye(5)[truth]
    targets = np.eye(5)[truth]
    targets[40:] = -1
    measured, expected = (
        json.loads(run_dir.to_json(metrics.compute_metrics(*part, list("abcde"), multi_label=False)))
        for part in ((targets, probabilities), (targets[:40], probabilities[:40]))
    )
    assert (measured.pop("num_examples"), expected.pop("num_examples")) == (60, 40)
    assert measured == expected


def test_weighted_and_example_averages_are_those_of_sklearn(predictions):
    targets, probabilities = predictions
    probabilities = probabilities.round(1)  # ties
    measured = metrics.compute_metrics(targets, probabilities, NAMES)
    some = targets.any(axis=1)
    truth, scores = targets[some], probabilities[some]
    assert measured["weighted_map"] == pytest.approx(
        sk.average_precision_score(targets[:, :3], probabilities[:, :3], average="weighted")
    )
    assert measured["samples_map"] == pytest.approx(sk.label_ranking_average_precision_score(truth, scores))
    assert measured["coverage"] == pytest.approx(sk.coverage_error(truth, scores))
    assert measured["ranking_loss"] == pytest.approx(sk.label_ranking_loss(truth, scores))
    assert measured["hamming_loss"] == pytest.approx(sk.hamming_loss(targets, probabilities >= 0.5))
    assert measured["subset_accuracy"] == pytest.approx(sk.accuracy_score(targets, probabilities >= 0.5))


def test_what_is_said_of_unknown_labels_changes_no_figure_of_examples(predictions):
    targets, probabilities = predictions
    masked = np.where(np.random.default_rng(2).random(targets.shape) < 0.3, -1, targets)
    first = metrics.compute_metrics(masked, probabilities, NAMES)
    second = metrics.compute_metrics(masked, np.where(masked < 0, 1 - probabilities, probabilities), NAMES)
    for key in ("samples_map", "coverage", "ranking_loss", "hamming_loss", "subset_accuracy", "calibration_error"):
        assert first[key] == pytest.approx(second[key])


def test_each_label_can_have_its_own_threshold(predictions):
    targets, probabilities = predictions
    limits = np.array([0.3, 0.5, 0.7, 0.9])
    measured = metrics.compute_metrics(targets, probabilities, NAMES, threshold=limits)
    for i, name in enumerate(NAMES[:3]):
        expected = sk.f1_score(targets[:, i], probabilities[:, i] >= limits[i])
        assert measured["per_label"][name]["f1"] == pytest.approx(expected)
        assert measured["per_label"][name]["threshold"] == limits[i]


def test_the_best_f1_is_the_best_of_all_thresholds(predictions):
    targets, probabilities = predictions
    best, threshold = metrics.best_f1_point(targets[:, 1], probabilities[:, 1])
    f1 = {t: sk.f1_score(targets[:, 1], probabilities[:, 1] >= t) for t in np.unique(probabilities[:, 1])}
    assert best == pytest.approx(max(f1.values()))
    assert f1[threshold] == pytest.approx(best)


def test_calibration_error_by_hand():
    targets = np.array([1, 1, 0, 0, 1])
    probabilities = np.array([0.99, 0.95, 0.01, 0.03, 0.5])
    # Bins of 1/15: two together 0.06 too low, two together 0.04 too high, and one 0.5 too low.
    assert metrics.calibration_error(targets, probabilities) == pytest.approx((0.06 + 0.04 + 0.5) / 5)
    rng = np.random.default_rng(0)
    honest = rng.random(50_000)
    assert metrics.calibration_error((rng.random(50_000) < honest).astype(int), honest) < 0.01


def test_labels_with_few_positives_are_marked():
    targets = np.zeros((50, 2))
    targets[:3, 0], targets[:20, 1] = 1, 1
    measured = metrics.compute_metrics(targets, np.random.default_rng(0).random((50, 2)), ["rare", "common"])
    assert measured["rare_labels"] == ["rare"]


def test_single_label_has_a_confusion_matrix():
    truth, guess = np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 2, 0])
    measured = metrics.compute_metrics(np.eye(4)[truth], np.eye(4)[guess], list("abcd"), multi_label=False)
    assert measured["confusion_matrix"] == sk.confusion_matrix(truth, guess, labels=range(4)).tolist()
