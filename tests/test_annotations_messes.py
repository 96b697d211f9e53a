"""What annotation files are like in the wild: each mess is read, rejected with a reason, or refused in one line."""

import csv
import json
import pathlib

import pandas as pd
import pytest

from tfr import annotations
from tfr.annotations import Annotation, Note, ReadOptions, RejectedRow
from tfr.errors import AnnotationError


@pytest.fixture(name="read")
def _read(tmp_path):
    """read(name, content, format, **options): (annotations, rejects, notes) of a file with that content."""

    def read(name, content, format="auto", **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        events = list(annotations.read(path, format, ReadOptions(**options)))
        kinds = (Annotation, RejectedRow, Note)
        return tuple([event for event in events if isinstance(event, kind)] for kind in kinds)

    return read


def labels_of(rows):
    return {row.id: row.labels for row in rows}


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        pytest.param("\ufeffimage,label\na.jpg,x\n", {}, {"a.jpg": ("x",)}, id="byte order mark"),
        pytest.param("image,label\r\na.jpg,x\r\nb.jpg,y\r\n", {}, {"a.jpg": ("x",), "b.jpg": ("y",)}, id="CRLF"),
        pytest.param("image,label\ra.jpg,x\r".replace("\r", "\n"), {}, {"a.jpg": ("x",)}, id="LF"),
        pytest.param("image,label\na.jpg,x".encode("utf-16"), {}, {"a.jpg": ("x",)}, id="UTF-16 with its mark"),
        pytest.param(
            "image,label\na.jpg,Caf\u00e9\n".encode("latin-1"),
            {"encoding": "latin-1"},
            {"a.jpg": ("Café",)},
            id="Latin-1",
        ),
        pytest.param(" image , label \n\n a.jpg , x \n\n", {}, {"a.jpg": ("x",)}, id="padding and blank lines"),
        pytest.param("\n\nimage;label\na.jpg;x,y\n", {}, {"a.jpg": ("x,y",)}, id="blank lines first, semicolons"),
        pytest.param(
            'image,label\na.jpg,"say ""hi"", please"\n', {}, {"a.jpg": ('say "hi", please',)}, id="quotes and commas"
        ),
        pytest.param(
            'image,label\na.jpg,"two\nlines"\nb.jpg,y\n',
            {},
            {"a.jpg": ("two\nlines",), "b.jpg": ("y",)},
            id="line break",
        ),
        pytest.param(
            "Id,label\n00123,x\n1e5,y\n007,z\n", {}, {"00123": ("x",), "1e5": ("y",), "007": ("z",)}, id="ids"
        ),
        pytest.param("Id,Id2,label\n1,2,x\n", {"id_column": "Id2"}, {"2": ("x",)}, id="which id"),
        pytest.param("image,label\na.jpg,7\n", {}, {"a.jpg": ("7",)}, id="integer labels"),
        pytest.param(
            "image,labels\na.jpg,\"['x' 'y z']\"\n", {}, {"a.jpg": ("x", "y z")}, id="list as numpy writes it"
        ),
        pytest.param(
            "image,labels\na.jpg,[x]\n", {"label_encoding": "text"}, {"a.jpg": ("[x]",)}, id="brackets that are text"
        ),
        pytest.param(
            "image,labels\na.jpg,x||x|y| \n", {"label_delimiter": "|"}, {"a.jpg": ("x", "y")}, id="empty parts"
        ),
        pytest.param("image,label,label\na.jpg,x,y\n", {"label_columns": ()}, None, id="two columns of one name"),
    ],
)
def test_csv_is_read(read, content, options, expected):
    if expected is None:
        with pytest.raises(AnnotationError, match="several columns called 'label'"):
            read("a.csv", content, **options)
        return
    rows, rejected, _ = read("a.csv", content, **options)
    assert labels_of(rows) == expected
    assert not rejected


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.csv", b"", {}, "a.csv: the file is empty"),
        ("a.csv", b"\n \n", {}, "a.csv: the file is empty"),
        ("a.json", b"", {}, "a.json: the file is empty"),
        (
            "a.csv",
            b"image,label\na.jpg,x\nb.jpg,Caf\xe9\n",
            {},
            "a.csv:3: byte 0xe9 is not utf-8-sig.*--encoding=latin-1",
        ),
        ("a.csv", b"a,b\n1,2\n", {}, "which column names the image.*--image_column or --id_column.*'a', 'b'"),
        ("a.csv", b"image,b\n1,2\n", {}, "which columns hold the labels.*--label_columns.*'image', 'b'"),
        ("a.csv", b"image,b\n1,2\n", {"label_columns": ("c",)}, "no column 'c' .from --label_columns"),
        ("a.csv", b"image,b,c\n1,2,3\n", {"label_columns": ("c:b",)}, "'c' stands after 'b'"),
        ("a.csv", b"image,label\n1,2\n", {"where": "type == 1"}, "no column 'type' .from --where.*'image', 'label'"),
        ("a.json", b'[{"image": "a.jpg", "label": "x"},\n {"image": "b.j', {}, r"a.json:2: not valid JSON.*cut off"),
        ("a.json", b'[{"image": "a.jpg" "label": "x"}]', {}, r"a.json:1: not valid JSON: Expecting ',' .*column 20"),
        ("a.json", b'["a.jpg"]', {}, "there is no object in it"),
        (
            "a.json",
            b'{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2}, {"id": 1, "file_name": "b.jpg"}],'
            b' "categories": [{"id": 1, "name": "x"}], "annotations": [{"image_id": 1, "category_id": 1}]}',
            {},
            "a.json: entries 1 and 3 of 'images' have the same id 1",
        ),
        (
            "a.json",
            b'{"images": [], "categories": [{"id": [1], "name": "x"}], "annotations": []}',
            {},
            r"entry 1 of 'categories' has the id \[1\]; ids are numbers or text",
        ),
        ("a.json", b"[" * 100_000, {}, "not usable JSON|not valid JSON"),
        ("a.jsonl", b"{\n{\n", {}, r"no JSON object in the first 1000 lines. .*a.jsonl:1: not JSON"),
        ("a.parquet", b"PAR1 and no more", {}, "cannot be read as Parquet"),
        ("a.xml", b"<annotations><image name='a.jpg'>", {}, "a.xml:1: not well-formed XML.*cut off"),
        (
            "a.xml",
            b"<annotations><image name='a'><box label='x'/></image></annotations>",
            {},
            "1 boxes .*not one image tag",
        ),
    ],
)
def test_refused_in_one_line(read, name, content, options, message):
    with pytest.raises(AnnotationError, match=message) as caught:
        read(name, content, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "options", "row", "reason", "detail"),
    [
        ("a.csv", "image,label\na.jpg,x\nb.jpg\nc.jpg,y\n", {}, 3, "malformed_row", "1 cells where the header has 2"),
        ("a.csv", "image,label\na.jpg,x\n,y\n", {}, 3, "no_id", "column 'image' is empty"),
        ("a.csv", 'image,label\na.jpg,x\nb.jpg,"y\nc.jpg,z,\n', {}, 3, "malformed_row|bad_label", None),
        ("a.csv", "Id,x,y\na,1,0\nb,2,0\n", {"label_columns": ("x", "y"), "label_encoding": "one_hot"}, 3, "bad_label",
         "column 'x' holds '2', but a one-hot label column holds 0, 1"),
        ("a.csv", "image,labels\na.jpg,x\nb.jpg,[y\nc.jpg,\"['x', \"\nd.jpg,[1 +]\n", {}, 5, "bad_label",
         "looks like a list but is none.*--label_encoding=text"),
        ("a.csv", "image,labels\na.jpg,\"['x']\"\nb.jpg,y\n", {"label_encoding": "list"}, 3, "bad_label",
         "no list literal"),
        ("a.jsonl", '{"image": "a", "label": "x"}\n{"image": "b", \n{"image": "c", "label": "y"}\n', {}, 2,
         "malformed_row", "not JSON: .*column"),
        ("a.jsonl", b'{"image": "a", "label": "x"}\n{"image": "\xff"}\n', {}, 2, "malformed_row",
         "byte 0xff is not utf-8"),
        ("a.jsonl", '{"image": "a", "label": "x"}\n[1]\n', {}, 2, "malformed_row", "expected an object, got list"),
        ("a.jsonl", '{"image": "a", "label": "x"}\n{"image": "\\ud800", "label": "x"}\n', {}, 2, "malformed_row",
         "half of a character"),
        ("a.jsonl", '{"image": "a", "label": "x"}\n{"image": "b", "label": {"x": 1}}\n', {}, 2, "bad_label",
         "is an object"),
        ("a.jsonl", '{"image": "a", "label": "x"}\n{"image": "b", "label": [["x"]]}\n', {}, 2, "bad_label",
         "inside a list"),
        ("a.json", '[{"image": "a", "label": "x"}, 7]', {}, 2, "malformed_row", "expected an object, got int"),
    ],
)  # fmt: skip
def test_a_bad_row_is_rejected_and_the_rest_goes_on(read, name, content, options, row, reason, detail):
    rows, rejected, _ = read(name, content, **options)
    assert rows[0].labels == ("x",)
    assert rejected or detail is None
    for reject in rejected:
        assert reject.source.row == row
        assert reject.reason in reason.split("|")
        assert detail is None or pd.Series([reject.detail]).str.contains(detail).all(), reject.detail


