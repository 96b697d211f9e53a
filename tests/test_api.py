"""The names at the top of the package."""

import dataclasses

import pandas as pd
import pytest
import tensorflow_datasets as tfds

import tfr
from tfr.annotations import Source
from tfr.errors import AnnotationError, DatasetError, UsageError


def test_every_public_name_is_there():
    for name in tfr.__all__:
        assert getattr(tfr, name) is not None
        assert name in dir(tfr)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tfr.nothing


def test_import_tfr_is_light(run_python):
    code = "import sys, tfr; print([m for m in ('numpy', 'apache_beam', 'tensorflow', 'pandas') if m in sys.modules])"
    assert run_python("-c", code).stdout.strip() == "[]"


def test_a_frame_is_converted(write_photos, tmp_path):
    photos = write_photos([f"{i}.jpg" for i in range(12)])
    frame = pd.DataFrame({"file": [f"{i}.jpg" for i in range(12)], "tags": [["a"], ["a", "b"], []] * 4})
    where = {"images": str(photos), "data_dir": str(tmp_path / "data"), "name": "frame"}
    result = tfr.convert(frame, **where, label_columns=("tags",), image_size=16, split_ratios="train=1")
    assert (result.rows_read, result.records_written, result.num_labels) == (12, 12, 2)
    assert result.label_mode == "multi"


@pytest.fixture
def rows(write_photos):
    """Options of a conversion whose rows come from a function: six photos, three of them tagged."""
    photos = write_photos([f"{i}.jpg" for i in range(6)])

    def make_rows():
        for i in range(6):
            yield tfr.Annotation(f"{i}", f"{i}.jpg", ("a",) if i % 2 else (), Source("table", i + 1))

    return {"annotations": make_rows, "images": str(photos), "label_mode": "multi", "split_ratios": "train=1"}


def test_rows_from_a_function_are_converted(rows, tmp_path):
    where = {"data_dir": str(tmp_path), "name": "rows"}
    result = tfr.convert(**rows, **where, labels=("b", "a"), has_unknown=True)
    builder = tfds.builder_from_directory(result.dataset_dir)
    assert builder.info.features["labels"].feature.names == ["b", "a"]
    assert "labels_unknown" in builder.info.features
    assert builder.info.splits["train"].num_examples == 6
    assert tfr.convert(**rows, **where, labels=("b", "a"), has_unknown=True).reused
    with pytest.raises(DatasetError, match="labels: "):
        tfr.convert(**rows, **where, labels=("a", "b"), has_unknown=True)


def test_output_dir_is_the_dataset_directory(rows, tmp_path):
    result = tfr.convert(**rows, data_dir=str(tmp_path / "data"), name="rows", output_dir=str(tmp_path / "here"))
    assert result.dataset_dir == str(tmp_path / "here")
    assert tfds.builder_from_directory(tmp_path / "here").info.name == "rows"
    assert not (tmp_path / "data").exists()


def test_unknown_labels_need_a_place(rows, tmp_path):
    def make_rows():
        for row in rows["annotations"]():
            yield dataclasses.replace(row, unknown=("c",))

    with pytest.raises(AnnotationError, match="declared to have no `labels_unknown`"):
        tfr.convert(**{**rows, "annotations": make_rows}, data_dir=str(tmp_path), name="rows", has_unknown=False)


def test_a_function_does_not_say_where_images_are(rows):
    with pytest.raises(UsageError, match="A function says nothing of where its images are"):
        tfr.convert(rows["annotations"], data_dir="x", name="y")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_dir": "x", "name": "y", "labels": ("a",), "labels_file": "f"}, "give one of them"),
        ({"data_dir": "x", "name": "y", "labells": 3}, r"unknown options \['labells'\].*label_columns"),
        ({"data_dir": "x"}, r"missing options \['name'\]"),
        ({"data_dir": "x", "name": "Not Good"}, "--name must be lower-case"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(UsageError, match=message):
        tfr.convert("a.csv", **options)
