"""`tfr export-annotations`: out and in again gives the same records, and nothing leaves its folder."""

import csv
import hashlib
import json
import os
import pathlib
import shlex
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfr import annotation_export, cli, dataset_dir, export_names, shards
from tfr.annotation_export import ExportConfig
from tfr.errors import DatasetError, TfrError, UsageError

ODD = ["a,b", 'quoted "x"', "猫", "-", "0", "#1", "[x]", "id", "split", "x|y;z", "from: to"]


@pytest.fixture
def convert(tmp_path, write_photos, capsys):
    """convert(rows, *flags): a dataset directory of images x/0.jpg, x/1.png, ... with the rows of a JSONL file."""

    def run(rows, *flags, name="photos"):
        names = [f"x/{i}.{'png' if i % 3 == 1 else 'jpg'}" for i in range(len(rows))]
        folder = write_photos(names)
        lines = [
            json.dumps({"image": image, "id": f"id {i}/{i}", **row})
            for i, (image, row) in enumerate(zip(names, rows, strict=True))
        ]
        (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
        arguments = [f"--annotations={tmp_path}/rows.jsonl", f"--images={folder}", f"--data_dir={tmp_path}/data"]
        assert (
            cli.main(["convert", *arguments, f"--name={name}", "--id_column=id", "--image_column=image", *flags]) == 0
        )
        capsys.readouterr()
        return tmp_path / "data" / name / "1.0.0"

    return run


def shard_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if "record-" in path.name}


