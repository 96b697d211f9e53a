"""Embeddings of all stages: which maps are taken, that they are means, and that the network stays what it was."""

import keras
import numpy as np
import pytest

from tfr.train import backbones, feature_maps, models, stage_means

SIDE = 64


@pytest.fixture(scope="module")
def lite():
    return backbones.build_backbone("efficientnet_lite0", weights=None, image_size=(SIDE, SIDE))


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).uniform(0, 255, (2, SIDE, SIDE, 3)).astype(np.float32)


def test_the_stages_of_efficientnet_are_those_of_the_paper(lite):
    assert stage_means.widths(lite) == [1280]
    assert stage_means.widths(stage_means.with_stages(lite)) == [32, 16, 24, 40, 80, 112, 192, 1280]
    small = backbones.build_backbone("efficientnet_lite0", weights=None, image_size=(32, 32))  # maps of one place
    assert stage_means.widths(stage_means.with_stages(small)) == [32, 16, 24, 40, 80, 112, 192, 1280]


def test_an_embedding_is_the_means_of_the_maps_and_then_its_own(lite, pixels):
    wide = stage_means.with_stages(lite)
    found = keras.ops.convert_to_numpy(wide(pixels))
    maps = keras.Model(lite.input, stage_means.stage_ends(lite))(pixels)
    means = [keras.ops.convert_to_numpy(tensor).mean(axis=(1, 2)) for tensor in maps]
    expected = np.concatenate([*means, keras.ops.convert_to_numpy(lite(pixels))], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mobilenet_v3_small", [16, 24, 40, 48, 96, 576]),
        ("densenet121", [224, 480, 992, 1024]),  # each block is wider than the last: by resolution
        ("vgg16", [64, 128, 256, 512, 512]),
    ],
)
def test_other_networks_have_stages_too(name, expected):
    backbone = backbones.build_backbone(name, weights=None, image_size=(SIDE, SIDE))
    assert stage_means.widths(stage_means.with_stages(backbone)) == expected


def test_the_blocks_that_fine_tuning_unfreezes_are_the_same(lite):
    def weighted(network):
        return [[layer.name for layer in block if layer.weights] for block in models.blocks_of(network)]

    assert weighted(stage_means.with_stages(lite)) == weighted(lite)


def test_stages_vary_as_much_in_sum_whatever_their_scale_and_width():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(5, 100, (500, 3)), rng.normal(0, 0.01, (500, 4))], axis=1).astype(np.float32)
    head = models.build_head(7, 2, mean=values.mean(0), variance=values.var(0), groups=[3, 4])
    scaled = keras.ops.convert_to_numpy(head.get_layer("standardize")(values))
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-3)
    sums = [np.square(part).sum(axis=1).mean() for part in (scaled[:, :3], scaled[:, 3:])]
    np.testing.assert_allclose(sums, 3.5, rtol=0.02)


def test_a_tagger_is_cut_at_its_last_map_and_given_the_other_stages(lite, pixels):
    wide = stage_means.with_stages(lite)
    logits = models.join(wide, models.build_head(wide.output.shape[1], 3, hidden_units=(4,))).output
    inputs = feature_maps.cut(logits)
    assert inputs[0].shape[-1] == 1280
    assert [tensor.shape[-1] for tensor in inputs[1:]] == [32, 16, 24, 40, 80, 112, 192]
    first, second = keras.Model(wide.input, inputs), keras.Model(inputs, logits)
    whole = keras.Model(wide.input, logits)
    np.testing.assert_allclose(second(first(pixels)), whole(pixels), atol=1e-5)
