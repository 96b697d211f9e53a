"""Augmentation ops on one image: (image uint8 (height, width, 3), its random numbers, strength) to image.

IMAGE_OPS lists those of --augment. The random numbers come from outside, see augmentation.random_rows.
"""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from . import preprocessing as pp

ImageOp = Callable[[tf.Tensor, tf.Tensor, float], tf.Tensor]
_RandOp = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # image, level from -1 to 1

_LUMA = (0.299, 0.587, 0.114)
_GREY = 127.0  # what a rotated image has in its corners
_LAYERS = 2  # ops that RandAugment applies to an image


def _flip(image: tf.Tensor, draws: tf.Tensor, share: float) -> tf.Tensor:
    """Mirrors a share of the images left to right."""
    return tf.cond(draws[0] < share, lambda: tf.reverse(image, [1]), lambda: image)  # a slice takes ten times as long


def _color_jitter(image: tf.Tensor, draws: tf.Tensor, strength: float) -> tf.Tensor:
    """Brightness, contrast and saturation by factors of 1 - strength to 1 + strength, and hue by a tenth of a turn
    times strength: together one 3x3 matrix, so that it costs the same as one of them."""
    signed = 2 * draws - 1
    brightness, contrast, saturation = (1 + strength * signed[i] for i in range(3))
    matrix = tf.matmul(_hue_matrix(signed[3] * strength * 0.2 * math.pi), _saturation_matrix(saturation))
    return _recolor(image, brightness * contrast * matrix, brightness * (1 - contrast) * _mean_grey(image))


