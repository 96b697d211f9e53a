"""The reader of torch pickles: what it reads, and what it refuses. The files are made here, opcode by opcode."""

import contextlib
import pickle
import re
import struct

import numpy as np
import pytest

from tfr import errors
from tfr.train import efficientnet_lite, torch_weights

FLOATS = np.arange(24, dtype=np.float32)


def plain(value):
    """Opcodes that push a plain value."""
    return pickle.dumps(value, protocol=2)[2:-1]


def name(module, attribute):
    """Opcode that looks a name up."""
    return b"c" + f"{module}\n{attribute}\n".encode()


def tuple_of(*parts):
    return b"(" + b"".join(parts) + b"t"


def call(function, *arguments):
    return function + tuple_of(*arguments) + b"R"


def storage(key="0", kind="FloatStorage", size=24, view=None):
    """Opcodes of a reference to a storage."""
    parts = plain("storage"), name("torch", kind), plain(key), plain("cpu"), plain(size), plain(view)
    return tuple_of(*parts) + b"Q"


def tensor(source, shape, strides, offset=0):
    """Opcodes of a tensor."""
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    hooks = call(name("collections", "OrderedDict"))
    return call(rebuild, source, plain(offset), plain(shape), plain(strides), plain(False), hooks)


def state_dict(**tensors):
    """Opcodes of an OrderedDict with torch's `_metadata`."""
    items = b"".join(plain(key.replace("__", ".")) + value for key, value in tensors.items())
    filled = call(name("collections", "OrderedDict")) + b"(" + items + b"u"
    return filled + plain({"_metadata": {"": {"version": 1}}}) + b"b"


def torch_file(state, storages, *, facts=None):
    """The bytes of an old-format file: `state` in opcodes, `storages` by key."""
    facts = facts or {"protocol_version": 1001, "little_endian": True, "type_sizes": {"long": 4}}
    head = [torch_weights.MAGIC_NUMBER, torch_weights.PROTOCOL_VERSION, facts]
    pickles = [pickle.dumps(value, protocol=2) for value in head]
    pickles += [b"\x80\x02" + state + b".", pickle.dumps(list(storages), protocol=2)]
    numbers = [struct.pack("<q", values.size) + values.tobytes() for values in storages.values()]
    return b"".join(pickles + numbers)


@pytest.fixture
def read(tmp_path):
    """Reads bytes as a file."""

    def read_bytes(data):
        path = tmp_path / "weights.pth"
        path.write_bytes(data)
        return torch_weights.read_torch_weights(path)

    return read_bytes


def test_reads_views_of_a_shared_storage(read):
    tensors = read(
        torch_file(
            state_dict(
                whole=tensor(storage(), (2, 3, 4), (12, 4, 1)),
                turned__part=tensor(storage(), (4, 2), (1, 4), offset=12),
                scalar=tensor(storage(), (), (), offset=23),
                empty=tensor(storage(), (0, 4), (4, 1)),
            ),
            {"0": FLOATS},
        )
    )
    assert list(tensors) == ["whole", "turned.part", "scalar", "empty"]
    np.testing.assert_array_equal(tensors["whole"], FLOATS.reshape(2, 3, 4))
    np.testing.assert_array_equal(tensors["turned.part"], FLOATS[12:20].reshape(2, 4).T)
    assert tensors["scalar"] == 23
    assert tensors["scalar"].shape == ()
    assert tensors["empty"].shape == (0, 4)
    assert all(array.flags.c_contiguous and array.flags.writeable for array in tensors.values())


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("FloatStorage", "f4"), ("DoubleStorage", "f8"), ("HalfStorage", "f2"), ("LongStorage", "i8")]
    + [("IntStorage", "i4"), ("ShortStorage", "i2"), ("CharStorage", "i1"), ("ByteStorage", "u1")]
    + [("BoolStorage", "?")],
)
def test_reads_number_types(read, kind, dtype):
    values = np.array([0, 1, 1, 0, 1], dtype)
    tensors = read(torch_file(state_dict(x=tensor(storage("k", kind, 5), (5,), (1,))), {"k": values}))
    assert tensors["x"].dtype == np.dtype(dtype)
    np.testing.assert_array_equal(tensors["x"], values)


def test_reads_a_parameter_and_several_storages(read):
    parameter = name("torch._utils", "_rebuild_parameter")
    bias = call(parameter, tensor(storage("b", size=2), (2,), (1,)), plain(True), plain({}))
    state = state_dict(weight=tensor(storage("a"), (24,), (1,)), bias=bias)
    tensors = read(torch_file(state, {"b": FLOATS[5:7], "a": FLOATS}))
    np.testing.assert_array_equal(tensors["bias"], [5, 6])
    np.testing.assert_array_equal(tensors["weight"], FLOATS)


@pytest.mark.skipif(not efficientnet_lite.weights_installed(), reason="no weights package")
def test_reads_the_weights_of_lite0():
    tensors = torch_weights.read_torch_weights(efficientnet_lite.weights_file())
    assert len(tensors) == 296
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert tensors["_bn0.num_batches_tracked"].dtype == np.int64
    assert sum(array.size for key, array in tensors.items() if "running" not in key) == 4_652_008 + 49