def test_open_quote_is_explained(read):
    content = 'image,label,more\na.jpg,x,1\nb.jpg,"y,2\n' + "c.jpg,z,3\n" * 5
    rows, (reject,), _ = read("a.csv", content)
    assert len(rows) == 1
    assert reject.source.row == 3
    assert "spans 6 lines: is a quote left open?" in reject.detail


def test_one_bad_line_among_many(read):
    lines = [json.dumps({"image": f"{i}.jpg", "label": "x"}) for i in range(20_000)]
    lines[12_345] = '{"image": '
    rows, (reject,), _ = read("a.jsonl", "\n".join(lines))
    assert len(rows) == 19_999
    assert reject.source.row == 12_346


def test_thousand_columns(tmp_path):
    path = tmp_path / "wide.csv"
    names = [f"label {i}" for i in range(1000)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Id", *names])
        writer.writerows([f"id{i}", *(int(j == i) for j in range(1000))] for i in range(20))
    rows = [
        e
        for e in annotations.read(path, options=ReadOptions(label_columns=("label 0:label 999",)))
        if hasattr(e, "labels")
    ]
    assert [row.labels for row in rows] == [(f"label {i}",) for i in range(20)]
    with pytest.raises(AnnotationError, match=r"no column 'x'.*\.\.\. \(1001 in all\)"):
        list(annotations.read(path, options=ReadOptions(label_columns=("x",))))


@pytest.mark.parametrize(
    ("empty_labels", "absent"), [("unknown", ()), ("none", None)], ids=["nothing is known", "no label applies"]
)
def test_empty_cells_and_empty_lists(read, empty_labels, absent):
    rows, _, notes = read("a.csv", "image,labels\na.jpg,x\nb.jpg,\nc.jpg,[]\n", empty_labels=empty_labels)
    assert [(row.labels, row.absent) for row in rows] == [(("x",), None), ((), absent), ((), None)]
    assert any("1 rows have empty label cells" in note.text for note in notes) == (empty_labels == "unknown")


def test_label_columns_are_judged_by_more_than_the_first_row(read):
    rows, rejected, _ = read("a.csv", "Id,t1,t2\na,,\nb,sea,\n", label_columns=("t1", "t2"))
    assert labels_of(rows) == {"a": (), "b": ("sea",)}
    assert not rejected


def test_a_forgotten_delimiter_is_hinted_at(read):
    rows, _, notes = read("a.csv", "image,labels\na.jpg,x|y\nb.jpg,z\n")
    assert labels_of(rows)["a.jpg"] == ("x|y",)
    assert any("say --label_delimiter='|'" in note.text for note in notes)


# What must not be trusted


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("../../etc/passwd", "outside_image_folder"),
        ("in/../../x.jpg", "outside_image_folder"),
        ("..\\x.jpg", "outside_image_folder"),
        ("/etc/passwd", "outside_image_folder"),
        ("C:\\x.jpg", "outside_image_folder"),
        ("file:///etc/passwd", "outside_image_folder"),
        ("tfrecord:///etc/passwd#0+9", "outside_image_folder"),
        ("http://host/a.jpg", "url_image"),
        ("https://host/a.jpg", "url_image"),
    ],
)
def test_images_outside_are_refused(read, image, reason):
    rows, (reject,), _ = read("a.csv", f"image,label\n{image},x\na..b/c..jpg,y\n", "csv", images="photos")
    assert labels_of(rows) == {"a..b/c..jpg": ("y",)}
    assert (reject.reason, reject.id, reject.source.row) == (reason, image, 2)
    assert "--strip_prefix" in reject.detail
    rows, rejected, _ = read("a.csv", f"image,label\n{image},x\n", "csv", allow_outside=True)
    assert rows[0].image == image
    assert not rejected


