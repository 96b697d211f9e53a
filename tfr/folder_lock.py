"""One process at a time: a lock that lives in a folder."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import IO

from tfr import files
from tfr.errors import ConversionError

_LOCK_FILE = "lock"

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def hold(folder: str, what: str, target: str) -> Iterator[None]:
    """Makes a folder and holds it for this process.

    On a local disk the operating system keeps the lock, and frees it however the process ends. Object stores have none.

    Args:
      folder: where the lock's file is; may be removed while it is held.
      what: the work that is done, and `target`, the folder that it writes to: for messages.

    Raises:
      ConversionError: another process has it.
    """
    files.make_dirs(folder)
    if not files.is_local(folder):
        yield
        return
    lock = _open_locked(folder, what, target)
    while not _is_at(lock, folder):  # its holder ended and removed the folder just before we got it
        lock.close()
        lock = _open_locked(folder, what, target)
    with lock:
        yield


@contextlib.contextmanager
def wait(folder: str) -> Iterator[None]:
    """Waits until no other process is in such a block for the same local folder: for a file read and written anew."""
    import fcntl

    handle = os.open(folder, os.O_RDONLY)  # the folder itself is what is locked: nothing is left in it
    try:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _open_locked(folder: str, what: str, target: str) -> IO[str]:
    import fcntl  # POSIX only, like the rest of the local runners' file handling

    files.make_dirs(folder)
    lock = open(f"{folder}/{_LOCK_FILE}", "a", encoding="utf-8")  # noqa: SIM115, closing it would free it
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as err:
        lock.close()
        raise ConversionError(f"Another {what} is writing to {target}. Wait for it.") from err
    except OSError as err:  # some network file systems have no locks
        logger.warning("%s cannot be locked (%s): see that no other %s writes to it.", target, err, what)
    return lock


def _is_at(file: IO[str], folder: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(f"{folder}/{_LOCK_FILE}"))
    except FileNotFoundError:
        return False
