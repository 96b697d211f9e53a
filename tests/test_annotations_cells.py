"""Cells as people write them: flags that say yes, no and neither; cells of frames that are no text."""

import numpy as np
import pandas as pd
import pytest

from tfr import annotations
from tfr.annotations import Annotation, ReadOptions, first_rows
from tfr.errors import AnnotationError, UsageError


@pytest.fixture(name="read")
def _read(tmp_path):
    """read(content, **options): what a table of the label columns `cat` and `dog` says: id to (labels, unknown)."""

    def read(content, **options):
        path = tmp_path / "flags.csv"
        path.write_text(content, encoding="utf-8")
        events = list(annotations.read(str(path), "csv", ReadOptions(label_columns=("cat", "dog"), **options)))
        return {event.id: (event.labels, event.unknown) for event in events if isinstance(event, Annotation)}

    return read


@pytest.mark.parametrize(
    ("yes", "no"), [("1", "0"), ("1.0", "0.0"), ("True", "False"), ("TRUE", "FALSE"), ("yes", "no"), ("Yes", " NO")]
)
def test_words_for_flags(read, yes, no):
    found = read(f"image,cat,dog\na.jpg,{yes},{no}\nb.jpg,{no},{yes}\nc.jpg,,{yes}\n")
    assert found == {"a.jpg": (("cat",), ()), "b.jpg": (("dog",), ()), "c.jpg": (("dog",), ("cat",))}


@pytest.mark.parametrize("encoding", ["auto", "one_hot"])
@pytest.mark.parametrize("minus", ["-1", "-1.0", " -1"])
def test_minus_one_is_what_it_is_said_to_be(read, encoding, minus):
    table = f"image,cat,dog\na.jpg,{minus},1\nb.jpg,1,{minus}\nc.jpg,0,\n"
    labels = {"a.jpg": ("dog",), "b.jpg": ("cat",), "c.jpg": ()}
    absent = read(table, label_encoding=encoding, minus_one="absent")
    assert absent == {**{id_: (labels[id_], ()) for id_ in labels}, "c.jpg": ((), ("dog",))}
    unknown = read(table, label_encoding=encoding, minus_one="unknown")
    assert unknown == {"a.jpg": (("dog",), ("cat",)), "b.jpg": (("cat",), ("dog",)), "c.jpg": ((), ("dog",))}
    with pytest.raises(AnnotationError, match=r"flags.csv: 0/1 .* -1.*Say --minus_one=absent or --minus_one=unknown"):
        read(table, label_encoding=encoding)


def test_minus_one_in_a_format_of_flags_alone(tmp_path):
    (tmp_path / "_classes.csv").write_text("filename,cat,dog\na.jpg,1,-1\n")
    events = annotations.read(str(tmp_path / "_classes.csv"), "roboflow", ReadOptions(minus_one="unknown"))
    (row,) = [event for event in events if isinstance(event, Annotation)]
    assert (row.labels, row.unknown) == (("cat",), ("dog",))


def test_minus_one_can_be_a_label(read):
    assert read("image,cat,dog\na.jpg,-1,1\n", label_encoding="text") == {"a.jpg": (("-1", "1"), ())}


def test_minus_one_behind_the_first_rows_rejects_its_row(read):
    rows = "".join(f"{i}.jpg,0,1\n" for i in range(60))
    assert "x.jpg" not in read(f"image,cat,dog\n{rows}x.jpg,-1,1\n")


def test_minus_one_is_absent_or_unknown():
    with pytest.raises(UsageError, match=r"--minus_one must be one of .*absent, unknown"):
        ReadOptions(minus_one="present")


def test_several_columns_of_arrays_in_a_frame():
    frame = pd.DataFrame({"image": ["a.jpg"], "cat": [np.array(["x", "y"])], "dog": [np.array(["z"])]})
    (row,) = annotations.read(frame, options=ReadOptions(label_columns=("cat", "dog")))
    assert row.labels == ("x", "y", "z")


def test_columns_of_a_frame_that_are_called_by_numbers():
    frame = pd.DataFrame({0: ["a.jpg"], 1: ["x"]})
    (row,) = annotations.read(frame, options=ReadOptions(image_column="0", label_columns=("1",)))
    assert (row.image, row.labels) == ("a.jpg", ("x",))


def test_bytes_are_text(tmp_path):
    """Parquet files have text as bytes where their writer knew of no text."""
    frame = pd.DataFrame({"image": [b"a.jpg"], "label": ["caf\u00e9".encode()]})
    frame.to_parquet(tmp_path / "a.parquet")
    for source in (frame, str(tmp_path / "a.parquet")):
        (row,) = [event for event in annotations.read(source) if isinstance(event, Annotation)]
        assert (row.id, row.labels) == ("a.jpg", ("caf\u00e9",))


def test_columns_of_minus_one_are_proposed_as_labels(tmp_path):
    path = tmp_path / "celeba.csv"
    path.write_text("image_id,Bald,Young\na.jpg,-1,1\nb.jpg,1,-1\n")
    assert first_rows.look(str(path), "csv").labels == "Bald:Young"
