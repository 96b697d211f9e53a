"""From a dataset to batches: for training, evaluation, `tfr.load` and loose files. Read each from top to bottom."""

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_datasets as tfds

from tfr import dataset_dir
from tfr.errors import DatasetError

from . import preprocessing as pp

# Fixed rather than AUTOTUNE, which starts with one thread and on a small dataset may stay there for a whole pass.
_PARALLEL_CALLS = max(2, os.cpu_count() or 2)
_PREFETCH_BATCHES = 2
_SHUFFLE_EXAMPLES = 2048  # encoded examples in the buffer; our shards are in random (hash) order already
_MODEL_KEYS = ("image", "target")
_EVALUATION_KEYS = ("image", "target", "id")


class BatchShape(NamedTuple):
    """What batches look like: side of the square images in pixels, global batch size, how images become square."""

    image_size: int
    batch_size: int
    resize: str = "squash"


def open_dataset(dataset: str, data_dir: str | None = None) -> tfds.core.DatasetBuilder:
    """Opens a dataset directory, or a dataset that TFDS knows by name.

    Raises:
      DatasetError: it is neither, has no labels, or files that tf.data does not read.
    """
    if os.path.isdir(dataset) or "://" in dataset or dataset.startswith((".", "/")):
        builder = dataset_dir.open_builder(dataset)
    else:
        builder = _open_by_name(dataset, data_dir)
    dataset_dir.label_key(builder)
    _check_file_format(builder)
    return builder


def _check_file_format(builder: tfds.core.DatasetBuilder) -> None:
    """Raises where tf.data cannot read the files."""
    file_format = builder.info.file_format
    if file_format is not None and file_format not in tfds.core.FileFormat.with_tf_data():
        raise DatasetError(
            f"{builder.info.full_name} has {file_format.value} files, which tf.data does not read. Make TFRecords of "
            f"it: tfr convert --annotations={builder.data_path} --data_dir=... --name={builder.name}"
        )


