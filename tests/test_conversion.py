import csv
import dataclasses
import fcntl
import io
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tfr import conversion, dataset_dir, planning, shard_writer, splits
from tfr.annotations import ReadOptions
from tfr.config import ConvertConfig
from tfr.errors import AnnotationError, ConversionError, DatasetError, TfrError, UsageError
from tfr.images import ImageOptions

LABELS = ["bird", "cat", "dog"]
# What every way of writing annotations says.
IMAGES = {
    "a.jpg": ["cat"], "b.jpg": ["cat", "dog"], "c.jpg": [], "d.jpg": ["dog"], "e/f.jpg": ["bird", "cat"],
    "e/g.jpg": ["bird", "cat", "dog"], "h.jpeg": ["bird"], "ü 猫.jpg": ["cat"],
}  # fmt: skip
ALL_IN_TRAIN = splits.parse_ratios("train=1")


def write_csv(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def one_hot_rows(images):
    return [
        ["image", *LABELS],
        *([name, *(int(label in labels) for label in LABELS)] for name, labels in images.items()),
    ]


@pytest.fixture
def make_config(tmp_path):
    """make_config(**changes): a conversion of tmp_path/images by tmp_path/annotations.csv into tmp_path/data."""

    def make(**changes):
        settings = {
            "annotations": str(tmp_path / "annotations.csv"),
            "images": str(tmp_path / "images"),
            "data_dir": str(tmp_path / "data"),
            "name": "pets",
            "read": ReadOptions(label_columns=("bird:dog",), label_encoding="one_hot"),
            "split_ratios": ALL_IN_TRAIN,
            "num_shards": 3,
        }
        return ConvertConfig(**{**settings, **changes})

    return make


@pytest.fixture
def pets(tmp_path, write_photos):
    """tmp_path/images with IMAGES, and tmp_path/annotations.csv with their labels as 0/1 columns."""
    folder = write_photos(IMAGES)
    write_csv(tmp_path / "annotations.csv", one_hot_rows(IMAGES))
    return folder


def read_all(folder):
    """Every example of a dataset directory by its id; labels by name."""
    builder = dataset_dir.open_builder(str(folder))
    names, key = dataset_dir.label_names(builder), dataset_dir.label_key(builder)
    examples = {}
    for split in builder.info.splits:
        for example in dataset_dir.read_split(builder, split):
            id_ = example["id"].decode()
            assert id_ not in examples
            examples[id_] = {**example, "split": split, "labels": [names[i] for i in np.atleast_1d(example[key])]}
    return examples


def labels_of(folder):
    return {id_: example["labels"] for id_, example in read_all(folder).items()}


def shard_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(pathlib.Path(folder).glob("*.tfrecord-*"))}