@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("torch", "load"),
        ("torch.FloatStorage", "__class__"),
        ("collections", "OrderedDict.__init__"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("numpy", "frombuffer"),
    ],
)
def test_refuses_names_outside_the_whitelist(read, module, attribute):
    attack = call(name(module, attribute), plain("echo taken"))
    with pytest.raises(errors.TfrError, match=re.escape(f"tries to load `{module}.{attribute}`")):
        read(torch_file(state_dict(x=attack), {}))


def test_runs_nothing_of_a_pickle(read, tmp_path):
    class Attack:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'taken')!r}, 'w')",))

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(errors.TfrError, match=r"tries to load `(__builtin__|builtins)\.exec`"):
            read(pickle.dumps(Attack(), protocol=protocol))
    assert not (tmp_path / "taken").exists()


@pytest.mark.parametrize(
    "target",
    [name("torch._utils", "_rebuild_tensor_v2"), name("torch", "FloatStorage"), tensor(storage(), (1,), (1,))]
    + [name("collections", "OrderedDict"), storage()],
)
def test_a_pickle_cannot_change_what_it_is_given(read, target):
    """The BUILD opcode sets attributes."""
    attack = target + tuple_of(plain(None), plain({"__doc__": "taken", "dtype": "|O", "shape": (9,)})) + b"b"
    with pytest.raises(errors.TfrError, match="damaged"):
        read(torch_file(state_dict(x=attack), {"0": FLOATS}))
    assert torch_weights._Unpickler._rebuild_tensor.__doc__ != "taken"


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((25,), (1,), 0), ((24,), (1,), 1), ((2, 3), (23, 1), 0), ((10**12,), (0,), 0), ((2,), (-1,), 5)]
    + [((2,), (1,), -1), ((2,), (1, 1), 0), (24, 1, 0), ((2.0,), (1,), 0)],
)
def test_refuses_views_outside_their_storage(read, shape, strides, offset):
    view = tensor(storage(), shape, strides, offset)
    with pytest.raises(errors.TfrError, match=r"leaves its storage|no view of a storage"):
        read(torch_file(state_dict(x=view), {"0": FLOATS}))


@pytest.mark.parametrize(
    "source",
    [storage(view=("1", 0, 3)), storage(size=-1), tuple_of(plain("module"), plain("code")) + b"Q"]
    + [tuple_of(*map(plain, ("storage", "|O", "0", "cpu", 24, None))) + b"Q"],
)
def test_refuses_unknown_references(read, source):
    with pytest.raises(errors.TfrError, match="a storage is described by"):
        read(torch_file(state_dict(x=tensor(source, (1,), (1,))), {"0": FLOATS}))


X = tensor(storage(), (24,), (1,))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the magic number is damaged, cut short or not a pickle"),
        (b"\xff\xd8\xff\xe0 a JPEG file", "the magic number is damaged"),
        (pickle.dumps({"a": 1}), "does not start with torch's magic number"),
        (b"PK\x03\x04 and so on", "zip file.*_use_new_zipfile_serialization=False"),
        (pickle.dumps(torch_weights.MAGIC_NUMBER) + pickle.dumps(1000), "protocol 1000 is unknown"),
        (torch_file(state_dict(x=X), {"0": FLOATS}, facts={"little_endian": False}), "little-endian"),
        (torch_file(plain([1, 2]), {}), "it holds a list, not a dict"),
        (torch_file(plain({"epoch": 3}), {}), "entry 'epoch' is a int, not a tensor"),
        (torch_file(state_dict(x=X), {}), "storage '0' is not in the file"),
        (torch_file(state_dict(x=X), {"0": FLOATS, "1": FLOATS}), "storage '1' belongs to no tensor"),
        (torch_file(state_dict(x=X), {"0": FLOATS[1:]}), "has 23 numbers, its tensors expect 24"),
        (
            torch_file(state_dict(x=X, y=tensor(storage(kind="IntStorage"), (1,), (1,))), {"0": FLOATS}),
            "described in two ways",
        ),
        (
            torch_file(state_dict(x=tensor(storage(size=2**60), (1,), (1,))), {"0": FLOATS}),
            "its tensors expect 1152921504606846976",
        ),
    ],
)
def test_foreign_and_damaged_files(read, data, message):
    with pytest.raises(errors.TfrError, match=rf"Cannot read torch weights from .*weights\.pth: .*{message}"):
        read(data)


def test_a_file_cut_short_anywhere_is_refused(read):
    data = torch_file(state_dict(x=X), {"0": FLOATS})
    assert read(data)
    for length in range(len(data)):
        with pytest.raises(errors.TfrError, match=r"damaged|cut short"):
            read(data[:length])


def test_damaged_bytes_raise_nothing_but_our_error(read):
    data = torch_file(state_dict(x=X), {"0": FLOATS})
    random = np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(data)
        damaged[random.integers(len(data))] = random.integers(256)
        with contextlib.suppress(errors.TfrError):
            read(bytes(damaged))


def test_missing_file(tmp_path):
    with pytest.raises(errors.TfrError, match=r"none\.pth: .*No such file"):
        torch_weights.read_torch_weights(tmp_path / "none.pth")
