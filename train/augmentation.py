"""Augmentation: random changes to training images, and to their targets where images are mixed.

Every image brings a row of random numbers, one for each decision (see `random_rows`), and the ops only look them up.
So an image's augmentation depends on the seed and on its position in the stream, not on threads, hosts or on when the
run was started. That is why the layers of Keras, which draw from a counter of their own, are not used here; their
RandAugment also computes every op for the whole batch to keep one.

Changes to one image run image by image, where only the ops that were drawn cost time; mixing runs on whole batches.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy.special
import tensorflow as tf

from . import image_ops
from . import preprocessing as pp
from .config import parse_augment
from .preprocessing import UNKNOWN, Example

Mix = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]

_BETA_TABLE = 4096


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What --augment asks for.

    Attributes:
      image_ops: from example to example; the first one decodes. They expect `draws`, see random_rows.
      mix: from a batch of (images, targets, draws) to (images, targets); None where images stay apart.
      num_draws: random numbers that an image needs.
    """

    image_ops: Sequence[pp.Op]
    mix: Mix | None
    num_draws: int


def make_augmentation(augment: str, size: int, resize: str) -> Augmentation:
    """Builds what a value of --augment asks for.

    Args:
      augment: a name or a list, see config.parse_augment.
      size: side of the square images in pixels.
      resize: how images become square, see preprocessing.get_image.

    Raises:
      UsageError: there is no such op.
    """
    wanted = dict(parse_augment(augment))
    start = 0
    ops: list[pp.Op] = []
    if "crop" in wanted:
        ops.append(get_random_crop(size, resize, wanted["crop"]))
        start += _CROP_DRAWS
    else:
        ops.append(pp.get_image(size, resize))
    for name, (op, num_draws) in image_ops.IMAGE_OPS.items():
        if name in wanted:
            ops.append(_on_image(op, start, num_draws, wanted[name]))
            start += num_draws
    alphas = {name: wanted[name] for name in ("mixup", "cutmix") if name in wanted}
    mix = get_mix(start, **alphas) if alphas else None
    num_draws = start + _MIX_DRAWS * bool(alphas)
    return Augmentation(ops, mix, max(1, num_draws))  # TensorFlow 2.21 crashes in batching rows of no numbers


def random_rows(seed: int, step: tf.Tensor, rows: int, columns: int) -> tf.Tensor:
    """The random numbers of a step's images, uniform in [0, 1), float32 (rows, columns)."""
    return tf.random.stateless_uniform((rows, columns), tf.stack([tf.constant(seed, tf.int64), step]))


def _on_image(op: image_ops.ImageOp, start: int, num_draws: int, strength: float) -> pp.Op:
    def apply(example: Example) -> Example:
        draws = example["draws"][start : start + num_draws]
        return {**example, "image": op(example["image"], draws, strength)}

    return apply


# Cropping

_CROP_DRAWS = 4


