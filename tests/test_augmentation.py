"""Augmentation: what --augment takes, each op on its own, that unknown labels stay so, and that draws decide all."""

import numpy as np
import pytest
import tensorflow as tf

from tfr.errors import UsageError
from tfr.train import augmentation, image_ops
from tfr.train.config import AUGMENT_OPS, AUGMENT_PRESETS, parse_augment
from tfr.train.preprocessing import UNKNOWN

SIZE = 32


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("none", []),
        ("", []),
        ("flip", [("flip", 0.5)]),
        (" crop:0.5 , mixup", [("crop", 0.5), ("mixup", 0.2)]),
        ("light", [("crop", 0.5), ("flip", 0.5)]),
    ],
)
def test_values(value, expected):
    assert parse_augment(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("flop", r"unknown op 'flop'\. Allowed: none, light, medium, strong, or a comma list of crop, flip"),
        ("crop:2", r"strength of crop .* from 0.01 to 1\. Received: crop:2"),
        ("mixup:x", r"strength of mixup \(alpha\) must be a number from 0.01 to 10\. Received: mixup:x"),
        ("flip,flip", "names an op twice"),
    ],
)
def test_values_that_are_not_allowed(value, message):
    with pytest.raises(UsageError, match=message):
        parse_augment(value)


def test_every_op_has_an_implementation():
    assert set(AUGMENT_OPS) == {"crop", "mixup", "cutmix", *image_ops.IMAGE_OPS}


def _augment(augment, photos, seed=0, targets=None):
    """Images and targets of a batch, as the input pipeline makes them."""
    made = augmentation.make_augmentation(augment, SIZE, "squash")
    rows = augmentation.random_rows(seed, tf.constant(7, tf.int64), len(photos), made.num_draws)
    images = []
    for photo, draws in zip(photos, rows, strict=True):
        example = {"image": tf.constant(photo), "draws": draws}
        for op in made.image_ops:
            example = op(example)
        images.append(example["image"])
    images = tf.stack(images)
    targets = tf.eye(len(photos)) if targets is None else tf.constant(targets, tf.float32)
    return tuple(part.numpy() for part in (made.mix(images, targets, rows) if made.mix else (images, targets)))


@pytest.fixture
def photos(make_photo, encode):
    return [encode(make_photo(i, (60, 50)), quality=95) for i in range(16)]


@pytest.mark.parametrize("augment", [*AUGMENT_OPS, *AUGMENT_PRESETS])
def test_images_stay_images_and_depend_on_the_seed(photos, augment):
    images, targets = _augment(augment, photos)
    again, other = _augment(augment, photos)[0], _augment(augment, photos, seed=1)[0]
    assert (images.shape, images.dtype) == ((16, SIZE, SIZE, 3), np.uint8)
    np.testing.assert_array_equal(images, again)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
    assert np.array_equal(images, other) == (augment == "none")
    plain = _augment("none", photos)[0]
    if augment != "none":
        assert 0 < np.abs(images.astype(float) - plain).mean() < 90  # changed, but not beyond recognition


def test_a_flip_mirrors(photos):
    plain, flipped = _augment("none", photos)[0], _augment("flip:1", photos)[0]
    np.testing.assert_array_equal(flipped, plain[:, :, ::-1])


@pytest.mark.parametrize("mode", ["squash", "crop", "pad"])
def test_crops_have_the_area_and_the_shape_that_they_should(mode):
    rows = augmentation.random_rows(0, tf.constant(0, tf.int64), 300, 4)
    height, width = 600, 300
    windows = np.array(
        [augmentation.random_window(tf.constant(height), tf.constant(width), row, mode, 0.3).numpy() for row in rows]
    )
    top, left, rows_, columns = windows.T
    assert (windows >= 0).all()
    assert (top + rows_ <= height).all()
    assert (left + columns <= width).all()
    whole = width * width if mode == "crop" else width * height
    area, aspect = rows_ * columns / whole, rows_ / columns / (1 if mode == "crop" else height / width)
    assert area.min() == pytest.approx(0.3, abs=0.03)
    assert 0.85 < area.max() <= 1
    assert aspect.min() == pytest.approx(0.75, abs=0.03)
    assert aspect.max() == pytest.approx(4 / 3, abs=0.05)
    slack = height - rows_ > 50
    assert 0.4 < np.mean(top[slack] / (height - rows_)[slack]) < 0.6


def test_a_crop_shows_a_part_of_the_picture():
    """A window decoded and resized in one is that part of the whole decoded image, resized."""
    columns = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], (64, 1, 3))
    data = tf.io.encode_png(columns)
    image = augmentation.get_random_crop(SIZE, "squash", 0.25)(
        {"image": data, "draws": tf.constant([0.0, 0.5, 0.5, 0.999])}
    )["image"].numpy()
    # a quarter of the area at the right: columns 32 to 64
    np.testing.assert_allclose(image[:, 0].mean(), columns[0, 32, 0], atol=3)
    np.testing.assert_allclose(image[:, -1].mean(), 255, atol=3)


def _image(seed=0):
    return tf.constant(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8))


