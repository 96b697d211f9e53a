"""Taking and loading items ahead of who uses them: in order, in threads, a bounded number."""

import concurrent.futures
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_STOP_SECS = 0.2  # how often a thread that cannot go on looks whether it should


class ReadAhead(Generic[T, R]):
    """Takes items in one thread, so that waiting for them holds nothing up, and loads them in several. Use with `with`.

    Args:
      items: what to load; may be slow, endless, or raise.
      load: of one item.
      threads: that load.
      window: items taken and not yet used, at most.
    """

    def __init__(self, items: Iterable[T], load: Callable[[T], R], *, threads: int, window: int):
        self._items, self._load = items, load
        self._pool = concurrent.futures.ThreadPoolExecutor(threads)
        self._taken: queue.Queue[concurrent.futures.Future[R] | _End] = queue.Queue(window)
        self._stopped = threading.Event()
        self._feeder = threading.Thread(target=self._feed, daemon=True)  # may wait for standard input for good
        self._end: _End | None = None

    def __enter__(self) -> "ReadAhead[T, R]":
        self._feeder.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def batches(self, size: int, max_wait_secs: float | None = None) -> Iterator[list[R]]:
        """What was loaded, `size` at a time; fewer at the end.

        Args:
          size: of a batch.
          max_wait_secs: after that time since it began, a batch is given as it is. None: when it is full.

        Raises:
          Exception: what the iterable of items raised, after what came before that, or what `load` raised.
        """
        while self._end is None:
            if batch := [loading.result() for loading in self._take(size, max_wait_secs)]:
                yield batch
        if self._end.error is not None:
            raise self._end.error

    def _take(self, size: int, max_wait_secs: float | None) -> "list[concurrent.futures.Future[R]]":
        """What belongs to one batch; waits for the first, then for the next ones as long as it may."""
        taken: list[concurrent.futures.Future[R]] = []
        deadline = None
        while len(taken) < size:
            try:
                found = self._taken.get(timeout=deadline and max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if isinstance(found, _End):
                self._end = found
                break
            if not taken and max_wait_secs is not None:
                deadline = time.monotonic() + max_wait_secs
            taken.append(found)
        return taken

    def _feed(self) -> None:
        error = None
        try:
            for item in self._items:
                if not self._put(self._pool.submit(self._load, item)):
                    return
        except BaseException as err:
            error = err
        self._put(_End(error))

    def _put(self, found: "concurrent.futures.Future[R] | _End") -> bool:
        """Whether there was room before all was stopped."""
        while not self._stopped.is_set():
            try:
                self._taken.put(found, timeout=_STOP_SECS)
            except queue.Full:
                continue
            return True
        return False


class _End:
    """The mark behind the last item; with what the iterable raised, if it did."""

    def __init__(self, error: BaseException | None):
        self.error = error
