"""Pickled label vectors: what is read, and what is refused instead of run."""

import collections
import os
import pickle
import sys

import numpy as np
import pytest

from tfr import annotations
from tfr.annotations import Annotation, RejectedRow
from tfr.annotations.pickle_files import load_pickle
from tfr.errors import AnnotationError


class _Runs:
    """Pickles to a call of any function with any arguments."""

    def __init__(self, function, *arguments):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


def _dump(path, value, protocol=4):
    path.write_bytes(pickle.dumps(value, protocol))
    return str(path)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [
        {"a/b.jpg": np.array([1.0, 0.0])},
        {"a": np.array([True, False]), "b": np.arange(6).reshape(2, 3), "c": np.asfortranarray(np.eye(2))},
        {"n": np.float64(1.5), "i": np.int32(7), "list": [1, 2.5, None, True, "x"], "tuple": (1,)},
        collections.OrderedDict(x=1),
    ],
    ids=["vectors", "arrays", "numbers", "ordered"],
)
def test_plain_data_is_loaded(tmp_path, value, protocol):
    loaded = load_pickle(_dump(tmp_path / "a.p", value, protocol))
    assert loaded.keys() == value.keys()
    for key in value:
        assert np.array_equal(loaded[key], value[key])
        assert type(loaded[key]) is type(value[key])


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch {marker}",), f"{os.system.__module__}.system"),
        (eval, ("open('{marker}', 'w')",), r"(builtins|__builtin__).eval"),
        (sys.exit, (), "sys.exit"),
        (np.fromfile, ("/etc/passwd",), "numpy.fromfile"),
        (np.load, ("/etc/passwd",), "numpy.load"),
    ],
)
def test_code_is_refused_and_named(tmp_path, function, arguments, name, protocol):
    marker = tmp_path / "marker"
    arguments = [text.format(marker=marker) for text in arguments]
    path = _dump(tmp_path / "a.p", {"x": _Runs(function, *arguments)}, protocol)
    with pytest.raises(AnnotationError, match=rf"a.p: refused: it tries to load .*{name.rsplit('.')[-1]}. Only dicts"):
        load_pickle(path)
    assert not marker.exists()


def test_a_huge_array_is_not_allocated(tmp_path):
    reconstruct = np.array([1]).__reduce__()[0]
    path = _dump(tmp_path / "a.p", _Runs(reconstruct, np.ndarray, (1 << 40,), b"b"))
    with pytest.raises(AnnotationError, match="refused: an array that starts with shape"):
        load_pickle(path)
    path = _dump(tmp_path / "b.p", _Runs(np.ndarray, (1 << 40,)))
    with pytest.raises(AnnotationError, match="not a readable pickle"):
        load_pickle(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04 nonsense", b"\x80\x04\x95\xff"], ids=["empty", "nonsense", "cut off"]
)
def test_damage_is_an_error(tmp_path, content):
    (tmp_path / "a.p").write_bytes(content)
    with pytest.raises(AnnotationError, match=r"a.p: (not a readable pickle|refused)"):
        load_pickle(str(tmp_path / "a.p"))


@pytest.mark.parametrize(
    ("vectors", "classes", "message"),
    [
        ({"a": [1, 0, 0]}, {"x": 0, "y": 1}, "the vectors have 3 places, but .*classes_dict.p has 2 classes"),
        ({"a": [1, 0]}, {"x": 0, "y": 2}, r"columns must be 0 to 1, each once. Missing: \[1\]"),
        ({"a": [1, 0]}, {"x": 0, "y": 0}, r"several labels on one column: \{0: \['x', 'y'\]\}"),
        ({"a": [1, 0]}, ["x", "y"], "expected a dict of label to column, got list"),
        (["a"], {"x": 0}, "expected a dict of image path to 0/1 vector, got list"),
    ],
)
def test_files_that_do_not_fit(tmp_path, vectors, classes, message):
    path = _dump(tmp_path / "all_y_labels.p", vectors)
    _dump(tmp_path / "classes_dict.p", classes)
    with pytest.raises(AnnotationError, match=message):
        list(annotations.read(path))


def test_single_vectors_that_do_not_fit_are_rejected(tmp_path):
    _dump(tmp_path / "classes_dict.p", {"x": 0, "y": 1})
    vectors = {"a": np.array([1, 0]), "b": np.array([1, 0, 0]), "c": np.array([0.5, 1]), "d": np.array(["1", "0"])}
    path = _dump(tmp_path / "all_y_labels.p", vectors)
    events = list(annotations.read(path))
    assert [(row.id, row.labels) for row in events if isinstance(row, Annotation)] == [("a", ("x",))]
    assert [(row.id, row.reason) for row in events if isinstance(row, RejectedRow)] == [(i, "bad_label") for i in "bcd"]


def test_missing_class_table(tmp_path):
    path = _dump(tmp_path / "all_y_labels.p", {"a": [1]})
    with pytest.raises(AnnotationError, match=r"No pickle at .*classes_dict.p"):
        list(annotations.read(path))