def rejects_of(folder):
    lines = pathlib.Path(folder, "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def assert_clean(folder):
    """Nothing is left of how the dataset came to be."""
    names = [path.name for path in pathlib.Path(folder).rglob("*")]
    assert not [name for name in names if ".tmp-" in name or name.startswith(".") or name.endswith(".progress")]


# What annotations may look like


def as_list_literals(tmp_path):
    rows = [["image", "labels"], *([name, repr(labels)] for name, labels in IMAGES.items())]
    return {"annotations": write_csv(tmp_path / "list.csv", rows), "read": ReadOptions()}


def as_delimited_text(tmp_path):
    rows = [["file", "tags"], *([name, "|".join(labels)] for name, labels in IMAGES.items())]
    options = ReadOptions(image_column="file", label_columns=("tags",), label_delimiter="|", empty_labels="none")
    return {"annotations": write_csv(tmp_path / "text.csv", rows), "read": options}


def as_json(tmp_path):
    entries = [{"image": name, "annotation": labels} for name, labels in IMAGES.items()]
    (tmp_path / "list.json").write_text(json.dumps(entries), encoding="utf-8")
    return {"annotations": str(tmp_path / "list.json"), "read": ReadOptions()}


def as_frame(tmp_path):
    del tmp_path
    frame = pd.DataFrame({"image": list(IMAGES), "labels": list(IMAGES.values())})
    return {"annotations": frame, "read": ReadOptions()}


def as_one_hot_frame(tmp_path):
    del tmp_path
    header, *rows = one_hot_rows(IMAGES)
    return {"annotations": pd.DataFrame(rows, columns=header)}


@pytest.mark.parametrize(
    "express", [lambda _: {}, as_list_literals, as_delimited_text, as_json, as_frame, as_one_hot_frame],
    ids=["one_hot", "list_literals", "delimited_text", "json", "frame", "one_hot_frame"],
)  # fmt: skip
def test_records_do_not_depend_on_how_annotations_are_written(express, pets, tmp_path, make_config):
    result = conversion.convert(make_config(**express(tmp_path)))
    assert (result.rows_read, result.records_written, result.num_lost) == (len(IMAGES), len(IMAGES), 0)
    assert (result.label_mode, result.num_labels) == ("multi", 3)
    examples = read_all(result.dataset_dir)
    assert {id_: example["labels"] for id_, example in examples.items()} == IMAGES
    for name in IMAGES:
        assert examples[name]["image"] == (pets / name).read_bytes()
    reference = conversion.convert(make_config(data_dir=str(tmp_path / "reference")))
    assert shard_bytes(result.dataset_dir) == shard_bytes(reference.dataset_dir)
    assert_clean(result.dataset_dir)


def test_folders_are_single_labels_and_splits(write_photos, make_config):
    names = [f"{split}/{label}/{i}.jpg" for split in ("train", "val") for label in ("cat", "dog") for i in range(3)]
    folder = write_photos(names)
    config = make_config(annotations=str(folder), images=None, read=ReadOptions())
    result = conversion.convert(config)
    assert (result.label_mode, result.records_per_split) == ("single", {"train": 6, "validation": 6})
    examples = read_all(result.dataset_dir)
    assert {id_: (example["split"], example["labels"]) for id_, example in examples.items()} == {
        name: ({"val": "validation"}.get(name.split("/")[0], "train"), [name.split("/")[1]]) for name in names
    }


def test_images_are_told_by_content_not_by_name(tmp_path, write_photos, make_photo, encode, make_config):
    folder = write_photos(["a.jpg"])
    (folder / "b.jpg").write_bytes(encode(make_photo(5), "PNG"))
    (folder / "c.png").write_bytes(encode(make_photo(6), "JPEG"))
    write_csv(tmp_path / "annotations.csv", one_hot_rows({"a.jpg": ["cat"], "b.jpg": ["dog"], "c.png": ["bird"]}))
    result = conversion.convert(make_config())
    assert (result.records_written, result.num_stored_as_is) == (3, 2)
    assert all(example["image"].startswith(b"\xff\xd8") for example in read_all(result.dataset_dir).values())


@pytest.mark.usefixtures("pets")
def test_image_size_reaches_the_records(make_config):
    result = conversion.convert(make_config(image=ImageOptions(image_size=16)))
    for example in read_all(result.dataset_dir).values():
        assert Image.open(io.BytesIO(example["image"])).size == (24, 16)
    assert result.num_stored_as_is == 0


def test_columns_that_are_kept_are_in_the_records(tmp_path, write_photos, make_config):
    write_photos(["1.jpg", "2.jpg"])
    write_csv(
        tmp_path / "annotations.csv",
        [["id", "bird", "cat", "dog", "title"], ["1", 0, 1, 0, "Kätzchen, klein"], ["2", 1, 0, 1, ""]],
    )
    options = ReadOptions(label_columns=("bird:dog",), keep_columns=("title",))
    examples = read_all(conversion.convert(make_config(read=options)).dataset_dir)
    assert {id_: example["title"].decode() for id_, example in examples.items()} == {"1": "Kätzchen, klein", "2": ""}


def test_empty_one_hot_cells_are_unknown(tmp_path, write_photos, make_config):
    write_photos(["1.jpg", "2.jpg", "3.jpg"])
    write_csv(tmp_path / "annotations.csv", [["id", *LABELS], ["1", "", 1, 0], ["2", 1, "", ""], ["3", 0, 0, 1]])
    examples = read_all(conversion.convert(make_config()).dataset_dir)
    assert {id_: (example["labels"], list(example["labels_unknown"])) for id_, example in examples.items()} == {
        "1": (["cat"], [0]), "2": (["bird"], [1, 2]), "3": (["dog"], []),
    }  # fmt: skip


@pytest.mark.usefixtures("pets")
def test_without_a_listing_images_are_taken_by_name(make_config):
    result = conversion.convert(make_config(list_images=False))
    assert labels_of(result.dataset_dir) == IMAGES
    assert (result.images_listed, result.images_without_row) == (None, 0)


@pytest.mark.usefixtures("pets")
def test_more_shards_than_records(make_config):
    result = conversion.convert(make_config(num_shards=20))
    assert len(shard_bytes(result.dataset_dir)) == 20
    assert labels_of(result.dataset_dir) == IMAGES


# Counts and rejects


@pytest.fixture
def messy(tmp_path, write_photos):
    """Every way in which a row or an image can fail, beside sound ones."""
    folder = write_photos([f"{name}.jpg" for name in (*"abcdef", "extra1", "extra2")])
    whole = (folder / "a.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("no image")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("no image, and not said to be one")
    lines = [
        "id,bird,cat,dog",
        "a,0,1,0", "b,1,0,0", "c,0,1,1", "a,0,0,1", "gone,1,0,0", "broken,0,1,0", "text,0,1,0", "d,0,2,0",
        "e,1,0", ",1,0,0", "a,1,0,0", "empty,0,0,1", "f,0,0,0",
    ]  # fmt: skip
    (tmp_path / "annotations.csv").write_text("\n".join(lines))
    return folder


REJECTS = {  # line: (id, reason)
    5: ("a", "duplicate_id"), 6: ("gone", "no_image"), 7: ("broken", "truncated"), 8: ("text", "not_an_image"),
    9: ("d", "bad_label"), 10: ("e", "malformed_row"), 11: ("", "no_id"), 12: ("a", "duplicate_id"),
    13: ("empty", "empty"),
}  # fmt: skip


@pytest.mark.usefixtures("messy")
def test_every_row_is_a_record_or_a_listed_reject(tmp_path, make_config):
    result = conversion.convert(make_config())
    rejects = rejects_of(result.dataset_dir)
    assert {reject["row"]: (reject["id"], reject["reason"]) for reject in rejects} == REJECTS
    assert {reject["file"] for reject in rejects} == {str(tmp_path / "annotations.csv")}
    assert all(reject["detail"] for reject in rejects)
    assert result.rows_read == result.records_written + len(rejects) == 13
    assert result.num_lost == len(rejects) - 2
    assert result.duplicate_ids == 1
    assert (result.images_listed, result.images_without_row) == (11, 4)
    listed = pathlib.Path(result.dataset_dir, "images_without_row.txt").read_text().split()
    assert listed == ["d.jpg", "e.jpg", "extra1.jpg", "extra2.jpg"]
    assert labels_of(result.dataset_dir) == {"a": LABELS, "b": ["bird"], "c": ["cat", "dog"], "f": []}


@pytest.mark.usefixtures("messy")
def test_the_summary_says_all_of_it(make_config):
    result = conversion.convert(make_config())
    text = conversion.summary(result)
    for line in (
        rf"Converted: {re.escape(result.dataset_dir)}",
        r"rows read +13",
        r"records written +4 \(train 4\)",
        r"labels +3 \(multi-label\)",
        r"rows without an image +1",
        r"duplicate ids +1 \(2 rows folded into others\)",
        r"images without a row +4 of 11, listed in \S+images_without_row.txt",
        r"other rejected rows +6 \(bad_label 1, empty 1, malformed_row 1, no_id 1, not_an_image 1, truncated 1\)",
        r"listed in \S+rejected.jsonl",
    ):
        assert re.search(line, text), line


@pytest.mark.usefixtures("messy")
def test_the_manifest_and_the_label_counts_agree_with_the_records(make_config):
    result = conversion.convert(make_config())
    folder = pathlib.Path(result.dataset_dir)
    manifest = json.loads((folder / "conversion.json").read_text())
    assert manifest["config"]["name"] == "pets"
    # The folder is left out: it can be moved.
    assert manifest["result"] | {"dataset_dir": str(folder)} == json.loads(json.dumps(dataclasses.asdict(result)))
    assert {entry["file"]: entry["bytes"] for entry in manifest["shards"]} == {
        name: len(data) for name, data in shard_bytes(folder).items()
    }
    assert sum(entry["records"] for entry in manifest["shards"]) == result.records_written
    assert (folder / "label_counts.csv").read_text() == "label,train,total\nbird,2,2\ncat,2,2\ndog,2,2\n"


@pytest.mark.usefixtures("messy")
@pytest.mark.parametrize(("on_duplicate", "labels"), [("merge", LABELS), ("first", ["cat"])])
def test_duplicates(on_duplicate, labels, make_config):
    result = conversion.convert(make_config(on_duplicate=on_duplicate))
    assert labels_of(result.dataset_dir)["a"] == labels
    assert result.rejects_by_reason["duplicate_id"] == 2


@pytest.mark.usefixtures("messy")
def test_duplicates_can_be_an_error_that_names_both_rows(make_config):
    with pytest.raises(
        AnnotationError, match=r"annotations.csv:5: the id stands on row 2 already.*--on_duplicate=merge"
    ):
        conversion.convert(make_config(on_duplicate="error"))


@pytest.mark.usefixtures("messy")
def test_max_rejects_counts_rows_that_are_lost(make_config):
    config = make_config(max_rejects=6)
    with pytest.raises(
        ConversionError, match=r"7 rows became no example .*--max_rejects=6.* listed in (\S+)\.$"
    ) as info:
        conversion.convert(config)
    listed = pathlib.Path(re.search(r"listed in (\S+)\.$", str(info.value))[1])
    assert len(listed.read_text().splitlines()) == len(REJECTS)
    assert not os.path.exists(f"{config.dataset_dir}/dataset_info.json")
    assert conversion.convert(make_config(max_rejects=7)).num_lost == 7
    assert_clean(config.dataset_dir)


@pytest.mark.usefixtures("messy")
def test_max_rejects_stops_before_any_image_is_read(make_config):
    config = make_config(max_rejects=3)
    with pytest.raises(ConversionError, match="4 rows became no example"):
        conversion.convert(config)
    assert not shard_bytes(config.dataset_dir)


@pytest.mark.usefixtures("pets")
def test_a_single_label_mode_rejects_rows_with_none_or_several(make_config):
    result = conversion.convert(make_config(label_mode="single"))
    expected = {name: labels for name, labels in IMAGES.items() if len(labels) == 1}
    assert labels_of(result.dataset_dir) == expected
    assert result.rejects_by_reason == {
        "no_label": 1, "several_labels": len(IMAGES) - 1 - len(expected),
    }  # fmt: skip


def test_nothing_is_published_when_no_image_can_be_used(tmp_path, make_config):
    (tmp_path / "images").mkdir()
    for name in "ab":
        (tmp_path / "images" / f"{name}.jpg").write_text("no image")
    write_csv(tmp_path / "annotations.csv", [["id", *LABELS], ["a", 1, 0, 0], ["b", 0, 1, 0]])
    config = make_config()
    with pytest.raises(ConversionError, match=r"No image of \['train'\] could be used: {'not_an_image': 2}"):
        conversion.convert(config)
    assert not os.path.exists(f"{config.dataset_dir}/dataset_info.json")


@pytest.mark.usefixtures("pets")
def test_rows_that_all_lack_images_say_what_is_looked_for(tmp_path, make_config):
    write_csv(tmp_path / "annotations.csv", [["id", *LABELS], ["zz", 1, 0, 0], ["yy", 0, 1, 0]])
    with pytest.raises(ConversionError, match=r"wants 'zz'.* holds 8 images such as \['a.jpg'.*--image_template"):
        conversion.convert(make_config())


def test_an_image_that_vanishes_after_the_planning_is_a_reject(pets, make_config, monkeypatch):
    real = planning.make_plan

    def plan_then_lose_two(*args):
        plan = real(*args)
        (pets / "a.jpg").unlink()
        (pets / "b.jpg").unlink()
        (pets / "b.jpg").mkdir()
        return plan

    monkeypatch.setattr(planning, "make_plan", plan_then_lose_two)
    result = conversion.convert(make_config())
    reasons = {reject["id"]: reject["reason"] for reject in rejects_of(result.dataset_dir)}
    assert reasons == {"a.jpg": "missing", "b.jpg": "unreadable"}
    assert result.records_written == len(IMAGES) - 2


@pytest.mark.usefixtures("pets")
@pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "nul\0.jpg", "a.jpg/b.jpg"])
def test_names_that_no_file_can_have_are_rejects(name, make_config):
    frame = pd.DataFrame({"image": ["b.jpg", name], "labels": [["cat"], ["dog"]]})
    config = make_config(annotations=frame, read=ReadOptions(), list_images=False, label_mode="multi")
    result = conversion.convert(config)
    assert labels_of(result.dataset_dir) == {"b.jpg": ["cat"]}
    assert [reject["id"] for reject in rejects_of(result.dataset_dir)] == [name]


