"""ArrayRecord files, which are read at random places: `tfds.data_source` and Grain want them."""

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Any

from tfr import files
from tfr.errors import DatasetError, MissingDependencyError
from tfr.tfrecord_files import ScannedRecord, frame

# One record a chunk, as TFDS writes them: any record is read without its neighbours. The images in them are compressed
# already, so that a compression by the format itself would cost time and save nothing.
_WRITER_OPTIONS = "group_size:1,uncompressed"
# Ahead of a reader of single records there is nothing to read, and a thread pool for each file would be too many.
_READ_ONE = "readahead_buffer_size:0,max_parallelism:0"
_READ_ALL = "readahead_buffer_size:1M,max_parallelism:1"


def _module() -> Any:
    try:
        from array_record.python import array_record_module
    except ImportError as err:
        raise MissingDependencyError(
            'ArrayRecord files need the package array_record: pip install "tfr[array-record]". It has wheels for Linux '
            "and macOS."
        ) from err
    return array_record_module


class Writer:
    """Appends records to a file."""

    def __init__(self, path: str):
        self._path = path
        with _as_os_error(path):
            self._writer = _module().ArrayRecordWriter(path, _WRITER_OPTIONS)

    def write(self, record: bytes, header: bytes, footer: bytes) -> None:
        """Appends one record. Its TFRecord frame is not used: the format has checksums of its own."""
        del header, footer
        with _as_os_error(self._path):
            self._writer.write(record)

    def close(self) -> None:
        """Writes what is buffered, and the index."""
        with _as_os_error(self._path):
            if self._writer.is_open():
                self._writer.close()


@contextlib.contextmanager
def _as_os_error(path: str) -> Iterator[None]:
    """The library raises RuntimeError for everything, with the system's words in its message."""
    try:
        yield
    except RuntimeError as err:
        known = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO, errno.ENOENT)
        code = next((code for code in known if f": {os.strerror(code)};" in str(err)), None)
        if code is None:
            raise
        raise OSError(code, os.strerror(code), path) from err


def scan(path: str) -> Iterator[ScannedRecord]:
    """Yields the records of an ArrayRecord file, damaged ones included, and goes on behind them."""
    with _local_copy(path) as local:
        try:
            reader = _open(local, path, _READ_ALL)
        except DatasetError as err:
            yield ScannedRecord(0, 0, b"", b"", str(err))
            return
        for number in range(reader.num_records()):
            try:
                record = reader.read()
            except (RuntimeError, IndexError) as err:
                yield ScannedRecord(number, number, b"", b"", _one_line(err))
                reader = _open(local, path, _READ_ALL)  # an error sticks
                reader.seek(number + 1)
            else:
                yield ScannedRecord(number, number, record, frame(record)[1])


def read_at(path: str, number: int, length: int) -> bytes:
    """The record of this number; `length` is what it was when it was listed."""
    with _local_copy(path) as local:
        try:
            (record,) = _open(local, path, _READ_ONE).read([number])
        except (RuntimeError, ValueError, IndexError, DatasetError) as err:
            raise DatasetError(f"{path}: record {number}: {_one_line(err)}") from err
    if len(record) != length:
        raise DatasetError(f"{path}: record {number} has {len(record)} bytes, where {length} were listed.")
    return record


@contextlib.contextmanager
def _local_copy(path: str) -> Iterator[str]:
    """A path that the library can open; what lies in an object store is fetched."""
    if files.is_local(path):
        yield path
        return
    with files.fetch(path) as local:
        yield local


def _open(local: str, path: str, options: str) -> Any:
    """A reader of a whole file; FileNotFoundError with the path as the user knows it."""
    if not os.path.exists(local):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    try:
        reader = _module().ArrayRecordReader(local, options)
        if not reader.ok():  # it would pass for a file of no records; the first read says what is wrong
            reader.read()
    except (RuntimeError, IndexError) as err:
        raise DatasetError(f"not an ArrayRecord file, or damaged: {_one_line(err)}") from err
    return reader


def _one_line(err: Exception) -> str:
    return " ".join(str(err).split())
