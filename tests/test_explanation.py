"""Heat maps: exact on networks that can be worked out by hand, complete, on the object, and moved by the head."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageDraw

from tfr import config, conversion
from tfr.train import backbones, models, run_dir, thresholds, training
from tfr.train.config import DataConfig, ModelConfig, TrainConfig
from tfr.train.explaining import check
from tfr.train.explaining.explainer import Explainer

SIDE = 16
LABELS = ["ant", "bee", "cow"]


@pytest.fixture
def make_run(tmp_path):
    """make_run(model): a run directory around any network from pixels to logits, as models.LOGITS."""

    def make(logits_model, temperature=1.0):
        path = tmp_path / f"run_{temperature}"
        path.mkdir()
        run_dir.save_model(str(path), models.with_probabilities(logits_model, True, temperature))
        settings = {"resolved": {"image_size": SIDE, "label_mode": "multi"}, "data": {"resize": "squash"}}
        limits = thresholds.Thresholds(overall=0.5, per_label=np.full(3, 0.5), strength=np.inf)
        return run_dir.Run(path=str(path), labels=LABELS, thresholds=limits, config=settings)

    return make


def linear_network(weights):
    """The mean colour times (3, num_labels): its feature map is the picture, from 0 to 1."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    logits = keras.layers.Dense(weights.shape[1], use_bias=False, name=models.LOGITS)
    model = keras.Model(inputs, logits(x))
    logits.set_weights([weights])
    return model


def convolving_network(head=None):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(inputs)
    for filters in (16, 32):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    logits = keras.layers.Dense(3, name=models.LOGITS)
    model = keras.Model(inputs, logits(keras.layers.GlobalAveragePooling2D()(x)))
    if head is not None:
        logits.kernel.assign(head)
    return model


@pytest.fixture
def pixels(make_photo):
    return np.stack([np.asarray(make_photo(seed, (SIDE, SIDE))) for seed in range(4)])


WEIGHTS = np.array([[3, -1, 0], [0, 2, 0], [-2, 0, 0]], np.float32)  # 'cow' is not looked for at all


def test_grad_cam_of_a_linear_network_is_its_class_activation(make_run, pixels):
    explainer = Explainer(make_run(linear_network(WEIGHTS)))
    maps = explainer.grad_cam(pixels, [1, 0, 2])
    assert (maps.dtype, maps.shape) == (np.float32, (4, 3, SIDE, SIDE))
    activation = np.maximum(pixels @ WEIGHTS[:, [1, 0]], 0).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(maps[:, :2], activation / activation.max((2, 3), keepdims=True), atol=1e-5)
    assert not maps[:, 2].any()


def test_each_image_may_have_labels_of_its_own(make_run, pixels):
    explainer = Explainer(make_run(convolving_network()))
    every = explainer.grad_cam(pixels, [0, 1, 2])
    own = explainer.grad_cam(pixels, [[2], [0], [1], [1]])
    np.testing.assert_allclose(own[:, 0], every[np.arange(4), [2, 0, 1, 1]], atol=1e-6)


def test_a_temperature_changes_probabilities_but_no_map(make_run, pixels):
    network = convolving_network()
    plain, cooled = (Explainer(make_run(network, temperature)) for temperature in (1.0, 4.0))
    assert np.abs(plain.predict(pixels) - cooled.predict(pixels)).max() > 1e-3
    np.testing.assert_allclose(plain.grad_cam(pixels, [0]), cooled.grad_cam(pixels, [0]), atol=1e-5)
    both = [run.integrated_gradients(pixels, [0], steps=8).attributions for run in (plain, cooled)]
    np.testing.assert_allclose(*both, atol=1e-6)


def test_probabilities_are_those_of_the_whole_model(trained_run, make_photo, encode):
    run = run_dir.load(trained_run)
    explainer = Explainer(run)
    read = explainer.read([encode(make_photo(seed, (90, 70))) for seed in range(3)])
    assert (read.dtype, read.shape) == (np.uint8, (3, 64, 64, 3))
    expected = run.load_model().predict(read.astype(np.float32), verbose=0)
    np.testing.assert_allclose(explainer.predict(read), expected, atol=1e-5)


