"""TFRecord files: framing, writing, and reading with both checksums of each record verified."""

import os
import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

import google_crc32c
import numpy as np

from tfr import files
from tfr.errors import DatasetError

# Record: uint64 length, uint32 masked CRC of those 8 bytes, the data, uint32 masked CRC of the data; little-endian.
HEADER_BYTES, FOOTER_BYTES = 12, 4
_GATHERED_BYTES = 1 << 20  # of records that are written by one call
_MAX_BUFFERS = 510  # that one call takes; systems allow 1024 or more, and a record has three
_FLUSH_BYTES = 8 << 20  # the disk is told to begin after so many, so that there is little to wait for at the end
_WINDOW_BYTES = 1 << 20  # read at a time in search of the next record behind a damaged one


def masked_crc(data: bytes) -> int:
    """CRC-32C, rotated and offset as the TFRecord format has it."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame(record: bytes) -> tuple[bytes, bytes]:
    """What stands before and after a record's bytes in a TFRecord file."""
    length = struct.pack("<Q", len(record))
    return length + struct.pack("<I", masked_crc(length)), struct.pack("<I", masked_crc(record))


class Writer:
    """Appends framed records to a file."""

    def __init__(self, path: str):
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115, closed by `close`
        self._pending: list[bytes] = []
        self._pending_bytes = self._written = 0
        self._begun = 0  # bytes that the disk has been told of

    def write(self, record: bytes, header: bytes, footer: bytes) -> None:
        """Appends one record with its frame.

        Many records go to the system at once and uncopied: each call gives up the interpreter's lock, which a thread
        that decodes images then takes for a while.
        """
        self._pending += (header, record, footer)
        self._pending_bytes += HEADER_BYTES + len(record) + FOOTER_BYTES
        if self._pending_bytes >= _GATHERED_BYTES or len(self._pending) >= _MAX_BUFFERS:
            self._write_pending()

    def _write_pending(self) -> None:
        buffers, self._pending = self._pending, []
        self._written, self._pending_bytes = self._written + self._pending_bytes, 0
        _write_all(self._file.fileno(), buffers)
        if self._written - self._begun > _FLUSH_BYTES:
            self._begin_writing()

    def _begin_writing(self) -> None:
        """Has the system write what it holds of the file, without waiting for it."""
        begun, self._begun = self._begun, self._written
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), begun, self._begun - begun, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Writes what is left, and closes the file."""
        with self._file:
            if self._pending:
                self._write_pending()


def _write_all(descriptor: int, buffers: list[bytes]) -> None:
    """Writes buffers one after the other; by one call, unless the system takes less at once."""
    left = sum(map(len, buffers)) - os.writev(descriptor, buffers)
    while left:
        left -= os.write(descriptor, b"".join(buffers)[-left:])


class ScannedRecord(NamedTuple):
    """A place in a shard where a record is or should be.

    Attributes:
      number: its place among the records, from 0; from the first damaged length on, a guess.
      offset: where it is for `read_at`: the byte where its frame starts, or its number in an ArrayRecord file.
      data: its bytes, both checksums verified; empty where there is a problem.
      footer: the masked CRC-32C of the data; in a TFRecord file, as it stands there.
      problem: what is wrong, in words; empty where nothing is.
    """

    number: int
    offset: int
    data: bytes
    footer: bytes
    problem: str = ""


def scan(path: str) -> Iterator[ScannedRecord]:
    """Yields what stands in a TFRecord file, damaged records included; goes on behind damage where it can."""
    with files.open_binary(path) as file:
        yield from _scan(file)


def _scan(file: IO[bytes]) -> Iterator[ScannedRecord]:
    offset = number = 0
    while header := file.read(HEADER_BYTES):
        if len(header) < HEADER_BYTES:
            yield ScannedRecord(number, offset, b"", b"", "the file ends inside the record's header")
            return
        length, length_crc = struct.unpack("<QI", header)
        if masked_crc(header[:8]) != length_crc:
            problem = "the checksum of the length is wrong; not a TFRecord file, or damaged"
            yield ScannedRecord(number, offset, b"", b"", problem)
            found = _find_header(file, offset + 1)
            if found is None:
                return
            offset = found
        else:
            data, footer = file.read(length), file.read(FOOTER_BYTES)
            if len(footer) < FOOTER_BYTES:
                yield ScannedRecord(number, offset, b"", b"", "the file ends inside the record")
                return
            if masked_crc(data) == struct.unpack("<I", footer)[0]:
                yield ScannedRecord(number, offset, data, footer)
            else:
                problem = "the checksum of the data is wrong; the file is damaged"
                yield ScannedRecord(number, offset, b"", footer, problem)
            offset += HEADER_BYTES + length + FOOTER_BYTES
        number += 1


def _find_header(file: IO[bytes], start: int) -> int | None:
    """The first place from `start` on where a length and its checksum agree; the file then stands there."""
    while True:
        file.seek(start)
        window = np.frombuffer(file.read(_WINDOW_BYTES), np.uint8)
        if len(window) < HEADER_BYTES:
            return None
        places = np.lib.stride_tricks.sliding_window_view(window, HEADER_BYTES)
        # Few places have a length below 4 GiB and are not all zeros; only their checksums are computed.
        for place in np.flatnonzero(places.any(axis=1) & ~places[:, 4:8].any(axis=1)):
            header = places[place].tobytes()
            if masked_crc(header[:8]) == int.from_bytes(header[8:], "little"):
                file.seek(start + int(place))
                return start + int(place)
        start += len(places)


def read_at(path: str, offset: int, length: int) -> bytes:
    """The record of `length` bytes whose frame starts at `offset`, its checksum verified."""
    with files.open_binary(path) as file:
        return read_from(file, path, offset, length)


def read_from(file: IO[bytes], path: str, offset: int, length: int) -> bytes:
    """The same from a file that is open already; `path` is for the message."""
    file.seek(offset + HEADER_BYTES)
    record, footer = file.read(length), file.read(FOOTER_BYTES)  # one read and a slice would copy the record
    if footer != struct.pack("<I", masked_crc(record)):
        raise DatasetError(f"{path}: record at byte {offset}: the checksum of the data is wrong; the file is damaged.")
    return record


def frame_offsets(path: str) -> np.ndarray | None:
    """Where the frames of all records are, found by the lengths alone, without reading any data.

    Returns:
      int64 (num_records + 1,): where each frame starts, in bytes, and where the last one ends; None where the lengths
      do not lead to the file's end, because it is damaged: `scan` says where.
    """
    with files.open_binary(path) as file:
        size, offsets = file.seek(0, os.SEEK_END), [0]
        while offsets[-1] < size:
            file.seek(offsets[-1])
            header = file.read(HEADER_BYTES)
            if len(header) < HEADER_BYTES or masked_crc(header[:8]) != int.from_bytes(header[8:], "little"):
                return None
            offsets.append(offsets[-1] + HEADER_BYTES + int.from_bytes(header[:8], "little") + FOOTER_BYTES)
    return np.array(offsets, dtype=np.int64) if offsets[-1] == size else None


def footers(path: str) -> list[bytes] | None:
    """The masked CRC-32C of every record as it stands in the file, read alone; None where the file is damaged."""
    offsets = frame_offsets(path)
    if offsets is None:
        return None
    with files.open_binary(path) as file:
        return [_read_footer(file, end) for end in offsets[1:].tolist()]


def _read_footer(file: IO[bytes], end: int) -> bytes:
    file.seek(end - FOOTER_BYTES)
    return file.read(FOOTER_BYTES)
