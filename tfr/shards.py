"""Shards, whatever the format of their files: names, atomic writing, and reading with all checksums verified."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from typing import Protocol

from tfr import array_record_files, files, tfrecord_files
from tfr.errors import DatasetError
from tfr.tfrecord_files import ScannedRecord, frame

__all__ = [
    "ScannedRecord", "ShardWriter", "checksum", "create", "frame", "read_at", "read_placed", "read_records", "scan",
    "shard_name",
]  # fmt: skip

_FORMATS = {"tfrecord": tfrecord_files, "array_record": array_record_files}  # by TFDS's names: those of the suffixes


def shard_name(dataset: str, split: str, index: int, num_shards: int, file_format: str = "tfrecord") -> str:
    """TFDS's default file name, e.g. 'posters-train.tfrecord-00003-of-00008'."""
    return f"{dataset}-{split}.{file_format}-{index:05d}-of-{num_shards:05d}"


def _format_of(path: str) -> str:
    """The format that a shard's name tells; TFRecord where it tells none."""
    return next((name for name in _FORMATS if f".{name}-" in os.path.basename(path)), "tfrecord")


class _Writer(Protocol):
    def write(self, record: bytes, header: bytes, footer: bytes) -> None: ...
    def close(self) -> None: ...


class ShardWriter:
    """Writes records and keeps count.

    Attributes:
      num_records: records written.
      num_bytes: their bytes, without framing (what TFDS calls a split's num_bytes).
      file_bytes: the size of the file; 0 until it is closed.
    """

    def __init__(self, writer: _Writer):
        self._writer = writer
        self._digest = hashlib.blake2b(digest_size=16)
        self.num_records = self.num_bytes = self.file_bytes = 0

    def write(self, record: bytes, header: bytes, footer: bytes) -> None:
        """Appends one record; header and footer are its TFRecord frame (see `frame`), whatever the file's format."""
        self._writer.write(record, header, footer)
        self._digest.update(footer)  # the CRC of every record in order stands for the content
        self.num_records += 1
        self.num_bytes += len(record)

    @property
    def checksum(self) -> str:
        """A hex digest over the checksums of all records in order; the same in every format."""
        return self._digest.hexdigest()


@contextlib.contextmanager
def create(path: str) -> Iterator[ShardWriter]:
    """Writes a shard in the format that its name tells; it appears under its name when it is whole and on the disk."""
    with files.atomic_path(path, sync=True) as local:
        writer = _FORMATS[_format_of(path)].Writer(local)
        shard = ShardWriter(writer)
        try:
            yield shard
        finally:
            writer.close()
        shard.file_bytes = os.stat(local).st_size


def scan(path: str) -> Iterator[ScannedRecord]:
    """Yields what stands in a shard, damaged records included; goes on behind damage where it can.

    In a TFRecord file a record whose data are damaged is followed by the next one; where a length is damaged, the next
    place is looked for that can be a record's start.

    Raises:
      DatasetError: the file is missing.
    """
    try:
        yield from _FORMATS[_format_of(path)].scan(path)
    except FileNotFoundError as err:
        raise DatasetError(f"{path}: no such shard. Convert again, or fetch the missing file.") from err


def read_placed(path: str) -> Iterator[tuple[int, bytes]]:
    """Yields (offset, record) of every record of a shard, all checksums verified; `read_at` takes the offsets.

    Raises:
      DatasetError: the file is missing, ends inside a record, or a checksum is wrong; names record and place.
    """
    for record in scan(path):
        if record.problem:
            place = f" at byte {record.offset}" if _format_of(path) == "tfrecord" else ""
            raise DatasetError(f"{path}: record {record.number}{place}: {record.problem}.")
        yield record.offset, record.data


def checksum(path: str) -> str:
    """What the `checksum` of the writer of a shard was.

    In a local TFRecord file the checksums of the records are read without the records, which are not verified then.

    Raises:
      DatasetError: the file is missing or damaged.
    """
    footers = None
    if _format_of(path) == "tfrecord" and files.is_local(path) and files.exists(path):
        footers = tfrecord_files.footers(path)
    digest = hashlib.blake2b(digest_size=16)
    for footer in footers or (frame(record)[1] for record in read_records(path)):
        digest.update(footer)
    return digest.hexdigest()


def read_records(path: str) -> Iterator[bytes]:
    """Yields the records of a shard. Raises as `read_placed` does."""
    return (record for _, record in read_placed(path))


def read_at(path: str, offset: int, length: int) -> bytes:
    """One record of `length` bytes, its checksum verified; the offset is that of `scan`.

    Raises:
      DatasetError: it is damaged.
      FileNotFoundError: there is no such file.
    """
    return _FORMATS[_format_of(path)].read_at(path, offset, length)
