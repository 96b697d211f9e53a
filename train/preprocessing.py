"""Small image ops: factories that return a function from example to example (a dict of tensors).

Pixels are uint8 from here to the model: a quarter of float32's memory on the way to the device, and what a served
request holds too. Training, evaluation and loose files share one rule of resampling, see `resample`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

Example = dict[str, tf.Tensor]
Op = Callable[[Example], Example]

VERSION = 2  # raised whenever the same image comes to other pixels: cached embeddings then say that they are old

UNKNOWN = -1.0  # in a target: nothing is known of this label for this image

DCT_SCALES = (1, 2, 4, 8)  # what libjpeg decodes at a fraction of the cost
_LEAST_LEFT = 7 / 8  # of the target's side that the decoder may leave: enlarging by an eighth costs hardly any detail
_AREA_FROM = 2.0
# TensorFlow shares the rounding of more than about 30,000 values among threads, whatever tf.data is told. Waking one up
# costs more CPU time than it takes to round a whole image.
_VALUES_PER_THREAD = 24_000
_MOST_PARTS = 32


def get_image(size: int, mode: str) -> Op:
    """Encoded `image` (scalar string: JPEG, PNG, GIF or BMP) to uint8 (size, size, 3).

    Args:
      size: side of the result in pixels.
      mode: 'squash' to ignore the aspect ratio, 'crop' to take the central square, 'pad' for black borders.
    """
    window = _central_square if mode == "crop" else _whole

    def decode(example: Example) -> Example:
        return {**example, "image": decode_window(example["image"], window, size, mode)}

    return decode


def _whole(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    return tf.stack([0, 0, height, width])


def _central_square(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    side = tf.minimum(height, width)
    return tf.stack([(height - side) // 2, (width - side) // 2, side, side])


def decode_window(
    data: tf.Tensor, choose: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], size: int, mode: str = "squash"
) -> tf.Tensor:
    """Decodes a window of an image to uint8 (size, size, 3), and as little else of it as the format allows.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that leaves enough pixels (its cosine transform yields the
    mean of blocks for less work), and only the rows and columns of the window are brought into colours. Other formats
    are decoded whole.

    Args:
      data: scalar string: JPEG, PNG, GIF or BMP.
      choose: from height and width to the window, int32 (4,): top, left, height, width in pixels of the whole image.
      size: side of the result in pixels.
      mode: how the window becomes square: 'pad' adds black borders, otherwise it is squashed.
    """

    def from_jpeg() -> tf.Tensor:
        shape = tf.image.extract_jpeg_shape(data)
        window = choose(shape[0], shape[1])
        target = _fitted(window[2:], size, mode)  # by the window's aspect ratio before it is rounded by scaling
        branches = [_decode_and_crop(data, window, ratio) for ratio in DCT_SCALES]
        return _resample_to(tf.switch_case(dct_scale(window[2:], target), branches), target, size, mode)

    def from_other() -> tf.Tensor:
        image = tf.io.decode_image(data, channels=3, expand_animations=False)
        shape = tf.shape(image)
        return resample(tf.slice(image, *_slice_of(choose(shape[0], shape[1]))), size, mode)

    return tf.ensure_shape(tf.cond(tf.image.is_jpeg(data), from_jpeg, from_other), (size, size, 3))


class DecodingPlan(NamedTuple):
    """What `decode_window` does with an image of some size, for those who decode elsewhere.

    Attributes:
      scale: 1, 2, 4 or 8: a JPEG is decoded at one over that of its size.
      window: top, left, height, width of what is used, in pixels of the whole image.
      target: height and width that it is resampled to, before any borders are added.
    """

    scale: int
    window: tuple[int, int, int, int]
    target: tuple[int, int]


def plan_decoding(height: int, width: int, size: int, mode: str) -> DecodingPlan:
    """The same figures as of get_image, computed without TensorFlow; see there for the arguments."""
    side = min(height, width)
    window = ((height - side) // 2, (width - side) // 2, side, side) if mode == "crop" else (0, 0, height, width)
    sides, target = np.array(window[2:], np.float32), np.array([size, size])
    if mode == "pad":
        target = np.maximum(np.round(sides * (np.float32(size) / sides.max())), 1)
    ratio = (sides / target.astype(np.float32)).min() / np.float32(_LEAST_LEFT)
    scale = DCT_SCALES[int(np.sum(ratio >= np.array(DCT_SCALES[1:], np.float32)))]
    return DecodingPlan(scale, window, (int(target[0]), int(target[1])))


def choose_kernel(height: int, width: int, target: tuple[int, int]) -> str:
    """'average', 'bicubic' or 'bilinear': which kernels `resample` takes, computed without TensorFlow."""
    shrinking = np.array([height, width], np.float32) / np.array(target, np.float32)
    if shrinking.max() > _AREA_FROM:
        return "average"
    return "bicubic" if shrinking.min() < np.float32(_LEAST_LEFT) else "bilinear"


def _decode_and_crop(data: tf.Tensor, window: tf.Tensor, ratio: int) -> Callable[[], tf.Tensor]:
    """Decodes a window of a JPEG at 1/ratio; the window counts in pixels of the whole image."""

    def decode() -> tf.Tensor:
        scaled = tf.maximum(window // ratio, [0, 0, 1, 1])  # of a strip of 7 pixels an eighth is left, rounded up
        return tf.image.decode_and_crop_jpeg(data, scaled, channels=3, ratio=ratio)

    return decode


def dct_scale(sides: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """The index in DCT_SCALES of the smallest size that still holds the target, give or take the slack."""
    ratio = tf.reduce_min(tf.cast(sides, tf.float32) / tf.cast(target, tf.float32)) / _LEAST_LEFT
    return tf.reduce_sum(tf.cast(ratio >= tf.constant(DCT_SCALES[1:], tf.float32), tf.int32))


def _slice_of(window: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Begin and size of a window over (height, width, 3)."""
    return tf.concat([window[:2], [0]], 0), tf.concat([window[2:], [3]], 0)


