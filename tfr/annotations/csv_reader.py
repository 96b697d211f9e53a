"""CSV and TSV files with a header, streamed line by line."""

import csv
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

from tfr.annotations import text_files
from tfr.annotations.base import Event, ReadOptions, RejectedRow, Source
from tfr.annotations.columns import RowOrReject, read_rows
from tfr.errors import AnnotationError

_DELIMITERS = (",", "\t", ";", "|")
csv.field_size_limit(1 << 24)  # cells of tags can be longer than the module's 128 KiB


def read_csv(path: str, options: ReadOptions, *, image_prefix: str = "", split: str | None = None) -> Iterator[Event]:
    """Yields the rows of a CSV file whose first line names the columns.

    Shape: `Id,Genre,Action,...` or `image_path,label`; any delimiter; quoted as RFC 4180 has it; a byte order
    mark, padded headers, blank lines and Windows line ends are fine. See ReadOptions for which columns are used.
    Cells are text: an id `00123` or `1e5` stays what it is. An image is found by its path, or by an id that is its
    file name without extension, so that a table of metadata is joined with images by id. A row with more or fewer
    cells than the header is rejected, the rest goes on.

    Args:
      path: the file.
      options: which columns to use, the delimiter, the encoding.
      image_prefix, split: see `columns.read_rows`.

    Raises:
      AnnotationError: no header, undecodable bytes, or a missing column.
    """
    with text_files.open_text(path, options) as file:
        header, rows = table_rows(file, path, options.delimiter)
        yield from read_rows(header, rows, options, path, image_prefix=image_prefix, split=split)


def read_tsv(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the rows of a TSV file.

    Shape: as `read_csv`, with tabs between the cells.
    """
    return read_csv(path, dataclasses.replace(options, delimiter=options.delimiter or "\t"))


def table_rows(file: IO[str], path: str, delimiter: str | None) -> tuple[list[str], Iterator[RowOrReject]]:
    """The header of an open CSV file, and its rows.

    Raises:
      AnnotationError: there is no header.
    """
    header_line, number = "", 0
    while not header_line.strip():
        header_line, number = file.readline(), number + 1
        if not header_line:
            raise AnnotationError(f"{path}: the file is empty; expected a header line that names the columns.")
    delimiter = delimiter or guess_delimiter(header_line)
    header = next(csv.reader([header_line], delimiter=delimiter))
    return header, csv_rows(file, path, delimiter, len(header), number + 1)


def csv_rows(
    file: Iterable[str], path: str, delimiter: str, width: int | None = None, first_line: int = 2
) -> Iterator[RowOrReject]:
    """The rows of an open CSV file from where it stands.

    Args:
      file: the open file, or its lines.
      path: its name, for messages.
      delimiter: between cells.
      width: cells that a row must have; None: any number.
      first_line: the number of the next line.
    """
    reader = csv.reader(file, delimiter=delimiter)
    line = first_line
    offset = first_line - 1
    try:
        for cells in reader:
            if len(cells) == width or (width is None and cells):
                yield Source(path, line), cells
            elif cells:
                yield RejectedRow(
                    Source(path, line), "malformed_row", _why(cells, width, reader, line - offset), cells[0]
                )
            line = reader.line_num + offset + 1
    except csv.Error as err:
        raise AnnotationError(f"{path}:{line}: cannot be read as CSV: {err}. Is a quote left open there?") from err


def _why(cells: list[str], width: int | None, reader: object, first: int) -> str:
    lines = reader.line_num - first + 1  # type: ignore[attr-defined]
    spans = f"; it spans {lines} lines: is a quote left open?" if lines > 1 else ""
    return f"{len(cells)} cells where the header has {width}{spans}"


def guess_delimiter(header_line: str) -> str:
    """The candidate that occurs most in the header; a comma where none does."""
    return max(_DELIMITERS, key=header_line.count)


def grouped(rows: Iterable[RowOrReject], column: int) -> Iterator[RejectedRow | list[tuple[Source, Sequence[str]]]]:
    """Neighbouring rows with equal text in a column, as lists; rejected rows, and rows with nothing there, alone."""
    group: list[tuple[Source, Sequence[str]]] = []
    for row in rows:
        if isinstance(row, RejectedRow):
            yield row
        elif not row[1][column].strip():
            yield RejectedRow(row[0], "no_id", f"nothing in column {column + 1}, which names the image")
        elif group and group[-1][1][column] == row[1][column]:
            group.append(row)
        else:
            if group:
                yield group
            group = [row]
    if group:
        yield group