def back_again(result, monkeypatch, folder):
    """Runs the command that an export ends with in an empty folder; returns the dataset directory."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    command = shlex.split(result.convert_command)
    assert command[:2] == ["tfr", "convert"]
    assert cli.main(command[1:]) == 0
    (info,) = (folder / "data").glob("*/*/dataset_info.json")
    return info.parent


def one_hot(names, flags):
    return dict(zip(names, flags, strict=True))


MULTI = [{"labels": ["a", "b"][: i % 3]} for i in range(12)]
UNKNOWN = [one_hot(["a", "b", "c"], [i % 2, None if i % 3 == 0 else 1, int(i % 4 == 0)]) for i in range(12)]
ODDLY = [one_hot(ODD, [(i + k) % 2 if (i * k) % 5 else None for k in range(len(ODD))]) for i in range(12)]


SINGLE = [{"labels": ["a", "b"][i % 2]} for i in range(12)]
BRACKETS = [{"labels": "[x]" if i % 2 else " "} for i in range(12)]
KEPT = [{**row, "note": f"n{i}, “x”", "image_": "y"} for i, row in enumerate(UNKNOWN)]
OF_ODD = ["--label_encoding=one_hot", f'--label_columns="{ODD[0]}:{ODD[-1]}"', "--id_column=key"]


@pytest.mark.parametrize("format", ["csv", "jsonl"])
@pytest.mark.parametrize(
    ("rows", "flags"),
    [
        (MULTI, ["--label_mode=multi"]),
        (MULTI, ["--label_mode=multi", "--num_shards=3", "--split_seed=7", "--image_size=20", "--min_side=9"]),
        (MULTI, ["--label_mode=multi", "--file_format=array_record", "--keep_png"]),
        (SINGLE, ["--label_mode=single"]),
        (BRACKETS, ["--label_encoding=text", "--empty_labels=none"]),
        (UNKNOWN, ["--label_columns=a:c"]),
        (KEPT, ["--label_columns=a:c", "--keep_columns=note,image_"]),
        (ODDLY, OF_ODD),
    ],
)  # fmt: skip
def test_out_and_in_again_gives_the_same_bytes(rows, flags, format, convert, tmp_path, monkeypatch):
    if "--id_column=key" in flags:  # a label is called 'id'
        rows = [{"key": f"k{i}", **row} for i, row in enumerate(rows)]
    before = convert(rows, "--splits=train=0.6,test=0.4", *flags)
    result = annotation_export.export(ExportConfig(dataset=str(before), output=str(tmp_path / "out"), format=format))
    assert (result.num_records, result.num_images, result.features_left_out) == (12, 12, [])
    after = back_again(result, monkeypatch, tmp_path / "again")
    assert (after / "features.json").read_text() == (before / "features.json").read_text()
    assert len(shard_bytes(before)) > 1
    assert shard_bytes(after) == shard_bytes(before)


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_text_with_a_delimiter_comes_back_too(format, convert, tmp_path, monkeypatch):
    before = convert(MULTI, "--label_mode=multi", "--splits=train=1")
    config = ExportConfig(
        dataset=str(before), output=str(tmp_path / "out"), format=format, label_encoding="text", label_delimiter=";"
    )
    result = annotation_export.export(config)
    assert "a;b" in (tmp_path / "out" / f"annotations.{format}").read_text()
    assert shard_bytes(back_again(result, monkeypatch, tmp_path / "again")) == shard_bytes(before)


def test_what_is_written_is_what_people_expect(convert, tmp_path):
    folder = convert(UNKNOWN, "--label_columns=a:c", "--splits=train=1")
    annotation_export.export(ExportConfig(dataset=str(folder), output=str(tmp_path / "out")))
    with open(tmp_path / "out" / "annotations.csv", newline="", encoding="utf-8") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert rows["id 3/3"] == {"id": "id 3/3", "image": "id 3/3.jpg", "split": "train", "a": "1", "b": "", "c": "0"}
    assert (tmp_path / "out" / "labels.txt").read_text() == "a\nb\nc\n"
    stored = {
        e["id"].decode(): e["image"] for e in dataset_dir.read_split(dataset_dir.open_builder(str(folder)), "train")
    }
    for id_, row in rows.items():
        assert (tmp_path / "out" / "images" / row["image"]).read_bytes() == stored[id_]


def test_without_images_the_id_says_which_it_is(convert, tmp_path):
    folder = convert(MULTI, "--label_mode=multi", "--splits=train=1")
    result = annotation_export.export(ExportConfig(dataset=str(folder), output=str(tmp_path / "out"), images=False))
    assert (result.num_records, result.num_images) == (12, 0)
    assert sorted(os.listdir(tmp_path / "out")) == ["annotations.csv", "labels.txt"]
    assert "--image_column" not in result.convert_command


# What cannot be expressed


@pytest.mark.parametrize(
    ("rows", "flags", "options", "message"),
    [
        (UNKNOWN, ["--label_columns=a:c"], {"label_encoding": "list"}, "not known, which .* cannot say. Use one_hot"),
        (
            [{"labels": ["a|b", "c"][: i % 3]} for i in range(12)],
            ["--label_mode=multi"],
            {"label_encoding": "text"},
            r"Labels \['a\|b'\] have the delimiter",
        ),
        (
            [{"labels": ["a;b", "c"][: i % 3]} for i in range(12)],
            ["--label_mode=multi"],
            {"label_encoding": "text", "label_delimiter": "; "},  # readers part cells at it without its blanks
            r"Labels \['a;b'\] have the delimiter",
        ),
        (
            [{"labels": ["k"], "k": "v"}] * 12,
            ["--keep_columns=k", "--label_mode=multi"],
            {"label_encoding": "one_hot"},
            "labels and features",
        ),
        (MULTI, ["--label_mode=multi"], {"format": "xls"}, "--format must be one of csv, jsonl"),
        (MULTI, ["--label_mode=multi"], {"label_delimiter": " "}, "more than blanks"),
    ],
)  # fmt: skip
def test_what_cannot_be_expressed_is_refused_before_anything_is_written(
    rows, flags, options, message, convert, tmp_path
):
    folder = convert(rows, "--splits=train=1", *flags)
    with pytest.raises(UsageError, match=message):
        annotation_export.export(ExportConfig(dataset=str(folder), output=str(tmp_path / "out"), **options))
    assert not (tmp_path / "out").exists()


# Nothing overwritten, nothing half-written


def test_a_folder_with_anything_in_it_is_refused(convert, tmp_path):
    folder = convert(MULTI, "--label_mode=multi", "--splits=train=1")
    (tmp_path / "out").mkdir()
    config = ExportConfig(dataset=str(folder), output=str(tmp_path / "out"))
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(DatasetError, match=r"out is not empty, and an export overwrites nothing"):
        annotation_export.export(config)
    assert os.listdir(tmp_path / "out") == ["mine.txt"]
    (tmp_path / "out" / "mine.txt").unlink()
    assert annotation_export.export(config).num_records == 12


def test_a_failed_export_leaves_nothing(convert, tmp_path):
    folder = convert(MULTI, "--label_mode=multi", "--splits=train=1", "--num_shards=2")
    path = folder / "photos-train.tfrecord-00001-of-00002"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TfrError, match="the file ends inside the record"):
        annotation_export.export(ExportConfig(dataset=str(folder), output=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


# Datasets that something else made


def test_ids_of_a_hostile_dataset_stay_in_the_folder(tmp_path, make_photo, encode):
    ids = [
        "../../up", "/etc/absolute", "..", "a/../../b", "C:\\x", "a\\..\\b", ".hidden", "nul\x00byte", "a//b",
        "x.jpg", "x.jpg/1", "X", "x", "long" * 100, "/".join(["deep"] * 300), "100%", "~7", "tab\there", " blank ",
        "ü.JPG", "dot.", "a.png",
    ]  # fmt: skip
    features = tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=["a", "b"]),
            "boxes": tfds.features.Sequence({"bbox": tfds.features.BBoxFeature()}),
            "number": tfds.features.Scalar(dtype=np.int64),
        }
    )
    folder = tmp_path / "foreign" / "1.0.0"
    folder.mkdir(parents=True)
    with shards.create(str(folder / shards.shard_name("foreign", "train", 0, 1))) as writer:
        for i, id_ in enumerate([*ids, "x"]):  # the last one is there twice
            example = {"id": id_, "image": encode(make_photo(i)), "label": i % 3 - 1, "boxes": [], "number": 7}
            record = features.serialize_example(example)
            writer.write(record, *shards.frame(record))
    split = tfds.core.SplitInfo(name="train", shard_lengths=[len(ids) + 1], num_bytes=writer.num_bytes)
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=features, split_infos=[split], filename_template=None, version="1.0.0"
    )
    output = tmp_path / "deep" / "in" / "out"
    result = annotation_export.export(ExportConfig(dataset=str(folder), output=str(output), format="jsonl"))
    assert result.features_left_out == ["boxes"]
    rows = [json.loads(line) for line in (output / "annotations.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == [*ids, "x"]
    assert [row["labels"] for row in rows[:3]] == ["", "a", "b"]
    written = {path for path in tmp_path.rglob("*") if path.suffix.lower() in (".jpg", ".png")}
    images = [(output / "images" / row["image"]).resolve() for row in rows]
    assert set(images) == written
    assert len(set(images)) == len(rows)
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in images}
    assert len(digests) == len(rows)


@pytest.mark.parametrize(
    ("id_", "path"),
    [
        ("tt01", "tt01.jpg"),
        ("cats/1.JPG", "cats/1.JPG"),
        ("cats/1.jpeg", "cats/1.jpeg"),
        ("a.png", "a.png.jpg"),
        ("../a", "%2E%2E/a.jpg"),
        ("/a", "%/a.jpg"),
        ("50%", "50%25.jpg"),
        ("a b", "a b.jpg"),
    ],
)
def test_names_of_files_are_the_ids_where_they_can_be(id_, path):
    assert export_names.safe_path(id_, (".jpg", ".jpeg")) == path


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_extensions_are_those_of_the_content(format, make_photo, encode):
    from PIL import Image

    extensions = export_names.extensions_of(encode(make_photo(), format))
    assert {Image.registered_extensions()[extension] for extension in extensions} == {format}


# The command


def test_the_command_exports_and_says_how_to_come_back(convert, tmp_path, capsys):
    folder = convert(MULTI, "--label_mode=multi", "--splits=train=1")
    arguments = ["export-annotations", str(folder), f"--output={tmp_path}/out"]
    assert cli.main([*arguments, "--noimages"]) == 0
    output, errors = capsys.readouterr()
    assert output.startswith(f"Exported: {tmp_path}/out/annotations.csv (12 rows, 0 images beside it)\n")
    assert "again: tfr convert --annotations=" in output
    assert errors == ""
    assert cli.main(arguments) == 1
    assert "is not empty" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "out")
    assert cli.main([*arguments, "--json", "--format=jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["num_images"] == 12
    assert pathlib.Path(tmp_path, "out", "images", "id 0", "0.jpg").exists()


@pytest.mark.parametrize(
    ("arguments", "code"), [([], 2), (["a"], 2), (["a", "b", "--output=x"], 2), (["no", "--output=x"], 1)]
)
def test_the_command_fails_in_one_line(arguments, code, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export-annotations", *arguments]) == code
    assert capsys.readouterr().err.count("\n") == 1
    assert os.listdir(tmp_path) == []
