"""Files and folders by path or URI: the local disk directly, object stores through etils and Beam."""

import contextlib
import itertools
import os
import pickle
import tempfile
import uuid
from collections.abc import Iterator
from typing import IO, NamedTuple

from etils import epath

from tfr import progress
from tfr.errors import TfrError

IMAGE_EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif",
)  # fmt: skip
RECORD_SCHEME = "tfrecord://"  # images inside TFRecord files, see tfr.record_images
_FILES_PER_BLOCK = 4096  # of a listing that is kept
_LISTING_BYTES = 16 << 20  # from which on it is kept on disk


class ListedFile(NamedTuple):
    """A file below a listed folder: its path relative to the folder, with '/' between parts, and its size."""

    path: str
    size_bytes: int


def is_local(path: str) -> bool:
    """Whether a path is on this machine's disk rather than a URI such as gs://bucket/x."""
    return "://" not in path


def join(folder: str, path: str) -> str:
    """`path` below `folder`; a URI or an absolute path stands for itself."""
    if path.startswith("/") or not is_local(path):
        return path
    return f"{folder.rstrip('/')}/{path}" if folder else path


def exists(path: str) -> bool:
    """Whether there is a file or folder at a path or URI."""
    return os.path.exists(path) if is_local(path) else epath.Path(path).exists()


def is_dir(path: str) -> bool:
    """Whether there is a folder at a path or URI."""
    return os.path.isdir(path) if is_local(path) else epath.Path(path).is_dir()


def is_image_name(path: str) -> bool:
    """Whether a file name has an extension that images go by."""
    return path.lower().endswith(IMAGE_EXTENSIONS)


def open_text(path: str, encoding: str = "utf-8") -> IO[str]:
    """Opens a text file for reading, line ends untouched (the csv module wants them so)."""
    if is_local(path):
        return open(path, encoding=encoding, newline="")
    return epath.Path(path).open("r", encoding=encoding)


def open_binary(path: str) -> IO[bytes]:
    """Opens a file or URI for reading bytes."""
    return open(path, "rb") if is_local(path) else epath.Path(path).open("rb")


def read_bytes(path: str) -> bytes:
    """The whole content of a file, or of an image inside a TFRecord; FileNotFoundError where there is none."""
    if path.startswith(RECORD_SCHEME):
        from tfr import record_images

        return record_images.read_image(path)
    if is_local(path):
        with open(path, "rb") as file:
            return file.read()
    from apache_beam.io.filesystems import FileSystems  # slow to import, and only object stores need it

    with FileSystems.open(path, compression_type="uncompressed") as file:
        return file.read()


def make_dirs(path: str) -> None:
    """Makes a folder and its parents, if they are not there."""
    epath.Path(path).mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def atomic_write(path: str) -> Iterator[IO[bytes]]:
    """Opens a file for writing that appears under its name only when all of it is written.

    The content goes to `<path>.tmp-<random>` beside it, is renamed at the end, and is removed on any exception.
    """
    temporary = f"{path}.tmp-{uuid.uuid4().hex[:12]}"
    try:
        with _open_write(temporary) as file:
            yield file
        if is_local(path):
            os.replace(temporary, path)
        else:
            epath.Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            epath.Path(temporary).unlink(missing_ok=True)
        raise


def _open_write(path: str) -> IO[bytes]:
    if is_local(path):
        return open(path, "wb")
    from apache_beam.io.filesystems import FileSystems

    return FileSystems.create(path, compression_type="uncompressed")


def write_text(path: str, text: str) -> None:
    """Writes a small text file in UTF-8, atomically."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def list_names(folder: str) -> list[str]:
    """Names of what lies right in a folder, sorted, folders with '/' at the end, hidden ones left out."""
    if is_local(folder):
        with os.scandir(folder) as entries:
            names = [entry.name + "/" * entry.is_dir() for entry in entries]
    else:
        names = [path.name + "/" * path.is_dir() for path in epath.Path(folder).iterdir()]
    return sorted(name for name in names if not name.startswith("."))


def list_images(folder: str) -> Iterator[ListedFile]:
    """The image files (by extension) anywhere below a folder, hidden ones left out; in no order."""
    return (file for file in list_files(folder) if is_image_name(file.path))


def list_files(folder: str) -> Iterator[ListedFile]:
    """The files anywhere below a folder, hidden ones left out; in no order."""
    return _list_local(folder) if is_local(folder) else _list_remote(folder)


class Listing:
    """The files of `list_files`, walked through once, however often they are iterated over.

    Names and sizes are kept in memory while they are few, and in a temporary file from then on. Use as a context
    manager.
    """

    def __init__(self, folder: str):
        """Takes note of the folder; it is walked through when the listing is first asked for."""
        self._folder = folder
        self._blocks: IO[bytes] | None = None

    def __enter__(self) -> "Listing":
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._blocks is not None:
            self._blocks.close()

    def __iter__(self) -> Iterator[ListedFile]:
        if self._blocks is None:
            self._blocks = self._walk()
        self._blocks.seek(0)
        with contextlib.suppress(EOFError):
            while True:
                yield from map(ListedFile, *pickle.load(self._blocks))

    def _walk(self) -> IO[bytes]:
        blocks = tempfile.SpooledTemporaryFile(_LISTING_BYTES, prefix="tfr-listing-")  # noqa: SIM115 - __exit__ closes it
        found = progress.count(list_files(self._folder), "listing images", "files")
        while block := list(itertools.islice(found, _FILES_PER_BLOCK)):
            pickle.dump(tuple(zip(*block, strict=True)), blocks)
        return blocks


def _list_local(folder: str) -> Iterator[ListedFile]:
    pending: list[tuple[str, str, tuple[str, ...]]] = [(folder, "", ())]
    while pending:
        path, prefix, above = pending.pop()
        real = os.path.realpath(path)
        if real in above:  # a link to a folder that it lies in
            continue
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name[0] == ".":
                    continue
                if not entry.name.isascii():
                    _check_name(entry)
                if entry.is_file(follow_symlinks=False):  # first: of millions of entries nearly all are such
                    yield ListedFile(prefix + entry.name, entry.stat(follow_symlinks=False).st_size)
                elif os.path.isdir(entry.path):
                    pending.append((entry.path, f"{prefix}{entry.name}/", (*above, real)))
                elif os.path.isfile(entry.path):
                    yield ListedFile(prefix + entry.name, entry.stat().st_size)


def _check_name(entry: os.DirEntry) -> None:
    """Raises where a name is no text; ids, manifests and records are text."""
    try:
        entry.name.encode()
    except UnicodeEncodeError as err:
        raise TfrError(f"{os.fsencode(entry.path)!r}: the file's name is not UTF-8. Rename it.") from err


def _list_remote(folder: str) -> Iterator[ListedFile]:
    from apache_beam.io.filesystems import FileSystems

    root = folder.rstrip("/") + "/"
    (match,) = FileSystems.match([root + "**"])
    for metadata in match.metadata_list:
        relative = metadata.path.removeprefix(root)
        if not any(part.startswith(".") for part in relative.split("/")):
            yield ListedFile(relative, metadata.size_in_bytes)