@pytest.mark.parametrize("baseline", ["black", "grey", "white"])
def test_integrated_gradients_of_a_linear_network_are_exact(make_run, pixels, baseline):
    explainer = Explainer(make_run(linear_network(WEIGHTS)))
    found = explainer.integrated_gradients(pixels, [0, 2], baseline=baseline, steps=3)
    way = pixels.astype(np.float32) - {"black": 0, "grey": 127.5, "white": 255}[baseline]
    np.testing.assert_allclose(found.differences[:, 0], way.mean((1, 2)) @ WEIGHTS[:, 0] / 255, atol=1e-4)
    # The mean of 3 u^2 at the middles of three even steps of u is 35/36.
    expected = 35 / 36 * way @ WEIGHTS[:, 0] / (255 * SIDE * SIDE)
    np.testing.assert_allclose(found.attributions[:, 0], expected, atol=1e-6)
    assert not found.attributions[:, 1].any()
    assert not found.maps[:, 1].any()


def test_integrated_gradients_become_complete_with_more_steps(make_run, pixels):
    head = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    explainer = Explainer(make_run(convolving_network(head)))
    few, many = (explainer.integrated_gradients(pixels, [0, 1], steps=steps) for steps in (3, 128))
    np.testing.assert_allclose(few.differences, many.differences)
    assert few.completeness_error.max() > 3 * many.completeness_error.max()
    assert many.completeness_error.max() < 0.02 * np.abs(many.differences).max()
    assert (many.maps.min(), many.maps.max()) == (0, 1)


def test_maps_move_when_the_head_is_random(make_run, pixels):
    head = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    stages = check.sanity_check(make_run(convolving_network(head)), pixels)
    assert stages[0].randomized == "head"
    assert len(stages) > 2  # the convolutions too
    assert all(stage.rank_correlation < 0.7 and stage.similarity < 0.9 for stage in stages), stages


def test_maps_that_do_not_depend_on_the_head_are_called_out(make_run, pixels):
    run = make_run(convolving_network(np.ones((32, 3), np.float32)))  # shuffling equal numbers changes nothing
    stages = check.sanity_check(run, pixels, cascade=False)
    assert len(stages) == 1
    assert stages[0].rank_correlation == pytest.approx(1, abs=0.01)
    assert stages[0].similarity == pytest.approx(1, abs=0.01)
    assert "hardly move" in check.text(stages, "grad_cam")


