"""Predictions written as they come: text, JSONL, CSV, Parquet, NPZ; to files, URIs and standard output."""

import contextlib
import csv
import io
import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Protocol

import numpy as np

from tfr import files
from tfr.errors import UsageError

from .rows import DELIMITER, FORMATS, OutputOptions, printable, row, shortened, text
from .tags import Prediction

__all__ = ["FORMATS", "OutputOptions", "Writer", "choose_format", "open_writer", "text", "write"]

_EXTENSIONS = {
    ".txt": "text", ".json": "jsonl", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet",
    ".npz": "npz",
}  # fmt: skip
_FILES_ONLY = ("parquet", "npz")
_ROW_GROUP = 1024  # rows of a Parquet file that are kept in memory


class Writer(Protocol):
    """Takes predictions one by one."""

    def write(self, prediction: Prediction) -> None:
        """Writes one, or keeps it until there are enough of them."""

    def close(self) -> None:
        """Writes what is left."""


def choose_format(format: str | None, output: str | None) -> str:
    """The format that is asked for, else the one that the file's name says, else text.

    Raises:
      UsageError: the name says none, or the format needs a file.
    """
    if format is None and output is not None and _extension(output) not in _EXTENSIONS:
        known = ", ".join(_EXTENSIONS)
        raise UsageError(f"--output={output} does not say in which format. End it in {known}, or give --format.")
    chosen = format or (_EXTENSIONS[_extension(output)] if output else "text")
    if chosen not in FORMATS:
        raise UsageError(f"--format must be one of {', '.join(FORMATS)}. Received: --format={chosen}")
    if chosen in _FILES_ONLY and output is None:
        raise UsageError(f"--format={chosen} needs --output=FILE.")
    return chosen


def _extension(path: str) -> str:
    return os.path.splitext(path)[1].lower()


@contextlib.contextmanager
def open_writer(output: str | None, options: OutputOptions) -> Iterator[Writer]:
    """A writer to a file or URI, which appears when the block ends and not if it raises; None: standard output."""
    if output is None:
        yield _WRITERS[options.format](_StandardOutput(), options)
        return
    with files.atomic_write(output) as file:
        writer = _WRITERS[options.format](file, options)
        try:
            yield writer
        except BaseException:
            with contextlib.suppress(Exception):
                writer.close()  # Parquet's insists, later otherwise
            raise
        writer.close()


def write(predictions: Iterable[Prediction], output: str, options: OutputOptions) -> None:
    """Writes predictions to a file or URI, which appears when it is complete."""
    with open_writer(output, options) as writer:
        for prediction in predictions:
            writer.write(prediction)


class _StandardOutput(io.RawIOBase):
    """Bytes to standard output, each write at once: somebody may wait for it."""

    def write(self, data: Any) -> int:
        sys.stdout.write(bytes(data).decode("utf-8"))
        sys.stdout.flush()
        return len(data)


