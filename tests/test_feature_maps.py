"""The last feature map is found by the graph: on every backbone of the table, and on networks that try to mislead."""

import keras
import numpy as np
import pytest

from tfr.train import backbones, feature_maps

FAST = ("efficientnet_lite0", "mobilenet_v3_small", "convnext_tiny")
SIDE = 128  # gives every backbone a last map of more than one place


def tagger_of(backbone):
    return keras.layers.Dense(3, name="logits")(backbone.output)


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in backbones.BACKBONES]
)
def test_the_map_is_what_the_embedding_is_the_mean_of(name):
    backbone = backbones.build_backbone(name, weights=None, image_size=(SIDE, SIDE))
    found = feature_maps.last_feature_map(tagger_of(backbone))
    assert found.shape[1] > 1
    assert found.shape[3] == backbones.BACKBONES[name].embedding_size
    pixels = np.random.default_rng(0).uniform(0, 255, (1, SIDE, SIDE, 3)).astype(np.float32)
    values, embedding = keras.Model(backbone.input, [found, backbone.output])(pixels, training=False)
    mean = keras.ops.convert_to_numpy(values).mean(axis=(1, 2))
    if name.startswith("convnext"):  # a LayerNormalization follows the mean
        mean = (mean - mean.mean()) / np.sqrt(mean.var() + 1e-6)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(embedding), mean, rtol=1e-3, atol=1e-4)


def test_maps_of_one_place_and_side_paths_are_passed_over():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, name="whole")(inputs)
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)  # squeeze and excite
    gate = keras.layers.Conv2D(4, 1, activation="sigmoid")(gate)
    x = keras.layers.Multiply(name="gated")([x, gate])
    x = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = keras.layers.Conv2D(8, 1, name="behind_the_pooling")(x)
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(x))
    model = keras.Model(inputs, outputs)
    assert feature_maps.last_feature_map(outputs) is model.get_layer("gated").output


def test_branches_that_are_pooled_apart_lead_back_to_what_they_share():
    inputs = keras.Input((16, 16, 3))
    shared = keras.layers.Conv2D(4, 3)(inputs)
    branches = [keras.layers.Conv2D(4, size)(shared) for size in (1, 3)]
    pooled = [keras.layers.GlobalAveragePooling2D()(branch) for branch in branches]
    assert feature_maps.last_feature_map(keras.layers.Concatenate()(pooled)) is shared


def test_branches_that_meet_before_the_pooling_give_what_comes_of_them():
    inputs = keras.Input((16, 16, 3))
    branches = [keras.layers.Conv2D(4, size, padding="same")(inputs) for size in (1, 3)]
    joined = keras.layers.Concatenate()(branches)
    assert feature_maps.last_feature_map(keras.layers.GlobalAveragePooling2D()(joined)) is joined


def test_a_layer_called_twice_is_followed_through_the_right_call():
    shared = keras.layers.Conv2D(3, 3, padding="same")
    inputs = keras.Input((8, 8, 3))
    second = shared(shared(inputs))
    assert feature_maps.last_feature_map(keras.layers.GlobalMaxPooling2D()(second)) is second


def test_a_network_without_places_is_refused():
    inputs = keras.Input((5,))
    with pytest.raises(ValueError, match="No tensor of shape"):
        feature_maps.last_feature_map(keras.layers.Dense(2)(inputs))
