"""What TFDS wants to know of a dataset directory: features.json, label names and dataset_info.json, from counts."""

import collections
import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence

import tensorflow_datasets as tfds
from etils import epath

from tfr import files

INFO_FILE = "dataset_info.json"  # written last: a folder without it is no dataset


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """A dataset in TFDS's terms.

    Attributes:
      name, version: its identity.
      features: what a record holds.
      supervised_keys: features that are input and target for `as_supervised=True`.
      text: a description for people.
      file_format: of the shards.
      shards: (split, records, bytes of the records) of every shard, in the order of the shards of a split.
    """

    name: str
    version: str
    features: tfds.features.FeaturesDict
    supervised_keys: tuple[str, str] | None
    text: str
    file_format: str
    shards: Sequence[tuple[str, int, int]]


def write(folder: str, staging: str, description: Description) -> None:
    """Writes the metadata of the shards in a folder; no shard is read.

    Args:
      folder: the dataset directory, a path or a URI.
      staging: a local folder to make files in, where `folder` is local; not removed.
      description: what to say.
    """
    with _staging_folder(folder, staging) as local:
        _tfds_info(description, local).write_to_directory(local)
        for name in sorted(os.listdir(local), key=lambda name: (name == INFO_FILE, name)):
            with open(f"{local}/{name}", "rb") as source, files.atomic_write(f"{folder}/{name}", sync=True) as file:
                shutil.copyfileobj(source, file)


def _tfds_info(description: Description, staging: str) -> tfds.core.DatasetInfo:
    """TFDS's description of the dataset. It does not say where it is, so that a local folder can stand for that."""
    template = tfds.core.ShardedFileTemplate(
        data_dir=epath.Path(staging), dataset_name=description.name, filetype_suffix=description.file_format
    )
    by_split: dict[str, list[tuple[int, int]]] = collections.defaultdict(list)
    for split, num_records, num_bytes in description.shards:
        by_split[split].append((num_records, num_bytes))
    split_infos = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[num_records for num_records, _ in members],
            num_bytes=sum(num_bytes for _, num_bytes in members),
            filename_template=template.replace(split=split),
        )
        for split, members in by_split.items()
    ]
    identity = tfds.core.DatasetIdentity(
        name=description.name, version=tfds.core.Version(description.version), data_dir=staging, module_name=""
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        features=description.features,
        supervised_keys=description.supervised_keys,
        description=description.text,
    )
    info.set_file_format(description.file_format)
    info.set_splits(tfds.core.SplitDict(split_infos))
    return info


@contextlib.contextmanager
def _staging_folder(folder: str, staging: str) -> Iterator[str]:
    if not files.is_local(folder):
        with tempfile.TemporaryDirectory() as temporary:
            yield temporary
        return
    files.make_dirs(staging)
    yield staging
