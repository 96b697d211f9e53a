"""From a dataset to batches: for training, evaluation, `tfr.load` and loose files. Read each from top to bottom."""

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tfr import dataset_dir, progress
from tfr.errors import DatasetError, UsageError

from . import augmentation as augmenting
from . import preprocessing as pp
from . import records as records_lib
from . import sampling

# Fixed rather than AUTOTUNE, which starts with one thread and on a small dataset may stay there for a whole pass.
_PARALLEL_CALLS = max(2, os.cpu_count() or 2)
_PARALLEL_READS = 2  # calls that read a batch of records each, ahead of the decoding
_PARALLEL_REMOTE_READS = 16  # where each record is a request to an object store
_PREFETCH_BATCHES = 2
ENDLESS = 1 << 40  # steps
_MODEL_KEYS = ("image", "target")
_EVALUATION_KEYS = ("image", "target", "id")


class BatchShape(NamedTuple):
    """What batches look like: side of the square images in pixels, global batch size, how images become square."""

    image_size: int
    batch_size: int
    resize: str = "squash"


def open_dataset(dataset: str, data_dir: str | None = None, *, images: bool = True) -> tfds.core.DatasetBuilder:
    """Opens a dataset directory, or a dataset that TFDS knows by name; without `images` one of embeddings will do.

    Raises:
      DatasetError: it is neither, has no labels or no images, or its files are in a format that is not read.
    """
    if os.path.isdir(dataset) or "://" in dataset or dataset.startswith((".", "/")):
        builder = dataset_dir.open_builder(dataset)
    else:
        builder = _open_by_name(dataset, data_dir)
    dataset_dir.label_key(builder)
    if images:
        dataset_dir.check_images(builder)
    records_lib.check_format(builder)
    return builder


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
    except (ValueError, AssertionError, NotImplementedError) as err:
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
    sample: str = "shuffled",
    seed: int = 0,
    start_step: int = 0,
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Endless shuffled batches, each a function of the arguments and of its number alone.

    So the position of a run in the stream is the number of batches that it has used, and a run that was killed goes
    on with the very next batch by giving that number as `start_step`, which costs nothing to skip to.

    Args:
      builder: an open dataset.
      split: a split, or a slice of one.
      shape: of the batches.
      augment: see DataConfig.
      sample: see DataConfig.
      seed: fixes the order and the augmentation.
      start_step: batches to leave out at the start.
      input_context: of one of several hosts, in `Strategy.distribute_datasets_from_function`: the dataset then has
        this host's part of every global batch, in batches for one replica. Together the hosts have what one would.

    Returns:
      A dataset of (image, target): uint8 (batch_size, image_size, image_size, 3), and float32 (batch_size, num_labels)
      of 1, 0 and preprocessing.UNKNOWN, or numbers between where images are mixed.

    Raises:
      DatasetError: the split is not there, or a file is missing or damaged.
      UsageError: `augment` cannot be read.
    """
    records, part = _open(builder, split), _part(shape.batch_size, input_context)
    order = sampling.make_order(sample, len(records), lambda: _read_labels(builder, records), seed)
    augmentation = augmenting.make_augmentation(augment, shape.image_size, shape.resize)
    draw = _get_draw(seed, augmentation.num_draws, part)
    ops = [_get_parse(builder), *augmentation.image_ops, _target_op(builder)]
    dataset = tf.data.Dataset.range(start_step, ENDLESS)  # steps: all that follows depends on their number alone
    dataset = dataset.map(draw)  # positions of this host's rows, and random numbers to augment them by
    dataset = _read(dataset, records, order)  # the whole split is shuffled, whatever order the files are in
    dataset = dataset.flat_map(_singles)  # so that decoding is shared evenly among the threads
    dataset = dataset.map(_chain(ops, (*_MODEL_KEYS, "draws"), as_tuple=True), num_parallel_calls=_PARALLEL_CALLS)
    dataset = dataset.batch(part.batch_size, drop_remainder=True)  # replicas get equal shares
    if augmentation.mix:
        dataset = dataset.map(augmentation.mix, num_parallel_calls=_PARALLEL_CALLS)  # takes whole batches
    else:
        dataset = dataset.map(lambda image, target, _: (image, target))
    dataset = dataset.prefetch(_PREFETCH_BATCHES)  # the step never waits for the disk
    return dataset.with_options(_options(input_context))


def for_evaluation(
    builder: tfds.core.DatasetBuilder,
    split: str,
    shape: BatchShape,
    *,
    input_context: tf.distribute.InputContext | None = None,
    image_op: pp.Op | None = None,
    keys: Sequence[str] = _EVALUATION_KEYS,
) -> tf.data.Dataset:
    """Every example of a split once, in stored order; the last batch may be short.

    With an `input_context` (see for_training) those whose place leaves this host's number when divided by the number
    of hosts. An `image_op` decodes in its own way. `keys` are features, `target`, or `record`, the serialized example.

    Returns:
      A dataset of dicts: `image` uint8 (n, image_size, image_size, 3), `target` float32 (n, num_labels), and `id`
      string (n,) where the dataset has ids.
    """
    records, part = _open(builder, split), _part(shape.batch_size, input_context)
    parse = _get_parse(builder, (*_EVALUATION_KEYS, "labels_unknown", *keys))
    ops = [parse, image_op or pp.get_image(shape.image_size, shape.resize), _target_op(builder)]
    places = tf.data.Dataset.range(part.host, len(records), part.num_hosts)  # in order: predictions line up
    dataset = _read_singly(places, records, shape.batch_size)
    dataset = dataset.map(_chain(ops, keys), num_parallel_calls=_PARALLEL_CALLS, deterministic=True)
    dataset = dataset.batch(part.batch_size)  # nothing dropped
    dataset = dataset.prefetch(_PREFETCH_BATCHES)
    return dataset.with_options(_options(input_context))


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
    records = _open(builder, split)
    ops = [_get_parse(builder), pp.get_image(shape.image_size, shape.resize), pp.get_cast(dtype), _target_op(builder)]
    keys = _EVALUATION_KEYS if with_ids else _MODEL_KEYS
    places = tf.data.Dataset.range(len(records))
    if shuffle:
        places = places.shuffle(len(records), seed)  # places, not images: the whole split in little memory
    dataset = _read_singly(places, records, shape.batch_size)
    dataset = dataset.map(_chain(ops, keys, as_tuple=True), num_parallel_calls=_PARALLEL_CALLS, deterministic=True)
    dataset = dataset.batch(shape.batch_size)  # nothing dropped
    dataset = dataset.prefetch(_PREFETCH_BATCHES)
    return dataset.with_options(_options())


def for_files(images: Callable[[], Iterator[bytes]], shape: BatchShape) -> tf.data.Dataset:
    """Batches of loose images.

    Args:
      images: returns an iterator of encoded images that TensorFlow decodes (see tfr.images.prepare_image).
      shape: of the batches.

    Returns:
      A dataset of dicts with `image` uint8 (n, image_size, image_size, 3), in the order of the input.
    """
    ops = [pp.get_image(shape.image_size, shape.resize)]  # as in evaluation
    dataset = tf.data.Dataset.from_generator(images, output_signature=tf.TensorSpec((), tf.string))
    dataset = dataset.map(lambda data: {"image": data})
    dataset = dataset.map(_chain(ops, _MODEL_KEYS), num_parallel_calls=_PARALLEL_CALLS, deterministic=True)
    return dataset.batch(shape.batch_size).prefetch(_PREFETCH_BATCHES).with_options(_options())


# The stages


class _Part(NamedTuple):
    """What a host reads: its number, of how many, rows of each global batch, and examples in one of its batches."""

    host: int
    num_hosts: int
    global_batch_size: int
    batch_size: int

    @property
    def rows(self) -> int:
        """Rows of each global batch that this host reads."""
        return self.global_batch_size // self.num_hosts


def _part(global_batch_size: int, context: tf.distribute.InputContext | None) -> _Part:
    if context is None:
        return _Part(0, 1, global_batch_size, global_batch_size)
    hosts, replicas = context.num_input_pipelines, context.num_replicas_in_sync
    if global_batch_size % hosts or global_batch_size % replicas:
        raise UsageError(
            "--batch_size is the global batch size and must divide by the numbers of hosts and of replicas. Received: "
            f"--batch_size={global_batch_size} with {hosts} hosts and {replicas} replicas."
        )
    return _Part(context.input_pipeline_id, hosts, global_batch_size, global_batch_size // replicas)


def _open(builder: tfds.core.DatasetBuilder, split: Any) -> records_lib.Records:
    if not num_examples(builder, split):
        raise DatasetError(f"{builder.info.full_name}: there is no example in split {split!r}.")
    return records_lib.open_records(builder, split)


def _get_draw(seed: int, num_draws: int, part: _Part) -> Callable[[tf.Tensor], pp.Example]:
    """From a step to the positions in the stream of the host's rows, and their random numbers."""
    rows = slice(part.host * part.rows, (part.host + 1) * part.rows)

    def draw(step: tf.Tensor) -> pp.Example:
        positions = step * part.global_batch_size + tf.range(part.global_batch_size, dtype=tf.int64)
        draws = augmenting.random_rows(seed, step, part.global_batch_size, num_draws)  # the same on every host
        return {"position": positions[rows], "draws": draws[rows]}

    return draw


