"""What every annotation reader takes and yields."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple


class Source(NamedTuple):
    """Where a row was read: the file, and its 1-based line, or its place in a list or folder."""

    file: str
    row: int

    def __str__(self) -> str:
        return f"{self.file}:{self.row}"


@dataclasses.dataclass(frozen=True, slots=True)
class Annotation:
    """One annotated image.

    Attributes:
      id: unique and stable within a dataset, never an absolute path; e.g. 'tt0086425' or 'cats/im1.jpg'.
      image: the image's path relative to the image folder, with or without its extension, or a URI.
      labels: names of the labels that are present. Labels in neither tuple are absent.
      unknown: names of the labels of which nothing is known; masked out of loss and metrics later.
      split: the split that the source puts the row in; None leaves it to the conversion.
      group: rows of one group never end in two splits; None: the row stands alone.
      columns: further columns to carry into the record, as text.
      source: file and row, for messages.
    """

    id: str
    image: str
    labels: tuple[str, ...]
    source: Source
    unknown: tuple[str, ...] = ()
    split: str | None = None
    group: str | None = None
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that cannot become an annotation; it is counted and listed, and the rest goes on."""

    source: Source
    reason: str  # a short fixed word, e.g. 'malformed_row'
    detail: str
    id: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class LabelSet:
    """Labels that a source declares, whether or not an image carries them; readers may yield it anywhere."""

    names: tuple[str, ...]


Event = Annotation | RejectedRow | LabelSet  # what readers yield


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How to read an annotation file. Every field may stay unset: readers then look for the usual names.

    Attributes:
      images: the image folder; readers of folder structures need it, others only name files relative to it.
      id_column: column (or JSON key) with a row's id. Default: the image's relative path.
      image_column: column with the image's path. Default: the id, with `image_template` if given.
      image_template: path of an image made from columns in braces, e.g. 'Images/{Id}.jpg'.
      label_columns: columns that hold labels; 'First:Last' is a range in the order of the header.
      label_encoding: what the cells of the label columns hold: 'one_hot' (0, 1, or empty for unknown), 'list'
        (a JSON or Python list literal), 'text' (one label a cell, or several around `label_delimiter`), or
        'auto', which decides on the first rows.
      label_delimiter: character(s) between the labels of one cell, e.g. '|'.
      split_column: column that names the split.
      group_column: column whose equal values must not be spread over two splits.
      keep_columns: columns carried into the record as text.
      delimiter: the CSV field delimiter; default: by the header line.
      encoding: text encoding; 'utf-8-sig' reads UTF-8 with or without a byte order mark.
    """

    images: str | None = None
    id_column: str | None = None
    image_column: str | None = None
    image_template: str | None = None
    label_columns: tuple[str, ...] = ()
    label_encoding: str = "auto"
    label_delimiter: str | None = None
    split_column: str | None = None
    group_column: str | None = None
    keep_columns: tuple[str, ...] = ()
    delimiter: str | None = None
    encoding: str = "utf-8-sig"
