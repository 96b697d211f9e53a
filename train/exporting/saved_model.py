"""A SavedModel that needs nothing but TensorFlow: encoded images in, tags out.

Signatures, the first two of them the same:

  serving_default, serving_bytes  image_bytes: string (n,), JPEG, PNG, GIF, BMP or WebP files
  serving_pixels                  pixels: uint8 (n, image_size, image_size, 3)
  serving_pixels_float            pixels: float32 of 0 to 255, same shape

and of each the outputs

  probabilities      float32 (n, num_labels)
  labels             string (n, num_labels): their names, the same for every image
  tags               string (n, most tags of an image): labels from the run's thresholds on, likeliest first, then ""
  tag_probabilities  float32, same shape, then 0
"""

import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfr import files

from .. import preprocessing as pp
from .. import run_dir
from . import exif, warmup
from .model import PIXELS, PROBABILITIES, SAVE_OPTIONS, ExportModel

DEFAULT_SIGNATURE, BYTES_SIGNATURE = "serving_default", "serving_bytes"
PIXELS_SIGNATURE, FLOAT_SIGNATURE = "serving_pixels", "serving_pixels_float"
IMAGE_BYTES = "image_bytes"
_DECODERS = 16  # images decoded at the same time
_PNG = b"\x89PNG"


def write(tagger: ExportModel, folder: str) -> None:
    """Writes the SavedModel into a local folder, whose last part is TensorFlow Serving's version number.

    labels.txt and thresholds.json are its assets, and it brings the requests by which TensorFlow Serving warms up.
    """
    server = _Server(tagger)
    signatures = {
        DEFAULT_SIGNATURE: server.from_bytes,
        BYTES_SIGNATURE: server.from_bytes,
        PIXELS_SIGNATURE: server.from_pixels,
        FLOAT_SIGNATURE: server.from_float_pixels,
    }
    tf.saved_model.save(server, folder, signatures=signatures, options=SAVE_OPTIONS)
    warmup.write(folder, tagger.run.image_size)


class _Server(tf.Module):
    """The network between decoding and labels."""

    def __init__(self, tagger: ExportModel):
        super().__init__()
        run = tagger.run
        self._network = tagger.graph(batch_size=None)
        self._rule = tagger.rule
        self._labels = tf.constant(run.labels)
        self._limits = tf.constant(tagger.rule.limits, tf.float64)
        self._assets = [
            tf.saved_model.Asset(os.path.join(run.path, name))
            for name in (run_dir.LABELS_FILE, run_dir.THRESHOLDS_FILE)
            if files.exists(os.path.join(run.path, name))
        ]
        shape = (None, run.image_size, run.image_size, 3)
        self.from_bytes = self._function(tf.TensorSpec([None], tf.string, IMAGE_BYTES), get_decode(run))
        self.from_pixels = self._function(tf.TensorSpec(shape, tf.uint8, PIXELS), tf.identity)
        self.from_float_pixels = self._function(tf.TensorSpec(shape, tf.float32, PIXELS), tf.identity)

    def _function(self, spec: tf.TensorSpec, to_pixels: Callable[[tf.Tensor], tf.Tensor]) -> Any:
        return tf.function(lambda values: self._outputs(tf.cast(to_pixels(values), tf.float32)), input_signature=[spec])

    def _outputs(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = self._network(pixels)[0]
        names = tf.broadcast_to(self._labels, tf.shape(probabilities))  # a row an image, as Serving's REST API wants
        tags, tag_probabilities = self._choose_tags(probabilities)
        return {PROBABILITIES: probabilities, "labels": names, "tags": tags, "tag_probabilities": tag_probabilities}

    def _choose_tags(self, probabilities: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The labels that an image has, likeliest first; rows are filled up with "" and 0 to the longest."""
        chosen = tf.cast(probabilities, tf.float64) >= self._limits  # as they were tuned, not rounded to float32
        order = tf.argsort(tf.where(chosen, probabilities, -1.0), direction="DESCENDING", stable=True)
        counts = tf.math.count_nonzero(chosen, 1, dtype=tf.int32)
        if not self._rule.multi_label:
            counts = tf.minimum(counts, 1)  # the likeliest
        order = order[:, : tf.maximum(tf.reduce_max(counts), 1)]
        is_tag = tf.sequence_mask(counts, tf.shape(order)[1])
        found = tf.where(is_tag, tf.gather(probabilities, order, batch_dims=1), 0.0)
        return tf.where(is_tag, tf.gather(self._labels, order), ""), found


def get_decode(run: run_dir.Run) -> Callable[[tf.Tensor], tf.Tensor]:
    """Encoded images, string (n,), to uint8 (n, image_size, image_size, 3), resampled as in evaluation."""
    to_square, resize = pp.get_image(run.image_size, run.resize), pp.get_resize(run.image_size, run.resize)

    def decode(data: tf.Tensor) -> tf.Tensor:
        is_png = tf.strings.substr(data, 0, len(_PNG)) == _PNG
        image = tf.cond(
            is_png,
            lambda: resize({"image": _over_white(tf.io.decode_png(data, channels=4))})["image"],
            lambda: to_square({"image": data})["image"],
        )
        # After the resampling, since squares are turned for next to nothing. Where one pixel is cut off or added to
        # make an odd size even, it may be that of the other side.
        return exif.upright(image, exif.orientation(data))

    spec = tf.TensorSpec((run.image_size, run.image_size, 3), tf.uint8)
    return lambda data: tf.map_fn(decode, data, fn_output_signature=spec, parallel_iterations=_DECODERS)


def _over_white(image: tf.Tensor) -> tf.Tensor:
    """Transparency over white, as the conversion does it; uint8 (height, width, 4) to (height, width, 3)."""
    pixels = tf.cast(image, tf.float32)
    opacity = pixels[..., 3:] / 255
    return pp.to_uint8(pixels[..., :3] * opacity + 255 * (1 - opacity))
