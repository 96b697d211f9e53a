"""Single cells: text, 0/1 flags, and lists of labels in the ways people write them."""

import ast
import functools
import itertools
import json
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

# (present, unknown, absent): as in Annotation; absent is None where labels that are not named are absent.
LabelCells = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...] | None]
LabelParser = Callable[[Sequence[Any]], LabelCells]

NOTHING_KNOWN: LabelCells = ((), (), ())
NO_LABELS: LabelCells = ((), (), None)

_PRESENT = frozenset({"1", "1.0", "true", "yes"})
_ABSENT = frozenset({"0", "0.0", "false", "no"})
_MINUS_ONE = frozenset({"-1", "-1.0"})
_UNKNOWN = frozenset({"", "nan", "null", "none"})
# Flags as they mostly stand in files, for the fast way; True and 1.0 equal 1 as keys.
_FLAGS: dict[Any, bool] = {"0": False, "1": True, " 0": False, " 1": True, 0: False, 1: True}
_MAX_LITERAL = 1 << 20  # characters of a list literal; longer or deeper ones could exhaust the parser
_MAX_BRACKETS = 1000


def text(value: Any) -> str:
    """A cell as trimmed text; null and NaN are empty, whole floats lose their '.0'."""
    if type(value) is str:
        return value.strip()
    if value is None or (not hasattr(value, "__len__") and value != value):  # of an array, many answers
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bytes):  # as HDF5 and some Parquet files keep text
        return value.decode("utf-8", errors="replace").strip()
    return str(value).strip()


def is_flag(value: Any) -> bool:
    """Whether a cell says present or absent in a one-hot column."""
    lower = text(value).lower()
    return lower in _PRESENT or lower in _ABSENT


def is_unknown_flag(value: Any) -> bool:
    """Whether a cell says in a one-hot column that nothing is known."""
    return text(value).lower() in _UNKNOWN


def is_minus_one(value: Any) -> bool:
    """Whether a cell of a one-hot column holds what some tables mean as absent, and others as unknown."""
    return text(value) in _MINUS_ONE


def one_hot_parser(indices: Sequence[int], names: Sequence[str], minus_one: str = "") -> LabelParser:
    """A parser of 0/1 columns, one a label: 1 is present, 0 is absent, an empty cell is unknown.

    `minus_one` is what -1 says, 'absent' or 'unknown'; '': it may not stand there.

    The parser raises ValueError on any other cell.
    """
    # With one index itemgetter returns no tuple; a slice of length one does.
    get: Callable[[Sequence[Any]], Sequence[Any]] = (
        operator.itemgetter(*indices) if len(indices) > 1 else operator.itemgetter(slice(indices[0], indices[0] + 1))
    )
    flag = ({**_FLAGS, "-1": False, " -1": False, -1: False} if minus_one == "absent" else _FLAGS).__getitem__

    def parse(values: Sequence[Any]) -> LabelCells:
        try:
            return tuple(itertools.compress(names, map(flag, get(values)))), (), None
        except (KeyError, TypeError):  # an empty cell, an unusual way to write a flag, or an error
            return _parse_flags(get(values), names, minus_one)

    return parse


def _parse_flags(values: Sequence[Any], names: Sequence[str], minus_one: str) -> LabelCells:
    present, unknown = [], []
    for value, name in zip(values, names, strict=True):
        lower = text(value).lower()
        if lower in _PRESENT:
            present.append(name)
        elif lower in _UNKNOWN or (lower in _MINUS_ONE and minus_one == "unknown"):
            unknown.append(name)
        elif lower not in _ABSENT and not (lower in _MINUS_ONE and minus_one):
            raise ValueError(
                f"column {name!r} holds {text(value)[:80]!r}, but a one-hot label column holds 0, 1 or nothing "
                "(unknown). Mend the cell, leave the column out of --label_columns, or give --label_encoding=text"
            )
    return tuple(present), tuple(unknown), None


