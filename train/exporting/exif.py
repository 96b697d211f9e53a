"""EXIF orientation within a TensorFlow graph, so that a served photograph is as upright as a converted one."""

import tensorflow as tf

_HEAD_BYTES = 1 << 17  # the orientation is in the first segments, of at most 64 KiB each
_MAX_ENTRIES = 512
_ORIENTATION_TAG = 0x0112
_TIFF_OFFSET = 10  # from a segment's start: marker, length, "Exif", two zeros
_EXIF = (0x45, 0x78, 0x69, 0x66)


def orientation(data: tf.Tensor) -> tf.Tensor:
    """The orientation that a JPEG's EXIF header states, int32 of 1 to 8; 1 where there is none that can be read.

    Args:
      data: scalar string: the content of an image file, of any format.
    """
    head = tf.cast(tf.io.decode_raw(tf.strings.substr(data, 0, _HEAD_BYTES), tf.uint8), tf.int32)
    head = tf.concat([head, tf.zeros(_TIFF_OFFSET + 2, tf.int32)], 0)  # so that there is always something to look at
    return tf.cond(tf.image.is_jpeg(data), lambda: _of_jpeg(head), lambda: 1)


def _of_jpeg(head: tf.Tensor) -> tf.Tensor:
    """Walks over the application segments (0xffe0 to 0xffef), which come first, up to the one with EXIF."""
    end = tf.size(head) - _TIFF_OFFSET - 2

    def is_exif(start: tf.Tensor) -> tf.Tensor:
        return (head[start + 1] == 0xE1) & tf.reduce_all(head[start + 4 : start + 8] == _EXIF)

    def is_passed(start: tf.Tensor) -> tf.Tensor:
        is_segment = (start < end) & (head[tf.minimum(start, end)] == 0xFF)
        return is_segment & (head[tf.minimum(start, end) + 1] // 16 == 0xE) & ~is_exif(tf.minimum(start, end))

    (start,) = tf.while_loop(is_passed, lambda start: (start + 2 + 256 * head[start + 2] + head[start + 3],), (2,))
    start = tf.minimum(start, end)
    return tf.cond(is_exif(start), lambda: _of_tiff(head, start + _TIFF_OFFSET), lambda: 1)


def _of_tiff(head: tf.Tensor, base: tf.Tensor) -> tf.Tensor:
    """Looks the tag up in the first directory of the TIFF structure that begins at `base`."""
    little = head[base] == ord("I")

    def read(at: tf.Tensor, size: int) -> tf.Tensor:
        """Numbers of `size` bytes; places behind the end read as zeros."""
        places = at[..., None] + tf.where(little, tf.range(size - 1, -1, -1), tf.range(size))
        inside = (places >= 0) & (places < tf.size(head))
        found = tf.where(inside, tf.gather(head, tf.where(inside, places, 0)), 0)
        return tf.reduce_sum(found * [256**power for power in range(size - 1, -1, -1)], -1)

    # An offset of four bytes would overflow; directories are close to the start, so two bytes hold it.
    directory = base + read(base + 4 + tf.where(little, 0, 2), 2)
    entries = directory + 2 + 12 * tf.range(tf.minimum(read(directory, 2), _MAX_ENTRIES))
    values = tf.boolean_mask(read(entries + 8, 2), read(entries, 2) == _ORIENTATION_TAG)
    value = tf.concat([values, [1]], 0)[0]
    return tf.where((value >= 1) & (value <= 8), value, 1)


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns and mirrors a square image, (size, size, 3), as its orientation of 1 to 8 asks for."""
    transposed = tf.where(orientation >= 5, tf.transpose(image, (1, 0, 2)), image)
    # Which axes are to be reversed after that; 0 to 7 stand for orientations 1 to 8.
    rows = tf.gather([False, False, True, True, False, False, True, True], orientation - 1)
    columns = tf.gather([False, True, True, False, False, True, True, False], orientation - 1)
    flipped = tf.where(rows, tf.reverse(transposed, [0]), transposed)
    return tf.where(columns, tf.reverse(flipped, [1]), flipped)
