"""Losses on logits that leave out labels of which nothing is known."""

import keras
import numpy as np
import tensorflow as tf

from .preprocessing import UNKNOWN


class TaggerLoss(keras.losses.Loss):
    """Cross-entropy of tags: binary for each label, or softmax over all of them.

    Targets are float32 (batch, num_labels) of 1, 0 and UNKNOWN; predictions are logits, (batch, num_labels), or
    (batch, num_members, num_labels) for an ensemble, whose members' losses are averaged. Binary losses are summed over
    the known labels and divided by the number of labels: an example with unknown labels weighs less, rather than its
    known labels more.
    """

    def __init__(self, multi_label: bool, label_smoothing: float = 0.0, positive_weights: np.ndarray | None = None):
        """`label_smoothing` moves targets that far towards one half, or towards the uniform distribution.

        `positive_weights`, one a label, multiply what positives add to a binary loss (see sampling.positive_weights).
        """
        super().__init__(name="cross_entropy")
        self._multi_label, self._smoothing, self._positive_weights = multi_label, label_smoothing, positive_weights

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Loss of each example, float32 (batch,)."""
        targets = tf.cast(y_true, y_pred.dtype)
        if len(y_pred.shape) > len(targets.shape):
            targets = tf.repeat(targets[:, None, :], y_pred.shape[1], axis=1)
        known = tf.cast(targets != UNKNOWN, y_pred.dtype)
        targets = tf.maximum(targets, 0.0) * (1 - self._smoothing)
        if self._multi_label:
            targets += 0.5 * self._smoothing
            weights = tf.constant(1.0 if self._positive_weights is None else self._positive_weights, y_pred.dtype)
            losses = known * tf.nn.weighted_cross_entropy_with_logits(targets, y_pred, weights)
        else:
            targets += self._smoothing / y_pred.shape[-1]
            losses = tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=y_pred)[..., None]
        return tf.reduce_mean(losses, axis=list(range(1, len(losses.shape))))
