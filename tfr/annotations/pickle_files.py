"""Pickles of plain data and numpy arrays, loaded without running anything that they hold."""

import collections
import pickle
from typing import Any, Literal

import numpy as np

from tfr import files
from tfr.errors import AnnotationError

LABELS_FILE = "all_y_labels.p"
_ARRAY_CLASS = "numpy.ndarray"  # stands for the class: a pickle may name it, but not call it


def _empty_array(cls: object, shape: tuple[int, ...], typecode: object) -> np.ndarray:
    """What pickles of arrays start from; a shape other than theirs would allocate whatever it says."""
    del typecode
    if cls is not _ARRAY_CLASS or tuple(shape) != (0,):
        raise pickle.UnpicklingError(f"an array that starts with shape {shape}")
    return np.ndarray((0,), np.int8)


def _scalar(dtype: np.dtype, data: bytes) -> object:
    """A numpy number from its bytes."""
    if dtype.hasobject:
        raise pickle.UnpicklingError("a numpy scalar that is an object")
    return np.frombuffer(data, dtype)[0]


def _from_buffer(data: bytes, dtype: np.dtype, shape: tuple[int, ...], order: Literal["C", "F"]) -> np.ndarray:
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _encode(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text encoded as {encoding!r}")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], object] = {
    ("numpy", "ndarray"): _ARRAY_CLASS,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): collections.OrderedDict,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Only what arrays, numbers, text, lists and dicts are made of."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it tries to load {module}.{name}")
        return _ALLOWED[module, name]


def load_pickle(path: str) -> Any:
    """Loads a pickle of dicts, lists, text, numbers and numpy arrays.

    Raises:
      AnnotationError: missing, damaged, or it holds anything else; says what it tried to load.
    """
    if not files.exists(path):
        raise AnnotationError(f"No pickle at {path}.")
    try:
        with files.open_binary(path) as file:
            return _Unpickler(file, encoding="latin1").load()
    except pickle.UnpicklingError as err:
        raise AnnotationError(
            f"{path}: refused: {err}. Only dicts, lists, text, numbers and numpy arrays are read from a pickle, "
            "because loading anything else can run code."
        ) from err
    except Exception as err:  # a damaged pickle can raise nearly anything
        raise AnnotationError(f"{path}: not a readable pickle: {type(err).__name__}: {err}.") from err


def is_pickle(head: bytes) -> bool:
    """Whether bytes start like a pickle of protocol 2 or later, or like a dict of protocol 0."""
    return (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")) or head.startswith(b"(dp")


def find_labels(path: str) -> str | None:
    """The file of vectors in a folder, or in its `meta/`."""
    candidates = [files.join(path, LABELS_FILE), files.join(path, f"meta/{LABELS_FILE}")]
    return next((found for found in candidates if files.exists(found)), None)
