"""Opening annotation files as text or lines, with messages that name the line."""

import contextlib
import json
import urllib.parse
from collections.abc import Iterator
from typing import IO, Any

from tfr import files
from tfr.annotations.base import ReadOptions
from tfr.errors import AnnotationError

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_head(path: str, size: int) -> bytes:
    """The first bytes of a file."""
    with files.open_binary(path) as file:
        return file.read(size)


def encoding_of(path: str, options: ReadOptions) -> str:
    """The encoding to read with: the option's, or UTF-16 where the file starts with the mark of that."""
    return "utf-16" if read_head(path, 2) in _UTF16_MARKS else options.encoding


@contextlib.contextmanager
def open_text(path: str, options: ReadOptions) -> Iterator[IO[str]]:
    """Opens a text file, line ends untouched.

    Raises (also while it is read):
      AnnotationError: it is empty, or its bytes are not of the encoding; names the line.
    """
    encoding = encoding_of(path, options)
    with files.open_text(path, encoding) as file:
        try:
            yield file
        except UnicodeDecodeError as err:
            line, byte = _undecodable_line(path, encoding)
            raise AnnotationError(
                f"{path}:{line}: byte {byte:#04x} is not {encoding}. Give the file's own encoding, e.g. "
                "--encoding=latin-1 or --encoding=cp1252."
            ) from err


def _undecodable_line(path: str, encoding: str) -> tuple[int, int]:
    """The number and the first wrong byte of the first line that cannot be decoded."""
    number = 0
    with files.open_binary(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as err:
                return number, err.object[err.start]
    return number, 0


def load_json(path: str, options: ReadOptions) -> Any:
    """The content of a JSON file.

    Raises:
      AnnotationError: empty, undecodable, not JSON (names line and column), or cut off.
    """
    with open_text(path, options) as file:
        text = file.read()
    if not text.strip():
        raise AnnotationError(f"{path}: the file is empty; expected JSON.")
    try:
        return parse_json(text)
    except json.JSONDecodeError as err:
        is_cut = text.lstrip()[0] in "[{" and text.rstrip()[-1] not in "]}"
        cut = "" if not is_cut else f" The file ends after {len(text)} characters: it seems cut off."
        raise AnnotationError(
            f"{path}:{err.lineno}: not valid JSON: {err.msg} (column {err.colno}, character {err.pos}).{cut}"
        ) from err
    except (ValueError, RecursionError) as err:
        raise AnnotationError(f"{path}: not usable JSON: {err}.") from err


def parse_json(text: str) -> Any:
    """Parses JSON text; ValueError also where it holds half a surrogate pair, which no file can store as UTF-8."""
    value = json.loads(text)
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as err:
            raise ValueError("an escape such as \\ud800 is half of a character") from err
    return value


def name_in_url(url: str) -> str:
    """The last part of a URL's path, decoded: 'https://h/a/b%20c.jpg?x=1' gives 'b c.jpg'."""
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path).rsplit("/", 1)[-1]
