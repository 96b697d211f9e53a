"""What embeddings are made by and of: the recipe, the shards of a dataset, and the features of the records."""

import collections
import dataclasses
import hashlib
import os
from typing import TYPE_CHECKING

import numpy as np
import tensorflow_datasets as tfds

from tfr import dataset_dir, files, shard_jobs, shards

if TYPE_CHECKING:
    import keras

FEATURE, VIEWS_FEATURE = "embedding", "embedding_views"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What embeddings depend on beside the images.

    Attributes:
      backbone: its name in BACKBONES.
      weights: a digest of the values of its weights.
      image_size, resize: how images become its input, see DataConfig.
      features: what of it is taken, see ModelConfig.
      preprocessing: preprocessing.VERSION.
      embedding_size: numbers in an embedding.
      dtype: of the numbers.
      num_views: augmented views beside the plain one.
      augment, seed: what makes the views; None where there are none.
    """

    backbone: str
    weights: str
    image_size: int
    features: str
    resize: str
    preprocessing: int
    embedding_size: int
    dtype: str
    num_views: int = 0
    augment: str | None = None
    seed: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """A shard to write.

    Attributes:
      split, index: its place, the same in the dataset and here.
      file: its name.
      source: checksum of the dataset's records that it is made of.
      num_records: how many those are.
    """

    split: str
    index: int
    file: str
    source: str
    num_records: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report(Shard):
    """A shard that is written.

    Attributes:
      num_bytes: bytes of its records.
      file_bytes: size of the file.
      checksum: of its records.
    """

    num_bytes: int
    file_bytes: int
    checksum: str


def plan(builder: tfds.core.DatasetBuilder, name: str) -> list[Shard]:
    """The shards of the embeddings of a dataset, by name of the dataset that they will be.

    Raises:
      DatasetError: a shard of the dataset is missing or damaged.
    """
    found = shard_jobs.shards_of(builder)
    sums = _known_checksums(os.fspath(builder.data_path))
    counts = collections.Counter(shard.split for shard in found)
    indices: collections.Counter[str] = collections.Counter()
    planned = []
    for shard in found:
        index = indices[shard.split]
        indices[shard.split] += 1
        known, size = sums.get(shard.file, ("", None))
        same = size is not None and files.size(shard.path) == size
        planned.append(
            Shard(
                split=shard.split,
                index=index,
                file=shards.shard_name(name, shard.split, index, counts[shard.split]),
                source=known if same else shards.checksum(shard.path),
                num_records=shard.num_records,
            )
        )
    return planned


def _known_checksums(folder: str) -> dict[str, tuple[str, int]]:
    """File to checksum and size, of a dataset that `tfr convert` made; of others they are worked out."""
    entries = dataset_dir.read_conversion(folder).get("shards", [])
    return {entry["file"]: (entry["checksum"], entry["bytes"]) for entry in entries}


def features_of(builder: tfds.core.DatasetBuilder, recipe: Recipe) -> tfds.features.FeaturesDict:
    """The dataset's features with embeddings instead of `image`: raw bytes, since TFDS's lists have no float16."""

    def tensor(*shape: int) -> tfds.features.Tensor:
        return tfds.features.Tensor(shape=shape, dtype=np.dtype(recipe.dtype), encoding=tfds.features.Encoding.BYTES)

    kept = {key: feature for key, feature in builder.info.features.items() if key != "image"}
    found = {**kept, FEATURE: tensor(recipe.embedding_size)}
    if recipe.num_views:
        found[VIEWS_FEATURE] = tensor(recipe.num_views, recipe.embedding_size)
    return tfds.features.FeaturesDict(found)


def weights_digest(model: "keras.Model") -> str:
    """A hex digest of the values of a model's weights."""
    digest = hashlib.blake2b(digest_size=16)
    for value in model.get_weights():
        digest.update(f"{value.dtype} {value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
