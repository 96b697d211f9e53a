"""TFRecord files: names, framing, atomic writing, and reading with both checksums verified."""

import hashlib
import struct
from collections.abc import Iterator
from typing import IO

import google_crc32c
from etils import epath

from tfr import files
from tfr.errors import DatasetError

# Record: uint64 length, uint32 masked CRC of those 8 bytes, the data, uint32 masked CRC of the data; little-endian.
_HEADER_BYTES, _FOOTER_BYTES = 12, 4


def shard_name(dataset: str, split: str, index: int, num_shards: int) -> str:
    """TFDS's default file name, e.g. 'posters-train.tfrecord-00003-of-00008'."""
    return f"{dataset}-{split}.tfrecord-{index:05d}-of-{num_shards:05d}"


def _masked_crc(data: bytes) -> int:
    """CRC-32C, rotated and offset as the TFRecord format has it."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame(record: bytes) -> tuple[bytes, bytes]:
    """What stands before and after a record's bytes in a TFRecord file."""
    length = struct.pack("<Q", len(record))
    return length + struct.pack("<I", _masked_crc(length)), struct.pack("<I", _masked_crc(record))


class ShardWriter:
    """Writes framed records to an open binary file and keeps count.

    Attributes:
      num_records: records written.
      num_bytes: their bytes, without framing (what TFDS calls a split's num_bytes).
    """

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._digest = hashlib.blake2b(digest_size=16)
        self.num_records = 0
        self.num_bytes = 0

    def write(self, record: bytes, header: bytes, footer: bytes) -> None:
        """Appends one record with its frame (see `frame`)."""
        self._file.write(b"".join((header, record, footer)))  # larger than the file's buffer: straight to the disk
        self._digest.update(footer)  # the CRC of every record in order stands for the content
        self.num_records += 1
        self.num_bytes += len(record)

    @property
    def checksum(self) -> str:
        """A hex digest over the checksums of all records in order."""
        return self._digest.hexdigest()

    @property
    def file_bytes(self) -> int:
        """The size of the file when all is written."""
        return self.num_bytes + self.num_records * (_HEADER_BYTES + _FOOTER_BYTES)


def read_records(path: str) -> Iterator[bytes]:
    """Yields the records of a TFRecord file, both checksums of each verified.

    Raises:
      DatasetError: the file is missing, ends inside a record, or a checksum is wrong; names record and offset.
    """
    try:
        with open(path, "rb") if files.is_local(path) else epath.Path(path).open("rb") as file:
            offset = number = 0
            while header := file.read(_HEADER_BYTES):
                where = f"{path}: record {number} at byte {offset}"
                record = _read_record(file, header, where)
                yield record
                offset += _HEADER_BYTES + len(record) + _FOOTER_BYTES
                number += 1
    except FileNotFoundError as err:
        raise DatasetError(f"{path}: no such shard. Convert again, or fetch the missing file.") from err


def _read_record(file: IO[bytes], header: bytes, where: str) -> bytes:
    if len(header) < _HEADER_BYTES:
        raise DatasetError(f"{where}: the file ends inside the record's header.")
    length, length_crc = struct.unpack("<QI", header)
    if _masked_crc(header[:8]) != length_crc:
        raise DatasetError(f"{where}: the checksum of the length is wrong; not a TFRecord file, or damaged.")
    record, footer = file.read(length), file.read(_FOOTER_BYTES)
    if len(footer) < _FOOTER_BYTES:
        raise DatasetError(f"{where}: the file ends inside the record.")
    if _masked_crc(record) != struct.unpack("<I", footer)[0]:
        raise DatasetError(f"{where}: the checksum of the data is wrong; the file is damaged.")
    return record