def get_random_crop(size: int, mode: str, least_area: float) -> pp.Op:
    """Random-resized crop, decoded no further than needed.

    The window has `least_area` to 1 of the image's area and 3/4 to 4/3 of its aspect ratio (Szegedy et al., "Going
    Deeper with Convolutions", 2014); of the square's in mode 'crop'. Where it would stick out it is cut off.
    """

    def decode(example: Example) -> Example:
        draws = example["draws"][:_CROP_DRAWS]

        def choose(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
            return random_window(height, width, draws, mode, least_area)

        return {**example, "image": pp.decode_window(example["image"], choose, size, mode)}

    return decode


def random_window(height: tf.Tensor, width: tf.Tensor, draws: tf.Tensor, mode: str, least_area: float) -> tf.Tensor:
    """The window of get_random_crop: top, left, height, width in pixels, int32 (4,); `draws` are float32 (4,)."""
    whole = tf.cast(tf.stack([height, width]), tf.float32)
    base = tf.repeat(tf.reduce_min(whole), 2) if mode == "crop" else whole
    area = least_area + (1 - least_area) * draws[0]
    stretch = tf.exp((2 * draws[1] - 1) * math.log(4 / 3) / 2)
    sides = tf.minimum(base * tf.sqrt(area) * tf.stack([stretch, 1 / stretch]), whole)
    sides = tf.maximum(tf.round(sides), 1.0)
    corner = tf.floor(draws[2:4] * (whole - sides + 1))
    return tf.cast(tf.concat([corner, sides], 0), tf.int32)


# Mixing images of a batch

_MIX_DRAWS = 4


def get_mix(start: int, mixup: float | None = None, cutmix: float | None = None) -> Mix:
    """Mixes each image with its neighbour in the batch, which is a random one since batches are shuffled.

    MixUp blends the two (Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2017), CutMix pastes a rectangle
    of one into the other (Yun et al., "CutMix", 2019). With both, each image gets one of them. Neighbours stay
    together however a batch is divided among an even number of hosts or replicas.

    Targets are mixed in the proportion of the pixels. A label that is not known of one of the two is not known of the
    mixture, except where nothing of that one is in it: any number between would be made up.

    Args:
      start: column of the draws where those of this op begin.
      mixup, cutmix: alpha of the Beta(alpha, alpha) that the proportion is drawn from; None: not this one.
    """

    def mix(images: tf.Tensor, targets: tf.Tensor, draws: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        draws = draws[:, start : start + _MIX_DRAWS]
        own = _mix_weights(images, draws, mixup, cutmix)
        count = tf.shape(images)[0]
        neighbours = tf.minimum(tf.bitwise.bitwise_xor(tf.range(count), 1), count - 1)
        pixels = tf.cast(images, tf.float32)
        others = tf.gather(pixels, neighbours)
        share = tf.reduce_mean(own, (1, 2))
        return pp.to_uint8(others + own * (pixels - others)), mix_targets(
            targets, tf.gather(targets, neighbours), share
        )

    return mix


def _mix_weights(images: tf.Tensor, draws: tf.Tensor, mixup: float | None, cutmix: float | None) -> tf.Tensor:
    """How much of each pixel is the image's own; float32 (batch, height, width, 1)."""
    shape = tf.shape(images)
    weights = []
    if mixup:
        blend = _beta(mixup, draws[:, 1])[:, None, None, None]
        weights.append(tf.broadcast_to(blend, (shape[0], shape[1], shape[2], 1)))
    if cutmix:
        sides = tf.sqrt(1 - _beta(cutmix, draws[:, 1]))[:, None] * tf.cast(shape[1:3], tf.float32)
        corner = draws[:, 2:4] * tf.cast(shape[1:3], tf.float32) - sides / 2  # may stick out, as in the paper
        weights.append(1 - tf.cast(image_ops.rectangle(shape[1], shape[2], corner, sides), tf.float32))
    return tf.where(draws[:, 0, None, None, None] < 0.5, weights[0], weights[-1])


def mix_targets(own: tf.Tensor, other: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Mixed targets, (batch, num_labels); `share`, (batch, 1), is that of `own`. See get_mix for unknown labels."""
    is_unknown = ((own == UNKNOWN) & (share > 0)) | ((other == UNKNOWN) & (share < 1))
    return tf.where(is_unknown, UNKNOWN, tf.maximum(own, 0.0) * share + tf.maximum(other, 0.0) * (1 - share))


def _beta(alpha: float, uniform: tf.Tensor) -> tf.Tensor:
    """Uniform numbers in [0, 1) to Beta(alpha, alpha), by a table of its quantiles."""
    quantiles = scipy.special.betaincinv(alpha, alpha, (np.arange(_BETA_TABLE) + 0.5) / _BETA_TABLE)
    return tf.gather(tf.constant(quantiles, tf.float32), tf.cast(uniform * _BETA_TABLE, tf.int32))