@pytest.mark.parametrize(
    ("image", "options", "expected"),
    [
        ("/data/photos/cats/a.jpg", {"images": "/data/photos"}, "cats/a.jpg"),
        ("gs://bucket/photos/a.jpg", {"images": "gs://bucket/photos/"}, "a.jpg"),
        ("gs://bucket/photos/a.jpg", {"images": "photos"}, "photos/a.jpg"),
        ("https://host/p/a.jpg", {"strip_prefix": "https://host/p/"}, "a.jpg"),
        ("./in/a.jpg", {}, "in/a.jpg"),
        ("train/a.jpg", {"split_from_folder": True}, "train/a.jpg"),
        ("./train/a.jpg", {"split_from_folder": True}, "train/a.jpg"),
    ],
)
def test_paths_are_made_relative(read, image, options, expected):
    (row,), rejected, _ = read("a.csv", f"image,label\n{image},x\n", "csv", **options)
    assert (row.image, row.id) == (expected, expected)
    assert row.split == ("train" if "split_from_folder" in options else None)
    assert not rejected


def test_a_uri_elsewhere_is_refused_for_a_remote_image_folder(read):
    rows, (reject,), _ = read("a.csv", "image,label\ngs://other/a.jpg,x\n", "csv", images="gs://bucket/photos")
    assert not rows
    assert "lies outside the image folder 'gs://bucket/photos'" in reject.detail


