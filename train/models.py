"""Networks: a head on embeddings, and the whole tagger from pixels to probabilities."""

import re
from collections.abc import Iterable, Sequence

import keras
import numpy as np

LOGITS = "logits"  # the name of the layer that ends in logits
_FIRST_OF_HEAD = ("standardize", "dropout")  # layers that a head begins with: the second where it has not the first
_BLOCK_NAME = re.compile(r"(.*_)?((block|stage|conv_dw|expanded_conv|mixed)_?[0-9]+[a-z]?)(_block_?[0-9]+)?(?=_|$)")
_NAMELESS_BLOCKS = 10
_RARE = 1e-3  # prior probabilities are kept this far from 0 and 1


def build_head(
    embedding_size: int,
    num_labels: int,
    *,
    hidden_units: Sequence[int] = (),
    num_members: int = 1,
    dropout: float = 0.5,
    mean: np.ndarray | None = None,
    variance: np.ndarray | None = None,
    groups: Sequence[int] | None = None,
    prior: np.ndarray | None = None,
) -> keras.Model:
    """Builds the classifier that stands on a backbone: an ensemble of small networks, side by side in one.

    Members see the same dropout of their input, start from different weights, and are trained each on its own loss;
    their mean is what predicts. Averaging networks trained so was on small data better than one of any size tried
    (deep ensembles: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep
    Ensembles", 2017).

    Args:
      embedding_size: numbers in an embedding.
      num_labels: labels.
      hidden_units: sizes of each member's hidden layers (ReLU); empty for linear members.
      num_members: networks in the ensemble.
      dropout: share of the inputs of every dense layer dropped in training.
      mean, variance: of the training embeddings, float32 (embedding_size,): inputs are centred, and divided by one
        common scale, which keeps what differs much between images large.
      groups: sizes of the parts of an embedding that have a scale each, see stage_means.widths; None: it is one part.
        Narrow parts are made larger, so that all vary as much in sum: else the widest drowns the others.
      prior: share of training examples that carry each label, float32 (num_labels,): the biases start at its logit,
        so that the first steps are not spent on learning how frequent labels are.

    Returns:
      A model from float32 (batch, embedding_size) to the members' logits, float32 (batch, num_members, num_labels).
    """
    inputs = keras.Input((embedding_size,), name="embedding")
    x = inputs
    if mean is not None and variance is not None:
        parts = np.split(variance, np.cumsum(groups or [embedding_size])[:-1])
        shares = [len(part) * len(parts) / embedding_size for part in parts]  # so that each part weighs the same
        common = np.concatenate(
            [
                np.full(len(part), share * part.mean() + 1e-6, np.float32)
                for part, share in zip(parts, shares, strict=True)
            ]
        )
        x = keras.layers.Normalization(mean=mean, variance=common, name="standardize")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    for number, units in enumerate(hidden_units, 1):
        x = _member_dense(x, num_members, units, f"hidden_{number}", activation="relu")
        x = keras.layers.Dropout(dropout, name=f"dropout_{number}")(x)
    # Zeros: training starts from the prior alone. Random logits, scaled up by dropout, cost the first ten epochs.
    head = keras.Model(inputs, _member_dense(x, num_members, num_labels, "member_logits", zeros=True))
    if prior is not None:
        bias = head.get_layer("member_logits").bias
        bias.assign(np.tile(_logit(prior), num_members).reshape(bias.shape))
    return head


def _logit(prior: np.ndarray) -> np.ndarray:
    clipped = np.clip(prior, _RARE, 1 - _RARE)
    return np.log(clipped / (1 - clipped)).astype(np.float32)


def _member_dense(
    x: keras.KerasTensor, num_members: int, units: int, name: str, activation: str | None = None, zeros: bool = False
) -> keras.KerasTensor:
    """A dense layer for each member: of (batch, num_members, n), or all on one (batch, n); (batch, num_members, units).

    What all members see goes into one matrix product: copied for each, it took twice the time.
    """
    limit = (6 / (x.shape[-1] + units)) ** 0.5  # Glorot's rule; Keras's would count the members as places or as units
    kernel = "zeros" if zeros else keras.initializers.RandomUniform(-limit, limit)
    if len(x.shape) == 2:
        dense = keras.layers.Dense(num_members * units, activation=activation, kernel_initializer=kernel, name=name)
        return keras.layers.Reshape((num_members, units), name="members")(dense(x))
    return keras.layers.EinsumDense(
        "bmu,muv->bmv",
        output_shape=(num_members, units),
        bias_axes="mv",
        activation=activation,
        kernel_initializer=kernel,
        name=name,
    )(x)


