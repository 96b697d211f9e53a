"""Images of a split, as stored and as the network sees them: to calibrate by, and to check an export with."""

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tfr import dataset_dir
from tfr.errors import RunDirError

from .. import input_pipeline, run_dir
from .. import preprocessing as pp
from .. import records as records_lib
from .runtimes import Image


def read(run: run_dir.Run, builder: tfds.core.DatasetBuilder, split: str, count: int) -> tuple[list[Image], np.ndarray]:
    """Images evenly spread over a split, resampled as in evaluation, and their targets, float32 (n, num_labels).

    Args:
      run: by whose image size and resize rule.
      builder: an open dataset.
      split: a split, or a slice of one.
      count: how many images at most.

    Raises:
      DatasetError: there is no such split, or a file is damaged.
      RunDirError: the dataset has other labels than the run.
    """
    names = dataset_dir.label_names(builder)
    if names != run.labels:
        raise RunDirError(
            f"The labels of {builder.info.full_name} are not those of {run.path}. Name another --dataset."
        )
    total = input_pipeline.num_examples(builder, split)
    places = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64))
    to_pixels = tf.function(pp.get_image(run.image_size, run.resize))
    to_target = pp.get_target(dataset_dir.label_key(builder), len(names))
    images, targets = [], []
    for record in records_lib.open_records(builder, split).read(places):
        example = _parse(builder, record)
        pixels = to_pixels({"image": example["image"]})["image"].numpy()
        images.append(Image(pixels, example["image"].numpy()))
        targets.append(to_target(example)["target"].numpy())
    return images, np.array(targets)


def _parse(builder: tfds.core.DatasetBuilder, record: bytes) -> pp.Example:
    keys = ("image", "labels_unknown", dataset_dir.label_key(builder))
    features = {key: feature for key, feature in builder.info.features.items() if key in keys}
    decoders = {"image": tfds.decode.SkipDecoding()}
    return tfds.features.FeaturesDict(features).deserialize_example(record, decoders=decoders)
