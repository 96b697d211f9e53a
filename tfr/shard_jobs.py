"""The shards of a dataset directory, and running a function over them on all cores."""

import concurrent.futures
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import tensorflow_datasets as tfds

from tfr import progress, shard_writer

_THREADS = 2  # of a process: decoding leaves the interpreter's lock free for about two
_MIN_RECORDS = 4000  # of a process: in the time that one takes to start, so many images are decoded
T = TypeVar("T")


class Shard(NamedTuple):
    """A shard that a dataset's metadata name: its file, and how many records they say it has."""

    split: str
    path: str
    num_records: int

    @property
    def file(self) -> str:
        """The name of the file."""
        return self.path.rpartition("/")[2]


def shards_of(builder: tfds.core.DatasetBuilder) -> list[Shard]:
    """All shards of a dataset, whether or not their files are there, split by split."""
    return [
        Shard(name, os.fspath(path), length)
        for name, split in builder.info.splits.items()
        for path, length in zip(split.filepaths, split.shard_lengths, strict=True)
    ]


def default_workers() -> int:
    """One worker a core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_each_shard(
    function: Callable[[Shard, int], T], shards: Sequence[Shard], num_workers: int | None, description: str
) -> Iterator[tuple[Shard, T]]:
    """Yields what a function returns for each shard, in order, and shows how many records are done.

    With more workers than two, processes share the shards of larger datasets. A script that calls this then needs
    `if __name__ == "__main__":` around its own work, since new processes import it.

    Args:
      function: takes a shard and the number of threads that it may use (0: none but its own); picklable.
      shards: those whose files are there.
      num_workers: cores to use; None: all.
      description: of the progress bar.
    """
    num_workers = num_workers or default_workers()
    num_records = sum(shard.num_records for shard in shards)
    processes = min(math.ceil(num_workers / _THREADS), len(shards), num_records // _MIN_RECORDS + 1)
    threads = _THREADS if num_workers > 1 else 0
    with progress.bar(num_records, description, "records") as bar:
        for shard, result in zip(shards, _results(function, shards, processes, threads), strict=True):
            bar.update(shard.num_records)
            yield shard, result


def _results(function: Callable[[Shard, int], T], shards: Sequence[Shard], processes: int, threads: int) -> Iterator[T]:
    if processes <= 1:
        yield from (function(shard, threads) for shard in shards)
        return
    # Not forked: the launcher has threads, and perhaps TensorFlow.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=context) as pool:
        call = _WithThreads(function, threads)
        yield from shard_writer.map_ahead(pool, call, shards, 2 * processes)


class _WithThreads:
    """A function of a shard alone; a class, since that can be pickled."""

    def __init__(self, function: Callable[[Shard, int], object], threads: int):
        self._function, self._threads = function, threads

    def __call__(self, shard: Shard) -> object:
        return self._function(shard, self._threads)