def _read(dataset: tf.data.Dataset, records: records_lib.Records, order: sampling.Order) -> tf.data.Dataset:
    """Adds `record`, serialized examples, to batches of `position`; in Python, for some microseconds an example."""

    def read(positions: np.ndarray) -> np.ndarray:
        return np.array(records.read(order(positions)), dtype=object)

    def add(batch: pp.Example) -> pp.Example:
        found = tf.numpy_function(read, [batch["position"]], tf.string, stateful=False)
        return {**batch, "record": tf.ensure_shape(found, batch["position"].shape)}

    calls = _PARALLEL_REMOTE_READS if records.is_remote else _PARALLEL_READS
    return dataset.map(add, num_parallel_calls=calls, deterministic=True)


def _singles(batch: pp.Example) -> tf.data.Dataset:
    """The examples of a batch; `unbatch` would copy their bytes once more."""
    return tf.data.Dataset.from_tensor_slices(batch)


def _read_singly(places: tf.data.Dataset, records: records_lib.Records, block: int) -> tf.data.Dataset:
    """Examples with `record` at these places; `block` of them are read in one call."""
    blocks = places.batch(block).map(lambda place: {"position": place})
    dataset = _read(blocks, records, lambda positions: positions).flat_map(_singles)
    return dataset.apply(tf.data.experimental.assert_cardinality(places.cardinality()))


