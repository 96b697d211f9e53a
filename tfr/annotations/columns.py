"""Rows of named columns (CSV lines, JSON objects, DataFrame rows) to annotations: the part that formats share."""

import collections
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tfr.annotations import cells
from tfr.annotations.base import Annotation, Event, LabelSet, Note, ReadOptions, RejectedRow, Source
from tfr.annotations.where import compile_where
from tfr.errors import AnnotationError

# The names by which columns are found when no flag names them, compared in lower case, in this order.
IMAGE_NAMES = (
    "image", "image_path", "file_name", "filename", "filepath", "image_file", "path", "file", "image_uri",
    "image_url", "image_name",
)  # fmt: skip
ID_NAMES = ("id", "image_id", "imageid", "key", "name")
LABEL_NAMES = (
    "labels", "label", "tags", "tag", "annotation", "annotations", "classes", "class", "genres", "genre",
    "categories", "category", "keywords",
)  # fmt: skip
ROWS_TO_JUDGE = 50  # rows that are looked at before deciding what label cells hold
_NO_COLUMNS: dict[str, str] = {}

RowOrReject = tuple[Source, Sequence[Any]] | RejectedRow


def read_rows(
    names: Sequence[str],
    rows: Iterable[RowOrReject],
    options: ReadOptions,
    file: str,
    *,
    image_prefix: str = "",
    split: str | None = None,
) -> Iterator[Event]:
    """Yields the annotations of a table's rows.

    Args:
      names: the column names, in order.
      rows: (source, values in the order of the names), or a RejectedRow in the place of a row, which is passed on.
      options: which columns to use; see ReadOptions.
      file: the file's name, for messages.
      image_prefix: what to put before every image path, e.g. 'train/'.
      split: the split of rows whose split column says nothing.

    Raises:
      AnnotationError: a column that is named is not there, or one that is needed cannot be guessed.
    """
    rows = iter(rows)
    head = list(itertools.islice(rows, ROWS_TO_JUDGE))
    reader = TableReader(names, options, file, head)
    for event in reader.read(itertools.chain(head, rows)):
        if (image_prefix or split) and type(event) is Annotation:
            event = _placed(event, image_prefix, split)
        yield event
    yield from reader.closing_events()


class TableReader:
    """Reads the rows of one table, whole or in parts.

    Attributes:
      num_empty: rows read so far whose label cells are all empty.
      num_left_out: rows left out so far by the condition `where`.
    """

    def __init__(self, names: Sequence[str], options: ReadOptions, file: str, head: Iterable[RowOrReject]):
        """Finds the columns; see RowParser. `head` is the table's first rows."""
        values = [row[1] for row in head if not isinstance(row, RejectedRow)]
        self._parser = RowParser(names, options, file, values)
        self._keep = compile_where(options.where, self._parser.names, file) if options.where else None
        self._file = file
        self.num_empty = self.num_left_out = 0

    def read(self, rows: Iterable[RowOrReject]) -> Iterator[Annotation | RejectedRow]:
        """Yields what becomes of the rows."""
        keep, parse = self._keep, self._parser.parse
        for row in rows:
            if type(row) is RejectedRow:
                yield row
                continue
            source, values = row  # type: ignore[misc]
            if keep is not None and not keep(values):
                self.num_left_out += 1
                continue
            event = parse(values, source)
            if type(event) is Annotation and event.absent is not None and not event.labels:
                self.num_empty += 1
            yield event

    def closing_events(self) -> Iterator[Event]:
        """What is to be said of the table when all of its rows are read."""
        if self._parser.declared:
            yield LabelSet(self._parser.declared)
        if self._parser.hint:
            yield Note(self._parser.hint)
        if self.num_empty:
            yield Note(
                f"{self._file}: {self.num_empty} rows have empty label cells: their labels are taken as unknown (if "
                "no label applies to them say --empty_labels=none)"
            )
        if self._keep is not None:
            yield Note(f"{self._file}: --where left out {self.num_left_out} rows")


def _placed(a: Annotation, prefix: str, split: str | None) -> Annotation:
    """An annotation whose image lies below a prefix, in a split unless its row says another."""
    id_ = prefix + a.id if a.id == a.image else a.id
    return Annotation(
        id_, prefix + a.image, a.labels, a.source, a.unknown, a.split or split, a.group, a.columns, a.absent
    )