# The same again


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in pathlib.Path(folder).iterdir()}


@pytest.mark.usefixtures("pets")
def test_the_same_again_changes_nothing(make_config):
    first = conversion.convert(make_config())
    before = stamps(first.dataset_dir)
    time.sleep(0.01)
    again = conversion.convert(make_config(threads_per_worker=0, max_rejects=5))
    assert again == dataclasses.replace(first, reused=True)
    assert stamps(first.dataset_dir) == before
    assert conversion.summary(again).startswith("Already converted, nothing to do")


CHANGES = {
    "config": ({"split_seed": 3}, None, r"\(split_seed: 0 -> 3\)"),
    "nested config": ({"image": ImageOptions(image_size=16)}, None, r"\(image_size: None -> 16\)"),
    "two settings": ({"num_shards": 1, "min_label_count": 2}, None, r"\(min_label_count: 1 -> 2; num_shards: 3 -> 1\)"),
    "annotations": ({}, lambda folder: (folder.parent / "annotations.csv").open("a").write("\n"), "annotations or the"),
    "an image more": ({}, lambda folder: (folder / "new.jpg").write_bytes(b"x"), "the list of images changed"),
    "an image changed": ({}, lambda folder: (folder / "a.jpg").write_bytes(b"x"), "the list of images changed"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_another_conversion_into_the_same_place_is_refused_with_the_difference(kind, pets, make_config):
    changes, change, message = CHANGES[kind]
    first = conversion.convert(make_config())
    before = stamps(first.dataset_dir)
    if change:
        change(pets)
    with pytest.raises(DatasetError, match=rf"{message}.*--overwrite"):
        conversion.convert(make_config(**changes))
    assert stamps(first.dataset_dir) == before
    assert not conversion.convert(make_config(**changes, overwrite=True)).reused


@pytest.mark.usefixtures("pets")
@pytest.mark.parametrize("field", ["labels_file", "label_map"])
def test_files_that_the_config_names_are_input_too(field, tmp_path, make_config):
    texts = {"labels_file": ("cat\ndog\nbird\n", "dog\ncat\nbird\n"), "label_map": ("from,to\ncat,kitten\n",) * 2}[
        field
    ]
    (tmp_path / "file").write_text(texts[0])
    config = make_config(**{field: str(tmp_path / "file")})
    conversion.convert(config)
    assert conversion.convert(config).reused
    (tmp_path / "file").write_text(texts[1].replace("kitten", "kitty"))
    with pytest.raises(DatasetError, match="the annotations or the list of images changed"):
        conversion.convert(config)


def test_texts_in_a_folder_of_annotations_are_input_too(write_photos, make_config):
    folder = write_photos(["train/a.jpg", "train/b.jpg"])
    table = folder / "train" / "metadata.csv"
    table.write_text("file_name,labels\na.jpg,cat\nb.jpg,dog\n")
    config = make_config(annotations=str(folder), images=None, format="imagefolder", read=ReadOptions())
    conversion.convert(config)
    table.write_text("file_name,labels\na.jpg,dog\nb.jpg,cat\n")
    with pytest.raises(DatasetError, match="the annotations or the list of images changed"):
        conversion.convert(config)


def test_overwrite_leaves_nothing_of_what_was_there(messy, tmp_path, make_config):
    first = conversion.convert(make_config(num_shards=5))
    assert pathlib.Path(first.dataset_dir, "images_without_row.txt").exists()
    write_csv(tmp_path / "annotations.csv", [["id", "cow", "hen"], *([name, 1, 0] for name in "abcdef")])
    for path in messy.iterdir():
        if len(path.stem) > 1:
            path.unlink()
    config = make_config(overwrite=True, num_shards=2, read=ReadOptions(label_columns=("cow", "hen")))
    result = conversion.convert(config)
    fresh = conversion.convert(dataclasses.replace(config, data_dir=str(tmp_path / "fresh")))
    assert sorted(stamps(result.dataset_dir)) == sorted(stamps(fresh.dataset_dir))
    assert shard_bytes(result.dataset_dir) == shard_bytes(fresh.dataset_dir)


@pytest.mark.usefixtures("pets")
def test_overwrite_keeps_the_old_dataset_until_the_new_one_is_planned(tmp_path, make_config):
    first = conversion.convert(make_config())
    for changes in (
        {"annotations": str(tmp_path / "typo.csv")},
        {"images": str(tmp_path / "typo")},
        {"runner": "Typo"},
    ):
        with pytest.raises(TfrError):
            conversion.convert(make_config(**changes, overwrite=True))
    assert labels_of(first.dataset_dir) == IMAGES


@pytest.mark.usefixtures("pets")
def test_a_dataset_of_another_maker_is_not_replaced_silently(make_config):
    result = conversion.convert(make_config())
    manifest = pathlib.Path(result.dataset_dir, "conversion.json")
    manifest.unlink()
    with pytest.raises(DatasetError, match=r"a dataset that tfr convert did not make.*--overwrite"):
        conversion.convert(make_config())
    manifest.write_text("{")
    with pytest.raises(DatasetError, match=r"conversion.json: cannot be read as JSON"):
        conversion.convert(make_config())


# The same bytes everywhere


@pytest.fixture
def many(tmp_path, write_photos):
    """Forty rows: enough for several batches of several threads; some images are broken, some are PNGs."""
    folder = write_photos([f"{i:02}.{'png' if i % 7 == 0 else 'jpg'}" for i in range(40)])
    (folder / "05.jpg").write_text("broken")
    (folder / "33.jpg").write_bytes((folder / "33.jpg").read_bytes()[:-200])
    rows = [[f"{i:02}", i % 2, int(i % 3 == 0), int(i % 5 == 0)] for i in range(40)]
    write_csv(tmp_path / "annotations.csv", [["id", *LABELS], *rows])
    return folder


RUNS = {
    "no threads": {"threads_per_worker": 0},
    "one thread": {"threads_per_worker": 1},
    "many threads": {"threads_per_worker": 7},
    "two workers": {"beam_args": ("--direct_num_workers=2",)},
    "BundleBasedDirectRunner": {"runner": "BundleBasedDirectRunner"},
    "TrivialRunner": {"runner": "apache_beam.runners.trivial_runner.TrivialRunner"},
}
SLOW_RUNS = {
    "multi_processing": {"beam_args": ("--direct_running_mode=multi_processing", "--direct_num_workers=2")},
}


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("kind", [*RUNS, *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW_RUNS)])
def test_bytes_do_not_depend_on_runner_and_workers(kind, tmp_path, make_config):
    changes = {"split_ratios": splits.parse_ratios("train=0.7,test=0.3"), "num_shards": 3}
    reference = conversion.convert(make_config(data_dir=str(tmp_path / "reference"), **changes))
    result = conversion.convert(make_config(**changes, **{**RUNS, **SLOW_RUNS}[kind]))
    assert len(shard_bytes(reference.dataset_dir)) == 6
    assert shard_bytes(result.dataset_dir) == shard_bytes(reference.dataset_dir)
    assert rejects_of(result.dataset_dir) == rejects_of(reference.dataset_dir)
    assert result.rejects_by_reason == {"not_an_image": 1, "truncated": 1}
    assert_clean(result.dataset_dir)


@pytest.mark.parametrize(
    "arguments", [("--direct_running_mode=multi_threading",), ("--direct_running_mode", "multi_threading")]
)
def test_the_mode_that_loses_records_is_refused(arguments, make_config):
    with pytest.raises(UsageError, match="multi_threading loses records silently"):
        make_config(beam_args=arguments)


@pytest.mark.usefixtures("pets")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runner": "NoRunner"}, "--runner=NoRunner: .*FnApiRunner"),
        ({"runner": "no.such.module.Runner"}, "--runner=no.such.module.Runner: .*[Nn]o module"),
        ({"beam_args": ("--direct_num_workers=many",)}, "Beam option .*--direct_num_workers.*'many'"),
    ],
)
def test_runners_and_options_that_beam_refuses_are_usage_errors(changes, message, make_config, capsys):
    config = make_config(**changes)
    with pytest.raises(UsageError, match=message):
        conversion.convert(config)
    assert not os.path.exists(config.data_dir)
    assert capsys.readouterr().err == ""


