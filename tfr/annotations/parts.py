"""Annotation tables read in parts, by different processes: line-oriented formats, cut at line ends."""

import codecs
import dataclasses
import io
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

from tfr import files
from tfr.annotations import columns, csv_reader, formats, jsonl_reader, paths, text_files
from tfr.annotations.base import Event, ReadOptions
from tfr.annotations.columns import RowOrReject
from tfr.errors import AnnotationError, UsageError

DIVISIBLE = ("csv", "tsv", "jsonl")
# Encodings in which a byte 0x0A is a line end and nothing else, whatever stands before it.
_BY_BYTES = ("utf-8", "ascii", "iso8859", "cp125", "latin", "koi8", "mac-")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """What reading any part of a table takes.

    Attributes:
      path, options: the file, and how to read it.
      is_json: whether its lines are JSON objects, not CSV.
      encoding: its text encoding.
      delimiter: between cells of CSV.
      names: its columns.
      head: its first rows, by which columns are judged.
      start, first_line: the offset in bytes, and the number, of the first line after the header.
      size: bytes of the file.
    """

    path: str
    options: ReadOptions
    is_json: bool
    encoding: str
    delimiter: str
    names: tuple[str, ...]
    head: tuple[RowOrReject, ...]
    start: int
    first_line: int
    size: int

    def reader(self) -> columns.TableReader:
        """A reader of its rows."""
        return columns.TableReader(self.names, self.options, self.path, self.head)

    def parts(self, part_bytes: int) -> list[tuple[int, int]]:
        """The offsets, first and behind the last, of parts of about so many bytes; at least one part."""
        num_parts = max(1, math.ceil((self.size - self.start) / part_bytes))
        bounds = [self.start + (self.size - self.start) * i // num_parts for i in range(num_parts + 1)]
        return list(itertools.pairwise(bounds))


def open_table(path: str, format: str, options: ReadOptions) -> tuple[Table, list[str]]:
    """Looks at the head of a table.

    Returns:
      The table, and notes for a person.

    Raises:
      UsageError: its format or encoding cannot be read in parts.
      AnnotationError: it cannot be read at all.
    """
    notes = []
    if format == "auto":
        format, reason = formats.detect_format(path)
        notes.append(f"format {format} ({reason})")
    formats.check(path, format, options)
    encoding = codecs.lookup(text_files.encoding_of(path, options)).name
    if format not in DIVISIBLE or not encoding.startswith(_BY_BYTES):
        raise UsageError(
            f"{path}: {format} in {encoding} cannot be read in parts by several workers: {', '.join(DIVISIBLE)} in "
            "UTF-8 or one byte a character can. Convert the table, or plan with --planner=local."
        )
    return (_open_jsonl if format == "jsonl" else _open_csv)(path, format, options, encoding), notes


def _open_csv(path: str, format: str, options: ReadOptions, encoding: str) -> Table:
    delimiter = options.delimiter or ("\t" if format == "tsv" else None)
    with text_files.open_text(path, options) as file:
        names, rows = csv_reader.table_rows(file, path, delimiter)
        head = tuple(itertools.islice(rows, columns.ROWS_TO_JUDGE))
    with files.open_binary(path) as binary:
        first_line, start, header = 1, 0, ""
        while not header.strip():
            line = binary.readline()
            header, start, first_line = line.decode(encoding), start + len(line), first_line + 1
        size = binary.seek(0, io.SEEK_END)
    if "\r" in header.rstrip("\r\n"):
        raise UsageError(f"{path}: lines end in a carriage return alone. Convert the table, or use --planner=local.")
    found = csv_reader.guess_delimiter(header.removeprefix("\ufeff"))
    by_line = encoding.removesuffix("-sig")  # a byte order mark stands before the header only
    return Table(
        path=path, options=options, is_json=False, encoding=by_line, delimiter=delimiter or found,
        names=tuple(names), head=head, start=start, first_line=first_line, size=size,
    )  # fmt: skip


def _open_jsonl(path: str, _: str, options: ReadOptions, encoding: str) -> Table:
    names, head = jsonl_reader.read_names(path, jsonl_reader.json_lines(path, options))
    with files.open_binary(path) as binary:
        size = binary.seek(0, io.SEEK_END)
    judged = tuple(itertools.islice(jsonl_reader.named_values(head, names), columns.ROWS_TO_JUDGE))
    return Table(
        path=path, options=options, is_json=True, encoding=encoding, delimiter="",
        names=tuple(names), head=judged, start=0, first_line=1, size=size,
    )  # fmt: skip


class PartReader:
    """Reads one part of a table: the lines that start in it.

    Attributes:
      num_lines: lines read so far.
      table_reader: counts what is to be said in the end.
    """

    def __init__(self, table: Table, start: int, end: int):
        self._table, self._start, self._end = table, start, end
        self.num_lines = 0
        self.table_reader = table.reader()

    def events(self) -> Iterator[Event]:
        """What becomes of the rows; line numbers count from the first line of the part, as 1.

        Raises:
          AnnotationError: a cell has a line break in it, or bytes are not of the encoding.
        """
        table = self._table
        with files.open_binary(table.path) as file:
            if table.is_json:
                lines = jsonl_reader.parse_lines(self._own_lines(file), table.path, table.encoding)
                rows: Iterable[RowOrReject] = jsonl_reader.named_values(lines, list(table.names))
            else:
                rows = self._csv_rows(file)
            yield from paths.keep_inside(self.table_reader.read(rows), table.options)

    def _own_lines(self, file: Any) -> Iterator[bytes]:
        position = self._start
        file.seek(position)
        if position > self._table.start:  # a line that is under way here belongs to the part before
            file.seek(position - 1)
            position += len(file.readline()) - 1
        while position < self._end and (line := file.readline()):
            position += len(line)
            self.num_lines += 1
            yield line

    def _csv_rows(self, file: Any) -> Iterator[RowOrReject]:
        """Rows of one line each; a line after the last of the part shows whether a quote is left open there."""
        table, read = self._table, 0

        def lines() -> Iterator[str]:
            nonlocal read
            for line in itertools.chain(self._own_lines(file), iter(lambda: file.readline(), b"")):
                read += 1
                yield self._decode(line)

        for row in csv_reader.csv_rows(lines(), table.path, table.delimiter, len(table.names), 1):
            source = row.source if not isinstance(row, tuple) else row[0]
            if source.row > self.num_lines:
                return
            if read > source.row:
                raise AnnotationError(
                    f"{table.path}:{source.row}: a cell goes on over a line end, so the table cannot be read in "
                    "parts. Remove line breaks from cells, or plan with --planner=local."
                )
            yield row

    def _decode(self, line: bytes) -> str:
        table = self._table
        try:
            text = line.decode(table.encoding)
        except UnicodeDecodeError as err:
            raise AnnotationError(
                f"{table.path}:{self.num_lines}: byte {line[err.start]:#04x} is not {table.encoding}. Give the file's "
                "own encoding, e.g. --encoding=latin-1 or --encoding=cp1252."
            ) from err
        if "\r" in text[:-2]:
            raise AnnotationError(
                f"{table.path}:{self.num_lines}: a carriage return stands within the line, so the table cannot be read "
                "in parts. Remove it, or plan with --planner=local."
            )
        return text
