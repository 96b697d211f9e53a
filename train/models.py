"""Networks: a head on embeddings, and the whole tagger from pixels to probabilities."""

from collections.abc import Iterable, Sequence

import keras
import numpy as np

_RARE = 1e-3  # prior probabilities are kept this far from 0 and 1


def build_head(
    embedding_size: int,
    num_labels: int,
    *,
    hidden_units: Sequence[int] = (),
    dropout: float = 0.5,
    mean: np.ndarray | None = None,
    variance: np.ndarray | None = None,
    prior: np.ndarray | None = None,
) -> keras.Model:
    """Builds the classifier that stands on a backbone.

    Args:
      embedding_size: numbers in an embedding.
      num_labels: labels.
      hidden_units: sizes of hidden layers (ReLU); empty for a linear head.
      dropout: share of the inputs of every dense layer dropped in training.
      mean, variance: of the training embeddings, float32 (embedding_size,): the head standardises its input by them.
      prior: share of training examples that carry each label, float32 (num_labels,): the biases start at its logit,
        so that the first steps are not spent on learning how frequent labels are.

    Returns:
      A model from float32 (batch, embedding_size) to logits, float32 (batch, num_labels).
    """
    inputs = keras.Input((embedding_size,), name="embedding")
    x = inputs
    if mean is not None and variance is not None:
        x = keras.layers.Normalization(mean=mean, variance=variance + 1e-6, name="standardize")(x)
    for number, units in enumerate(hidden_units, 1):
        x = keras.layers.Dropout(dropout, name=f"dropout_{number}")(x)
        x = keras.layers.Dense(units, activation="relu", name=f"hidden_{number}")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    bias = "zeros" if prior is None else keras.initializers.Constant(_logit(prior))
    # A linear head starts from the prior alone; behind a hidden layer the zeros would block its gradient.
    kernel = "glorot_uniform" if hidden_units else "zeros"
    logits = keras.layers.Dense(num_labels, name="logits", kernel_initializer=kernel, bias_initializer=bias)
    return keras.Model(inputs, logits(x), name="head")


def _logit(prior: np.ndarray) -> np.ndarray:
    clipped = np.clip(prior, _RARE, 1 - _RARE)
    return np.log(clipped / (1 - clipped)).astype(np.float32)


def join(backbone: keras.Model, head: keras.Model) -> keras.Model:
    """The head on the backbone: pixels, float32 (batch, height, width, 3) of 0 to 255, to logits."""
    x = backbone.output
    for layer in head.layers[1:]:  # one flat chain: a nested model would be saved with how it was compiled
        x = layer(x)
    return keras.Model(backbone.input, x, name="tagger_logits")


def with_probabilities(logits_model: keras.Model, multi_label: bool) -> keras.Model:
    """The same network with probabilities, (batch, num_labels): one a label, or over all of them."""
    activation = keras.layers.Activation("sigmoid" if multi_label else "softmax", dtype="float32", name="probabilities")
    return keras.Model(logits_model.input, activation(logits_model.output), name="tagger")


def set_trainable(backbone: keras.Model, trainable: bool) -> None:
    """Freezes or unfreezes a backbone. Its BatchNormalization layers stay frozen, so in inference mode: the batches
    of a small dataset would spoil statistics that come from a large one."""
    for layer in backbone.layers:
        layer.trainable = trainable and not isinstance(layer, keras.layers.BatchNormalization)


def count_parameters(variables: Iterable[keras.Variable]) -> int:
    """How many numbers these variables hold."""
    return int(sum(np.prod(variable.shape) for variable in variables))
