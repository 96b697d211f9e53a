"""Single cells: text, 0/1 flags, and lists of labels in the ways people write them."""

import ast
import json
from collections.abc import Callable, Sequence
from typing import Any

from tfr.annotations.base import Source
from tfr.errors import AnnotationError

LabelCells = tuple[tuple[str, ...], tuple[str, ...]]  # (present, unknown)
LabelParser = Callable[[Sequence[Any], Source], LabelCells]

_PRESENT = frozenset({"1", "1.0", "true"})
_ABSENT = frozenset({"0", "0.0", "false"})
_UNKNOWN = frozenset({"", "nan", "null", "none"})


def text(value: Any) -> str:
    """A cell as trimmed text; null and NaN are empty, whole floats lose their '.0'."""
    if type(value) is str:
        return value.strip()
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def is_binary(value: Any) -> bool:
    """Whether a cell reads as present, absent or unknown in a one-hot column."""
    lower = text(value).lower()
    return lower in _PRESENT or lower in _ABSENT or lower in _UNKNOWN


def one_hot_parser(indices: Sequence[int], names: Sequence[str], file: str) -> LabelParser:
    """A parser of 0/1 columns, one a label: 1 is present, 0 is absent, an empty cell is unknown."""
    pairs = list(zip(indices, names, strict=True))

    def parse(values: Sequence[Any], source: Source) -> LabelCells:
        present, unknown = [], []
        for index, name in pairs:
            value = values[index]
            if value == "0" or value == 0:
                continue
            lower = text(value).lower()
            if lower in _PRESENT:
                present.append(name)
            elif lower in _UNKNOWN:
                unknown.append(name)
            elif lower not in _ABSENT:
                raise AnnotationError(
                    f"{file}:{source.row}: column {name!r} holds {text(value)!r}, but a one-hot label column holds "
                    "0, 1 or nothing (unknown). Mend the cell, leave the column out of --label_columns, or give "
                    "--label_encoding=text."
                )
        return tuple(present), tuple(unknown)

    return parse


def split_labels(value: Any, delimiter: str | None = None) -> list[str]:
    """The labels in one cell: a list, a list literal (JSON or Python), text around a delimiter, or one label.

    Raises:
      ValueError: the cell starts like a list literal and is none.
    """
    if isinstance(value, (list, tuple)):
        return [label for label in (text(item) for item in value) if label]
    cell = text(value)
    if cell.startswith("[") and cell.endswith("]"):
        return split_labels(_list_literal(cell))
    parts = cell.split(delimiter) if delimiter else [cell]
    return [part for part in (part.strip() for part in parts) if part]


def _list_literal(cell: str) -> list[Any]:
    try:
        value = json.loads(cell)
    except ValueError:
        try:
            value = ast.literal_eval(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as err:
            raise ValueError(f"not a list literal: {cell[:80]!r}") from err
    return list(value)


def text_parser(
    indices: Sequence[int], names: Sequence[str], delimiter: str | None, *, require_list: bool = False
) -> LabelParser:
    """A parser of cells that hold label names: one, a list literal, or several around a delimiter."""

    def parse(values: Sequence[Any], source: Source) -> LabelCells:
        labels: dict[str, None] = {}  # ordered, without repeats
        for index, name in zip(indices, names, strict=True):
            value = values[index]
            try:
                found = split_labels(value, delimiter)
            except ValueError as err:
                raise AnnotationError(f"{source}: column {name!r}: {err}. Mend the cell.") from err
            if require_list and not (isinstance(value, (list, tuple)) or text(value)[:1] in ("[", "")):
                raise AnnotationError(
                    f"{source}: column {name!r} holds {text(value)[:80]!r}, which is no list literal such as "
                    "['a', 'b']. Mend the cell or give --label_encoding=text."
                )
            labels.update(dict.fromkeys(found))
        return tuple(labels), ()

    return parse
