"""Shards of embeddings: images through a backbone, records rewritten with what it says of them."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import tensorflow as tf
from tensorflow_datasets.proto import tf_example_pb2

from tfr import progress, shards
from tfr.errors import DatasetError

from .. import augmentation, input_pipeline
from .. import preprocessing as pp
from .directory import EmbeddingDir
from .plan import FEATURE, VIEWS_FEATURE, Recipe, Report, Shard

_HASHES = 1 << 62
Forward = Callable[[tf.Tensor], tf.Tensor]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all shards have in common; small and picklable.

    Attributes:
      target: where they go.
      recipe: what they are made by.
      dataset_dir: the dataset directory that they are made of.
      batch_size: images per step.
    """

    target: EmbeddingDir
    recipe: Recipe
    dataset_dir: str
    batch_size: int


def write_shards(settings: Settings, forward: Forward, todo: Sequence[Shard], *, show: bool = True) -> None:
    """Embeds shards, one after the other but in one stream: batches reach over from each to the next.

    A shard appears under its name, and then its report, when it is complete.

    Args:
      settings: what and where.
      forward: uint8 (n, image_size, image_size, 3) to float32 (n, embedding_size), see forward.compile_forward.
      todo: the shards.
      show: whether to show progress.

    Raises:
      DatasetError: the dataset is not what it was when the shards were planned, or numbers are too large.
    """
    records = _embedded_records(settings, forward, todo)
    total = sum(shard.num_records for shard in todo)
    with progress.bar(total, "embedding", "images") if show else contextlib.nullcontext() as bar:
        for shard in todo:
            with shards.create(f"{settings.target.path}/{shard.file}") as writer:
                for record in itertools.islice(records, shard.num_records):
                    writer.write(record, *shards.frame(record))
                    if bar is not None:
                        bar.update()
            report = Report(
                **dataclasses.asdict(shard),
                num_bytes=writer.num_bytes,
                file_bytes=writer.file_bytes,
                checksum=writer.checksum,
            )
            settings.target.write_report(report)


def _embedded_records(settings: Settings, forward: Forward, todo: Sequence[Shard]) -> Iterator[bytes]:
    """The records of all shards, end to end, with embeddings instead of images."""
    if not any(shard.num_records for shard in todo):
        return
    recipe = settings.recipe
    images_each = 1 + recipe.num_views
    shape = input_pipeline.BatchShape(recipe.image_size, max(1, settings.batch_size // images_each), recipe.resize)
    builder = input_pipeline.open_dataset(settings.dataset_dir)
    batches = input_pipeline.for_evaluation(
        builder, _read_instruction(todo), shape, image_op=_get_images(recipe), keys=("image", "record")
    )
    pixels = (-1, recipe.image_size, recipe.image_size, 3)
    outputs = ((batch["record"], forward(tf.reshape(batch["image"], pixels))) for batch in batches)
    for encoded, output in _one_ahead(outputs):
        embeddings = _cast(output.numpy(), recipe).reshape(-1, images_each, recipe.embedding_size)
        yield from map(_rewrite, encoded.numpy(), embeddings)


def _one_ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, each when the next is there: a GPU works on a batch while the one before is written."""
    iterator = iter(items)
    for item in iterator:
        for following in iterator:
            yield item
            item = following
        yield item


def _read_instruction(todo: Sequence[Shard]) -> str:
    """These shards in TFDS's words, neighbours as one slice, such as 'train[0shard:3shard]+test[1shard:2shard]'."""
    parts = []
    for split, members in itertools.groupby(todo, lambda shard: shard.split):
        indices = [shard.index for shard in members if shard.num_records]
        for _, run in itertools.groupby(enumerate(indices), lambda pair: pair[1] - pair[0]):
            found = [index for _, index in run]
            parts.append(f"{split}[{found[0]}shard:{found[-1] + 1}shard]")
    return "+".join(parts)


def _get_images(recipe: Recipe) -> pp.Op:
    """Encoded `image` to uint8 (1 + num_views, image_size, image_size, 3): plain, and augmented.

    The augmentation depends on the seed, the image's bytes and the number of the view alone: not on the order, the
    shard or the machine.
    """
    plain = pp.get_image(recipe.image_size, recipe.resize)
    augmented = augmentation.make_augmentation(recipe.augment or "", recipe.image_size, recipe.resize)

    def apply(example: pp.Example) -> pp.Example:
        images = [plain(example)["image"]]
        if recipe.num_views:
            key = tf.strings.to_hash_bucket_fast(example["image"], _HASHES)
            draws = augmentation.random_rows(recipe.seed or 0, key, recipe.num_views, augmented.num_draws)
            for row in range(recipe.num_views):
                view = functools.reduce(
                    lambda value, op: op(value), augmented.image_ops, {**example, "draws": draws[row]}
                )
                images.append(view["image"])
        return {**example, "image": tf.stack(images)}

    return apply


def _cast(values: np.ndarray, recipe: Recipe) -> np.ndarray:
    with np.errstate(over="ignore"):
        cast = values.astype(recipe.dtype)
    if not np.isfinite(cast).all():
        largest = np.abs(values).max()
        raise DatasetError(
            f"An embedding of {recipe.backbone} does not fit {recipe.dtype} (largest number: {largest:g}). "
            "--dtype=float32 holds what is finite; images and weights that give anything else are damaged."
        )
    return cast


def _rewrite(record: bytes, embeddings: np.ndarray) -> bytes:
    """A record with embeddings, (1 + num_views, embedding_size), instead of its image."""
    example = tf_example_pb2.Example.FromString(record)
    feature = example.features.feature
    del feature["image"]
    feature[FEATURE].bytes_list.value.append(embeddings[0].tobytes())
    if len(embeddings) > 1:
        feature[VIEWS_FEATURE].bytes_list.value.append(embeddings[1:].tobytes())
    return example.SerializeToString(deterministic=True)
