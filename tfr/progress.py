"""Progress bars on standard error, silent where nobody looks at them."""

import contextlib
import contextvars
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from tqdm import tqdm

T = TypeVar("T")
_POLL_SECS = 0.5
_hidden = contextvars.ContextVar("hidden", default=False)


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """Shows no bars inside: for work that is one step of something with a bar of its own."""
    token = _hidden.set(True)
    try:
        yield
    finally:
        _hidden.reset(token)


def _is_off() -> bool:
    return _hidden.get() or os.environ.get("TFR_PROGRESS") == "0"


def bar(total: int | None, description: str, unit: str) -> tqdm:
    """A progress bar with rate and time left. Without a terminal it prints a line every ten seconds."""
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=description,
        unit=f" {unit}",
        file=sys.stderr,
        mininterval=0.2 if terminal else 10,
        disable=_is_off(),
        leave=True,
        delay=0 if terminal else 10,
        smoothing=0.1,
    )


class Polled(NamedTuple):
    """A bar for what others do: its total, description and unit, and what says how much is done, and a remark."""

    total: int
    description: str
    unit: str
    poll: Callable[[], int | tuple[int, str]]


@contextlib.contextmanager
def polled(shown: Polled | None) -> Iterator[None]:
    """Shows a bar while the body runs, moved on by a thread that asks twice a second; None shows nothing."""
    if shown is None:
        yield
        return
    stop = threading.Event()
    with bar(shown.total, shown.description, shown.unit) as shown_bar:

        def watch() -> None:
            while not stop.wait(_POLL_SECS):
                answer = shown.poll()
                done, remark = answer if isinstance(answer, tuple) else (answer, "")
                shown_bar.set_postfix_str(remark, refresh=False)
                shown_bar.update(done - shown_bar.n)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
            shown_bar.update(shown.total - shown_bar.n)
        finally:
            stop.set()
            thread.join()


def write(shown: tqdm, line: str) -> None:
    """Prints a line to standard error without breaking the bar."""
    if shown.disable:
        return
    if sys.stderr.isatty():
        shown.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr, flush=True)


def count(items: Iterable[T], description: str, unit: str) -> Iterator[T]:
    """Passes items on; shows how many came if that takes longer than a few seconds."""
    with tqdm(
        items,
        desc=description,
        unit=f" {unit}",
        file=sys.stderr,
        delay=3,
        leave=False,
        mininterval=0.5 if sys.stderr.isatty() else 10,
        disable=_is_off(),
    ) as items_with_bar:
        yield from items_with_bar
