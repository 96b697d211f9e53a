"""TFRecord files: names, framing, atomic writing, and reading with both checksums verified."""

import hashlib
import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

import google_crc32c
import numpy as np
from etils import epath

from tfr import files
from tfr.errors import DatasetError

# Record: uint64 length, uint32 masked CRC of those 8 bytes, the data, uint32 masked CRC of the data; little-endian.
_HEADER_BYTES, _FOOTER_BYTES = 12, 4
_WINDOW_BYTES = 1 << 20  # read at a time in search of the next record behind a damaged one


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


class ScannedRecord(NamedTuple):
    """A place in a TFRecord file where a record is or should be.

    Attributes:
      number: its place among the records, from 0; from the first damaged length on, a guess.
      offset: where its frame starts, in bytes.
      data: its bytes, both checksums verified; empty where there is a problem.
      footer: the checksum of the data as it stands in the file.
      problem: what is wrong, in words; empty where nothing is.
    """

    number: int
    offset: int
    data: bytes
    footer: bytes
    problem: str = ""


def read_records(path: str) -> Iterator[bytes]:
    """Yields the records of a TFRecord file, both checksums of each verified.

    Raises:
      DatasetError: the file is missing, ends inside a record, or a checksum is wrong; names record and offset.
    """
    for record in scan(path):
        if record.problem:
            raise DatasetError(f"{path}: record {record.number} at byte {record.offset}: {record.problem}.")
        yield record.data


def scan(path: str) -> Iterator[ScannedRecord]:
    """Yields what stands in a TFRecord file, damaged records included; goes on behind damage where it can.

    A record whose data are damaged is followed by the next one; where a length is damaged, the next place is looked
    for that can be a record's start.

    Raises:
      DatasetError: the file is missing.
    """
    try:
        with open(path, "rb") if files.is_local(path) else epath.Path(path).open("rb") as file:
            yield from _scan(file)
    except FileNotFoundError as err:
        raise DatasetError(f"{path}: no such shard. Convert again, or fetch the missing file.") from err


def _scan(file: IO[bytes]) -> Iterator[ScannedRecord]:
    offset = number = 0
    while header := file.read(_HEADER_BYTES):
        if len(header) < _HEADER_BYTES:
            yield ScannedRecord(number, offset, b"", b"", "the file ends inside the record's header")
            return
        length, length_crc = struct.unpack("<QI", header)
        if _masked_crc(header[:8]) != length_crc:
            problem = "the checksum of the length is wrong; not a TFRecord file, or damaged"
            yield ScannedRecord(number, offset, b"", b"", problem)
            found = _find_header(file, offset + 1)
            if found is None:
                return
            offset = found
        else:
            data, footer = file.read(length), file.read(_FOOTER_BYTES)
            if len(footer) < _FOOTER_BYTES:
                yield ScannedRecord(number, offset, b"", b"", "the file ends inside the record")
                return
            if _masked_crc(data) == struct.unpack("<I", footer)[0]:
                yield ScannedRecord(number, offset, data, footer)
            else:
                problem = "the checksum of the data is wrong; the file is damaged"
                yield ScannedRecord(number, offset, b"", footer, problem)
            offset += _HEADER_BYTES + length + _FOOTER_BYTES
        number += 1


def _find_header(file: IO[bytes], start: int) -> int | None:
    """The first place from `start` on where a length and its checksum agree; the file then stands there."""
    while True:
        file.seek(start)
        window = np.frombuffer(file.read(_WINDOW_BYTES), np.uint8)
        if len(window) < _HEADER_BYTES:
            return None
        places = np.lib.stride_tricks.sliding_window_view(window, _HEADER_BYTES)
        # Few places have a length below 4 GiB and are not all zeros; only their checksums are computed.
        for place in np.flatnonzero(places.any(axis=1) & ~places[:, 4:8].any(axis=1)):
            header = places[place].tobytes()
            if _masked_crc(header[:8]) == int.from_bytes(header[8:], "little"):
                file.seek(start + int(place))
                return start + int(place)
        start += len(places)