def join(backbone: keras.Model, head: keras.Model) -> keras.Model:
    """The head on the backbone: pixels, float32 (batch, height, width, 3) of 0 to 255, to the members' mean logits."""
    x = backbone.output
    for layer in head.layers[1:]:  # one flat chain: a nested model would be saved with how it was compiled
        x = layer(x)
    return keras.Model(backbone.input, mean_logits(x), name="tagger_logits")


def mean_logits(member_logits: keras.KerasTensor) -> keras.KerasTensor:
    """(batch, num_members, num_labels) to (batch, num_labels)."""
    return keras.layers.GlobalAveragePooling1D(name=LOGITS)(member_logits)


def with_probabilities(logits_model: keras.Model, multi_label: bool, temperature: float = 1.0) -> keras.Model:
    """The same network with probabilities, (batch, num_labels): one a label, or over all of them.

    Args:
      logits_model: gives logits.
      multi_label: sigmoid, else softmax.
      temperature: what the logits are divided by, see calibration.fit_temperature.
    """
    activation = keras.layers.Activation("sigmoid" if multi_label else "softmax", dtype="float32", name="probabilities")
    logits = logits_model.output
    if temperature != 1.0:
        logits = keras.layers.Rescaling(1 / temperature, name="temperature")(logits)
    return keras.Model(logits_model.input, activation(logits), name="tagger")


def with_embeddings(tagger: keras.Model) -> keras.Model:
    """The same network with two outputs: its own, and what its head is given, (batch, embedding_size)."""
    names = [layer.name for layer in tagger.layers]
    first = next(name for name in _FIRST_OF_HEAD if name in names)
    embedding = tagger.get_layer(first).input
    return keras.Model(tagger.input, [tagger.output, embedding], name="tagger_and_embedding")


def set_trainable(backbone: keras.Model, blocks: int | None) -> None:
    """Freezes a backbone but for its last blocks. Its BatchNormalization layers stay frozen, so in inference mode: the
    batches of a small dataset would spoil statistics that come from a large one.

    Args:
      backbone: any functional model.
      blocks: how many blocks to train, see `blocks_of`; None: all of them.
    """
    blocks_ = blocks_of(backbone)
    first = 0 if blocks is None else max(len(blocks_) - blocks, 0)
    for number, layers in enumerate(blocks_):
        for layer in layers:
            layer.trainable = number >= first and not isinstance(layer, keras.layers.BatchNormalization)


def blocks_of(backbone: keras.Model) -> list[list[keras.layers.Layer]]:
    """The layers of a backbone, in order, cut where its names of blocks change, such as 'block3b_' or 'conv4_block2_'.

    Layers without such a name belong to the block before them. A backbone with no such names is cut into equal parts.
    """
    blocks: list[list[keras.layers.Layer]] = [[]]
    current = None
    for layer in backbone.layers:
        match = _BLOCK_NAME.match(layer.name)
        if match and match[0] != current:
            current = match[0]
            blocks.append([])
        blocks[-1].append(layer)
    blocks = [layers for layers in blocks if any(layer.weights for layer in layers)]
    if len(blocks) > 1:
        return blocks
    return [part.tolist() for part in np.array_split(np.array(backbone.layers, dtype=object), _NAMELESS_BLOCKS)]


def rate_factors(backbone: keras.Model, layer_decay: float) -> dict[str, float]:
    """Variable path to what its learning rate is multiplied by: less for each block further from the head.

    Source: Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018 (discriminative
    fine-tuning).
    """
    blocks = blocks_of(backbone)
    return {
        variable.path: layer_decay ** (len(blocks) - number)
        for number, layers in enumerate(blocks)
        for layer in layers
        for variable in layer.trainable_variables
    }


def count_parameters(variables: Iterable[keras.Variable]) -> int:
    """How many numbers these variables hold."""
    return int(sum(np.prod(variable.shape) for variable in variables))
