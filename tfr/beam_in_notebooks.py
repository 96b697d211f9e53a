"""Beam jobs from notebooks: run as from a script."""

import contextlib
from collections.abc import Iterator
from unittest import mock

import apache_beam.pipeline


@contextlib.contextmanager
def as_in_a_script() -> Iterator[None]:
    """Keeps Beam from seeing that it is in IPython.

    There it imports its interactive part, to put the cell's number into the names of steps and to leave clearing up to
    a display that tfr does not use. That part knows pandas up to 2.3 alone (Beam 2.77) and fails with later ones.
    """
    changes = {"is_in_ipython": lambda: False, "alter_label_if_ipython": lambda *_: None}
    with contextlib.ExitStack() as stack:
        for name, change in changes.items():
            if hasattr(apache_beam.pipeline, name):  # they are no part of its API
                stack.enter_context(mock.patch.object(apache_beam.pipeline, name, change))
        yield
