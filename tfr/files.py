"""Files and folders by path or URI: the local disk directly, object stores through Beam (see tfr.remote_files)."""

import contextlib
import errno
import glob
import io
import itertools
import os
import pickle
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from typing import IO, NamedTuple

from tfr import progress, remote_files, retries
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


def absolute(path: str) -> str:
    """A path as it is from anywhere; a URI is that already."""
    return os.path.abspath(path) if is_local(path) else path


def exists(path: str) -> bool:
    """Whether there is a file or folder at a path or URI."""
    return os.path.exists(path) if is_local(path) else remote_files.exists(path)


def is_dir(path: str) -> bool:
    """Whether there is a folder at a path or URI."""
    return os.path.isdir(path) if is_local(path) else remote_files.is_dir(path)


def size(path: str) -> int | None:
    """The size of a file in bytes; None where there is none."""
    if not is_local(path):
        return remote_files.size(path)
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return None


def is_image_name(path: str) -> bool:
    """Whether a file name has an extension that images go by."""
    return path.lower().endswith(IMAGE_EXTENSIONS)


def open_text(path: str, encoding: str = "utf-8") -> IO[str]:
    """Opens a text file for reading, line ends untouched (the csv module wants them so)."""
    if is_local(path):
        return open(path, encoding=encoding, newline="")
    return io.TextIOWrapper(remote_files.open_binary(path), encoding=encoding, newline="")


def open_binary(path: str) -> IO[bytes]:
    """Opens a file or URI for reading bytes."""
    return open(path, "rb") if is_local(path) else remote_files.open_binary(path)


def read_bytes(path: str) -> bytes:
    """The whole content of a file, or of an image inside a TFRecord; FileNotFoundError where there is none."""
    if path.startswith(RECORD_SCHEME):
        from tfr import record_images

        return record_images.read_image(path)
    if not is_local(path):
        return remote_files.read_bytes(path)
    try:
        return _read_local(path)
    except OSError as err:
        if not retries.is_transient(err):
            raise
    return retries.call(_read_local, path)  # network file systems pass on the moments of their servers


def _read_local(path: str) -> bytes:
    """Reads a file with half of the calls that `open` and `read` take; each gives up the interpreter's lock."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        data = os.read(descriptor, found.st_size + 1)
        if len(data) == found.st_size:  # no more than that, so this is the end
            return data
        with open(descriptor, "rb", closefd=False) as file:
            return data + file.read()
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def fetch(path: str) -> Iterator[str]:
    """A local path with the content of a remote file, for libraries that open files themselves."""
    with open_binary(path) as file, tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(file, copy, 1 << 20)
        copy.flush()
        yield f"/dev/fd/{copy.fileno()}"


def match(pattern: str) -> list[str]:
    """The files whose path or URI matches a pattern of `*`, `?`, `[...]`, and `**` for any folders, sorted."""
    if not is_local(pattern):
        return remote_files.match(pattern)
    return sorted(path for path in glob.iglob(pattern, recursive=True) if os.path.isfile(path))


def make_dirs(path: str) -> None:
    """Makes a folder and its parents, if they are not there."""
    if is_local(path):
        os.makedirs(path, exist_ok=True)
    else:
        remote_files.make_dirs(path)


@contextlib.contextmanager
def atomic_path(path: str, *, sync: bool = False) -> Iterator[str]:
    """A local path to write a file to, which appears under `path` when the block ends, and not at all if it raises.

    A local file is written to `<path>.tmp-<random>` beside it and renamed. A remote one is written to a nameless file
    on the local disk, uploaded to such a name and renamed there: an upload can be repeated, a stream cannot.

    Args:
      path: a path or URI.
      sync: whether the content of a local file is on the disk before its name is, for files whose presence is taken as
        proof of their content even after a power failure.
    """
    temporary = f"{path}.tmp-{uuid.uuid4().hex[:12]}"
    try:
        if is_local(path):
            yield temporary
            if sync:
                _sync(temporary)
            os.replace(temporary, path)
        else:
            with tempfile.TemporaryFile() as spool:
                yield f"/dev/fd/{spool.fileno()}"
                remote_files.upload(spool, temporary, path)
    except BaseException:
        with contextlib.suppress(Exception):
            remove(temporary)
        raise


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as err:
        if err.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that know no such thing
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_write(path: str, *, sync: bool = False) -> Iterator[IO[bytes]]:
    """Opens a file for writing that appears under its name only when all of it is written; see `atomic_path`."""
    with atomic_path(path, sync=sync) as local, open(local, "wb") as file:
        yield file


def write_text(path: str, text: str, *, sync: bool = False) -> None:
    """Writes a small text file in UTF-8, atomically."""
    with atomic_write(path, sync=sync) as file:
        file.write(text.encode("utf-8"))


def remove(path: str) -> None:
    """Removes a file; one that is gone already is no error."""
    if not is_local(path):
        remote_files.remove([path])
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def remove_tree(folder: str) -> None:
    """Removes a folder with all that is in it; one that is gone already is no error."""
    if not is_local(folder):
        remote_files.remove_tree(folder)
        return
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def list_names(folder: str) -> list[str]:
    """Names of what lies right in a folder, sorted, folders with '/' at the end, hidden ones left out."""
    if is_local(folder):
        with os.scandir(folder) as entries:
            names = [entry.name + "/" * entry.is_dir() for entry in entries]
    else:
        names = list({_first_part(path) for path, _ in remote_files.list_files(folder)})
    return sorted(name for name in names if not name.startswith("."))


def _first_part(path: str) -> str:
    name, slash, _ = path.partition("/")
    return name + slash


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
    for path, size in remote_files.list_files(folder):
        if not any(part.startswith(".") for part in path.split("/")):
            yield ListedFile(path, size)
