"""Rows of named columns (CSV lines, JSON objects, DataFrame rows) to annotations: the part that formats share."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfr.annotations import cells
from tfr.annotations.base import Annotation, ReadOptions, RejectedRow, Source
from tfr.errors import AnnotationError

# The names by which columns are found when no flag names them, compared in lower case, in this order.
_IMAGE_NAMES = (
    "image", "image_path", "file_name", "filename", "filepath", "image_file", "path", "file", "image_uri",
    "image_url", "image_name",
)  # fmt: skip
_ID_NAMES = ("id", "image_id", "imageid", "key", "name")
_LABEL_NAMES = (
    "labels", "label", "tags", "tag", "annotation", "annotations", "classes", "class", "genres", "genre",
    "categories", "category", "keywords",
)  # fmt: skip


def _listed(names: Sequence[str], limit: int = 40) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more


def _usual(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """The first column that has one of the usual names, in any case."""
    by_lower = {name.lower(): name for name in reversed(names)}
    return next((by_lower[name] for name in usual if name in by_lower), None)


class RowParser:
    """Turns the values of one row into an Annotation; made once a file, from its header and the options."""

    def __init__(self, names: Sequence[str], options: ReadOptions, file: str):
        """Finds the columns.

        Args:
          names: the file's column names, in order.
          options: which columns to use; see ReadOptions.
          file: the file's name, for messages.

        Raises:
          AnnotationError: a column that is named is not there, or one that is needed cannot be guessed.
        """
        self._names = [name.strip() for name in names]
        self._file = file
        self._index = {name: i for i, name in reversed(list(enumerate(self._names)))}
        self._template_values = self._parse_template(options.image_template)
        self._image = self._optional(options.image_column, "--image_column")
        self._id = self._optional(options.id_column, "--id_column")
        self._guess_image_and_id()
        self._split = self._optional(options.split_column, "--split_column")
        self._group = self._optional(options.group_column, "--group_column")
        self._keep = [(name, self._find(name, "--keep_columns")) for name in options.keep_columns]
        self._label_names = self._find_label_columns(options)
        self._label_indices = [self._index[name] for name in self._label_names]
        self._encoding, self._label_delimiter = options.label_encoding, options.label_delimiter
        self._one_hot = False
        self._parse_labels: Callable[[Sequence[Any], Source], cells.LabelCells] | None = None

    @property
    def declared(self) -> tuple[str, ...]:
        """The labels of one-hot columns, known from the header; empty for other encodings and before any row."""
        return tuple(self._label_names) if self._one_hot else ()

    def parse(self, values: Sequence[Any], source: Source) -> Annotation | RejectedRow:
        """Makes one annotation.

        Args:
          values: the row's cells in the order of the header: str, or what JSON gives.
          source: where the row stands.

        Raises:
          AnnotationError: a label cell is not what the label encoding says.
        """
        image = cells.text(values[self._image]) if self._image is not None else ""
        id_ = cells.text(values[self._id]) if self._id is not None else image
        if not id_:
            missing = self._names[self._id if self._id is not None else self._image or 0]
            return RejectedRow(source, "no_id", f"column {missing!r} is empty")
        if self._template_values:
            image = "".join(part if i is None else cells.text(values[i]) for part, i in self._template_values)
        if self._parse_labels is None:
            self._parse_labels = self._choose_label_parser(values)
        labels, unknown = self._parse_labels(values, source)
        return Annotation(
            id_,
            image or id_,
            labels,
            source,
            unknown,
            (cells.text(values[self._split]) or None) if self._split is not None else None,
            (cells.text(values[self._group]) or None) if self._group is not None else None,
            {name: cells.text(values[i]) for name, i in self._keep} if self._keep else {},
        )

    def _find(self, name: str, flag: str) -> int:
        if name not in self._index:
            raise AnnotationError(
                f"{self._file}: no column {name!r} (from {flag}). The columns are: {_listed(self._names)}."
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
            image, id_ = _usual(self._names, _IMAGE_NAMES), _usual(self._names, _ID_NAMES)
            if image is None and id_ is None:
                raise AnnotationError(
                    f"{self._file}: which column names the image? None of the usual names is there. Say it with "
                    f"--image_column or --id_column. The columns are: {_listed(self._names)}."
                )
            # With a column of paths the path itself is the id: a column called 'id' may number annotations.
            self._image, self._id = (self._optional(image, ""), None) if image else (None, self._optional(id_, ""))

    def _find_label_columns(self, options: ReadOptions) -> list[str]:
        if not options.label_columns:
            usual = _usual(self._names, _LABEL_NAMES)
            if usual is None:
                raise AnnotationError(
                    f"{self._file}: which columns hold the labels? Say it with --label_columns (a range is "
                    f"'First:Last'). The columns are: {_listed(self._names)}."
                )
            return [usual]
        return [name for entry in options.label_columns for name in self._expand(entry)]

    def _expand(self, entry: str) -> list[str]:
        first, colon, last = entry.partition(":")
        if entry in self._index or not colon:
            return [self._names[self._find(entry, "--label_columns")]]
        start, end = self._find(first, "--label_columns"), self._find(last, "--label_columns")
        if start > end:
            raise AnnotationError(f"{self._file}: --label_columns={entry}: {first!r} stands after {last!r}.")
        return self._names[start : end + 1]

    def _choose_label_parser(self, values: Sequence[Any]) -> Callable[[Sequence[Any], Source], cells.LabelCells]:
        """Decides on the first row what the label columns hold; later rows must agree or are an error."""
        indices, names = self._label_indices, self._label_names
        encoding = self._encoding
        if encoding == "auto":
            first = [values[i] for i in indices]
            binary = all(cells.is_binary(value) for value in first)
            encoding = "one_hot" if len(first) > 1 and binary else "text"
        self._one_hot = encoding == "one_hot"
        if self._one_hot:
            return cells.one_hot_parser(indices, names, self._file)
        return cells.text_parser(indices, names, self._label_delimiter, require_list=encoding == "list")


def object_values(row: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """The values of a JSON object in the order of `names`; an absent key is None."""
    return [row.get(name) for name in names]
