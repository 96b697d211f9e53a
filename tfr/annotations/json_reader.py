"""JSON files that hold a list of objects, one an image."""

import json
from collections.abc import Iterator
from typing import Any

from tfr import files
from tfr.annotations.base import Event, LabelSet, ReadOptions, RejectedRow, Source
from tfr.annotations.columns import RowParser, object_values
from tfr.errors import AnnotationError


def read_json(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the objects of a JSON list.

    Shape: `[{"image": "im1.jpg", "annotation": ["sky", "water"]}, ...]` or `[{"image_id": "a.jpg", "label":
    "Cat"}, ...]`; other keys by the flags that name columns. A label value is a list or a string. An entry that is
    no object is rejected, the rest goes on.

    Raises:
      AnnotationError: not JSON (with the line), not a list of objects, or a key that is needed is missing.
    """
    rows = _load_list(path, options.encoding)
    names = list(dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row))
    if not names:
        raise AnnotationError(f"{path}: expected a list of objects such as {{'image': ..., 'annotation': [...]}}.")
    parser = RowParser(names, options, path)
    for number, row in enumerate(rows, 1):
        source = Source(path, number)
        if isinstance(row, dict):
            yield parser.parse(object_values(row, names), source)
        else:
            yield RejectedRow(source, "malformed_row", f"expected an object, got {type(row).__name__}")
    if parser.declared:
        yield LabelSet(parser.declared)


def _load_list(path: str, encoding: str) -> list[Any]:
    with files.open_text(path, encoding) as file:
        try:
            data = json.load(file)
        except ValueError as err:  # JSONDecodeError names line and column; a decoding error the byte
            raise AnnotationError(f"{path}: not valid JSON: {err}.") from err
    if not isinstance(data, list):
        raise AnnotationError(f"{path}: expected a list of objects, got {type(data).__name__}.")
    return data
