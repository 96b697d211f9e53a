"""Files in object stores and other file systems that Beam knows, by URI; what fails for a moment is tried again."""

import contextlib
import io
import re
import shutil
from collections.abc import Iterator
from typing import IO, Any

from tfr import retries
from tfr.errors import MissingDependencyError, TfrError, UsageError

_BUFFER_BYTES = 1 << 20
_DELETE_BATCH = 1000
_BELOW = "/**"


def _file_systems() -> Any:
    from apache_beam.io.filesystems import FileSystems  # slow to import, and only URIs need it

    return FileSystems


def _call(method: str, *args: Any, **kwargs: Any) -> Any:
    """A method of Beam's FileSystems, tried again where it fails for a moment."""
    try:
        return retries.call(getattr(_file_systems(), method), *args, **kwargs)
    except ValueError as err:
        if "Unable to get filesystem" not in str(err):
            raise
        raise _no_file_system(*args) from err


def _no_file_system(named: str | list[str], *_: Any) -> TfrError:
    path = named if isinstance(named, str) else re.sub(r"\[([*?[])\]", r"\1", named[0].removesuffix(_BELOW))
    if path.startswith(("http://", "https://")):
        return UsageError(f"{path}: files are not read from web servers. Download it, and give the path of the file.")
    return MissingDependencyError(
        f"{path}: no such kind of file system is installed. gs:// wants apache-beam[gcp], s3:// apache-beam[aws], "
        "azfs:// apache-beam[azure]."
    )


def exists(path: str) -> bool:
    """Whether there is a file or a folder."""
    return _call("exists", path) or is_dir(path)


def size(path: str) -> int | None:
    """The size of a file in bytes; None where there is none."""
    (match,) = _call("match", [_literal(path)])
    return match.metadata_list[0].size_in_bytes if match.metadata_list else None


def is_dir(path: str) -> bool:
    """Whether there is anything below a path: object stores know of no empty folders."""
    (match,) = _call("match", [_below(path)], limits=[1])
    return bool(match.metadata_list)


def _below(folder: str) -> str:
    return f"{_literal(folder.rstrip('/'))}{_BELOW}"


def _literal(path: str) -> str:
    """A pattern that matches a path and nothing else: names may have Beam's special characters in them."""
    return re.sub(r"[*?[]", r"[\g<0>]", path)


def list_files(folder: str) -> Iterator[tuple[str, int]]:
    """(path relative to the folder, size in bytes) of every file below a folder."""
    root = folder.rstrip("/") + "/"
    (match,) = _call("match", [_below(folder)])
    return ((metadata.path.removeprefix(root), metadata.size_in_bytes) for metadata in match.metadata_list)


def match(pattern: str) -> list[str]:
    """The files whose path matches a pattern of `*`, `?`, `[...]` and `**`, sorted."""
    (found,) = _call("match", [pattern])
    return sorted(metadata.path for metadata in found.metadata_list)


def make_dirs(path: str) -> None:
    """Makes a folder where the file system has such things."""
    try:
        _call("mkdirs", path)
    except OSError:
        if not _call("exists", path):
            raise


def remove(paths: list[str]) -> None:
    """Removes files; those that are gone already are no error."""
    for start in range(0, len(paths), _DELETE_BATCH):
        retries.call(_remove_once, paths[start : start + _DELETE_BATCH])


def _remove_once(paths: list[str]) -> None:
    systems = _file_systems()
    try:
        systems.delete(paths)
    except Exception:  # each client has an error of its own for files that are gone, as after an answer that got lost
        left = [path for path in paths if systems.exists(path)]
        if len(left) == len(paths):
            raise
        systems.delete(left)


def remove_tree(folder: str) -> None:
    """Removes all files below a folder, and the folder where it is a thing of its own."""
    root = folder.rstrip("/")
    remove([f"{root}/{path}" for path, _ in list_files(folder)])
    with contextlib.suppress(OSError):
        _call("delete", [root])


def read_bytes(path: str) -> bytes:
    """The whole content of a file.

    Raises:
      FileNotFoundError: there is none.
    """

    def read() -> bytes:
        with _open_once(path) as file:
            return file.read()

    return _existing(path, read)


def _open_once(path: str) -> Any:
    return _file_systems().open(path, compression_type="uncompressed")


def _existing(path: str, function: Any) -> Any:
    """The function's result, tried again; FileNotFoundError where it fails because there is no such file."""
    try:
        return retries.call(function)
    except FileNotFoundError:
        raise
    except Exception as err:  # each client has an error of its own for what is not there
        if retries.is_transient(err) or _call("exists", path):
            raise
        raise FileNotFoundError(2, "No such file", path) from err


def open_binary(path: str) -> IO[bytes]:
    """Opens a file for reading bytes; a connection that breaks is opened again where it was.

    Raises:
      FileNotFoundError: there is none.
    """
    return io.BufferedReader(_ResumingReader(path), _BUFFER_BYTES)


class _ResumingReader(io.RawIOBase):
    """Reads a remote file; after an error that may pass, it opens the file anew and goes on at the same byte."""

    def __init__(self, path: str):
        self._path, self._position = path, 0
        self._file = _existing(path, lambda: _open_once(path))

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads up to the length of the buffer; returns how many bytes."""
        data = retries.call(self._read, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _read(self, length: int) -> bytes:
        if self._file is None:
            file = _open_once(self._path)
            file.seek(self._position)
            self._file = file
        try:
            return self._file.read(length)
        except Exception:
            self._close_file()
            raise

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(Exception):  # of a connection that is broken anyway
                file.close()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to a byte of the file."""
        if whence == io.SEEK_END:
            offset += size(self._path) or 0
        elif whence == io.SEEK_CUR:
            offset += self._position
        self._close_file()
        self._position = offset
        return offset

    def tell(self) -> int:
        """The byte that is read next."""
        return self._position

    def close(self) -> None:
        """Closes the connection."""
        self._close_file()
        super().close()


def upload(file: IO[bytes], temporary: str, path: str) -> None:
    """Copies an open local file to a URI: under a temporary name first, since a broken upload may leave half a file."""

    def copy() -> None:
        file.seek(0)
        with _file_systems().create(temporary, compression_type="uncompressed") as target:
            shutil.copyfileobj(file, target, _BUFFER_BYTES)

    retries.call(copy)
    retries.call(_rename, temporary, path)


def _rename(temporary: str, path: str) -> None:
    """Renames; an attempt whose answer got lost, and file systems that do not replace files, are no error."""
    systems = _file_systems()
    try:
        systems.rename([temporary], [path])
    except Exception as err:
        if not systems.exists(path) or (retries.is_transient(err) and systems.exists(temporary)):
            raise
        if systems.exists(temporary):
            systems.delete([path])
            systems.rename([temporary], [path])
