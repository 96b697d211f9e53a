"""JSONL (newline-delimited JSON): one object a line, streamed."""

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

from tfr import files
from tfr.annotations import text_files
from tfr.annotations.base import Event, ReadOptions, RejectedRow, Source
from tfr.annotations.columns import RowOrReject, read_rows
from tfr.errors import AnnotationError

ObjectOrReject = tuple[Source, dict[str, Any]] | RejectedRow

_LINES_FOR_NAMES = 1000  # keys that first occur further down are not seen


def read_jsonl(path: str, options: ReadOptions, *, image_prefix: str = "", split: str | None = None) -> Iterator[Event]:
    """Yields the objects of a JSONL file.

    Shape: a line `{"image": "a.jpg", "labels": ["x", "y"], "split": "train"}`; other keys by the flags that name
    columns; blank lines are skipped. A line that is no object, or that cannot be decoded, is rejected, the rest goes
    on. The columns are the keys of the first 1,000 lines.

    Args:
      path: the file.
      options: which keys to use, the encoding.
      image_prefix, split: see `columns.read_rows`.

    Raises:
      AnnotationError: there is no object in the first lines, or a key that is needed is missing.
    """
    rows = json_lines(path, options)
    names, head = read_names(path, rows)
    values = named_values(itertools.chain(head, rows), names)
    yield from read_rows(names, values, options, path, image_prefix=image_prefix, split=split)


def read_names(path: str, rows: Iterator[ObjectOrReject]) -> tuple[list[str], list[ObjectOrReject]]:
    """The keys of the first lines' objects, and these lines.

    Raises:
      AnnotationError: there is no object in them.
    """
    head = list(itertools.islice(rows, _LINES_FOR_NAMES))
    objects = [row[1] for row in head if not isinstance(row, RejectedRow)]
    names = list(dict.fromkeys(key for row in objects for key in row))
    if not names:
        rejected = next((f" {row.source}: {row.detail}." for row in head if isinstance(row, RejectedRow)), "")
        raise AnnotationError(f"{path}: no JSON object in the first {_LINES_FOR_NAMES} lines.{rejected}")
    return names, head


def named_values(rows: Iterable[ObjectOrReject], names: list[str]) -> Iterator[RowOrReject]:
    """The values of objects in the order of the names; null where an object has none."""
    for row in rows:
        if type(row) is RejectedRow:
            yield row
        else:
            source, values = row  # type: ignore[misc]
            yield source, [*map(values.get, names)]


def json_lines(path: str, options: ReadOptions) -> Iterator[ObjectOrReject]:
    """The objects of a JSONL file, and rejects for lines that are none."""
    encoding = text_files.encoding_of(path, options)
    if encoding == "utf-16":
        raise AnnotationError(f"{path}: JSONL in UTF-16 is not read. Convert it to UTF-8 first.")
    with files.open_binary(path) as file:
        yield from parse_lines(file, path, encoding)


def parse_lines(lines: Iterable[bytes], path: str, encoding: str) -> Iterator[ObjectOrReject]:
    """The same of lines of bytes, so that one that cannot be decoded does not take the next ones with it."""
    scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # json.loads spends a third of its time around this
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode(encoding).strip()
            value, end = scan(text, 0)
            if end != len(text) or "\\u" in text:
                value = text_files.parse_json(text)
        except StopIteration:  # what the scanner raises where no value starts
            if text:
                yield RejectedRow(Source(path, number), "malformed_row", f"not JSON: {text[:60]!r}")
            continue
        except (ValueError, RecursionError) as err:
            if line.strip():
                yield RejectedRow(Source(path, number), "malformed_row", _why(err, line))
            continue
        if type(value) is dict:
            yield Source(path, number), value
        else:
            detail = f"expected an object, got {type(value).__name__}"
            yield RejectedRow(Source(path, number), "malformed_row", detail)


def _why(err: Exception, line: bytes) -> str:
    if isinstance(err, json.JSONDecodeError):
        return f"not JSON: {err.msg} at column {err.colno} of {line[:60]!r}"
    if isinstance(err, UnicodeDecodeError):
        return f"byte {err.object[err.start]:#04x} is not {err.encoding}"
    return f"not usable JSON: {err}"
