"""What several tests of backbones share: which are quick, pictures, and the networks of keras.applications."""

import importlib

import numpy as np
import pytest

from tfr.train import backbones

SIDE = 96  # of the pictures for networks with random weights: small, and enough for every network
FAST = ("efficientnet_lite0", "mobilenet_v2", "mobilenet_v3_small", "vgg16")
APPLICATIONS = [name for name, row in backbones.BACKBONES.items() if row.weights == "imagenet"]


def fast_and_slow(names):
    """Parameters for all names, those outside FAST marked slow."""
    return [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in names]


def noise_picture(height, width):
    """Returns uint8 pixels without any pattern, the same everywhere: a multiplicative hash of their places."""
    places = np.arange(height * width * 3, dtype=np.uint64).reshape(height, width, 3)
    return ((places * 2654435761) % 2**32 >> 24).astype(np.uint8)


def application(name):
    """Returns the constructor in keras.applications and the module that defines it."""
    import keras

    constructor = getattr(keras.applications, backbones.BACKBONES[name].constructor.split(":")[1])
    return constructor, importlib.import_module(constructor.__module__)


def bare_network(name, **options):
    """The network of keras.applications with random weights, on pixels that are scaled already."""
    constructor, _ = application(name)
    options = {"include_top": False, "pooling": "avg", "input_shape": (SIDE, SIDE, 3)} | options
    return constructor(weights=None, **options)
