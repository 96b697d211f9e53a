"""Progress bars on standard error, silent where nobody looks at them."""

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def bar(total: int | None, description: str, unit: str) -> tqdm:
    """A progress bar with rate and time left. Without a terminal it prints a line every ten seconds."""
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=description,
        unit=f" {unit}",
        file=sys.stderr,
        mininterval=0.2 if terminal else 10,
        disable=os.environ.get("TFR_PROGRESS") == "0",
        leave=True,
        delay=0 if terminal else 10,
        smoothing=0.1,
    )


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
        disable=os.environ.get("TFR_PROGRESS") == "0",
    ) as items_with_bar:
        yield from items_with_bar
