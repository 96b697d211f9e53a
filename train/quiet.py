"""Starting TensorFlow without its start-up chatter."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator


def import_tensorflow() -> None:
    """Imports TensorFlow and Keras; silently where TF_CPP_MIN_LOG_LEVEL is 3.

    That variable alone does not do it: TensorFlow 2.21 logs from C++ before it has read it. Standard error is
    turned off for as long as the import takes; an import that fails raises as always.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "3":
        return
    with no_chatter():
        importlib.import_module("tensorflow")
        importlib.import_module("keras")


@contextlib.contextmanager
def no_chatter() -> Iterator[None]:
    """Discards what is written to standard error, from C++ too, where TF_CPP_MIN_LOG_LEVEL is 3."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "3":
        yield
        return
    sys.stderr.flush()
    saved, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nothing)
