"""Losses on logits that leave out labels of which nothing is known."""

import keras
import numpy as np
import tensorflow as tf

from .preprocessing import UNKNOWN

_FOCAL_GAMMA = 2.0
_ASL_GAMMA, _ASL_MARGIN = 4.0, 0.05  # for negatives, and what they are let off: the paper's choice


class TaggerLoss(keras.losses.Loss):
    """Loss of tags: binary for each label, or softmax over all of them.

    Targets are float32 (batch, num_labels) of 1, 0 and UNKNOWN, or between 0 and 1 where images are mixed; predictions
    are logits, (batch, num_labels), or (batch, num_members, num_labels) for an ensemble, whose members' losses are
    averaged. Binary losses are summed over the known labels and divided by the number of labels: an example with
    unknown labels weighs less, rather than its known labels more. Softmax losses of examples whose label is unknown
    are 0.

    Kinds:
      cross_entropy: binary, or softmax.
      focal: cross-entropy times (1 - p)^2, p being the probability of the truth: what is easy weighs little. Source:
        Lin et al., "Focal Loss for Dense Object Detection", 2017.
      asymmetric: focal for negatives alone, (p - 0.05)^4, those below 0.05 weighing nothing: for many labels with
        few positives. Binary only. Source: Ridnik et al., "Asymmetric Loss For Multi-Label Classification", 2021.
    """

    def __init__(
        self,
        multi_label: bool,
        kind: str = "cross_entropy",
        *,
        label_smoothing: float = 0.0,
        positive_weights: np.ndarray | None = None,
    ):
        """Prepares the loss.

        Args:
          multi_label: binary losses, else softmax.
          kind: see above.
          label_smoothing: moves targets that far towards one half, or towards the uniform distribution.
          positive_weights: one a label, multiply what positives add to a binary loss; see sampling.positive_weights.
        """
        super().__init__(name=kind)
        self._multi_label, self._kind, self._smoothing = multi_label, kind, label_smoothing
        self._positive_weights = 1.0 if positive_weights is None else positive_weights

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Loss of each example, float32 (batch,)."""
        logits = tf.cast(y_pred, tf.float32)
        targets = tf.cast(y_true, tf.float32)
        if len(logits.shape) > len(targets.shape):
            targets = tf.repeat(targets[:, None, :], logits.shape[1], axis=1)
        known = tf.cast(targets != UNKNOWN, tf.float32)
        targets = tf.maximum(targets, 0.0) * (1 - self._smoothing)
        if self._multi_label:
            losses = known * self._binary(targets + 0.5 * self._smoothing, logits)
        else:
            losses = self._softmax(targets + self._smoothing / logits.shape[-1], logits)[..., None]
            losses *= tf.reduce_max(known, axis=-1, keepdims=True)
        return tf.reduce_mean(losses, axis=list(range(1, len(losses.shape))))

    def _binary(self, targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """The loss of every pair of an example and a label; computed from logits, so that nothing overflows."""
        present, absent = tf.nn.softplus(-logits), tf.nn.softplus(logits)  # -log p, -log (1 - p)
        if self._kind == "focal":
            present *= tf.sigmoid(-logits) ** _FOCAL_GAMMA
            absent *= tf.sigmoid(logits) ** _FOCAL_GAMMA
        elif self._kind == "asymmetric":
            shifted = tf.maximum(tf.sigmoid(logits) - _ASL_MARGIN, 0.0)
            absent = -tf.math.log1p(-shifted) * shifted**_ASL_GAMMA
        weights = tf.constant(self._positive_weights, tf.float32)
        return weights * targets * present + (1 - targets) * absent

    def _softmax(self, targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        if self._kind == "cross_entropy":
            return tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=logits)
        log_p = tf.nn.log_softmax(logits)
        return -tf.reduce_sum(targets * (1 - tf.exp(log_p)) ** _FOCAL_GAMMA * log_p, axis=-1)
