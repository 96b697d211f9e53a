"""File names for exported images: made of ids, never outside their folder, never twice."""

import hashlib
import os
import re
from collections.abc import Iterator

from tfr import files

_MAX_PART_BYTES, _MAX_PATH_BYTES = 180, 900  # file systems allow 255 and some thousand
# What file systems or `tfr convert` would take for something else: control characters, other separators, drives.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f%\\:*?"<>|]|^[.\s~]|[.\s]$')
_SIGNATURES = (
    (b"\xff\xd8\xff", (".jpg", ".jpeg", ".jpe", ".jfif")),
    (b"\x89PNG\r\n\x1a\n", (".png",)),
    (b"GIF8", (".gif",)),
    (b"BM", (".bmp",)),
    (b"II*\x00", (".tif", ".tiff")),
    (b"MM\x00*", (".tif", ".tiff")),
)


def extensions_of(data: bytes) -> tuple[str, ...]:
    """The extensions that fit an encoded image, the usual one first."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return (".webp",)
    return next((extensions for start, extensions in _SIGNATURES if data.startswith(start)), (".img",))


def safe_path(id_: str, extensions: tuple[str, ...]) -> str:
    """A relative path for the image of an id: the id itself where it can be one.

    What cannot stand in a path is written as in URIs (`../a b` becomes `%2E%2E/a b.jpg`), so that different ids get
    different paths; parts that are too long end in a hash.
    """
    path = "/".join(_safe_part(part) for part in id_.split("/"))
    if len(path.encode("utf-8")) > _MAX_PATH_BYTES:
        path = f"~{_digest(id_)}"
    return path if path.lower().endswith(extensions) else path + extensions[0]


def _safe_part(part: str) -> str:
    safe = _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", part) or "%"
    data = safe.encode("utf-8")
    if len(data) <= _MAX_PART_BYTES:
        return safe
    return f"{data[: _MAX_PART_BYTES - 20].decode('utf-8', errors='ignore')}~{_digest(part)}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8"), digest_size=8).hexdigest()


def write_image(folder: str, id_: str, data: bytes) -> str:
    """Writes an image under a name that nothing has yet; returns its path relative to the folder.

    Two ids can want one name: on file systems that ignore case, or where `a.jpg` is an image and `a.jpg/1` another.
    """
    for path in _candidates(id_, extensions_of(data)):
        if _write_new(files.join(folder, path), data):
            return path
    raise AssertionError("there is always a further candidate")


def _candidates(id_: str, extensions: tuple[str, ...]) -> Iterator[str]:
    yield safe_path(id_, extensions)
    number = 0
    while True:  # '~' in front: no other name starts so
        yield f"~{_digest(f'{id_}#{number}')}{extensions[0]}"
        number += 1


def _write_new(path: str, data: bytes) -> bool:
    """Writes a file unless there is something of its name already; whether it did."""
    if not files.is_local(path):
        if files.exists(path):
            return False
        with files.atomic_write(path) as file:
            file.write(data)
        return True
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        return False
    return True
