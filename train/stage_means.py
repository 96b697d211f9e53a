"""Embeddings from every depth of a backbone: the mean feature map of each of its stages beside its own embedding.

What a network has learnt last is what its old classes needed; texture, colour and small things are said best by
earlier stages. A head on all of them starts from several times the evidence at the price of one forward pass.
"""

from collections.abc import Sequence

import keras

from . import models

_MOST = 12  # stages; a network with more of them by width is cut where the resolution changes alone
_MEAN = "stage_mean"  # names of layers must not look like those of blocks, see models.blocks_of
_EMBEDDING = "embedding_of_stages"


def with_stages(backbone: keras.Model) -> keras.Model:
    """A backbone whose embedding holds the means of the feature maps that end its stages, and its own embedding last.

    Args:
      backbone: from pixels to embeddings (batch, embedding_size), float32.

    Returns:
      The same network with a wider embedding, on the same variables.
    """
    means = [_mean(tensor, number) for number, tensor in enumerate(stage_ends(backbone), 1)]
    if not means:
        return backbone
    outputs = keras.layers.Concatenate(dtype="float32", name=_EMBEDDING)([*means, backbone.output])
    return keras.Model(backbone.input, outputs, name=backbone.name)


def _mean(tensor: keras.KerasTensor, number: int) -> keras.KerasTensor:
    mean = keras.layers.GlobalAveragePooling2D(name=f"{_MEAN}{number}")(tensor)
    return keras.layers.Activation("linear", dtype="float32", name=f"{_MEAN}{number}_float32")(mean)


def widths(backbone: keras.Model) -> list[int]:
    """How many numbers of the embedding come from each stage, in order; one item where there are no stages."""
    if not is_joined(backbone.output):
        return [backbone.output.shape[-1]]
    return [part.shape[-1] for part in backbone.get_layer(_EMBEDDING).input]


def is_joined(tensor: keras.KerasTensor) -> bool:
    """Whether a tensor is an embedding made by `with_stages`."""
    return tensor._keras_history.operation.name == _EMBEDDING


def stage_ends(backbone: keras.Model) -> list[keras.KerasTensor]:
    """The last feature map of each run of blocks of one resolution and width, from the pixels on.

    The map that the embedding itself is the mean of is left out. See models.blocks_of for the blocks.
    """
    maps = [tensor for block in models.blocks_of(backbone) for tensor in _maps(block)[-1:]]
    ends = _ends_of_runs(maps, slice(1, None))
    if len(ends) > _MOST:  # networks that widen with every block
        ends = _ends_of_runs(maps, slice(1, 3))
    return ends[:-1] if ends and ends[-1].shape[-1] == backbone.output.shape[-1] else ends


def _maps(layers: Sequence[keras.layers.Layer]) -> list[keras.KerasTensor]:
    """The feature maps that these layers give; of small images the last ones have a single place."""
    outputs = [layer.output for layer in layers if isinstance(layer.output, keras.KerasTensor)]
    return [tensor for tensor in outputs if len(tensor.shape) == 4]


def _ends_of_runs(maps: Sequence[keras.KerasTensor], axes: slice) -> list[keras.KerasTensor]:
    """The last of each run of neighbours that agree in these axes."""
    following = [*(tensor.shape[axes] for tensor in maps[1:]), None]
    return [tensor for tensor, next_ in zip(maps, following, strict=True) if tensor.shape[axes] != next_]