def test_ignored_splits(read):
    (row,), _, _ = read("a.csv", "image,label,split\na.jpg,x,test\n", split_column="split", ignore_splits=True)
    assert row.split is None


BOMB = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;">]>
<{root}><filename>&b;</filename><image name="&b;"/></{root}>"""
EXTERNAL = """<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><{root}><filename>&e;</filename></{root}>"""


@pytest.mark.parametrize("text", [BOMB, EXTERNAL], ids=["bomb", "external"])
@pytest.mark.parametrize(("format_", "root"), [("cvat", "annotations"), ("voc", "annotation")])
def test_xml_entities_are_refused(read, format_, root, text):
    with pytest.raises(AnnotationError, match=r"a.xml: refused: it declares a document type or entities.*<!DOCTYPE"):
        read("a.xml", text.format(root=root), format_)


def test_damaged_voc_file_is_rejected(tmp_path):
    good = "<annotation><filename>a.jpg</filename><object><name>x</name></object></annotation>"
    for name, text in (("a.xml", good), ("b.xml", good[:30]), ("c.xml", "<other/>")):
        pathlib.Path(tmp_path, name).write_text(text)
    events = list(annotations.read(tmp_path, "voc"))
    assert [row.id for row in events if isinstance(row, Annotation)] == ["a.jpg"]
    assert [row.reason for row in events if isinstance(row, RejectedRow)] == ["malformed_row"] * 2


def test_a_cell_that_is_no_flag_rejects_its_row_and_leaves_the_columns_one_hot(tmp_path):
    path = tmp_path / "flags.csv"
    path.write_text("image,a,b,c\nx.jpg,1,0,2\ny.jpg,0,1,0\nz.jpg,0,0,1\n", encoding="utf-8")
    options = annotations.ReadOptions(label_columns=("a:c",))
    events = list(annotations.read(str(path), "csv", options))
    (rejected,) = [event for event in events if isinstance(event, annotations.RejectedRow)]
    assert rejected.source.row == 2
    assert "'c'" in rejected.detail
    assert "'2'" in rejected.detail
    assert [e.labels for e in events if isinstance(e, annotations.Annotation)] == [("b",), ("c",)]


COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "neg_category_ids": [4]}, {"id": 2, "file_name": "b.jpg"}],
    "categories": [{"id": 3, "name": "car"}, {"id": 4, "name": "bus"}],
    "annotations": [{"image_id": 1, "category_id": 3}, {"image_id": 2, "category_id": 4}],
}  # fmt: skip


@pytest.mark.parametrize("value", [None, True, 1.5, "x", [], [[1]], {}, {"a": 1}], ids=repr)
@pytest.mark.parametrize(
    "place",
    [("images", "id"), ("images", "file_name"), ("images", "neg_category_ids"), ("categories", "id"),
     ("categories", "name"), ("annotations", "image_id"), ("annotations", "category_id")],
    ids="-".join,
)  # fmt: skip
def test_coco_with_values_of_other_kinds_is_read_or_refused(tmp_path, place, value):
    """The second image, which nothing is wrong with, has its label or the whole file is refused."""
    data = json.loads(json.dumps(COCO))
    data[place[0]][0][place[1]] = value
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data))
    try:
        events = list(annotations.read(str(path), "coco"))
    except AnnotationError as err:
        assert str(path) in str(err)  # noqa: PT017 - either is right
        return
    assert [event.labels for event in events if isinstance(event, Annotation)][-1] == ("bus",)


def test_a_null_of_via_is_no_label(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": {"filename": "a.jpg", "file_attributes": {"tag": None, "kind": "x"}}}))
    (row,) = [event for event in annotations.read(str(path), "via_json") if isinstance(event, Annotation)]
    assert row.labels == ("x",)
