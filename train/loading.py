"""Ready batches in one line: `tfr.load("data/posters", split="train", batch_size=32, image_size=224)`."""

from typing import Any

import tensorflow as tf

from tfr.errors import UsageError

from . import input_pipeline
from .config import RESIZE_MODES

DTYPES = ("float32", "uint8")


def load(
    dataset: str,
    *,
    split: Any = None,
    batch_size: int = 32,
    image_size: int = 224,
    data_dir: str | None = None,
    resize: str = "squash",
    dtype: str = "float32",
    shuffle: bool = False,
    seed: int | None = None,
    with_ids: bool = False,
    with_info: bool = False,
) -> Any:
    """Loads a split as batches of images and labels that `model.fit` takes.

        train, info = tfr.load("data/posters", split="train", batch_size=64, shuffle=True, with_info=True)
        names = info.features["labels"].feature.names

    Args:
      dataset: a dataset directory (or a folder above its only one), or the name of a dataset that is prepared in
        `data_dir`, such as 'movie_posters/first_3000'.
      split: as in tfds.load: a name, a slice such as 'train[:80%]' or 'train[5:]', a sum, an item of
        tfds.even_splits; a list or dict of these; None for a dict of all splits.
      batch_size: images a batch; the last one may be short.
      image_size: side of the square images in pixels.
      data_dir: root of dataset directories, for a name. Default: TFDS's own.
      resize: how an image of another shape becomes square: 'squash', 'crop' or 'pad'.
      dtype: of the images: 'float32', or 'uint8', a quarter of the memory.
      shuffle: whether to read in random order, another one each pass. Otherwise the order is that of tfds.load.
      seed: of the shuffling; None: another order each run.
      with_ids: whether batches carry the examples' ids as a third part.
      with_info: whether to return the tfds.core.DatasetInfo too.

    Returns:
      A finite tf.data.Dataset (or a structure of them like `split`) of (images, labels): images of 0 to 255,
      (n, image_size, image_size, 3) of `dtype`; labels float32 (n, num_labels), 1 for present, 0 for absent and -1
      where nothing is known. With ids, (images, labels, ids): ids string (n,). With info, a pair with the info.

    Raises:
      UsageError: an argument is not one of those allowed.
      DatasetError: the dataset is not there, has no labels, or not such a split.
    """
    _check(batch_size=batch_size, image_size=image_size, resize=resize, dtype=dtype)
    builder = input_pipeline.open_dataset(dataset, data_dir)
    shape = input_pipeline.BatchShape(image_size, batch_size, resize)

    def load_split(split: Any) -> tf.data.Dataset:
        return input_pipeline.for_loading(
            builder, split, shape, dtype=dtype, shuffle=shuffle, seed=seed, with_ids=with_ids
        )

    wanted = {name: name for name in builder.info.splits} if split is None else split
    loaded = tf.nest.map_structure(load_split, wanted)
    return (loaded, builder.info) if with_info else loaded


def _check(*, batch_size: int, image_size: int, resize: str, dtype: str) -> None:
    for name, number in (("batch_size", batch_size), ("image_size", image_size)):
        if not isinstance(number, int) or number < 1:
            raise UsageError(f"tfr.load: {name} must be a positive integer. Received: {name}={number!r}")
    for name, value, allowed in (("resize", resize, RESIZE_MODES), ("dtype", dtype, DTYPES)):
        if value not in allowed:
            raise UsageError(f"tfr.load: {name} must be one of {', '.join(allowed)}. Received: {name}={value!r}")