def test_the_sanity_check_leaves_the_run_alone(make_run, pixels):
    run = make_run(convolving_network())
    before = run.load_model().get_weights()
    check.sanity_check(run, pixels, method="integrated_gradients", cascade=False)
    for value, old in zip(run.load_model().get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


# On every backbone


class RunInMemory(run_dir.Run):
    """A run whose model is not saved and loaded: the largest are gigabytes."""

    model: keras.Model

    def load_model(self):
        return self.model


@pytest.mark.parametrize(
    "name",
    [
        name if name == "mobilenet_v3_small" else pytest.param(name, marks=pytest.mark.slow)
        for name in backbones.BACKBONES
    ],
)
def test_grad_cam_of_a_linear_head_is_its_class_activation_on_any_backbone(name):
    """Selvaraju et al. show it of a mean over places and a linear layer; gradients are then what they should be."""
    side = 128
    keras.utils.set_random_seed(0)
    backbone = backbones.build_backbone(name, weights=None, image_size=(side, side))
    logits = keras.layers.Dense(3, name=models.LOGITS)
    tagger = models.with_probabilities(keras.Model(backbone.input, logits(backbone.output)), True)
    settings = {"resolved": {"image_size": side, "label_mode": "multi"}, "data": {"resize": "squash"}}
    limits = thresholds.Thresholds(overall=0.5, per_label=np.full(3, 0.5), strength=np.inf)
    run = RunInMemory(path="", labels=LABELS, thresholds=limits, config=settings)
    object.__setattr__(run, "model", tagger)
    explainer = Explainer(run)
    pixels = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    for layer in backbone.layers:  # with statistics of no data, what random weights give vanishes in deep networks
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    explainer.backbone(pixels.astype(np.float32), training=True)
    maps = explainer.grad_cam(pixels, [0, 1, 2])
    assert np.isfinite(maps).all()
    assert maps.any()
    if name.startswith("convnext"):  # normalises the mean before the linear layer
        return
    features = explainer._map_features(pixels).numpy()  # another pass rounds otherwise, which deep networks amplify
    activation = np.maximum(features @ logits.kernel.numpy(), 0)  # (n, rows, columns, labels)
    resized = tf.image.resize(activation, (side, side)).numpy().transpose(0, 3, 1, 2)
    tops = np.maximum(resized.max((2, 3), keepdims=True), 1e-12)
    added = (np.abs(features) @ np.abs(logits.kernel.numpy())).max((1, 2))  # (n, labels)
    certain = tops[..., 0, 0] > 0.01 * added  # where terms cancel out, rounding is what is left
    assert certain.any()
    np.testing.assert_allclose(maps[certain], (resized / tops)[certain], atol=2e-3)


# On the object


OBJECTS = ("disc", "box")
PICTURE = 160


def draw(rng, labels):
    """Objects on a noisy ground, and the mask of each: (image, label to bool (160, 160))."""
    image = Image.fromarray(rng.integers(90, 140, (PICTURE, PICTURE, 3), dtype=np.uint8))
    masks, corners = {}, rng.permutation([(4, 4), (92, 4), (4, 92), (92, 92)])
    for label, (x, y) in zip(labels, corners.tolist(), strict=False):
        mask = Image.new("1", image.size)
        for canvas, fill in (
            (ImageDraw.Draw(image), "orange" if label == "disc" else "navy"),
            (ImageDraw.Draw(mask), 1),
        ):
            draw_one = canvas.ellipse if label == "disc" else canvas.rectangle
            draw_one([x, y, x + 60, y + 60], fill=fill)
        masks[label] = np.asarray(mask)
    return image, masks


@pytest.fixture(scope="module")
def objects_run(tmp_path_factory):
    """A head trained in seconds on pretrained embeddings to tell discs and boxes."""
    folder = tmp_path_factory.mktemp("objects")
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    lines = ["image,labels"]
    for number in range(96):
        labels = [label for label in OBJECTS if rng.random() < 0.5]
        draw(rng, labels)[0].save(folder / "images" / f"{number}.png")
        lines.append(f"{number}.png,{'|'.join(labels)}")
    (folder / "labels.csv").write_text("\n".join(lines))
    dataset = conversion.convert(
        config.ConvertConfig(
            annotations=str(folder / "labels.csv"),
            images=str(folder / "images"),
            data_dir=str(folder / "data"),
            name="objects",
            read=config.ReadOptions(label_delimiter="|"),
        )
    ).dataset_dir
    training.train(
        TrainConfig(
            run_dir=str(folder / "run"),
            data=DataConfig(dataset=dataset, batch_size=16),
            model=ModelConfig(backbone="efficientnet_lite0", image_size=PICTURE, ensemble_size=1),
            epochs=30,
        )
    )
    return run_dir.load(str(folder / "run"))


@pytest.mark.slow
@pytest.mark.skipif(not backbones.weights_installed(), reason="needs pretrained weights")
def test_a_map_lies_on_the_object_of_its_label(objects_run):
    explainer = Explainer(objects_run)
    rng = np.random.default_rng(1)
    drawn = [draw(rng, OBJECTS) for _ in range(8)]
    pixels = np.stack([np.asarray(image) for image, _ in drawn])
    ids = [objects_run.labels.index(label) for label in OBJECTS]
    assert (explainer.predict(pixels)[:, ids] > 0.5).mean() > 0.9
    masks = np.stack([[masks[label] for label in OBJECTS] for _, masks in drawn])
    chance = masks.mean()
    on_own, on_other = (_share_on(explainer.grad_cam(pixels, ids), chosen) for chosen in (masks, masks[:, ::-1]))
    assert on_own.min() > 2 * chance, (on_own, chance)
    assert on_other.max() < chance, (on_other, chance)
    found = explainer.integrated_gradients(pixels[:3], ids, baseline="grey", steps=16)  # the ground is about grey
    assert _share_on(found.maps, masks[:3]).min() > 2 * chance


def _share_on(maps, masks):
    """The share of the heat that is on the masks, the mean over images: (num_labels,)."""
    return ((maps * masks).sum((2, 3)) / maps.sum((2, 3))).mean(axis=0)
