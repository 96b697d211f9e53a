"""CSV and TSV files with a header, streamed line by line."""

import csv
from collections.abc import Iterator

from tfr import files
from tfr.annotations.base import Event, LabelSet, ReadOptions, RejectedRow, Source
from tfr.annotations.columns import RowParser
from tfr.errors import AnnotationError

_DELIMITERS = (",", "\t", ";", "|")
csv.field_size_limit(1 << 24)  # cells of tags can be longer than the module's 128 KiB


def read_csv(path: str, options: ReadOptions) -> Iterator[Event]:
    """Yields the rows of a CSV file whose first line names the columns.

    Shape: `Id,Genre,Action,...` or `image_path,label`; any delimiter; quoted as RFC 4180 has it; a byte order
    mark, padded headers, blank lines and Windows line ends are fine. See ReadOptions for which columns are used.
    A row with more or fewer cells than the header is rejected, the rest goes on.

    Raises:
      AnnotationError: no header, undecodable bytes, a missing column, a label cell that cannot be read.
    """
    with files.open_text(path, options.encoding) as file:
        try:
            header_line = file.readline()
            if not header_line.strip():
                raise AnnotationError(f"{path}: the file is empty; expected a header line that names the columns.")
            delimiter = options.delimiter or _guess_delimiter(header_line)
            header = next(csv.reader([header_line], delimiter=delimiter))
            parser = RowParser(header, options, path)
            reader = csv.reader(file, delimiter=delimiter)
            for cells in reader:
                if not cells:
                    continue
                source = Source(path, reader.line_num + 1)
                if len(cells) != len(header):
                    detail = f"{len(cells)} cells where the header has {len(header)}"
                    yield RejectedRow(source, "malformed_row", detail, cells[0].strip())
                else:
                    yield parser.parse(cells, source)
            if parser.declared:
                yield LabelSet(parser.declared)
        except UnicodeDecodeError as err:
            raise AnnotationError(
                f"{path}: not {options.encoding}: byte {err.object[err.start]:#04x} at offset {err.start} of a block. "
                "Give the right --encoding, e.g. --encoding=latin-1."
            ) from err
        except csv.Error as err:
            raise AnnotationError(f"{path}: cannot be read as CSV: {err}.") from err


def _guess_delimiter(header_line: str) -> str:
    """The candidate that occurs most in the header; a comma where none does."""
    return max(_DELIMITERS, key=header_line.count)
