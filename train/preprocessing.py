"""Small image ops: factories that return a function from example to example (a dict of tensors)."""

from collections.abc import Callable

import tensorflow as tf

Example = dict[str, tf.Tensor]
Op = Callable[[Example], Example]

_ANTIALIAS_FROM = 1.3
UNKNOWN = -1.0  # in a target: nothing is known of this label for this image


def get_decode() -> Op:
    """Encoded `image` (scalar string: JPEG, PNG, GIF or BMP) to uint8 (height, width, 3)."""

    def decode(example: Example) -> Example:
        image = tf.io.decode_image(example["image"], channels=3, expand_animations=False)
        return {**example, "image": image}

    return decode


def get_resize(size: int, mode: str) -> Op:
    """`image` (height, width, 3) to float32 (size, size, 3) of 0 to 255, by bicubic resampling.

    Antialiased where a side shrinks by more than 1.3; below that the plain kernel does as well at a third of the cost.

    Args:
      size: side of the result in pixels.
      mode: 'squash' to ignore the aspect ratio, 'crop' to take the central square, 'pad' for black borders.
    """
    resize = {"squash": _resize_squash, "crop": _resize_crop, "pad": _resize_pad}[mode]

    def apply(example: Example) -> Example:
        image = resize(example["image"], size)
        # Bicubic overshoots at edges; pixels end at 255, in training as in a served request.
        return {**example, "image": tf.ensure_shape(tf.clip_by_value(image, 0.0, 255.0), (size, size, 3))}

    return apply


def _resize_squash(image: tf.Tensor, size: int) -> tf.Tensor:
    return tf.cond(
        tf.reduce_max(tf.shape(image)[:2]) > int(_ANTIALIAS_FROM * size),
        lambda: tf.image.resize(image, (size, size), "bicubic", antialias=True),
        lambda: tf.image.resize(image, (size, size), "bicubic"),
    )


def _resize_crop(image: tf.Tensor, size: int) -> tf.Tensor:
    shape = tf.shape(image)
    side = tf.minimum(shape[0], shape[1])
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    return _resize_squash(image[top : top + side, left : left + side], size)


def _resize_pad(image: tf.Tensor, size: int) -> tf.Tensor:
    return tf.image.resize_with_pad(image, size, size, "bicubic", antialias=True)


def get_uint8() -> Op:
    """`image` of 0 to 255 in any type to the nearest uint8."""

    def apply(example: Example) -> Example:
        return {**example, "image": tf.cast(tf.round(example["image"]), tf.uint8)}

    return apply


def get_flip(seed: int) -> Op:
    """`image` mirrored left to right for half of the examples; which ones depends on `seed` and `index`."""

    def flip(example: Example) -> Example:
        draw = tf.random.stateless_uniform((), seed=tf.stack([tf.constant(seed, tf.int64), example["index"]]))
        image = tf.cond(draw < 0.5, lambda: example["image"][:, ::-1], lambda: example["image"])
        return {**example, "image": image}

    return flip


def get_target(label_key: str, num_labels: int) -> Op:
    """Label ids to `target`, float32 (num_labels,): 1 present, 0 absent, UNKNOWN where `labels_unknown` says so."""

    def target(example: Example) -> Example:
        values = _multi_hot(example[label_key], num_labels)
        if "labels_unknown" in example:
            unknown = _multi_hot(example["labels_unknown"], num_labels)
            values = tf.where((unknown > 0) & (values == 0), UNKNOWN, values)
        return {**example, "target": values}

    return target


def _multi_hot(ids: tf.Tensor, num_labels: int) -> tf.Tensor:
    """Ids, a scalar or (n,), to float32 (num_labels,) of zeros and ones."""
    return tf.minimum(tf.reduce_sum(tf.one_hot(tf.reshape(ids, [-1]), num_labels), axis=0), 1.0)