def _open_by_name(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except Exception as err:  # TFDS raises several kinds for a name that it does not know
        raise DatasetError(
            f"{name!r} is neither a dataset directory nor a dataset that TFDS finds in {data_dir or 'its data_dir'} "
            f"({type(err).__name__}). Give the directory, e.g. data/posters/1.0.0. `tfr build` makes named datasets."
        ) from err
    if not builder.is_prepared():
        raise DatasetError(
            f"The TFDS dataset {name!r} is not prepared in {builder.data_dir}. Run `tfr build {name}` first."
        )
    return builder


def num_examples(builder: tfds.core.DatasetBuilder, split: Any) -> int:
    """Examples of a split, of a slice of one such as 'train[:80%]', or of another split object of TFDS.

    Raises:
      DatasetError: there is no such split, or the slice cannot be read.
    """
    parts = str(split).split("+") if isinstance(split, str) else []
    for name in (part.partition("[")[0].strip() for part in parts):
        if name not in [*builder.info.splits, "all"]:
            raise DatasetError(f"{builder.info.full_name} has no split {name!r}. It has {list(builder.info.splits)}.")
    try:
        return builder.info.splits[split].num_examples
    except (ValueError, AssertionError) as err:
        raise DatasetError(
            f"{builder.info.full_name}: TFDS cannot read split {split!r} ({' '.join(str(err).split())}). "
            "Slices look like 'train[:80%]', 'train[5:]' or 'train[:2shard]'."
        ) from err


def for_training(
    builder: tfds.core.DatasetBuilder,
    split: str,
    shape: BatchShape,
    *,
    augment: str = "flip",
    seed: int = 0,
) -> tf.data.Dataset:
    """Endless shuffled batches.

    Args:
      builder: an open dataset.
      split: a split, or a slice of one.
      shape: of the batches.
      augment: see DataConfig.
      seed: fixes the order and the augmentation.

    Returns:
      A dataset of (image, target): float32 (batch_size, image_size, image_size, 3) of 0 to 255, and float32
      (batch_size, num_labels) of 1, 0 and preprocessing.UNKNOWN.
    """
    ops = [pp.get_decode(), pp.get_resize(shape.image_size, shape.resize), _target_op(builder)]
    ops += [pp.get_flip(seed)] if augment == "flip" else []
    dataset = _read(builder, split, shuffle_files=True, seed=seed)  # shuffles the files, then interleaves them
    dataset = dataset.shuffle(min(_SHUFFLE_EXAMPLES, num_examples(builder, split)), seed)  # encoded, so it is small
    dataset = dataset.repeat()  # before batching: no short batch at the end of an epoch
    dataset = dataset.enumerate().map(_with_index)  # augmentation draws by place in the stream: reproducible
    apply = _chain(ops, _MODEL_KEYS, as_tuple=True)
    dataset = dataset.map(apply, num_parallel_calls=_PARALLEL_CALLS)  # decode last, few in memory
    dataset = dataset.batch(shape.batch_size, drop_remainder=True)  # replicas get equal shares
    dataset = dataset.prefetch(_PREFETCH_BATCHES)  # the step never waits for the disk
    return dataset.with_options(_options())


def for_evaluation(builder: tfds.core.DatasetBuilder, split: str, shape: BatchShape) -> tf.data.Dataset:
    """Every example of a split once, in stored order; the last batch may be short.

    Returns:
      A dataset of dicts: `image` float32 (n, image_size, image_size, 3), `target` float32 (n, num_labels), and `id`
      string (n,) where the dataset has ids.
    """
    ops = [pp.get_decode(), pp.get_resize(shape.image_size, shape.resize), _target_op(builder)]
    dataset = _read(builder, split, shuffle_files=False, seed=None)  # in order: predictions line up with the records
    dataset = dataset.map(_chain(ops, _EVALUATION_KEYS), num_parallel_calls=_PARALLEL_CALLS, deterministic=True)
    dataset = dataset.batch(shape.batch_size)  # nothing dropped
    dataset = dataset.prefetch(_PREFETCH_BATCHES)
    return dataset.with_options(_options())


def for_loading(
    builder: tfds.core.DatasetBuilder,
    split: Any,
    shape: BatchShape,
    *,
    dtype: str,
    shuffle: bool,
    seed: int | None,
    with_ids: bool,
) -> tf.data.Dataset:
    """Every example of a split once, as tuples; see tfr.train.loading.load for the arguments and the result."""
    if with_ids and "id" not in builder.info.features:
        raise DatasetError(
            f"{builder.info.full_name} has no feature 'id'. Its features: {list(builder.info.features)}."
        )
    ops = [pp.get_decode(), pp.get_resize(shape.image_size, shape.resize), _target_op(builder)]
    ops += [pp.get_uint8()] if dtype == "uint8" else []
    dataset = _read(builder, split, shuffle_files=shuffle, seed=seed)
    if shuffle:
        dataset = dataset.shuffle(min(_SHUFFLE_EXAMPLES, num_examples(builder, split)), seed)
    apply = _chain(ops, _EVALUATION_KEYS if with_ids else _MODEL_KEYS, as_tuple=True)
    dataset = dataset.map(apply, num_parallel_calls=_PARALLEL_CALLS, deterministic=True)
    dataset = dataset.batch(shape.batch_size)  # nothing dropped
    dataset = dataset.prefetch(_PREFETCH_BATCHES)
    return dataset.with_options(_options())


def for_files(images: Callable[[], Iterator[bytes]], shape: BatchShape) -> tf.data.Dataset:
    """Batches of loose images.

    Args:
      images: returns an iterator of encoded images that TensorFlow decodes (see tfr.images.prepare_image).
      shape: of the batches.

    Returns:
      A dataset of dicts with `image` float32 (n, image_size, image_size, 3), in the order of the input.
    """
    ops = [pp.get_decode(), pp.get_resize(shape.image_size, shape.resize)]
    dataset = tf.data.Dataset.from_generator(images, output_signature=tf.TensorSpec((), tf.string))
    dataset = dataset.map(lambda data: {"image": data})
    dataset = dataset.map(_chain(ops, _MODEL_KEYS), num_parallel_calls=_PARALLEL_CALLS, deterministic=True)
    dataset = dataset.batch(shape.batch_size)
    dataset = dataset.prefetch(_PREFETCH_BATCHES)
    return dataset.with_options(_options())


def _read(builder: tfds.core.DatasetBuilder, split: Any, *, shuffle_files: bool, seed: int | None) -> tf.data.Dataset:
    """Examples with their images still encoded; TFDS neither caches nor prefetches on its own."""
    if not num_examples(builder, split):
        raise DatasetError(f"{builder.info.full_name}: there is no example in split {split!r}.")
    return builder.as_dataset(
        split=split,
        shuffle_files=shuffle_files,
        read_config=tfds.ReadConfig(shuffle_seed=seed, skip_prefetch=True, try_autocache=False),
        decoders={"image": tfds.decode.SkipDecoding()},
    )


def _target_op(builder: tfds.core.DatasetBuilder) -> pp.Op:
    return pp.get_target(dataset_dir.label_key(builder), len(dataset_dir.label_names(builder)))


def _with_index(index: tf.Tensor, example: pp.Example) -> pp.Example:
    return {**example, "index": index}


def _chain(ops: Sequence[pp.Op], keys: Iterable[str], *, as_tuple: bool = False) -> Callable[[pp.Example], object]:
    """The ops one after the other, then those of the keys that there are: as a dict, or as a tuple in their order."""

    def apply(example: pp.Example) -> object:
        example = functools.reduce(lambda value, op: op(value), ops, example)
        chosen = {key: example[key] for key in keys if key in example}
        return tuple(chosen.values()) if as_tuple else chosen

    return apply


def _options() -> tf.data.Options:
    """Batches are split between replicas by tf.distribute: sharding by file would drop shards on several hosts."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options
