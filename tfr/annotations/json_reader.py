"""JSON files that hold a list of objects, one an image, or an object that maps images to labels."""

from collections.abc import Iterator
from typing import Any

from tfr.annotations import text_files
from tfr.annotations.base import Event, ReadOptions, RejectedRow, Source
from tfr.annotations.columns import RowOrReject, read_rows
from tfr.errors import AnnotationError

_SHAPE = 'a list of objects such as {"image": "a.jpg", "labels": ["x"]}, or an object {"a.jpg": ["x"]}'


def read_json(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the objects of a JSON list.

    Shape: `[{"image": "im1.jpg", "annotation": ["sky", "water"]}, ...]` or `[{"image_id": "a.jpg", "label":
    "Cat"}, ...]`; other keys by the flags that name columns. A label value is a list or a string; `[]` is no label,
    `null` is unknown. Also `{"a.jpg": ["x", "y"], "b.jpg": []}`. An entry that is no object is rejected, the rest
    goes on. The whole file is held in memory; JSONL is not.

    Raises:
      AnnotationError: not JSON (with the line), not of this shape, or a key that is needed is missing.
    """
    names, rows = table_rows(path, options)
    yield from read_rows(names, rows, options, path)


def table_rows(path: str, options: ReadOptions) -> tuple[list[str], Iterator[RowOrReject]]:
    """The keys of a JSON file's objects, and their values; see `read_json`."""
    data = text_files.load_json(path, options)
    if isinstance(data, dict) and data and all(isinstance(v, (list, str, type(None))) for v in data.values()):
        data = [{"image": image, "labels": labels} for image, labels in data.items()]
    if not isinstance(data, list):
        raise AnnotationError(f"{path}: expected {_SHAPE}; got {type(data).__name__}.")
    names = list(dict.fromkeys(key for row in data if isinstance(row, dict) for key in row))
    if not names:
        raise AnnotationError(f"{path}: expected {_SHAPE}; there is no object in it.")
    return names, _rows(data, names, path)


def _rows(data: list[Any], names: list[str], path: str) -> Iterator[RowOrReject]:
    for number, row in enumerate(data, 1):
        source = Source(path, number)
        if isinstance(row, dict):
            yield source, [*map(row.get, names)]
        else:
            yield RejectedRow(source, "malformed_row", f"expected an object, got {type(row).__name__}")