# Interrupted jobs


def fail_after(monkeypatch, num_shards):
    """Makes the job fail after so many shards, as it would when a disk is full."""
    real, count = shard_writer.write_shard, itertools.count()

    def write(plan, settings):
        if next(count) == num_shards:
            raise OSError(28, "No space left on device")
        return real(plan, settings)

    monkeypatch.setattr(shard_writer, "write_shard", write)


@pytest.mark.usefixtures("many")
def test_a_failed_job_goes_on_where_it_stopped(tmp_path, make_config, monkeypatch):
    reference = conversion.convert(make_config(data_dir=str(tmp_path / "reference"), num_shards=8))
    config = make_config(num_shards=8)
    fail_after(monkeypatch, 5)
    with pytest.raises(ConversionError, match=r"No space left on device.*run the same command again") as info:
        conversion.convert(config)
    assert "\n" not in str(info.value)
    folder = pathlib.Path(config.dataset_dir)
    finished = {name: stamp for name, stamp in stamps(folder).items() if ".tfrecord-" in name}
    assert len(finished) == 5
    with pytest.raises(DatasetError, match=r"no dataset_info.json.* An unfinished conversion is in"):
        dataset_dir.open_builder(config.data_dir)
    (folder / f"{next(iter(finished))}.tmp-0123456789ab").write_bytes(b"half a shard of a process that was killed")
    (folder / "conversion.json.tmp-0123456789ab").write_bytes(b"{")
    monkeypatch.undo()
    result = conversion.convert(config)
    assert not result.reused
    assert shard_bytes(folder) == shard_bytes(reference.dataset_dir)
    assert {name: stamp for name, stamp in stamps(folder).items() if name in finished} == finished
    assert dataclasses.replace(result, dataset_dir="") == dataclasses.replace(reference, dataset_dir="")
    assert_clean(folder)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("changes", [{"num_shards": 3}, {"split_seed": 5}, {"image": ImageOptions(image_size=16)}])