def get_resize(size: int, mode: str) -> Op:
    """`image` (height, width, 3) to uint8 (size, size, 3) by the rule of `resample`; see get_image for the modes."""

    def apply(example: Example) -> Example:
        image = tf.convert_to_tensor(example["image"])
        if mode == "crop":
            shape = tf.shape(image)
            image = tf.slice(image, *_slice_of(_central_square(shape[0], shape[1])))
        return {**example, "image": resample(image, size, mode)}

    return apply


def resample(image: tf.Tensor, size: int, mode: str = "squash") -> tf.Tensor:
    """The one rule of resampling, by how the sides change.

    - One of them shrinks by more than 2: the mean over the area of each new pixel, so that nothing is skipped; a side
      that grows is then bicubic.
    - One of them grows by more than 8/7: bicubic, as the backbones were trained.
    - Otherwise bilinear, which up to 2 takes in nearly every pixel, at half of bicubic's time.

    Args:
      image: (height, width, 3), uint8 or float32 of 0 to 255.
      size: side of the result in pixels.
      mode: 'pad' keeps the aspect ratio and adds black borders; any other ignores it.

    Returns:
      uint8 (size, size, 3).
    """
    return _resample_to(image, _fitted(tf.shape(image)[:2], size, mode), size, mode)


def _resample_to(image: tf.Tensor, target: tf.Tensor, size: int, mode: str) -> tf.Tensor:
    """As `resample`, to `target`, int32 (2,), which is at most (size, size); black borders make up the rest."""
    shrinking = tf.cast(tf.shape(image)[:2], tf.float32) / tf.cast(target, tf.float32)
    resized = tf.case(
        [
            (tf.reduce_max(shrinking) > _AREA_FROM, lambda: _average(image, target)),
            (tf.reduce_min(shrinking) < _LEAST_LEFT, lambda: _bicubic(image, target)),
        ],
        default=lambda: _bilinear(image, target),
    )
    pixels = _to_uint8_by_rows(resized, size)
    return tf.ensure_shape(_with_borders(pixels, target, size) if mode == "pad" else pixels, (size, size, 3))


