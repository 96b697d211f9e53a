"""Weights of backbones: from files, and from Keras's downloads."""

import numpy as np
import pytest
from backbone_checks import APPLICATIONS, SIDE, application, bare_network, fast_and_slow, noise_picture

from tfr import errors
from tfr.train import backbones


@pytest.mark.parametrize(
    ("suffix", "include_top"),
    [(".weights.h5", False), (".h5", True), (".keras", True)]
    + [pytest.param(*case, marks=pytest.mark.slow) for case in [(".weights.h5", True), (".h5", False)]]
    + [pytest.param(".keras", False, marks=pytest.mark.slow)],
)
def test_weights_from_a_file_with_and_without_top(tmp_path, suffix, include_top):
    bare = bare_network("mobilenet_v2", include_top=include_top)
    path = save_network(bare, tmp_path / f"file{suffix}")
    model = backbones.build_backbone("mobilenet_v2", weights=str(path), image_size=(SIDE, SIDE))
    for ours, theirs in zip(model.get_weights(), bare.get_weights(), strict=not include_top):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_weights_with_top_begin_like_those_without(name):
    """So that an old `.h5` file with a top can be cut."""
    bare = backbones.build_backbone(name, weights=None)
    full = bare_network(name, include_top=True, pooling=None, input_shape=None)
    shapes = [tuple(weight.shape) for weight in bare.weights]
    assert [tuple(weight.shape) for weight in full.weights][: len(shapes)] == shapes
    top_weights = 6 if name.startswith("vgg") else 4 if name.startswith("mobilenet_v3") else 2
    assert len(full.weights) == len(shapes) + top_weights


def save_network(network, path):
    """Saves weights only, or the model, by the suffix."""
    if path.name.endswith(".weights.h5"):
        network.save_weights(path)
    else:
        network.save(path)
    return path


@pytest.mark.parametrize("name", fast_and_slow(["vgg16", "mobilenet_v2", "resnet50", "densenet121", "nasnet_mobile"]))
def test_downloaded_weights_arrive(tmp_path, monkeypatch, name):
    bare = bare_network(name)
    path = save_network(bare, tmp_path / "download.h5")
    serve_download(monkeypatch, name, lambda *_, **__: str(path))
    model = backbones.build_backbone(name, image_size=(SIDE, SIDE))
    for ours, theirs in zip(model.get_weights(), bare.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def serve_download(monkeypatch, name, get_file):
    """Puts a function in the place of Keras's download."""
    _, module = application(name)
    monkeypatch.setattr(module.file_utils, "get_file", get_file)


def test_efficientnet_scales_alike_from_a_download_and_from_a_file(tmp_path, monkeypatch):
    """Keras's file has the standard deviation for the variance, and only the download's network allows for it."""
    import keras

    keras.utils.set_random_seed(2)
    bare = bare_network("efficientnet_b0")
    published = [np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]), np.array(0)]
    bare.set_weights(published + bare.get_weights()[3:])
    path = save_network(bare, tmp_path / "efficientnetb0_notop.h5")
    serve_download(monkeypatch, "efficientnet_b0", lambda *_, **__: str(path))
    size = (SIDE, SIDE)
    downloaded = backbones.build_backbone("efficientnet_b0", image_size=size)
    from_file = backbones.build_backbone("efficientnet_b0", weights=str(path), image_size=size)
    picture = noise_picture(SIDE, SIDE)[None]
    np.testing.assert_allclose(downloaded(picture), from_file(picture), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(_before_stem(from_file, picture), _imagenet_scaled(picture), atol=1e-4)
    np.testing.assert_allclose(_before_stem(downloaded, picture), _imagenet_scaled(picture), atol=1e-4)


def test_efficientnet_scales_with_random_weights_and_after_a_round_trip(tmp_path):
    picture = noise_picture(SIDE, SIDE)[None]
    first = backbones.build_backbone("efficientnet_b0", weights=None, image_size=(SIDE, SIDE))
    np.testing.assert_allclose(_before_stem(first, picture), _imagenet_scaled(picture), atol=1e-4)
    path = save_network(first, tmp_path / "ours.weights.h5")
    second = backbones.build_backbone("efficientnet_b0", weights=str(path), image_size=(SIDE, SIDE))
    np.testing.assert_allclose(_before_stem(second, picture), _imagenet_scaled(picture), atol=1e-4)


@pytest.mark.slow
def test_efficientnet_trained_with_another_scaling_keeps_it(tmp_path):
    path = save_network(bare_network("efficientnet_b0"), tmp_path / "theirs.weights.h5")  # mean 0, variance 1
    model = backbones.build_backbone("efficientnet_b0", weights=str(path), image_size=(SIDE, SIDE))
    picture = noise_picture(SIDE, SIDE)[None]
    np.testing.assert_allclose(_before_stem(model, picture), picture / 255, atol=1e-4)


def _before_stem(model, picture):
    """What the first convolution gets to see, without its padding."""
    import keras

    return np.asarray(keras.Model(model.input, model.get_layer("stem_conv_pad").input)(picture))


def _imagenet_scaled(picture):
    return (picture / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]


def test_no_download_says_what_to_do(monkeypatch):
    def fail(*_, **__):
        raise Exception("URL fetch failure on https://example.org: None -- Name or service not known")

    serve_download(monkeypatch, "mobilenet_v2", fail)
    with pytest.raises(errors.TfrError, match=r"cannot be downloaded: URL fetch failure.*--weights=FILE"):
        backbones.build_backbone("mobilenet_v2")


def test_file_of_another_network(tmp_path):
    path = save_network(bare_network("vgg19"), tmp_path / "other.weights.h5")
    with pytest.raises(errors.TfrError, match=r"(?s)other.weights.h5 does not fit vgg16: .*keras.applications.VGG16"):
        backbones.build_backbone("vgg16", weights=str(path))


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
def test_file_that_is_none_of_keras(tmp_path, suffix):
    path = tmp_path / f"junk{suffix}"
    path.write_bytes(b"not weights")
    with pytest.raises(errors.TfrError, match=r"junk.* does not fit mobilenet_v2"):
        backbones.build_backbone("mobilenet_v2", weights=str(path))


def test_missing_file_and_wrong_suffix(tmp_path):
    with pytest.raises(errors.UsageError, match=r"there is no file 'nowhere\.h5'"):
        backbones.build_backbone("mobilenet_v2", weights="nowhere.h5")
    path = tmp_path / "weights.pth"
    path.touch()
    with pytest.raises(errors.UsageError, match=r"weights.pth.*\.keras or \.h5 or \.hdf5"):
        backbones.build_backbone("mobilenet_v2", weights=str(path))
