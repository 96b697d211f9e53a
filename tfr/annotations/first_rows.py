"""The columns of an annotation table and its first rows, and what the columns seem to be."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tfr import files
from tfr.annotations import cells, columns, csv_reader, jsonl_reader, text_files
from tfr.annotations.base import ReadOptions, RejectedRow
from tfr.annotations.folder_reader import SPLIT_FOLDERS

_ROWS = 1000
_MAX_CLASSES = 200  # distinct texts of a column from which on it is none of labels
_SPLIT_NAMES = ("split", "subset", "set", "partition", "ml_use")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Columns, guessed from their names and from the first rows.

    Attributes:
      names: all, in order.
      rows: values of the first rows.
      image: the column with image paths; `id`: the one with ids that can stand for them; None where none seems to be.
      labels: the column, or 'First:Last' range of 0/1 columns, that seems to hold the labels; None where none does.
      other_labels: what else could.
      label_delimiter: what seems to stand between labels of one cell.
      split: the column that seems to name splits.
    """

    names: list[str]
    rows: list[Sequence[Any]]
    image: str | None
    id: str | None
    labels: str | None
    other_labels: list[str]
    label_delimiter: str | None
    split: str | None

    def sample(self, name: str) -> str:
        """The first text of a column that is not empty."""
        index = self.names.index(name)
        return next((text for row in self.rows if (text := cells.text(row[index]))), "")


def look(path: str, format: str) -> Table | None:
    """Looks at the first rows of a table.

    Args:
      path: the file.
      format: a key of FORMATS.

    Returns:
      None for formats that say themselves what is what.

    Raises:
      AnnotationError: the file cannot be read as what it is said to be.
    """
    if format not in _READERS:
        return None
    names, rows = _READERS[format](path)
    names = [name.strip() for name in names]
    image = columns.find_usual(names, columns.IMAGE_NAMES) or _first(names, rows, files.is_image_name)
    id_ = columns.find_usual(names, columns.ID_NAMES)
    split = columns.find_usual(names, _SPLIT_NAMES) or _first(names, rows, lambda text: text.lower() in SPLIT_FOLDERS)
    taken = {name for name in (image, None if image else id_, split) if name}
    candidates = _label_candidates(names, rows, taken)
    labels = candidates[0] if candidates else None
    return Table(
        names=names,
        rows=rows,
        image=image,
        id=id_,
        labels=labels,
        other_labels=candidates[1:],
        label_delimiter=_delimiter(names, rows, labels),
        split=split,
    )


def _label_candidates(names: list[str], rows: list[Sequence[Any]], taken: set[str]) -> list[str]:
    """Columns by the usual names, ranges of 0/1 columns, and columns of a few texts that come again and again."""
    found = [name for name in [columns.find_usual(names, columns.LABEL_NAMES)] if name and name not in taken]
    flags = [bool(rows) and all(_is_flag(row[i]) for row in rows) and name not in taken for i, name in enumerate(names)]
    start = 0
    for is_flag, group in itertools.groupby(flags):
        end = start + len(list(group))
        if is_flag and end - start > 1:
            found.append(f"{names[start]}:{names[end - 1]}")
        start = end
    sizes = {name: _num_classes(rows, i) for i, name in enumerate(names) if not flags[i]}
    classes = [name for name in sizes if sizes[name] and name not in {*taken, *found}]
    return found + sorted(classes, key=lambda name: -sizes[name])  # the more it tells apart the likelier


def _num_classes(rows: list[Sequence[Any]], column: int) -> int:
    """How many texts come again and again in a column; 0 where its values are something else."""
    texts = [text for row in rows if (text := cells.text(row[column]))]
    distinct = set(texts)
    repeats = 1 < len(distinct) <= min(_MAX_CLASSES, len(texts) / 2)
    return len(distinct) if repeats and not all(map(_is_number, distinct)) else 0


def _first(names: list[str], rows: list[Sequence[Any]], is_one: Callable[[str], bool]) -> str | None:
    """The first column whose values are mostly of a kind."""
    for i, name in enumerate(names):
        texts = [text for row in rows if (text := cells.text(row[i]))]
        if texts and sum(map(is_one, texts)) > 0.9 * len(texts):
            return name
    return None


def _delimiter(names: list[str], rows: list[Sequence[Any]], labels: str | None) -> str | None:
    if labels not in names:
        return None
    texts = [row[names.index(labels)] for row in rows]
    return columns.guess_label_delimiter([text for text in texts if type(text) is str])


def _is_flag(value: Any) -> bool:
    return cells.is_flag(value) or cells.is_unknown_flag(value) or cells.is_minus_one(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _values(rows: Iterable[columns.RowOrReject]) -> list[Sequence[Any]]:
    return [row[1] for row in itertools.islice(rows, _ROWS) if not isinstance(row, RejectedRow)]


def _read_csv(path: str, delimiter: str | None = None) -> tuple[list[str], list[Sequence[Any]]]:
    with text_files.open_text(path, ReadOptions()) as file:
        names, rows = csv_reader.table_rows(file, path, delimiter)
        return names, _values(rows)


def _read_jsonl(path: str) -> tuple[list[str], list[Sequence[Any]]]:
    rows = jsonl_reader.json_lines(path, ReadOptions())
    names, head = jsonl_reader.read_names(path, rows)
    return names, _values(jsonl_reader.named_values(head, names))


def _read_json(path: str) -> tuple[list[str], list[Sequence[Any]]]:
    from tfr.annotations import json_reader

    names, rows = json_reader.table_rows(path, ReadOptions())
    return names, _values(rows)


def _read_parquet(path: str) -> tuple[list[str], list[Sequence[Any]]]:
    from tfr.annotations import frame_reader

    with frame_reader.open_parquet(path) as (names, rows):
        return names, _values(rows)


_READERS: dict[str, Callable[[str], tuple[list[str], list[Sequence[Any]]]]] = {
    "csv": _read_csv,
    "tsv": lambda path: _read_csv(path, "\t"),
    "jsonl": _read_jsonl,
    "json": _read_json,
    "parquet": _read_parquet,
}
