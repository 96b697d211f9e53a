"""Losses on logits that leave out labels of which nothing is known."""

import keras
import tensorflow as tf

from .preprocessing import UNKNOWN


@keras.saving.register_keras_serializable("tfr")
class MaskedBinaryCrossentropy(keras.losses.Loss):
    """Binary cross-entropy summed over the known labels and divided by the number of labels.

    Targets are float32 (batch, num_labels) of 1, 0 and UNKNOWN; predictions are logits of the same shape. An example
    with unknown labels weighs less, rather than its known labels more.
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "binary_crossentropy", **kwargs: object):
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Loss of each example, float32 (batch,)."""
        known = tf.cast(y_true != UNKNOWN, y_pred.dtype)
        targets = tf.maximum(tf.cast(y_true, y_pred.dtype), 0.0)
        smooth = targets * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=smooth, logits=y_pred)
        return tf.reduce_mean(losses * known, axis=-1)

    def get_config(self) -> dict[str, object]:
        """Keras's serialisation."""
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


def get_loss(multi_label: bool, label_smoothing: float = 0.0) -> keras.losses.Loss:
    """The loss for a label mode: binary cross-entropy a label, or softmax cross-entropy over all of them."""
    if multi_label:
        return MaskedBinaryCrossentropy(label_smoothing)
    return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=label_smoothing)
