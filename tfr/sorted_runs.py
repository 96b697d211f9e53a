"""Sorting more text than is wanted in memory: sorted runs on disk, merged."""

import contextlib
import heapq
import itertools
import pickle
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

_RUN = 100_000  # items that are sorted in memory
_BLOCK = 1000  # items of a run that are read at once


def sort(items: Iterable[str], run: int = _RUN) -> tuple[int, Iterator[str]]:
    """Sorts items, of which at most `run` are in memory at a time, and a block of each earlier run.

    Returns:
      How many there are, and the sorted items, to be iterated over once.
    """
    iterator, count, runs = iter(items), 0, []
    while block := sorted(itertools.islice(iterator, run)):
        count += len(block)
        if count <= run and len(block) < run:
            return count, iter(block)
        runs.append(_write(block))
    return count, heapq.merge(*map(_read, runs))


def _write(run: list[str]) -> IO[bytes]:
    file = tempfile.TemporaryFile(prefix="tfr-sort-")  # noqa: SIM115 - _read closes it
    for start in range(0, len(run), _BLOCK):
        pickle.dump(run[start : start + _BLOCK], file)
    file.seek(0)
    return file


def _read(file: IO[bytes]) -> Iterator[str]:
    with file, contextlib.suppress(EOFError):
        while True:
            yield from pickle.load(file)