class _LinesWriter:
    """A line or more for each prediction."""

    def __init__(self, file: IO[bytes] | io.RawIOBase, options: OutputOptions):
        self._file, self._options = file, options

    def write(self, prediction: Prediction) -> None:
        self._file.write(f"{self._line(prediction)}\n".encode())

    def _line(self, prediction: Prediction) -> str:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is left."""


class _TextWriter(_LinesWriter):
    """Tags for people; images that could not be used are left to whoever names them."""

    def write(self, prediction: Prediction) -> None:
        if prediction.error is None:
            super().write(prediction)

    def _line(self, prediction: Prediction) -> str:
        return text(prediction, self._options.rule)


class _JsonWriter(_LinesWriter):
    """{"image": ..., "tags": {label: probability, ...}, "labels": {...}, ..., "error": null}."""

    def _line(self, prediction: Prediction) -> str:
        values = row(prediction, self._options)
        values["tags"] = dict(zip(values["tags"], values.pop("probabilities"), strict=True))
        columns = self._options.label_columns
        if columns:
            labels = dict(zip(self._options.rule.labels, [values.pop(name) for name in columns], strict=True))
            values["labels"] = labels if prediction.error is None else {}
        values["error"] = values.pop("error")  # to the end
        return json.dumps(shortened(values), ensure_ascii=False)


class _CsvWriter(_LinesWriter):
    """A row an image. Lists are text around a bar, so that `tfr convert --label_delimiter='|'` reads the tags."""

    def __init__(self, file: IO[bytes] | io.RawIOBase, options: OutputOptions):
        super().__init__(file, options)
        file.write(f"{_csv_line(options.columns)}\n".encode())

    def _line(self, prediction: Prediction) -> str:
        values = shortened(list(row(prediction, self._options).values()))
        return _csv_line([DELIMITER.join(map(str, cell)) if isinstance(cell, list) else cell for cell in values])


def _csv_line(cells: list[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)  # cells with one of these signs are quoted
    return buffer.getvalue().removesuffix("\r\n")


class _ParquetWriter:
    """A row an image: lists are lists, labels columns of float32 or int8."""

    def __init__(self, file: IO[bytes] | io.RawIOBase, options: OutputOptions):
        import pyarrow as pa
        import pyarrow.parquet

        strings, floats = pa.list_(pa.string()), pa.list_(pa.float32())
        kinds = {"image": pa.string(), "error": pa.string(), "tags": strings, "probabilities": floats}
        kinds |= {"targets": strings, "targets_unknown": strings, "embedding": floats}
        kinds |= dict.fromkeys(options.label_columns, pa.int8() if options.all_labels == "binary" else pa.float32())
        self._schema = pa.schema([pa.field(name, kinds[name]) for name in options.columns])
        self._parquet = pyarrow.parquet.ParquetWriter(file, self._schema)
        self._options = options
        self._rows: list[dict[str, Any]] = []

    def write(self, prediction: Prediction) -> None:
        self._rows.append(row(prediction, self._options))
        if len(self._rows) == _ROW_GROUP:
            self._write_rows()

    def _write_rows(self) -> None:
        import pyarrow as pa

        self._parquet.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []

    def close(self) -> None:
        if self._rows:
            self._write_rows()
        self._parquet.close()


class _NpzWriter:
    """Arrays: images, probabilities (n, num_labels), labels, and targets and embeddings if there are any, of the images
    that could be used; bad_images and errors of the others. Numbers wait on disk, names in memory.
    """

    def __init__(self, file: IO[bytes] | io.RawIOBase, options: OutputOptions):
        self._file, self._options = file, options
        wanted = {"probabilities": True, "targets": options.targets, "embeddings": options.embeddings}
        self._arrays = {name: _GrowingArray() for name in wanted if wanted[name]}
        self._images: list[str] = []
        self._bad: list[tuple[str, str]] = []

    def write(self, prediction: Prediction) -> None:
        if prediction.error is not None:
            self._bad.append((printable(prediction.image), printable(prediction.error)))
            return
        self._images.append(printable(prediction.image))
        of = {"targets": prediction.target, "embeddings": prediction.embedding}
        for name, array in self._arrays.items():
            array.append(of.get(name, prediction.probabilities))

    def close(self) -> None:
        texts = {"images": self._images, "labels": self._options.rule.labels}
        texts |= {"bad_images": [name for name, _ in self._bad], "errors": [error for _, error in self._bad]}
        with zipfile.ZipFile(self._file, "w") as archive:
            for name, values in texts.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.array(values, dtype=np.str_))
            for name, array in self._arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    array.save(member)


class _GrowingArray:
    """Rows of float32 on disk, whose number is known at the end."""

    def __init__(self) -> None:
        self._rows, self._shape = tempfile.TemporaryFile(prefix="tfr-npz-"), (0, 0)  # noqa: SIM115 - save closes it

    def append(self, values: np.ndarray | None) -> None:
        assert values is not None
        self._rows.write(values.astype("<f4").tobytes())
        self._shape = (self._shape[0] + 1, len(values))

    def save(self, file: IO[bytes]) -> None:
        """Writes an .npy file."""
        header = {"descr": "<f4", "fortran_order": False, "shape": self._shape}
        np.lib.format.write_array_header_1_0(file, header)
        self._rows.seek(0)
        with self._rows:
            shutil.copyfileobj(self._rows, file, 1 << 20)


_WRITERS: dict[str, Callable[[IO[bytes] | io.RawIOBase, OutputOptions], Writer]] = {
    "text": _TextWriter,
    "jsonl": _JsonWriter,
    "csv": _CsvWriter,
    "parquet": _ParquetWriter,
    "npz": _NpzWriter,
}