def test_shards_of_another_plan_are_not_taken_over(changes, tmp_path, make_config, monkeypatch):
    reference = conversion.convert(make_config(data_dir=str(tmp_path / "reference"), **{"num_shards": 8, **changes}))
    fail_after(monkeypatch, 5)
    with pytest.raises(ConversionError):
        conversion.convert(make_config(num_shards=8))
    monkeypatch.undo()
    result = conversion.convert(make_config(**{"num_shards": 8, **changes}))
    assert shard_bytes(result.dataset_dir) == shard_bytes(reference.dataset_dir)


@pytest.mark.usefixtures("many")
def test_a_shard_that_is_lost_is_written_again(make_config, monkeypatch):
    config = make_config(num_shards=8)
    fail_after(monkeypatch, 5)
    with pytest.raises(ConversionError):
        conversion.convert(config)
    monkeypatch.undo()
    next(pathlib.Path(config.dataset_dir).glob("*.tfrecord-*")).unlink()
    assert conversion.convert(config).records_written == len(read_all(config.dataset_dir)) == 38


@pytest.mark.usefixtures("pets")
def test_a_job_that_was_killed_at_its_very_end_is_done(make_config):
    result = conversion.convert(make_config())
    (pathlib.Path(result.dataset_dir) / ".plan").mkdir()
    assert conversion.convert(make_config()).reused
    assert_clean(result.dataset_dir)


