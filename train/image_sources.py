"""Which images to predict on: files, folders, patterns, lists, and paths from standard input, streamed."""

import codecs
import dataclasses
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from tfr import files, sorted_runs
from tfr.annotations import ReadOptions, RejectedRow, csv_reader, jsonl_reader, text_files
from tfr.annotations.columns import RowOrReject
from tfr.errors import TfrError, UsageError

STDIN = "-"
_TABLES = {".csv": None, ".tsv": "\t"}  # extension: delimiter, None to guess it
_LINES_OF_JSON = (".jsonl", ".ndjson")
_COLUMNS = ("image", "path", "image_path", "file", "filename", "file_name")  # tried in this order


class Unusable(NamedTuple):
    """What was to name an image and does not: where it stands, and why not."""

    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class ImageSource:
    """Paths, and lines that are none, to iterate over once.

    Attributes:
      items: in order.
      total: how many there are (of a list, about), or None where only the end will say.
      is_live: whether they come from someone who may be waiting for results.
      is_remote: whether some are in an object store.
    """

    items: Iterable[str | Unusable]
    total: int | None
    is_live: bool
    is_remote: bool

    def __iter__(self) -> Iterator[str | Unusable]:
        return iter(self.items)


def open_source(
    images: Sequence[str], images_file: str | None = None, *, column: str | None = None, folder: str = ""
) -> ImageSource:
    """Everything that is named, one after the other.

    Args:
      images: files (also those that are not there: that is said when they are read), folders of image files, patterns
        such as 'a/**/*.jpg', and '-' for paths on standard input, one a line; also as URIs.
      images_file: a file with a path a line; or a .csv or .tsv file with a header, or a .jsonl file.
      column: of that table. Default: a usual name, or the only one.
      folder: what relative paths in the list and on standard input are below.

    Raises:
      TfrError: a folder or pattern without images, or the list cannot be read.
    """
    if list(images).count(STDIN) > 1:
        raise UsageError(f"Standard input ({STDIN}) can be read only once.")
    parts = [_open_stdin(folder) if image == STDIN else _open_one(image) for image in images]
    if images_file is not None:
        parts.append(_open_list(images_file, column, folder))
    totals = [part.total for part in parts]
    return ImageSource(
        itertools.chain.from_iterable(parts),
        None if None in totals else sum(total for total in totals if total is not None),
        any(part.is_live for part in parts),
        any(part.is_remote for part in parts),
    )


def _open_one(image: str) -> ImageSource:
    """A folder, a pattern or a file."""
    remote = not files.is_local(image)
    if files.is_dir(image):
        count, names = sorted_runs.sort(file.path for file in files.list_images(image))
        if not count:
            raise TfrError(f"No image files below {image}. Known by {', '.join(files.IMAGE_EXTENSIONS)}.")
        return ImageSource((files.join(image, name) for name in names), count, False, remote)
    if any(character in image for character in "*?[") and not files.exists(image):
        if not (matches := files.match(image)):
            raise TfrError(f"No file matches {image}.")
        return ImageSource(matches, len(matches), False, remote)
    return ImageSource([image], 1, False, remote)


def _open_stdin(folder: str) -> ImageSource:
    return ImageSource((files.join(folder, line) for line in _lines(sys.stdin.buffer)), None, True, False)


def _open_list(path: str, column: str | None, folder: str) -> ImageSource:
    if not files.exists(path):
        raise TfrError(f"No list of images at --images_file={path}.")
    extension = os.path.splitext(path)[1].lower()
    if extension in _TABLES:
        items: Iterator[str | Unusable] = _csv_items(path, _TABLES[extension], column)
    elif extension in _LINES_OF_JSON:
        items = _json_items(path, column)
    elif column is not None:
        raise UsageError(f"--column={column} is for lists that end in .csv, .tsv or .jsonl. Received: {path}")
    else:
        items = _text_items(path)
    first = list(itertools.islice(items, 1))  # now, so that what is wrong with the list is said first of all
    if not first:
        raise TfrError(f"{path}: there is no image in it.")
    everything = itertools.chain(first, items)
    below = (item if isinstance(item, Unusable) else files.join(folder, item) for item in everything)
    is_remote = not files.is_local(folder) or "://" in str(first[0])
    return ImageSource(below, _count_lines(path) - (extension in _TABLES), False, is_remote)


def _count_lines(path: str) -> int:
    """Lines of a file: about as many as there are images."""
    with files.open_binary(path) as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b"")) or 1


def _text_items(path: str) -> Iterator[str | Unusable]:
    with files.open_binary(path) as file:
        yield from _lines(file)


def _lines(file: Iterable[bytes]) -> Iterator[str]:
    """The lines of a text that are not empty, without the byte order mark that Windows puts before the first."""
    for i, line in enumerate(file):
        if name := (line.removeprefix(codecs.BOM_UTF8) if i == 0 else line).strip(b"\r\n"):
            yield os.fsdecode(name)


def _csv_items(path: str, delimiter: str | None, column: str | None) -> Iterator[str | Unusable]:
    with text_files.open_text(path, ReadOptions()) as file:
        header, rows = csv_reader.table_rows(file, path, delimiter)
        place = _find_column([name.strip().lstrip("\ufeff") for name in header], column, path)
        for row in rows:
            yield _item(row, lambda cells: cells[place])


def _json_items(path: str, column: str | None) -> Iterator[str | Unusable]:
    rows = jsonl_reader.json_lines(path, ReadOptions())
    names, head = jsonl_reader.read_names(path, rows)
    key = names[_find_column(names, column, path)]
    for row in itertools.chain(head, rows):
        yield _item(row, lambda values: values.get(key))


def _item(row: RowOrReject | jsonl_reader.ObjectOrReject, get: Callable[[Any], Any]) -> str | Unusable:
    if isinstance(row, RejectedRow):
        return Unusable(str(row.source), f"{row.reason}: {row.detail}")
    source, values = row
    value = get(values)
    if not isinstance(value, str) or not value.strip():
        return Unusable(str(source), f"missing: no path in the list, but {value!r}")
    return value.strip()


def _find_column(names: Sequence[str], column: str | None, path: str) -> int:
    wanted = [column] if column is not None else [name for name in _COLUMNS if name in names]
    if column is None and len(names) == 1:
        wanted = list(names)
    if not wanted or wanted[0] not in names:
        what = f"no column {column!r}" if column is not None else "which column has the paths is not plain"
        raise TfrError(f"{path}: {what}. Name one with --column. The columns are: {', '.join(map(repr, names))}.")
    return list(names).index(wanted[0])
