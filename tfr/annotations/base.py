"""What every annotation reader takes and yields."""

import codecs
import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from tfr import recorded
from tfr.errors import UsageError

LABEL_ENCODINGS = ("auto", "one_hot", "list", "text")
EMPTY_LABELS = ("unknown", "none")
MINUS_ONE = ("", "absent", "unknown")
MIRFLICKR_LABELS = ("potential", "all", "salient", "tags")


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
      labels: names of the labels that are present.
      unknown: names of the labels of which nothing is known; masked out of loss and metrics later.
      split: the split that the source puts the row in; None leaves it to the conversion.
      group: rows of one group never end in two splits; None: the row stands alone.
      columns: further columns to carry into the record, as text.
      source: file and row, for messages.
      absent: names of the labels that are verified to be absent. None: every label that is neither present nor
        unknown is absent. A tuple: every label that is in none of the three is unknown, so that an empty one on a
        row without labels says that nothing is known of the image.
    """

    id: str
    image: str
    labels: tuple[str, ...]
    source: Source
    unknown: tuple[str, ...] = ()
    split: str | None = None
    group: str | None = None
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    absent: tuple[str, ...] | None = None


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


@dataclasses.dataclass(frozen=True, slots=True)
class Note:
    """A fact about the file that a person should know, in one sentence; readers may yield it anywhere."""

    text: str


Event = Annotation | RejectedRow | LabelSet | Note  # what readers yield


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How to read an annotation file. Every field may stay unset: readers then look for the usual names.

    Attributes:
      images: the image folder; readers of folder structures need it, others only name files relative to it.
      id_column: column (or JSON key) with a row's id. Default: the image's relative path.
      image_column: column with the image's path. Default: the id, with `image_template` if given.
      image_template: path of an image made from columns in braces, e.g. 'Images/{Id}.jpg'.
      label_columns: columns that hold labels; 'First:Last' is a range in the order of the header.
      label_encoding: what the cells of the label columns hold: 'one_hot' (0, 1, or empty for unknown; no and yes are
        read as well, -1 as `minus_one` says), 'list' (a JSON or Python list literal), 'text' (one label a cell, or
        several around `label_delimiter`), or 'auto', which decides on the first rows.
      label_delimiter: character(s) between the labels of one cell, e.g. '|'.
      split_column: column that names the split.
      group_column: column whose equal values must not be spread over two splits.
      keep_columns: columns carried into the record as text.
      delimiter: the CSV field delimiter; default: by the header line.
      encoding: text encoding; 'utf-8-sig' reads UTF-8 with or without a byte order mark.
      where: condition on the columns, e.g. "type == 'product'"; rows that do not meet it are left out. See
        tfr.annotations.where.
      empty_labels: what an empty label cell (or null, NaN, a row without labels) says: 'unknown', that nothing is
        known of the image, or 'none', that no label applies. An empty list, `[]`, always says 'none'.
      minus_one: what -1 says in a 0/1 column: 'absent', as in CelebA, or 'unknown', as where experts disagreed.
        Unset, a table with such cells is refused.
      classes_file: file that names the classes: Open Images' class descriptions, or the pickled class table.
      min_confidence: Open Images: rows of at least this confidence count as present; lower ones above 0 as unknown.
      mirflickr_labels: 'potential' (24 labels), 'all' (these and 14 salient ones, named as their files), 'salient'
        (14; potential but not salient is unknown), or 'tags' (what the photographers wrote).
      filename_template: how file names are made, e.g. '{label}_{}.jpg'; fields are label, split, group, id, and {}
        for anything.
      strip_prefix: text to remove from the front of image paths, e.g. 'https://host/photos/'.
      split_from_folder: whether the first folder of an image's path names its split where nothing else does.
      ignore_splits: whether to forget the splits that the source names, so that rows are split anew.
      allow_outside: whether images may lie outside the image folder: absolute paths, '..' and other URIs.
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
    where: str | None = None
    empty_labels: str = "unknown"
    minus_one: str = recorded.added("")
    classes_file: str | None = None
    min_confidence: float = 1.0
    mirflickr_labels: str = "potential"
    filename_template: str | None = None
    strip_prefix: str | None = None
    split_from_folder: bool = False
    ignore_splits: bool = False
    allow_outside: bool = False

    def __post_init__(self) -> None:
        """Checks the values that can be checked without the file."""
        _one_of("label_encoding", self.label_encoding, LABEL_ENCODINGS)
        _one_of("empty_labels", self.empty_labels, EMPTY_LABELS)
        _one_of("minus_one", self.minus_one, MINUS_ONE)
        _one_of("mirflickr_labels", self.mirflickr_labels, MIRFLICKR_LABELS)
        try:
            codecs.lookup(self.encoding)
        except LookupError as err:
            raise UsageError(f"--encoding={self.encoding} is no known text encoding.") from err
        if not 0 < self.min_confidence <= 1:
            raise UsageError(f"--min_confidence must be above 0 and at most 1. Received: {self.min_confidence}")
        if self.where is not None:
            from tfr.annotations import where  # it needs this module's errors only, but is rarely needed

            where.check(self.where)


def _one_of(flag: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"--{flag} must be one of {', '.join(allowed)}. Received: --{flag}={value}")
