"""Annotation rows from annotation files: `read(path)` yields one `Annotation` per row, whatever the format."""

from tfr.annotations.base import Annotation, Event, LabelSet, Note, ReadOptions, RejectedRow, Source
from tfr.annotations.formats import FORMATS, Format, detect_format, find_companion, read

__all__ = [
    "FORMATS",
    "Annotation",
    "Event",
    "Format",
    "LabelSet",
    "Note",
    "ReadOptions",
    "RejectedRow",
    "Source",
    "detect_format",
    "find_companion",
    "read",
]
