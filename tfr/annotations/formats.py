"""The table of annotation formats, and `read`, which picks one."""

import dataclasses
import importlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Union

from tfr import files
from tfr.annotations.base import Event, ReadOptions
from tfr.errors import AnnotationError, UsageError

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
    """One annotation format: its reader ('module:function'), what it looks like, and the extensions it goes by."""

    reader: str
    summary: str
    example: str
    extensions: tuple[str, ...] = ()

    def load_reader(self):
        """The reader function, imported when asked for."""
        module, _, function = self.reader.partition(":")
        return getattr(importlib.import_module(f"tfr.annotations.{module}"), function)


FORMATS = {
    "csv": Format(
        reader="csv_reader:read_csv",
        summary="CSV or TSV with a header; labels in a column, a list literal, or 0/1 columns",
        example="Id,Genre,Action,Comedy\ntt0086425,\"['Comedy', 'Drama']\",0,1",
        extensions=(".csv", ".tsv", ".txt"),
    ),
    "json": Format(
        reader="json_reader:read_json",
        summary="JSON list of objects with an image and its labels",
        example='[{"image": "im1.jpg", "annotation": ["sky", "water"]}]',
        extensions=(".json",),
    ),
    "folders": Format(
        reader="folder_reader:read_folders",
        summary="one folder a label, with or without train/validation/test folders above",
        example="images/train/cat/a.jpg\nimages/test/dog/b.jpg",
    ),
}


def _known_formats() -> str:
    return "; ".join(f"{name} ({entry.summary})" for name, entry in FORMATS.items())


def detect_format(path: str) -> tuple[str, str]:
    """Says which format a path holds.

    Returns:
      The format's name and the reason, e.g. ('csv', "extension '.csv'").

    Raises:
      AnnotationError: the path does not exist, or no format goes by its name.
    """
    if files.is_dir(path):
        return "folders", "it is a folder"
    if not files.exists(path):
        raise AnnotationError(f"No annotation file at {path}. Give an existing file or folder.")
    extension = os.path.splitext(path)[1].lower()
    for name, entry in FORMATS.items():
        if extension in entry.extensions:
            return name, f"extension {extension!r}"
    raise AnnotationError(f"{path}: cannot tell its format. Name it with --format. Known: {_known_formats()}.")


def read(
    annotations: Union[str, os.PathLike, "pd.DataFrame"],
    format: str = "auto",
    options: ReadOptions | None = None,
) -> Iterator[Event]:
    """Reads annotations of any known format.

    Args:
      annotations: a file, a folder, or a pandas DataFrame.
      format: a key of FORMATS, or 'auto' to decide by the path.
      options: which columns to use and how; see ReadOptions.

    Returns:
      An iterator of an Annotation a row, or a RejectedRow where a row cannot be read; also of LabelSets.

    Raises:
      AnnotationError: the file is missing, empty, or not of the format. Some are raised while iterating.
      UsageError: the format is not known.
    """
    options = options or ReadOptions()
    if not isinstance(annotations, (str, os.PathLike)):
        from tfr.annotations import frame_reader

        return frame_reader.read_frame(annotations, options)
    path = os.fspath(annotations)
    if format == "auto":
        format = detect_format(path)[0]
    if format not in FORMATS:
        raise UsageError(f"Unknown annotation format {format!r}. Known: {_known_formats()}.")
    if format != "folders" and files.is_dir(path):
        raise AnnotationError(f"{path} is a folder, but format {format!r} is a file.")
    return FORMATS[format].load_reader()(path, options)
