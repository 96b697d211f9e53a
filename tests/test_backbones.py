"""The table of backbones, their scaling, and building them."""

import inspect
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from backbone_checks import APPLICATIONS, SIDE, application, bare_network, fast_and_slow, noise_picture

from tfr import errors
from tfr.train import backbones

# --- the table ---


def test_has_every_classifier_of_keras_applications():
    import keras

    constructors = {name for name, _ in inspect.getmembers(keras.applications, inspect.isfunction)}
    assert {backbones.BACKBONES[name].constructor for name in APPLICATIONS} == {
        f"keras.applications:{constructor}" for constructor in constructors
    }
    assert len(constructors) == 40


def test_importing_the_table_imports_no_tensorflow():
    script = "import sys, tfr.train.backbones; print([m for m in ('keras', 'tensorflow') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_unknown_backbone_lists_names_and_closest():
    with pytest.raises(errors.UsageError, match=r"'mobilnet_v2'.*Did you mean 'mobilenet_v2'.*efficientnet_lite0"):
        backbones.get_backbone("mobilnet_v2")


@pytest.mark.parametrize(("installed", "name"), [(True, "efficientnet_lite0"), (False, "mobilenet_v2")])
def test_default_backbone(monkeypatch, installed, name):
    monkeypatch.setattr(backbones, "weights_installed", lambda: installed)
    assert backbones.default_backbone() == name


@pytest.mark.parametrize("name", [name for name in APPLICATIONS if not name.startswith("mobilenet_v3")])
def test_image_size_is_the_default_of_keras(monkeypatch, name):
    constructor, module = application(name)

    class Asked(Exception):
        """Carries what the constructor asks for first of all."""

    def obtain_input_shape(*_, default_size, **__):
        raise Asked(default_size)

    monkeypatch.setattr(module.imagenet_utils, "obtain_input_shape", obtain_input_shape)
    with pytest.raises(Asked) as asked:
        constructor(weights=None)
    (side,) = asked.value.args
    assert backbones.BACKBONES[name].image_size == (side, side)


# --- scaling ---


@pytest.mark.parametrize("name", APPLICATIONS)
def test_scaling_is_that_of_preprocess_input(name):
    import keras

    _, module = application(name)
    picture = np.random.default_rng(0).uniform(0, 255, (1, 8, 8, 3)).astype(np.float32)
    pixels = keras.Input((8, 8, 3))
    model = keras.Model(pixels, backbones.scale_pixels(pixels, backbones.BACKBONES[name].scaling))
    expected = module.preprocess_input(picture.copy())
    np.testing.assert_allclose(model(picture), expected, rtol=1e-5, atol=1e-4)


def test_scaling_of_lite0():
    import keras

    pixels = keras.Input((1, 1, 3))
    model = keras.Model(pixels, backbones.scale_pixels(pixels, "lite"))
    np.testing.assert_array_equal(np.ravel(model(np.array([[[[0.0, 127.0, 255.0]]]]))), [-127 / 128, 0, 1])


def test_unknown_scaling():
    with pytest.raises(ValueError, match="Received: scaling='pt'"):
        backbones.scale_pixels(None, "pt")


# --- building ---


@pytest.mark.parametrize("name", fast_and_slow(backbones.BACKBONES))
def test_embeds_as_the_constructor_does(name):
    """Shape, type and values: the bare network on preprocessed pixels gives the same, whatever its weights."""
    import keras

    keras.utils.set_random_seed(1)
    row = backbones.get_backbone(name)
    model = backbones.build_backbone(name, weights=None, image_size=(SIDE, SIDE))
    assert model.name == name
    assert model.input_shape == (None, SIDE, SIDE, 3)
    assert model.output_shape == (None, row.embedding_size)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers if "convnext" not in layer.name)

    picture = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    embeddings = np.asarray(model(picture))
    assert embeddings.dtype == np.float32
    if row.weights != "imagenet":
        return
    bare = bare_network(name)
    bare.set_weights(model.get_weights())
    has_scaling = any(type(layer).__name__ in ("Rescaling", "Normalization") for layer in bare.layers)
    assert has_scaling == (row.scaling == "none")
    for layer in bare.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    _, module = application(name)
    expected = np.asarray(bare(module.preprocess_input(picture.astype(np.float32))))
    np.testing.assert_allclose(embeddings, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", fast_and_slow(backbones.BACKBONES))
def test_saves_and_reloads_with_keras_alone(name, tmp_path):
    import keras

    model = backbones.build_backbone(name, weights=None, image_size=(SIDE, SIDE))
    path = tmp_path / "model.keras"
    model.save(path)
    with zipfile.ZipFile(path) as file:
        modules = set(re.findall(r'"module": "(\w+)', file.read("config.json").decode()))
    assert modules == {"keras"}
    picture = noise_picture(SIDE, SIDE)[None]
    reloaded = keras.models.load_model(path)
    np.testing.assert_allclose(reloaded(picture), model(picture), rtol=1e-4, atol=1e-5)
    path.unlink()  # Some are over a gigabyte.


@pytest.mark.parametrize("size", [(75, 120), (160, 129)])
def test_other_image_sizes(size):
    model = backbones.build_backbone("mobilenet_v2", weights=None, image_size=size)
    assert model(np.zeros((1, *size, 3), np.uint8)).shape == (1, 1280)


@pytest.mark.parametrize("size", [(224,), (0, 224), (224.0, 224.0), (224, -1)])
def test_image_size_must_be_two_positive_integers(size):
    with pytest.raises(errors.UsageError, match="two positive integers"):
        backbones.build_backbone("mobilenet_v2", weights=None, image_size=size)


def test_too_small_an_image_size():
    with pytest.raises(errors.UsageError, match=r"mobilenet_v2 cannot be built for image size \(16, 16\)"):
        backbones.build_backbone("mobilenet_v2", weights=None, image_size=(16, 16))


def test_embedding_is_float32_under_mixed_precision():
    import keras

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = backbones.build_backbone("efficientnet_lite0", weights=None, image_size=(64, 64))
    finally:
        keras.config.set_dtype_policy(policy)
    assert model.get_layer("stem_conv").compute_dtype == "bfloat16"
    assert model(np.zeros((1, 64, 64, 3), np.uint8)).dtype == "float32"


@pytest.mark.parametrize("name", ["mobilenet_v2", pytest.param("resnet50", marks=pytest.mark.slow)])
def test_classifier_gives_logits(name):
    model = backbones.build_classifier(name, weights=None)
    assert model.output_shape == (None, 1000)
    assert np.asarray(model(np.full((1, 224, 224, 3), 255, np.uint8))).min() < 0