@pytest.mark.usefixtures("many")
def test_rows_that_a_runner_loses_are_noticed(make_config, monkeypatch):
    real = shard_writer._manifest_rows
    monkeypatch.setattr(shard_writer, "_manifest_rows", lambda path: itertools.islice(real(path), 3))
    config = make_config(num_shards=2)
    with pytest.raises(ConversionError, match=r"Shard pets-train\S+: \d+ rows planned, 3 written and 0 rejected"):
        conversion.convert(config)
    monkeypatch.setattr(shard_writer, "write_shard", lambda plan, _: plan)
    with pytest.raises(ConversionError, match=r"shard pets-train\S+ was not written"):
        conversion.convert(make_config(num_shards=3))
    assert not os.path.exists(f"{config.dataset_dir}/dataset_info.json")


@pytest.mark.usefixtures("pets")
def test_two_conversions_at_once_do_not_mix(make_config):
    config = make_config()
    os.makedirs(f"{config.dataset_dir}/.plan")
    with open(f"{config.dataset_dir}/.plan/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConversionError, match="Another conversion is writing to"):
            conversion.convert(config)
    assert labels_of(conversion.convert(config).dataset_dir) == IMAGES


def test_a_killed_process_leaves_what_the_next_one_goes_on_with(tmp_path, make_photo, encode, make_config):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "slow.png").write_bytes(encode(make_photo(1, (700, 700)), "PNG"))
    rows = [[f"row{i}", "slow.png", ("cat", "dog")[i % 2]] for i in range(48)]
    write_csv(tmp_path / "annotations.csv", [["id", "image", "label"], *rows])
    config = make_config(read=ReadOptions(id_column="id", image_column="image"), num_shards=12, label_mode="single")
    command = [
        sys.executable, "-m", "tfr", "convert", f"--annotations={config.annotations}", f"--images={config.images}",
        "--id_column=id", "--image_column=image", f"--data_dir={config.data_dir}", "--name=pets", "--num_shards=12",
        "--splits=train=1", "--label_mode=single",
    ]  # fmt: skip
    folder = pathlib.Path(config.dataset_dir)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list(folder.glob("*-of-00012"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the conversion was over before it could be killed"
    assert not (folder / "dataset_info.json").exists()
    done = {path.name.removesuffix(".report.json") for path in (folder / ".plan").glob("*.report.json")}
    assert 1 <= len(done) < 12
    before = {name: stamps(folder)[name] for name in done}
    result = conversion.convert(config)
    reference = conversion.convert(dataclasses.replace(config, data_dir=str(tmp_path / "reference")))
    assert shard_bytes(folder) == shard_bytes(reference.dataset_dir)
    assert (result.records_written, result.reused) == (48, False)
    assert {name: stamps(folder)[name] for name in done} == before
    assert_clean(folder)


# What others see

_PLAIN_SESSION = """
import json, sys
import tensorflow_datasets as tfds

directory, name, data_dir = sys.argv[1:]
builder = tfds.builder_from_directory(directory)
names = builder.info.features["labels"].feature.names
found = {}
for split in builder.info.splits:
    stored = tfds.as_numpy(builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()}))
    loaded = tfds.as_numpy(tfds.load(name, data_dir=data_dir, split=split))
    examples = list(zip(stored, loaded, strict=True))
    assert len(examples) == builder.info.splits[split].num_examples
    for one, other in examples:
        assert one["id"] == other["id"] and list(one["labels"]) == list(other["labels"])
        labels = [names[i] for i in one["labels"]]
        found[one["id"].decode()] = [labels, one["image"].hex(), list(other["image"].shape)]
assert not [module for module in sys.modules if module == "tfr" or module.startswith("tfr.")]
print(json.dumps(found))
"""


def test_a_plain_tfds_session_reads_the_result(pets, tmp_path, make_config, run_python):
    config = make_config(split_ratios=splits.parse_ratios("train=0.6,test=0.4"))
    result = conversion.convert(config)
    assert set(result.records_per_split) == {"train", "test"}
    session = run_python("-c", _PLAIN_SESSION, result.dataset_dir, "pets", config.data_dir, cwd=tmp_path)
    assert session.returncode == 0, session.stderr
    found = json.loads(session.stdout)
    assert {id_: (labels, bytes.fromhex(data), shape) for id_, (labels, data, shape) in found.items()} == {
        name: (labels, (pets / name).read_bytes(), [32, 48, 3]) for name, labels in IMAGES.items()
    }