def text_parser(
    indices: Sequence[int],
    *,
    delimiter: str | None = None,
    encoding: str = "auto",
    empty: LabelCells = NOTHING_KNOWN,
) -> LabelParser:
    """A parser of cells that hold label names.

    Args:
      indices: the label columns.
      delimiter: what stands between the labels of one cell; None: nothing does.
      encoding: 'list': cells are list literals or lists; 'text': they are never list literals; 'auto': those in
        square brackets are.
      empty: what a row says whose label cells are all empty.

    The parser raises ValueError on a cell that cannot be read.
    """

    @functools.lru_cache(maxsize=1 << 14)  # label cells repeat
    def parse_text(cell: str) -> tuple[str, ...] | None:
        return _split_text(cell, delimiter, encoding)

    def parse_cell(value: Any) -> tuple[str, ...] | None:
        if type(value) is str:
            return parse_text(value)
        if type(value) is list:
            try:
                labels = tuple(dict.fromkeys(map(str.strip, value)))
                return labels if "" not in labels else tuple(filter(None, labels))
            except TypeError:  # not all of them are text
                pass
        return _split_value(value, parse_text)

    def parse_one(values: Sequence[Any]) -> LabelCells:
        labels = parse_cell(values[indices[0]])
        return empty if labels is None else (labels, (), None)

    def parse_several(values: Sequence[Any]) -> LabelCells:
        found = [labels for labels in (parse_cell(values[i]) for i in indices) if labels is not None]
        return (tuple(dict.fromkeys(itertools.chain(*found))), (), None) if found else empty

    return parse_one if len(indices) == 1 else parse_several


def _split_text(cell: str, delimiter: str | None, encoding: str) -> tuple[str, ...] | None:
    cell = cell.strip()
    if not cell:
        return None
    if encoding != "text" and cell[0] == "[" and cell[-1] == "]":
        return _unique(_list_literal(cell))
    if encoding == "list":
        raise ValueError(f"{cell[:80]!r} is no list literal such as ['a', 'b']. Mend it or give --label_encoding=text")
    return _unique(cell.split(delimiter)) if delimiter else (cell,)


def _split_value(value: Any, parse_text: Callable[[str], tuple[str, ...] | None]) -> tuple[str, ...] | None:
    if hasattr(value, "tolist"):  # a numpy array or scalar, as pandas gives them
        value = value.tolist()
    if isinstance(value, dict) and isinstance(value.get("choices"), list):  # Label Studio's short export
        value = value["choices"]
    if isinstance(value, (list, tuple, set, frozenset)):
        return _unique(sorted(value) if isinstance(value, (set, frozenset)) else value)
    if isinstance(value, dict):
        raise ValueError(f"{str(value)[:80]} is an object; labels are text, numbers, or lists of them")
    return parse_text(text(value))


def _unique(items: Sequence[Any]) -> tuple[str, ...]:
    """Labels trimmed, empty ones left out, each once."""
    for item in items:
        if isinstance(item, (list, tuple, dict, set)):
            raise ValueError(f"{str(item)[:80]} is inside a list of labels; labels are text or numbers")
    return tuple(dict.fromkeys(filter(None, map(text, items))))


def _list_literal(cell: str) -> list[Any]:
    """The list that a JSON, Python or numpy list literal denotes."""
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        value = _python_literal(cell)
    return list(value)


def _python_literal(cell: str) -> Any:
    problem = f"{cell[:80]!r} looks like a list but is none. Mend it, or give --label_encoding=text"
    if len(cell) > _MAX_LITERAL or cell.count("[") + cell.count("(") + cell.count("{") > _MAX_BRACKETS:
        raise ValueError(problem)
    # An array written by numpy has no commas, and Python would join its texts to one.
    spaced = re.sub(r"""(['"])\s+(?=['"])""", r"\1, ", cell)
    try:
        return ast.literal_eval(spaced)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as err:
        raise ValueError(problem) from err
