"""Temperature scaling: finds the temperature that was put in, and makes it part of the saved model."""

import numpy as np
import pytest
from scipy import special
from sklearn import metrics as sk

from tfr.train import calibration


def test_the_temperature_that_distorted_the_probabilities_is_found_for_tags():
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 2, (20_000, 3))
    targets = (rng.random(logits.shape) < special.expit(logits)).astype(float)
    overconfident = special.expit(3 * logits)
    temperature = calibration.fit_temperature(targets, overconfident, multi_label=True)
    assert temperature == pytest.approx(3, rel=0.05)
    mended = calibration.apply_temperature(overconfident, temperature, multi_label=True)
    assert sk.log_loss(targets.ravel(), mended.ravel()) < sk.log_loss(targets.ravel(), overconfident.ravel())
    np.testing.assert_allclose(mended, special.expit(logits), atol=0.02)


def test_the_temperature_that_distorted_the_probabilities_is_found_for_classes():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (20_000, 4))
    truth = np.array([rng.choice(4, p=p) for p in special.softmax(logits, axis=1)])
    timid = special.softmax(0.5 * logits, axis=1)
    assert calibration.fit_temperature(np.eye(4)[truth], timid, multi_label=False) == pytest.approx(0.5, rel=0.05)


def test_unknown_labels_do_not_count():
    rng = np.random.default_rng(0)
    probabilities = rng.random((500, 2))
    targets = (rng.random((500, 2)) < probabilities).astype(float)
    targets[:200, 0] = -1
    moved = np.where(targets < 0, 1 - probabilities, probabilities)
    first, second = (calibration.fit_temperature(targets, p, multi_label=True) for p in (probabilities, moved))
    assert first == pytest.approx(second)
