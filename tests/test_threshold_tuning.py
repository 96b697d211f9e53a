"""Thresholds: tuned for F1, rare labels near the global one, written and read."""

import numpy as np
import pytest
from scipy import special
from sklearn import metrics as sk

from tfr.errors import RunDirError
from tfr.train import metrics, threshold_tuning, thresholds


def _set(num_examples, seed, shares=(0.5, 0.3, 0.02), optima=(0.5, 0.5, 0.5)):
    """Labels of these shares, whose scores separate best at these places."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((num_examples, len(shares))) < shares).astype(np.float32)
    scores = np.array(optima) + 0.12 * (2 * targets - 1) + 0.1 * rng.standard_normal(targets.shape)
    return targets, np.clip(scores, 0.001, 0.999)


def test_the_global_threshold_has_the_best_micro_f1():
    targets, scores = _set(400, 0)
    best = threshold_tuning.global_threshold(targets, scores)
    f1 = [sk.f1_score(targets.ravel(), scores.ravel() >= t) for t in np.unique(scores)]
    assert sk.f1_score(targets.ravel(), scores.ravel() >= best) == pytest.approx(max(f1))
    assert threshold_tuning.global_threshold(np.zeros((3, 2)), np.full((3, 2), 0.3)) == 0.5


def test_labels_that_differ_get_thresholds_of_their_own():
    shares, optima = (0.5, 0.4, 0.3), (0.3, 0.5, 0.7)
    tuned = threshold_tuning.tune(*_set(3000, 0, shares, optima))
    assert np.isfinite(tuned.strength)
    assert tuned.per_label[0] < 0.4 < tuned.per_label[1] < 0.6 < tuned.per_label[2]
    targets, scores = _set(3000, 1, shares, optima)
    own = sk.f1_score(targets, scores >= tuned.per_label, average="micro")
    assert own > sk.f1_score(targets, scores >= tuned.overall, average="micro") + 0.02


def test_labels_that_do_not_differ_keep_the_global_threshold():
    tuned = threshold_tuning.tune(*_set(300, 3, (0.4, 0.4, 0.4)))
    np.testing.assert_allclose(tuned.per_label, tuned.overall, atol=0.05)


def test_a_rare_label_keeps_less_of_its_own_optimum_than_a_common_one():
    targets, scores = _set(2000, 0, (0.5, 0.5, 0.004), (0.5, 0.3, 0.3))
    tuned = threshold_tuning.tune(targets, scores, method="per_label")
    kept = []
    for i in (1, 2):
        own = metrics.best_f1_point(targets[:, i], scores[:, i])[1]
        start, end, now = special.logit([tuned.overall, own, tuned.per_label[i]])
        kept.append((now - start) / (end - start))
        positives = targets[:, i].sum()
        assert kept[-1] == pytest.approx(positives / (positives + tuned.strength))
    assert kept[1] < 0.7 * kept[0]


def test_methods_can_be_forced():
    data = _set(500, 0, (0.5, 0.4, 0.3), (0.3, 0.5, 0.7))
    forced = threshold_tuning.tune(*data, method="global")
    assert set(forced.per_label) == {forced.overall}
    assert len(set(threshold_tuning.tune(*_set(300, 3), method="per_label").per_label)) == 3


def test_unknown_labels_do_not_count():
    targets, scores = _set(500, 0)
    masked = targets.copy()
    masked[:250, 1] = -1
    moved = np.where(masked < 0, 1 - scores, scores)
    first, second = threshold_tuning.tune(masked, scores), threshold_tuning.tune(masked, moved)
    np.testing.assert_array_equal(first.per_label, second.per_label)


def test_thresholds_survive_the_file():
    tuned = threshold_tuning.tune(*_set(500, 0), method="per_label", tuned_on="validation")
    names = ["a", "b", "c"]
    again = thresholds.from_json(tuned.to_json(names), names, "here")
    np.testing.assert_array_equal(again.per_label, tuned.per_label)
    assert (again.overall, again.strength, again.tuned_on) == (tuned.overall, tuned.strength, "validation")
    plain = thresholds.from_json({"global": 0.4}, names, "here")
    assert set(plain.per_label) == {0.4}
    with pytest.raises(RunDirError, match=r"here: no threshold for the labels \['d'\]"):
        thresholds.from_json(tuned.to_json(names), [*names, "d"], "here")
