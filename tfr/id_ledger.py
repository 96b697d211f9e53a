"""Finding ids that occur more than once among any number of them, in flat memory."""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

_ENTRY = np.dtype([("high", "<u8"), ("low", "<u8"), ("shard", "<u4"), ("number", "<u4")])
_IN_MEMORY = 1 << 20  # entries, of 24 bytes each, before they go to disk
_FILES = 256


class Place(NamedTuple):
    """Where an id stands: the index of its shard, and the record's number in it."""

    shard: int
    number: int


def digests(ids: Iterable[str]) -> np.ndarray:
    """A 128-bit digest of each id; uint64 (ids, 2)."""
    joined = b"".join(hashlib.blake2b(id_.encode("utf-8"), digest_size=16).digest() for id_ in ids)
    return np.frombuffer(joined, "<u8").reshape(-1, 2)


class IdLedger:
    """Remembers where each id stands.

    A million ids are kept in memory; more go to temporary files by the first bits of their digests, so that equal
    ones meet in one file and each file can be sorted alone. Use as a context manager.
    """

    def __init__(self) -> None:
        """Opens an empty ledger."""
        self._pending: list[np.ndarray] = []
        self._num_pending = 0
        self._folder: tempfile.TemporaryDirectory | None = None

    def __enter__(self) -> "IdLedger":
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def add(self, shard: int, digests: np.ndarray, numbers: Iterable[int]) -> None:
        """Notes the ids of a shard: their digests, and the numbers of the records that they stand in."""
        entries = np.empty(len(digests), _ENTRY)
        entries["high"], entries["low"], entries["shard"] = digests[:, 0], digests[:, 1], shard
        entries["number"] = np.fromiter(numbers, "<u4", len(digests))
        self._pending.append(entries)
        self._num_pending += len(entries)
        if self._num_pending > _IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="tfr-ids-")
        entries = np.concatenate(self._pending)
        buckets = entries["high"] % _FILES
        order = np.argsort(buckets, kind="stable")
        ends = np.cumsum(np.bincount(buckets.astype(np.int64), minlength=_FILES))
        for bucket, part in enumerate(np.split(entries[order], ends[:-1])):
            with open(os.path.join(self._folder.name, f"{bucket:03d}"), "ab") as file:
                part.tofile(file)
        self._pending, self._num_pending = [], 0

    def repeats(self) -> Iterator[tuple[Place, Place]]:
        """Yields (first place, further place) of every id that stands in several places; in no useful order."""
        if self._folder is None:
            yield from _repeats(np.concatenate(self._pending)) if self._pending else ()
            return
        if self._pending:
            self._spill()
        for name in sorted(os.listdir(self._folder.name)):
            yield from _repeats(np.fromfile(os.path.join(self._folder.name, name), _ENTRY))


def _repeats(entries: np.ndarray) -> Iterator[tuple[Place, Place]]:
    entries = entries[np.lexsort((entries["number"], entries["shard"], entries["low"], entries["high"]))]
    equal = (entries["high"][1:] == entries["high"][:-1]) & (entries["low"][1:] == entries["low"][:-1])
    starts = np.flatnonzero(np.concatenate(([True], ~equal)))  # where an id that differs from the one before begins
    for place in np.flatnonzero(equal) + 1:
        first = entries[starts[np.searchsorted(starts, place, "right") - 1]]
        yield Place(*map(int, first[["shard", "number"]])), Place(*map(int, entries[place][["shard", "number"]]))