def _with_borders(pixels: tf.Tensor, target: tf.Tensor, size: int) -> tf.Tensor:
    """In the middle of a black square."""
    before = (size - target) // 2
    after = size - target - before
    return tf.pad(pixels, tf.concat([tf.stack([before, after], axis=1), [[0, 0]]], 0))


def _average(image: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Sides that shrink by area averaging, then those that grow by the bicubic kernel; float32."""
    smaller = tf.minimum(tf.shape(image)[:2], target)
    averaged = tf.raw_ops.ResizeArea(images=image[None], size=smaller)[0]
    return tf.cond(tf.reduce_all(smaller == target), lambda: averaged, lambda: _bicubic(averaged, target))


def _bicubic(image: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Float32, like tf.image.resize."""
    pixels = tf.cast(image[None], tf.float32)  # faster than within the op
    return tf.raw_ops.ResizeBicubic(images=pixels, size=target, half_pixel_centers=True)[0]


def _bilinear(image: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Float32, like tf.image.resize."""
    return tf.raw_ops.ResizeBilinear(images=image[None], size=target, half_pixel_centers=True)[0]


def _fitted(shape: tf.Tensor, size: int, mode: str) -> tf.Tensor:
    """What an image of a shape (height, width) is resampled to before any borders are added."""
    if mode != "pad":
        return tf.constant([size, size])
    sides = tf.cast(shape, tf.float32)
    return tf.maximum(tf.cast(tf.round(sides * (size / tf.reduce_max(sides))), tf.int32), 1)


def _to_uint8_by_rows(pixels: tf.Tensor, size: int) -> tf.Tensor:
    """As `to_uint8`, on the calling thread alone; for at most `size` rows and columns."""
    rows = max(_VALUES_PER_THREAD // (3 * size) // 16, 1) * 16  # parts that begin on 64 bytes are not copied
    if size > rows * _MOST_PARTS:
        return to_uint8(pixels)
    return tf.concat([to_uint8(pixels[start : start + rows]) for start in range(0, size, rows)], 0)


def to_uint8(pixels: tf.Tensor) -> tf.Tensor:
    """Float32 to the nearest uint8, halves upwards, below 0 and above 255 cut off (bicubic overshoots at edges).

    In one pass over memory, a third of the time of rounding, clipping and casting. Other modes of the op do the same,
    but with oneDNN: halves then go to even numbers on some machines only, and it always wakes up other threads.
    """
    return tf.bitcast(tf.quantization.quantize(pixels, 0.0, 255.0, tf.quint8, mode="MIN_COMBINED").output, tf.uint8)


def get_cast(dtype: Any) -> Op:
    """`image` in another type, its values as they are."""

    def apply(example: Example) -> Example:
        return {**example, "image": tf.cast(example["image"], dtype)}

    return apply


def get_target(label_key: str, num_labels: int) -> Op:
    """Label ids to `target`, float32 (num_labels,): 1 present, 0 absent, UNKNOWN where `labels_unknown` says so.

    The one label of an example is -1 in test splits of TFDS whose labels are kept secret: then nothing is known.
    """

    def target(example: Example) -> Example:
        values = _multi_hot(example[label_key], num_labels)
        if label_key == "label":
            values = tf.where(example[label_key] < 0, UNKNOWN, values)
        if "labels_unknown" in example:
            unknown = _multi_hot(example["labels_unknown"], num_labels)
            values = tf.where((unknown > 0) & (values == 0), UNKNOWN, values)
        return {**example, "target": values}

    return target


def _multi_hot(ids: tf.Tensor, num_labels: int) -> tf.Tensor:
    """Ids, a scalar or (n,), to float32 (num_labels,) of zeros and ones."""
    return tf.minimum(tf.reduce_sum(tf.one_hot(tf.reshape(ids, [-1]), num_labels), axis=0), 1.0)