def _get_parse(builder: tfds.core.DatasetBuilder, keys: Iterable[str] = (*_EVALUATION_KEYS, "labels_unknown")) -> pp.Op:
    """`record` to those of its features that are asked for, `image` still encoded; other features are not parsed."""
    wanted = {*keys, dataset_dir.label_key(builder)}
    features = {key: feature for key, feature in builder.info.features.items() if key in wanted}
    decoders = {"image": tfds.decode.SkipDecoding()} if "image" in features else None

    def parse(example: pp.Example) -> pp.Example:
        found = tfds.features.FeaturesDict(features).deserialize_example(example["record"], decoders=decoders)
        if "id" in found and found["id"].dtype != tf.string:
            found["id"] = tf.strings.as_string(found["id"])
        return {**example, **found}

    return parse


def _read_labels(builder: tfds.core.DatasetBuilder, records: records_lib.Records) -> tuple[np.ndarray, np.ndarray]:
    """Which example carries which label: places and label ids, one pair for each. One pass over the records."""
    key = dataset_dir.label_key(builder)
    parse = _get_parse(builder, ())
    dataset = _read_singly(tf.data.Dataset.range(len(records)), records, 256)
    dataset = dataset.map(lambda example: tf.reshape(parse(example)[key], [-1]), num_parallel_calls=_PARALLEL_CALLS)
    dataset = dataset.padded_batch(256, (None,), tf.constant(-1, tf.int64)).with_options(_options())
    places, labels, start = [], [], 0
    for block in progress.count(dataset.as_numpy_iterator(), "reading labels", f"blocks of {256}"):
        rows, columns = np.nonzero(block >= 0)
        places.append(rows + start)
        labels.append(block[rows, columns])
        start += len(block)
    return np.concatenate(places), np.concatenate(labels)


def _target_op(builder: tfds.core.DatasetBuilder) -> pp.Op:
    return pp.get_target(dataset_dir.label_key(builder), len(dataset_dir.label_names(builder)))


def _chain(ops: Sequence[pp.Op], keys: Iterable[str], *, as_tuple: bool = False) -> Callable[[pp.Example], object]:
    """The ops one after the other, then those of the keys that there are: as a dict, or as a tuple in their order."""

    def apply(example: pp.Example) -> object:
        example = functools.reduce(lambda value, op: op(value), ops, example)
        chosen = {key: example[key] for key in keys if key in example}
        return tuple(chosen.values()) if as_tuple else chosen

    return apply


def _options(input_context: tf.distribute.InputContext | None = None) -> tf.data.Options:
    """How tf.data runs a pipeline.

    Sharding: with an input context the hosts share the work by themselves already, so tf.distribute must not do it
    again. Otherwise it divides batches among hosts by their number; by file, hosts without a file would get nothing.
    Threads: the pipeline's own, so that it does not wait behind the ops of the training step; one thread an op, since
    the images are what runs in parallel.
    """
    options = tf.data.Options()
    policies = tf.data.experimental.AutoShardPolicy
    options.experimental_distribute.auto_shard_policy = policies.DATA if input_context is None else policies.OFF
    options.autotune.enabled = False
    options.threading.private_threadpool_size = _PARALLEL_CALLS
    options.threading.max_intra_op_parallelism = 1
    return options
