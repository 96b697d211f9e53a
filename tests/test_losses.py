"""Losses against the formula, and that unknown labels weigh nothing."""

import numpy as np
import pytest

from tfr.train import losses


def _cross_entropy(targets, logits):
    p = 1 / (1 + np.exp(-logits))
    return -(targets * np.log(p) + (1 - targets) * np.log(1 - p))


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return (rng.random((6, 4)) < 0.4).astype("float32"), rng.normal(size=(6, 4)).astype("float32")


def test_binary_cross_entropy_is_the_mean_over_labels_and_examples(batch):
    targets, logits = batch
    assert float(losses.TaggerLoss(True)(targets, logits)) == pytest.approx(
        _cross_entropy(targets, logits).mean(), 1e-5
    )


def test_unknown_labels_have_no_loss_and_no_gradient(batch):
    import tensorflow as tf

    targets, logits = batch
    targets[0, 1] = targets[3, :] = -1
    known = targets != -1
    values = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = losses.TaggerLoss(True)(targets, values)
    assert float(loss) == pytest.approx((_cross_entropy(targets, logits) * known).sum() / targets.size, 1e-5)
    gradient = tape.gradient(loss, values).numpy()
    assert (gradient[~known] == 0).all()
    assert (gradient[known] != 0).all()


def test_label_smoothing_moves_targets_towards_one_half(batch):
    targets, logits = batch
    expected = _cross_entropy(0.9 * targets + 0.05, logits).mean()
    assert float(losses.TaggerLoss(True, label_smoothing=0.1)(targets, logits)) == pytest.approx(expected, 1e-5)


def test_single_label_is_softmax_cross_entropy():
    logits = np.array([[2.0, 0.0, -1.0]], dtype="float32")
    expected = -np.log(np.exp(2) / np.exp(logits).sum())
    assert float(losses.TaggerLoss(False)(np.array([[1.0, 0, 0]]), logits)) == pytest.approx(expected, 1e-5)


@pytest.mark.parametrize("kind", ["cross_entropy", "focal"])
def test_an_example_whose_one_label_is_unknown_has_no_loss(kind):
    logits = np.array([[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]], dtype="float32")
    targets = np.array([[1.0, 0, 0], [-1, -1, -1]])
    found = losses.TaggerLoss(False, kind, label_smoothing=0.1).call(targets, logits[:, None]).numpy()
    assert found[0] > 0
    assert found[1] == 0


@pytest.mark.parametrize("multi_label", [True, False])
def test_the_loss_of_an_ensemble_is_the_mean_over_its_members(batch, multi_label):
    targets, logits = batch
    targets = targets if multi_label else np.eye(4, dtype="float32")[np.arange(6) % 4]
    members = np.stack([logits, -logits, 2 * logits], axis=1)
    loss = losses.TaggerLoss(multi_label)
    expected = np.mean([float(loss(targets, members[:, i])) for i in range(3)])
    assert float(loss(targets, members)) == pytest.approx(expected, 1e-5)


def test_one_label_alone_works():
    targets, logits = np.array([[1.0], [0.0]], "float32"), np.array([[[0.5], [1.0]], [[-1.0], [0.0]]], "float32")
    expected = _cross_entropy(targets[:, None], logits).mean()
    assert float(losses.TaggerLoss(True)(targets, logits)) == pytest.approx(expected, 1e-5)


def test_positive_weights_multiply_what_positives_add(batch):
    targets, logits = batch
    targets[2, 0] = -1
    weights = np.array([1.0, 3.0, 0.5, 10.0], "float32")
    terms = _cross_entropy(np.maximum(targets, 0), logits) * np.where(targets == 1, weights, 1) * (targets != -1)
    loss = losses.TaggerLoss(True, positive_weights=weights)
    assert float(loss(targets, logits)) == pytest.approx(terms.mean(), 1e-5)
    members = np.stack([logits, logits], axis=1)
    assert float(loss(targets, members)) == pytest.approx(terms.mean(), 1e-5)


def test_soft_targets_of_mixed_images_are_taken_as_they_are(batch):
    targets, logits = batch
    targets[0, 1] = 0.3
    assert float(losses.TaggerLoss(True)(targets, logits)) == pytest.approx(
        _cross_entropy(targets, logits).mean(), 1e-5
    )


def test_focal_loss_is_that_of_the_paper(batch):
    targets, logits = batch
    p = 1 / (1 + np.exp(-logits))
    truth = np.where(targets == 1, p, 1 - p)
    expected = (-((1 - truth) ** 2) * np.log(truth)).mean()
    assert float(losses.TaggerLoss(True, "focal")(targets, logits)) == pytest.approx(expected, 1e-5)


def test_focal_loss_of_one_label_an_image():
    logits = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    truth = np.eye(4, dtype="float32")[[0, 1, 2, 3, 0, 1]]
    p = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) * truth).sum(axis=1)
    expected = (-((1 - p) ** 2) * np.log(p)).mean()
    assert float(losses.TaggerLoss(False, "focal")(truth, logits)) == pytest.approx(expected, 1e-5)


def test_asymmetric_loss_is_that_of_the_paper(batch):
    targets, logits = batch
    p = 1 / (1 + np.exp(-logits))
    shifted = np.maximum(p - 0.05, 0)
    expected = -(targets * np.log(p) + (1 - targets) * shifted**4 * np.log(1 - shifted)).mean()
    assert float(losses.TaggerLoss(True, "asymmetric")(targets, logits)) == pytest.approx(expected, 1e-5)


@pytest.mark.parametrize("kind", ["cross_entropy", "focal", "asymmetric"])
def test_extreme_logits_give_numbers_and_gradients(kind):
    import tensorflow as tf

    logits = tf.Variable([[-90.0, 90.0, -90.0, 90.0]])
    with tf.GradientTape() as tape:
        loss = losses.TaggerLoss(True, kind)(np.array([[1, 1, 0, 0]], "float32"), logits)
    assert np.isfinite(float(loss))
    assert np.isfinite(tape.gradient(loss, logits).numpy()).all()
