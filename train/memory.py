"""Memory that networks and their graphs leave behind."""

import ctypes
import gc


def give_back() -> None:
    """Frees what nobody refers to any more, and has the C library return it to the system.

    A frozen network is copied at each step of its way into another format, in pieces that glibc keeps: several
    gigabytes of a network of 100 MB.
    """
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's alone
        trim(0)