@pytest.mark.parametrize("number", range(len(image_ops._RAND_OPS)))
@pytest.mark.parametrize("level", [-0.9, 0.9])
def test_every_op_of_randaugment_runs_eagerly_and_in_a_map(number, level):
    op, image = image_ops._RAND_OPS[number], _image()
    eager = op(image, tf.constant(level))
    (mapped,) = tf.data.Dataset.from_tensors(image).map(lambda x: op(x, tf.constant(level)))
    np.testing.assert_array_equal(eager, mapped)
    assert (eager.shape, eager.dtype) == (image.shape, tf.uint8)
    assert np.array_equal(eager, image) == (number == 0)


@pytest.mark.parametrize("number", [3, 5, 7, 8, 9, 10, 11, 12, 13])
def test_level_zero_changes_nothing(number):
    image = _image()
    np.testing.assert_allclose(image_ops._RAND_OPS[number](image, tf.constant(0.0)), image, atol=1)


def test_the_ops_of_randaugment_against_pillow(make_photo):
    from PIL import ImageOps

    photo = make_photo(0, (240, 200))
    image, one = tf.constant(np.asarray(photo)), tf.constant(0.5)
    pairs = [
        (image_ops._solarize(image, one), ImageOps.solarize(photo, 127)),
        (image_ops._posterize(image, one), ImageOps.posterize(photo, 6)),
        (image_ops._auto_contrast(image, one), ImageOps.autocontrast(photo)),
        (image_ops._equalize(image, one), ImageOps.equalize(photo)),
    ]
    for number, (found, expected) in enumerate(pairs):
        difference = np.abs(found.numpy().astype(float) - np.asarray(expected, float)).mean()
        assert difference < (3 if number == 3 else 1), number  # the histogram is of a quarter of the pixels


def test_color_jitter_at_rest_changes_nothing_and_greys_keep_their_hue():
    image = _image()
    np.testing.assert_allclose(image_ops._color_jitter(image, tf.fill([4], 0.5), 0.3), image, atol=1)
    grey = tf.repeat(image[..., :1], 3, axis=-1)
    turned = image_ops._color_jitter(grey, tf.constant([0.5, 0.5, 0.9, 0.9]), 0.5).numpy().astype(int)
    assert np.ptp(turned, axis=-1).max() <= 1


def test_erasing_hits_its_share_of_images_with_one_rectangle(photos):
    plain, erased = _augment("none", photos * 4)[0], _augment("erase:0.5", photos * 4)[0]
    changed = (plain != erased).any(axis=-1)
    hit = changed.any(axis=(1, 2))
    assert 0.3 < hit.mean() < 0.7
    for mask, image in zip(changed[hit], erased[hit], strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].reshape(-1, 3)
        assert len(np.unique(box, axis=0)) == 1
        assert 0.005 < len(box) / SIZE**2 < 0.4


# Mixing


@pytest.mark.parametrize("augment", ["mixup:1", "cutmix:1", "mixup:1,cutmix:1"])
def test_targets_are_mixed_as_the_pixels_are(augment):
    """Neighbours that are all black and all white: the mean grey of the mixture is the share of the white one."""
    blank = [tf.io.encode_png(np.full((8, 8, 3), value, np.uint8)).numpy() for value in (0, 255)] * 16
    images, targets = _augment(augment, blank, targets=[[1, 0], [0, 1]] * 16)
    share = images.mean(axis=(1, 2, 3)) / 255
    np.testing.assert_allclose(targets[:, 1], share, atol=0.01)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
    assert np.std(share[::2]) > 0.1
    values = [set(np.unique(image)) for image in images]
    if augment == "cutmix:1":
        assert all(value <= {0, 255} for value in values)
    if augment == "mixup:1":
        assert all(len(value) == 1 for value in values)


def test_beta_quantiles():
    uniform = tf.constant(np.random.default_rng(0).random(20_000), tf.float32)
    for alpha in (0.2, 1.0, 3.0):
        drawn = augmentation._beta(alpha, uniform).numpy()
        assert drawn.mean() == pytest.approx(0.5, abs=0.01)
        assert drawn.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)


def test_what_is_not_known_of_one_is_not_known_of_the_mixture():
    own = tf.constant([[1.0, 0.0, UNKNOWN, UNKNOWN]])
    other = tf.constant([[0.0, UNKNOWN, 1.0, UNKNOWN]])

    def mixed(share):
        return augmentation.mix_targets(own, other, tf.constant([[share]])).numpy().tolist()[0]

    assert mixed(0.75) == [0.75, UNKNOWN, UNKNOWN, UNKNOWN]
    assert mixed(1.0) == [1.0, 0.0, UNKNOWN, UNKNOWN]  # nothing of the other is in it
    assert mixed(0.0) == [0.0, UNKNOWN, 1.0, UNKNOWN]


def test_an_odd_image_out_stays_as_it_is(photos):
    images, targets = _augment("mixup:1", photos[:3])
    np.testing.assert_allclose(images[2], _augment("none", photos[:3])[0][2], atol=1)
    np.testing.assert_allclose(targets[2], [0, 0, 1], atol=1e-6)
