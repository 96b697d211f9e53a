"""What a shard of a new version takes over from the version that it is appended to. Runs on Beam workers."""

import errno
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from typing import Any, NamedTuple

from tensorflow_datasets.proto import tf_example_pb2

from tfr import features, files, record_images, shards


class OldShard(NamedTuple):
    """A shard of the old version as its manifest has it; `rows` is the `RowsDigest` of its records."""

    file: str
    num_records: int
    num_bytes: int
    file_bytes: int
    checksum: str
    rows: str


class RowsDigest:
    """A digest of all that rows put into records beside images; equal digests mean equal records, image by image."""

    def __init__(self, schema: features.RecordSchema):
        shape = [schema.multi_label, schema.has_unknown, list(schema.columns)]
        self._hash = hashlib.blake2b(json.dumps(shape).encode(), digest_size=16)

    def add(self, row: dict[str, Any]) -> None:
        """Counts one row that became a record."""
        values = row["id"], row["labels"], row["unknown"], sorted(row["columns"].items())
        self._hash.update(repr(values).encode())  # a third of the time of JSON

    def hexdigest(self) -> str:
        """The digest of the rows so far."""
        return self._hash.hexdigest()


def is_old(path: str, folder: str) -> bool:
    """Whether an image's path is a record of the dataset directory that is appended to ('': of none)."""
    return bool(folder) and path.startswith(f"{files.RECORD_SCHEME}{folder}/")


def serialize(row: dict[str, Any], schema: features.RecordSchema) -> bytes:
    """The new record of an old one: image and fingerprint as they are, everything else from the row."""
    old = tf_example_pb2.Example.FromString(shards.read_at(*record_images.split_uri(row["path"]))).features.feature
    image = old["image"].bytes_list.value[0]
    fingerprint = old["fingerprint"].int64_list.value[0] if schema.has_fingerprint else None
    return schema.serialize(row["id"], image, row["labels"], row["unknown"], fingerprint, row["columns"])


def find_whole(rows: Iterable[dict[str, Any]], schema: features.RecordSchema, folder: str) -> OldShard | None:
    """The old shard that holds exactly the records of these rows, in their order; None where there is none.

    Args:
      rows: the rows of a new shard.
      schema: the new version's.
      folder: the dataset directory that is appended to, a local one; '' for none.
    """
    if not folder or not files.is_local(folder):
        return None
    digest, found, place, num_rows = RowsDigest(schema), set(), -1, 0
    for row in rows:
        if not is_old(row["path"], folder):
            return None
        path, offset, _ = record_images.split_uri(row["path"])
        found.add(path)
        if len(found) > 1 or offset <= place:
            return None
        digest.add(row)
        place, num_rows = offset, num_rows + 1
    shard = (
        _old_shards(folder, os.stat(f"{folder}/conversion.json").st_mtime_ns).get(os.path.basename(found.pop()))
        if found
        else None
    )
    same = shard is not None and shard.num_records == num_rows and shard.rows == digest.hexdigest()
    return shard if same else None


@functools.lru_cache(maxsize=1)
def _old_shards(folder: str, changed_ns: int) -> dict[str, OldShard]:
    del changed_ns  # tells apart what the cache holds
    with files.open_text(f"{folder}/conversion.json") as file:
        entries = json.load(file)["shards"]
    return {
        entry["file"]: OldShard(
            entry["file"], entry["records"], entry["record_bytes"], entry["bytes"], entry["checksum"], entry["rows"]
        )
        for entry in entries
        if "rows" in entry  # not in those of the first tfr versions
    }


def link(source: str, target: str) -> None:
    """Gives a file a second name; copies it where the file system has no such thing."""
    with files.atomic_path(target, sync=True) as temporary:
        try:
            os.link(source, temporary)
        except OSError as err:
            if err.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS):
                raise
            shutil.copyfile(source, temporary)
