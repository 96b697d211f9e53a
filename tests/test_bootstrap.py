"""The bootstrap's weighted figures against scikit-learn's, and what its intervals promise."""

import numpy as np
import pytest
from sklearn import metrics as sk

from tfr.train import bootstrap


def _predictions(num_examples, seed, skill=0.3):
    rng = np.random.default_rng(seed)
    targets = (rng.random((num_examples, 3)) < [0.5, 0.2, 0.1]).astype(np.float32)
    return targets, np.round(np.clip(skill * targets + (1 - skill) * rng.random(targets.shape), 0, 1), 2)


def test_weighted_figures_are_those_of_sklearn_with_ties():
    targets, scores = _predictions(120, 0)
    weights = np.random.default_rng(1).multinomial(120, np.full(120, 1 / 120), size=4)
    figures = {key: f(targets, scores, weights) for key, f in bootstrap.headline(multi_label=True).items()}
    for i, w in enumerate(weights):
        columns = [(targets[:, j], scores[:, j]) for j in range(3)]
        expected = {
            "macro_map": np.mean([sk.average_precision_score(*c, sample_weight=w) for c in columns]),
            "macro_roc_auc": np.mean([sk.roc_auc_score(*c, sample_weight=w) for c in columns]),
            "micro_map": sk.average_precision_score(targets.ravel(), scores.ravel(), sample_weight=np.repeat(w, 3)),
        }
        for key, value in expected.items():
            assert figures[key][i] == pytest.approx(value, abs=1e-9), key


def test_unknown_labels_and_labels_without_positives_are_left_out():
    targets, scores = _predictions(100, 0)
    targets[:40, 0] = -1
    targets[:, 2] = 0
    value = bootstrap.whole(targets, scores, bootstrap.headline(multi_label=True))["macro_map"]
    expected = [
        sk.average_precision_score(targets[40:, 0], scores[40:, 0]),
        sk.average_precision_score(targets[:, 1], scores[:, 1]),
    ]
    assert value == pytest.approx(np.mean(expected))


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    truth = bootstrap.whole(*_predictions(200_000, 99), bootstrap.headline(multi_label=True))["macro_map"]
    found = [bootstrap.intervals(*_predictions(150, seed), seed=seed)["macro_map"] for seed in range(60)]
    inside = np.mean([i.low <= truth <= i.high for i in found])
    assert 0.85 <= inside <= 1.0
    assert np.mean([i.high - i.low for i in found]) < 0.25


def test_more_examples_give_narrower_intervals():
    small, large = (bootstrap.intervals(*_predictions(n, 0))["macro_map"] for n in (100, 1600))
    assert large.high - large.low < 0.5 * (small.high - small.low)


def test_the_same_seed_gives_the_same_resamples():
    data = _predictions(80, 0)
    assert bootstrap.intervals(*data, seed=3) == bootstrap.intervals(*data, seed=3)
    assert bootstrap.intervals(*data, seed=3) != bootstrap.intervals(*data, seed=4)


def test_accuracy_of_single_labels():
    truth, guess = np.arange(100) % 4, np.where(np.arange(100) < 70, np.arange(100) % 4, 0)
    found = bootstrap.intervals(np.eye(4)[truth], np.eye(4)[guess], multi_label=False)["accuracy"]
    accuracy = np.mean(truth == guess)
    assert found.low < accuracy < found.high
    unlabelled = np.concatenate([np.eye(4)[truth], np.full((50, 4), -1)])
    more = np.concatenate([np.eye(4)[guess], np.eye(4)[np.zeros(50, int)]])
    assert bootstrap.whole(unlabelled, more, bootstrap.headline(multi_label=False))["accuracy"] == pytest.approx(
        accuracy
    )


def test_figures_that_are_not_defined_have_no_interval():
    found = bootstrap.intervals(np.zeros((20, 2)), np.full((20, 2), 0.5))["macro_map"]
    assert np.isnan(found.low)
    assert found.num_samples == 0


def test_an_interval_holds_its_figure_where_nearly_all_resamples_are_on_one_side():
    samples = np.linspace(0.24, 0.3, 500)
    found = bootstrap.interval(samples, 0.2401)
    assert found.low <= 0.2401 <= found.high
    assert bootstrap.interval(samples, 0.27).low < 0.25