class RowParser:
    """Turns the values of one row into an Annotation; made once a file, from its header and the options.

    Attributes:
      names: the column names.
      hint: what a person should know of how label cells are read; empty where there is nothing to say.
    """

    def __init__(self, names: Sequence[str], options: ReadOptions, file: str, head: Sequence[Sequence[Any]] = ()):
        """Finds the columns.

        Args:
          names: the file's column names, in order.
          options: which columns to use; see ReadOptions.
          file: the file's name, for messages.
          head: the first rows' values, from which it is decided what label cells hold.

        Raises:
          AnnotationError: a column that is named is not there, or one that is needed cannot be guessed.
        """
        self.names = [name.strip() for name in names]
        self._file = file
        self._index = {name: i for i, name in reversed(list(enumerate(self.names)))}
        self._template = self._parse_template(options.image_template)
        self._image = self._optional(options.image_column, "--image_column")
        self._id = self._optional(options.id_column, "--id_column")
        self._guess_image_and_id()
        self._key: int = self._id if self._id is not None else self._image or 0
        self._split = self._optional(options.split_column, "--split_column")
        self._group = self._optional(options.group_column, "--group_column")
        self._keep = [(name, self._find(name, "--keep_columns")) for name in options.keep_columns]
        self._label_names = self._find_label_columns(options)
        self._warn_of_repeats()
        self._options = options
        self._one_hot = self._is_one_hot(head)
        self._parse_labels = self._make_label_parser()
        self.hint = self._delimiter_hint(head)

    @property
    def declared(self) -> tuple[str, ...]:
        """The labels of one-hot columns, known from the header; empty for other encodings."""
        return tuple(self._label_names) if self._one_hot else ()

    def parse(self, values: Sequence[Any], source: Source) -> Annotation | RejectedRow:
        """Makes one annotation, or says why the row cannot become one.

        Args:
          values: the row's cells in the order of the header: str, or what JSON gives.
          source: where the row stands.
        """
        text = cells.text
        id_ = text(values[self._key])
        if not id_:
            return RejectedRow(source, "no_id", f"column {self.names[self._key]!r} is empty")
        image = id_ if self._image is None or self._image == self._key else text(values[self._image]) or id_
        if self._template:
            image = "".join(part if i is None else text(values[i]) for part, i in self._template)
        try:
            labels, unknown, absent = self._parse_labels(values)
        except ValueError as err:
            return RejectedRow(source, "bad_label", str(err), id_)
        return Annotation(
            id_,
            image,
            labels,
            source,
            unknown,
            None if self._split is None else text(values[self._split]) or None,
            None if self._group is None else text(values[self._group]) or None,
            {name: text(values[i]) for name, i in self._keep} if self._keep else _NO_COLUMNS,
            absent,
        )

    # Finding columns

    def _find(self, name: str, flag: str) -> int:
        if name not in self._index:
            raise AnnotationError(
                f"{self._file}: no column {name!r} (from {flag}). The columns are: {listed(self.names)}."
            )
        return self._index[name]

    def _optional(self, name: str | None, flag: str) -> int | None:
        return None if name is None else self._find(name, flag)

    def _parse_template(self, template: str | None) -> list[tuple[str, int | None]]:
        """'a/{Id}.jpg' as [('a/', None), ('', 3), ('.jpg', None)]."""
        parts = re.split(r"\{([^{}]*)\}", template or "")
        columns = [("", self._find(name, "--image_template")) for name in parts[1::2]]
        texts: list[tuple[str, int | None]] = [(text, None) for text in parts[0::2]]
        merged = [texts[0], *(pair for i, column in enumerate(columns) for pair in (column, texts[i + 1]))]
        return [(text, i) for text, i in merged if text or i is not None]

    def _guess_image_and_id(self) -> None:
        if self._image is None and self._id is None:
            image, id_ = find_usual(self.names, IMAGE_NAMES), find_usual(self.names, ID_NAMES)
            if image is None and id_ is None:
                raise AnnotationError(
                    f"{self._file}: which column names the image? None of the usual names is there. Say it with "
                    f"--image_column or --id_column. The columns are: {listed(self.names)}."
                )
            # With a column of paths the path itself is the id: a column called 'id' may number annotations.
            self._image, self._id = (self._optional(image, ""), None) if image else (None, self._optional(id_, ""))

    def _find_label_columns(self, options: ReadOptions) -> list[str]:
        if not options.label_columns:
            usual = find_usual(self.names, LABEL_NAMES)
            if usual is None:
                raise AnnotationError(
                    f"{self._file}: which columns hold the labels? Say it with --label_columns (a range is "
                    f"'First:Last'). The columns are: {listed(self.names)}."
                )
            return [usual]
        return [name for entry in options.label_columns for name in self._expand(entry)]

    def _expand(self, entry: str) -> list[str]:
        halves = [(entry[:i], entry[i + 1 :]) for i, character in enumerate(entry) if character == ":"]
        if entry in self._index or not halves:
            return [self.names[self._find(entry, "--label_columns")]]
        # Names can have colons in them.
        first, last = next((pair for pair in halves if set(pair) <= self._index.keys()), halves[0])
        start, end = self._find(first, "--label_columns"), self._find(last, "--label_columns")
        if start > end:
            raise AnnotationError(f"{self._file}: --label_columns={entry}: {first!r} stands after {last!r}.")
        return self.names[start : end + 1]

    def _warn_of_repeats(self) -> None:
        used = {self.names[i] for i in (self._image, self._id, self._split, self._group) if i is not None}
        counts = collections.Counter(self.names)
        repeats = sorted(name for name in used | set(self._label_names) if counts[name] > 1)
        if repeats:
            raise AnnotationError(
                f"{self._file}: the header has several columns called {listed(repeats)}. Rename them."
            )

    # Deciding what label cells hold

    def _is_one_hot(self, head: Sequence[Sequence[Any]]) -> bool:
        """Whether the label columns are 0/1 flags: as said, or several columns that hold little else in the first rows.

        A few other cells do not make text of them: their rows are then rejected, with the cell named.
        """
        if self._options.label_encoding not in ("auto", "one_hot"):
            return False
        values = [row[self._index[name]] for row in head for name in self._label_names]
        minus = sum(map(cells.is_minus_one, values))
        is_one_hot = self._options.label_encoding == "one_hot"
        if not is_one_hot and len(self._label_names) > 1:
            flags = minus + sum(cells.is_flag(value) or cells.is_unknown_flag(value) for value in values)
            is_one_hot = any(map(cells.is_flag, values)) and flags > 0.8 * len(values)
        if is_one_hot and minus and not self._options.minus_one:
            raise AnnotationError(
                f"{self._file}: 0/1 label columns hold -1, which in some tables says that a label is absent (CelebA), "
                "and in others that it is not known (CheXpert). Say --minus_one=absent or --minus_one=unknown."
            )
        return is_one_hot

    def _make_label_parser(self) -> cells.LabelParser:
        indices, options = [self._index[name] for name in self._label_names], self._options
        if self._one_hot:
            return cells.one_hot_parser(indices, self._label_names, options.minus_one)
        return cells.text_parser(
            indices,
            delimiter=(options.label_delimiter or "").strip() or options.label_delimiter,
            encoding=options.label_encoding,
            empty=cells.NOTHING_KNOWN if options.empty_labels == "unknown" else cells.NO_LABELS,
        )

    def _delimiter_hint(self, head: Sequence[Sequence[Any]]) -> str:
        """A sentence where cells of one label column look like several labels, and no delimiter is given."""
        if self._one_hot or self._options.label_delimiter or self._options.label_encoding == "list":
            return ""
        texts = [v for v in (row[self._index[name]] for row in head for name in self._label_names) if type(v) is str]
        delimiter = guess_label_delimiter(texts)
        if delimiter is None:
            return ""
        return (
            f"{self._file}: label cells such as {next(v for v in texts if delimiter in v)!r} are taken as one "
            f"label each; if {delimiter!r} stands between labels say --label_delimiter={delimiter!r}"
        )


def guess_label_delimiter(texts: Sequence[str]) -> str | None:
    """What seems to stand between several labels of one cell; None where cells seem to hold one each, or lists."""
    texts = [value for value in texts if not value.strip().startswith("[")]
    for delimiter in ("|", ";", ","):
        if sum(delimiter in value for value in texts) * 4 > len(texts):
            return delimiter
    return None


def listed(names: Sequence[str], limit: int = 40) -> str:
    """Names for a message, shortened where they are many."""
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more


def find_usual(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """The first column that has one of the usual names, in any case."""
    by_lower = {name.lower(): name for name in reversed(names)}
    return next((by_lower[name] for name in usual if name in by_lower), None)
