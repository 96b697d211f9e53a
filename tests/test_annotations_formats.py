"""Every format: a hand-written sample of its real shape, what it is taken for, and what comes out of it."""

import json

import numpy as np
import pandas as pd
import pytest
from annotation_cases import CASES, CVAT, rows_of, write

from tfr import annotations
from tfr.annotations import FORMATS, LabelSet, Note, ReadOptions, RejectedRow
from tfr.errors import AnnotationError, UsageError


@pytest.fixture(name="case", params=CASES.values(), ids=CASES)
def _case(request, tmp_path):
    contents, path, format_, options, expected = request.param
    for name, content in contents.items():
        write(tmp_path / name, content)
    options = {**options, "images": str(tmp_path / options["images"])} if "images" in options else options
    return tmp_path / path, format_, ReadOptions(**options), expected


def test_reads(case):
    path, format_, options, expected = case
    events = list(annotations.read(path, format_, options))
    assert not [event for event in events if isinstance(event, RejectedRow)]
    assert rows_of(events) == expected


def test_detects(case):
    path, format_, options, expected = case
    events = list(annotations.read(path, "auto", options))
    assert isinstance(events[0], Note)
    assert events[0].text.startswith(f"format {format_} (")
    assert rows_of(events) == expected


def test_every_format_has_a_case():
    assert {case[2] for case in CASES.values()} == FORMATS.keys() - {"tfds"}  # test_annotations_tfds.py has that one


@pytest.mark.parametrize("name", FORMATS)
def test_table_names_documented_readers(name):
    entry = FORMATS[name]
    assert "Shape:" in entry.load_reader().__doc__
    assert len(entry.example.splitlines()) <= 5
    fields = ReadOptions.__dataclass_fields__
    assert [option for option in entry.options if option not in fields] == []


def test_declared_labels_are_kept(tmp_path):
    path = write(tmp_path / "a.xml", CVAT)
    assert [e for e in annotations.read(path) if isinstance(e, LabelSet)] == [LabelSet(("cat",))]


def test_disagreement_is_unknown(tmp_path):
    tasks = [
        {
            "data": {"image": "a.jpg"},
            "annotations": [
                {"result": [{"type": "choices", "value": {"choices": ["cat", "dog"]}}]},
                {"result": [{"type": "choices", "value": {"choices": ["cat"]}}]},
            ],
        }
    ]
    events = list(annotations.read(write(tmp_path / "a.json", json.dumps(tasks))))
    assert rows_of(events) == {"a.jpg": (("cat",), ("dog",), None, None)}
    assert any("disagree on 1 images" in e.text for e in events if isinstance(e, Note))


def test_open_images_confidence(tmp_path):
    path = write(tmp_path / "a.csv", "ImageID,Source,LabelName,Confidence\na1,machine,/m/03,0.7\n")
    events = annotations.read(path, options=ReadOptions(min_confidence=0.6))
    assert rows_of(events) == {"a1": (("/m/03",), (), (), None)}


@pytest.mark.parametrize(
    ("files", "path", "message"),
    [
        ({}, "nothing.csv", "No annotation file at .*nothing.csv"),
        ({"a.bin": b"\0\1\2\3"}, "a.bin", r"cannot tell its format.*--format=csv.*vertex_csv.*`tfr formats`"),
        (
            {"d/metadata.csv": "file_name\n", "d/_classes.csv": "a"},
            "d",
            "can be read as imagefolder, .*; or roboflow, ",
        ),
        ({"d/labels.csv": "a,b", "d/x.txt": ""}, "d", "is a folder. Give the annotation file in it, e.g. .*labels.csv"),
        ({"d/x.txt": ""}, "d", "cannot tell its format"),
    ],
)
def test_undetected(tmp_path, files, path, message):
    for name, content in files.items():
        write(tmp_path / name, content)
    with pytest.raises(AnnotationError, match=message):
        annotations.detect_format(str(tmp_path / path))


@pytest.mark.parametrize(
    ("format_", "options", "error", "message"),
    [
        ("cvs", {}, UsageError, "Unknown annotation format 'cvs'.*Known: csv, tsv"),
        ("coco", {"where": "a == 1"}, UsageError, "Format 'coco' has no use for --where"),
        ("voc_sets", {}, AnnotationError, "is a file, but format 'voc_sets' is a folder"),
    ],
)
def test_refuses_before_reading(tmp_path, format_, options, error, message):
    path = write(tmp_path / "a.csv", "image,label\n")
    with pytest.raises(error, match=message):
        annotations.read(path, format_, ReadOptions(**options))


def test_folder_where_a_file_is_meant(tmp_path):
    with pytest.raises(AnnotationError, match="is a folder, but format 'csv' is a file"):
        annotations.read(tmp_path, "csv")


def test_filename_template_needs_a_label(tmp_path):
    write(tmp_path / "a.jpg", "")
    with pytest.raises(UsageError, match=r"the fields are \{label\} \(needed\).*Unknown: \['class'\]"):
        list(annotations.read(tmp_path, options=ReadOptions(filename_template="{class}.jpg")))


def test_frame():
    frame = pd.DataFrame({"image": ["a.jpg", "b.jpg", None], "tags": [np.array(["x", "y"]), [], ["z"]]})
    events = list(annotations.read(frame))
    assert rows_of(events) == {"a.jpg": (("x", "y"), (), None, None), "b.jpg": ((), (), None, None)}
    assert [e.reason for e in events if isinstance(e, RejectedRow)] == ["no_id"]


def test_frame_refuses_options_of_files():
    with pytest.raises(UsageError, match="Format 'DataFrame' has no use for --classes_file"):
        annotations.read(pd.DataFrame(), options=ReadOptions(classes_file="a.csv"))


def test_frame_with_extension_types():
    frame = pd.DataFrame(
        {"Id": pd.array(["01", pd.NA], "string"), "x": pd.array([1, 0], "Int64"), "y": pd.array([pd.NA, 1], "Int64")}
    )
    events = annotations.read(frame, options=ReadOptions(label_columns=("x", "y")))
    assert rows_of(events) == {"01": (("x",), ("y",), None, None)}


def test_frame_of_float_ids_is_noted():
    frame = pd.DataFrame({"Id": [123.0, float("nan")], "label": ["x", "y"]})
    events = list(annotations.read(frame, options=ReadOptions(id_column="Id")))
    assert rows_of(events).keys() == {"123"}
    assert any("floating-point" in event.text for event in events if isinstance(event, Note))
