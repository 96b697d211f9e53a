"""Reads the weights in an old-format torch file (before torch 1.6's zip files), without torch.

Such a file is a row of pickles - a magic number, a protocol number, facts about the machine that wrote it,
the state dict with references in place of numbers, the names of the storages - and then each storage: its
length as an int64 and its raw numbers. A pickle can call any function that its reader lets it look up. Here
it can look up the few names that a state dict needs, each answered by a stand-in of ours that only notes its
arguments; whatever else the file asks for is refused by name.
"""

import math
import os
import pickle
import struct
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tfr import errors

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
ZIP_SIGNATURE = b"PK\x03\x04"

STORAGE_DTYPES = {
    "BoolStorage": "|b1",
    "ByteStorage": "|u1",
    "CharStorage": "|i1",
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
    "ShortStorage": "<i2",
}


class _StorageType(NamedTuple):
    """Stands for a class like `torch.FloatStorage`."""

    dtype: str


class _Storage(NamedTuple):
    """A run of numbers that follows the pickles."""

    key: str
    dtype: str
    size: int


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides count numbers, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Unpickles containers, text, numbers and references to tensors, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGE_DTYPES:
            return _StorageType(STORAGE_DTYPES[name])
        # Bound methods: a pickle can set attributes of what it is given, and these accept none.
        if (module, name) == ("collections", "OrderedDict"):
            return self._new_dict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return self._rebuild_parameter
        raise errors.TfrError(
            f"the pickle tries to load `{module}.{name}`, which is not among the few names a file of weights "
            "needs (OrderedDict, tensors, parameters and storages of numbers that numpy has). Do not load it "
            "with torch either, unless you trust its origin"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", _StorageType(dtype), str(key), str(), int(size), None) if size >= 0:
                return _Storage(key, dtype, size)
        raise errors.TfrError(f"a storage is described by {pid!r:.200}, which this reader does not know")

    def _new_dict(self, *items: Any) -> "_StateDict":
        return _StateDict(*items)

    def _rebuild_tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
        tensor = _Tensor(storage, offset, shape, strides)
        _check_tensor(tensor)
        return tensor

    def _rebuild_parameter(self, tensor: Any, *_: Any) -> Any:
        return tensor


class _StateDict(dict[Any, Any]):
    """Stands for an OrderedDict, whose pickled attributes (torch's `_metadata`) are dropped."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Ignores the attributes."""


def read_torch_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Returns the tensors of the state dict in an old-format torch file.

    The file is data: it can neither run code nor allocate much more memory than its own size.

    Args:
        path: a local file written by `torch.save(model.state_dict(), path)` before torch 1.6, or by a later
            torch with `_use_new_zipfile_serialization=False`.

    Returns:
        Name -> array, in the order of the file: C-contiguous copies in the machine's byte order, with the
        shape and the number type that torch stored (float16, 32, 64, integers, bool).

    Raises:
        TfrError: the file cannot be read, is cut short, is not an old-format torch file, holds something
            other than a flat dict of tensors, or tries to load a name that no file of weights needs.
    """
    try:
        with open(path, "rb") as file:
            return _read_state_dict(file)
    except (OSError, errors.TfrError) as err:
        raise errors.TfrError(f"Cannot read torch weights from {os.fspath(path)}: {err}.") from err


def _read_state_dict(file: BinaryIO) -> dict[str, np.ndarray]:
    """Reads a whole open file."""
    _check_header(file)
    tensors = _load(file, "the state dict")
    _check_state_dict(tensors)
    wanted = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    storages = {}
    for key in _load_keys(file):
        if key not in wanted:
            raise errors.TfrError(f"storage {key!r:.100} belongs to no tensor")
        storages[key] = _read_storage(file, wanted[key])
    if missing := wanted.keys() - storages.keys():
        raise errors.TfrError(f"storage {min(missing)!r} is not in the file")
    return {name: _view(storages[tensor.storage.key], tensor) for name, tensor in tensors.items()}


def _check_header(file: BinaryIO) -> None:
    """Refuses all but the old format, written on a little-endian machine."""
    start = file.read(4)
    file.seek(0)
    if start == ZIP_SIGNATURE:
        raise errors.TfrError(
            "it is a zip file, the format of torch 1.6 and later, and only the older one can be read without "
            "torch. Write it with `torch.save(weights, path, _use_new_zipfile_serialization=False)`"
        )
    if _load(file, "the magic number") != MAGIC_NUMBER:
        raise errors.TfrError("it does not start with torch's magic number: it is no torch file")
    if (protocol := _load(file, "the protocol number")) != PROTOCOL_VERSION:
        raise errors.TfrError(f"protocol {protocol!r:.50} is unknown; expected {PROTOCOL_VERSION}")
    facts = _load(file, "the machine's facts")
    if not isinstance(facts, dict) or facts.get("little_endian") is not True:
        raise errors.TfrError("it was not written on a little-endian machine")


def _load(file: BinaryIO, what: str) -> Any:
    """Unpickles the next object."""
    try:
        return _Unpickler(file).load()
    except errors.TfrError:
        raise
    except Exception as err:  # Damaged pickles raise nearly every exception there is.
        raise errors.TfrError(f"{what} is damaged, cut short or not a pickle at all ({err})") from err


def _load_keys(file: BinaryIO) -> list[str]:
    """Reads the names of the storages, in the order in which they follow."""
    keys = _load(file, "the list of storages")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise errors.TfrError("the list of storages is not a list of names")
    return keys


def _check_state_dict(tensors: Any) -> None:
    """Refuses all but a flat dict of names and tensors, one description to a storage."""
    if not isinstance(tensors, dict):
        raise errors.TfrError(f"it holds a {type(tensors).__name__}, not a dict of tensors")
    storages: dict[str, _Storage] = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise errors.TfrError(
                f"entry {name!r:.100} is a {type(tensor).__name__}, not a tensor: it is a checkpoint of "
                "something else than a model's weights. Save `model.state_dict()` alone"
            )
        if storages.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            raise errors.TfrError(f"storage {tensor.storage.key!r:.100} is described in two ways")


def _check_tensor(tensor: _Tensor) -> None:
    """Refuses a view that leaves its storage or that holds more numbers than the storage does."""
    storage, offset, shape, strides = tensor
    is_view = (
        isinstance(storage, _Storage)
        and isinstance(shape, tuple)
        and isinstance(strides, tuple)
        and len(shape) == len(strides)
        and all(type(number) is int and number >= 0 for number in (offset, *shape, *strides))
    )
    if not is_view:
        raise errors.TfrError(f"a tensor is described by {tuple(tensor)!r:.200}, which is no view of a storage")
    end = offset + 1 + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if math.prod(shape) > storage.size or (0 not in shape and end > storage.size):
        raise errors.TfrError(f"a tensor of shape {shape} leaves its storage of {storage.size} numbers")


def _read_storage(file: BinaryIO, storage: _Storage) -> np.ndarray:
    """Reads the numbers of one storage; the file says their count once more."""
    dtype = np.dtype(storage.dtype)
    (size,) = struct.unpack("<q", _read_exactly(file, 8, storage))
    if size != storage.size:
        raise errors.TfrError(f"storage {storage.key!r} has {size} numbers, its tensors expect {storage.size}")
    return np.frombuffer(_read_exactly(file, size * dtype.itemsize, storage), dtype)


def _read_exactly(file: BinaryIO, count: int, storage: _Storage) -> bytes:
    """Reads `count` bytes, having asked the file first whether it has them."""
    left = os.fstat(file.fileno()).st_size - file.tell()
    if left < count:
        raise errors.TfrError(f"cut short: storage {storage.key!r} needs {count} bytes, {left} are left")
    return file.read(count)


def _view(storage: np.ndarray, tensor: _Tensor) -> np.ndarray:
    """Copies one tensor out of its storage."""
    steps = [stride * storage.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, steps)
    return np.array(view, dtype=storage.dtype.newbyteorder("="), order="C")