def _recolor(image: tf.Tensor, matrix: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """image @ matrix + offset."""
    pixels = tf.reshape(tf.cast(image, tf.float32), (-1, 3))
    return tf.reshape(pp.to_uint8(tf.matmul(pixels, matrix) + offset), tf.shape(image))


def _saturation_matrix(factor: tf.Tensor) -> tf.Tensor:
    """For row vectors of red, green, blue: towards grey below 1, away from it above."""
    return factor * tf.eye(3) + (1 - factor) * tf.constant([[weight] * 3 for weight in _LUMA])


# Columns: luma and the two colour differences of the NTSC standard.
_YIQ = np.array([[0.299, 0.596, 0.211], [0.587, -0.274, -0.523], [0.114, -0.322, 0.312]], np.float32)


def _hue_matrix(angle: tf.Tensor) -> tf.Tensor:
    """For row vectors of red, green, blue: turns the colours, in radians, and keeps the luma."""
    cosine, sine = tf.cos(angle), tf.sin(angle)
    turn = tf.stack([[1.0, 0.0, 0.0], [0.0, cosine, sine], [0.0, -sine, cosine]])
    return tf.constant(_YIQ) @ turn @ tf.constant(np.linalg.inv(_YIQ))


def _mean_grey(image: tf.Tensor) -> tf.Tensor:
    """The mean luma, from every fourth row and column."""
    return tf.reduce_sum(tf.reduce_mean(tf.cast(image[::4, ::4], tf.float32), (0, 1)) * tf.constant(_LUMA))


def _erase(image: tf.Tensor, draws: tf.Tensor, probability: float) -> tf.Tensor:
    """Fills a rectangle of 2 to 33 % of the image with one random colour (Zhong et al., "Random Erasing Data
    Augmentation", 2017; there with random pixels)."""

    def erased() -> tf.Tensor:
        shape = tf.cast(tf.shape(image)[:2], tf.float32)
        area = tf.sqrt(0.02 + 0.31 * draws[1])
        stretch = tf.exp((2 * draws[2] - 1) * math.log(1 / 0.3) / 2)
        sides = tf.minimum(shape * area * tf.stack([stretch, 1 / stretch]), shape)
        inside = rectangle(tf.shape(image)[0], tf.shape(image)[1], draws[3:5] * (shape - sides), sides)
        return tf.where(inside, tf.cast(draws[5:8] * 256, tf.uint8), image)

    return tf.cond(draws[0] < probability, erased, lambda: image)


def rectangle(height: tf.Tensor, width: tf.Tensor, corner: tf.Tensor, sides: tf.Tensor) -> tf.Tensor:
    """Whether a pixel's centre lies in a rectangle; bool (..., height, width, 1) for corner and sides (..., 2)."""
    rows, columns = tf.range(height, dtype=tf.float32) + 0.5, tf.range(width, dtype=tf.float32) + 0.5
    in_rows = (rows >= corner[..., :1]) & (rows < corner[..., :1] + sides[..., :1])
    in_columns = (columns >= corner[..., 1:]) & (columns < corner[..., 1:] + sides[..., 1:])
    return (in_rows[..., :, None] & in_columns[..., None, :])[..., None]


# RandAugment


def _rand_augment(image: tf.Tensor, draws: tf.Tensor, magnitude: float) -> tf.Tensor:
    """Two of 14 ops, drawn for each image, at `magnitude` of 10 (Cubuk et al., "RandAugment", 2019)."""
    for layer in range(_LAYERS):
        number = tf.cast(draws[2 * layer] * len(_RAND_OPS), tf.int32)
        level = magnitude / 10 * tf.where(draws[2 * layer + 1] < 0.5, -1.0, 1.0)
        branches = [_bind(op, image, level) for op in _RAND_OPS]
        image = tf.ensure_shape(tf.switch_case(number, branches), image.shape)
    return image


def _bind(op: _RandOp, image: tf.Tensor, level: tf.Tensor) -> Callable[[], tf.Tensor]:
    return lambda: op(image, level)


def _affine(image: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """Moves pixels by a 2x3 matrix from output to input places, both counted from the centre."""
    middle = tf.cast(tf.shape(image)[1::-1], tf.float32) / 2 - 0.5  # x, y
    linear, shift = matrix[:, :2], matrix[:, 2]
    offset = middle - tf.linalg.matvec(linear, middle) + shift
    transform = tf.concat([linear[0], offset[:1], linear[1], offset[1:], [0.0, 0.0]], 0)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=transform[None],
        output_shape=tf.shape(image)[:2],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=_GREY,
    )[0]


def _rotate(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    angle = level * math.pi / 6
    cosine, sine = tf.cos(angle), tf.sin(angle)
    return _affine(image, tf.stack([[cosine, -sine, 0.0], [sine, cosine, 0.0]]))


def _shear_x(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return _affine(image, tf.stack([[1.0, 0.3 * level, 0.0], [0.0, 1.0, 0.0]]))


def _shear_y(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return _affine(image, tf.stack([[1.0, 0.0, 0.0], [0.3 * level, 1.0, 0.0]]))


def _shift(image: tf.Tensor, level: tf.Tensor, axis: int) -> tf.Tensor:
    """Moves an image by up to 0.45 of its side; whole pixels, so nothing is interpolated."""
    side = tf.shape(image)[axis]
    by = tf.cast(tf.round(0.45 * level * tf.cast(side, tf.float32)), tf.int32)
    source = tf.range(side) - by
    inside = (source >= 0) & (source < side)
    moved = tf.gather(image, tf.clip_by_value(source, 0, side - 1), axis=axis)
    inside = inside[:, None, None] if axis == 0 else inside[None, :, None]
    return tf.where(inside, moved, tf.constant(int(_GREY), tf.uint8))


def _solarize(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    threshold = tf.cast(255 * (1 - tf.abs(level)), tf.uint8)
    return tf.where(image < threshold, image, 255 - image)


def _posterize(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    dropped = tf.cast(tf.round(4 * tf.abs(level)), tf.uint8)  # of 8 bits
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, dropped), dropped)


def _auto_contrast(image: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    pixels = tf.cast(image, tf.float32)
    low, high = tf.reduce_min(pixels, (0, 1)), tf.reduce_max(pixels, (0, 1))
    scale = tf.where(high > low, 255 / tf.maximum(high - low, 1.0), 1.0)
    return pp.to_uint8((pixels - tf.where(high > low, low, 0.0)) * scale)


def _equalize(image: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    """Each channel's values spread evenly; the histogram is of every second row and column."""
    channel = tf.range(3) * 256
    counts = tf.math.bincount(tf.reshape(tf.cast(image[::2, ::2], tf.int32) + channel, [-1]), minlength=768)
    below = tf.cumsum(tf.reshape(tf.cast(counts, tf.float32), (3, 256)), axis=1, exclusive=True)
    last = tf.reduce_max(tf.where(tf.reshape(counts, (3, 256)) > 0, below, 0.0), axis=1, keepdims=True)
    table = tf.where(last > 0, below * (255 / tf.maximum(last, 1.0)), tf.range(256, dtype=tf.float32)[None])
    return tf.gather(tf.reshape(pp.to_uint8(table), [-1]), tf.cast(image, tf.int32) + channel)


def _sharpness(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    pixels = tf.cast(image[None], tf.float32)
    smooth = tf.nn.avg_pool2d(pixels, 3, 1, "SAME")
    return pp.to_uint8(pixels + 0.9 * level * (pixels - smooth))[0]


def _saturate(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return _recolor(image, _saturation_matrix(1 + 0.9 * level), tf.constant(0.0))


def _contrast(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    factor = 1 + 0.9 * level
    return pp.to_uint8(tf.cast(image, tf.float32) * factor + (1 - factor) * _mean_grey(image))


def _brightness(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return pp.to_uint8(tf.cast(image, tf.float32) * (1 + 0.9 * level))


_RAND_OPS: tuple[_RandOp, ...] = (
    lambda image, _: image,
    _auto_contrast,
    _equalize,
    _rotate,
    _solarize,
    _saturate,
    _posterize,
    _contrast,
    _brightness,
    _sharpness,
    _shear_x,
    _shear_y,
    lambda image, level: _shift(image, level, 0),
    lambda image, level: _shift(image, level, 1),
)

# In the order in which they are applied: name to op, and how many random numbers it needs.
IMAGE_OPS: dict[str, tuple[ImageOp, int]] = {
    "flip": (_flip, 1),
    "color_jitter": (_color_jitter, 4),
    "randaugment": (_rand_augment, 2 * _LAYERS),
    "erase": (_erase, 8),
}
