import dataclasses
import gc
import io
import json
import os
import pathlib
import re

import pandas as pd
import pytest
from conversion_checks import (
    IMAGES,
    LABELS,
    assert_clean,
    labels_of,
    one_hot_rows,
    read_all,
    rejects_of,
    shard_bytes,
    write_csv,
)
from PIL import Image

from tfr import conversion, planning, splits
from tfr.annotations import ReadOptions
from tfr.errors import AnnotationError, ConversionError
from tfr.images import ImageOptions

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
@pytest.mark.parametrize("was_frozen", [False, True])
def test_the_garbage_collector_is_left_as_it_was(was_frozen, make_config):
    if was_frozen:
        gc.freeze()
    try:
        conversion.convert(make_config())
        assert (gc.get_freeze_count() > conversion.FROZEN_BY_PYTHON) == was_frozen
    finally:
        gc.unfreeze()


@pytest.mark.usefixtures("pets")
def test_more_shards_than_records(make_config):
    result = conversion.convert(make_config(num_shards=20))
    assert len(shard_bytes(result.dataset_dir)) == 20
    assert labels_of(result.dataset_dir) == IMAGES


# Counts and rejects


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
def test_max_rejects_counts_in_a_dataset_that_is_there_already(make_config):
    folder = conversion.convert(make_config()).dataset_dir
    with pytest.raises(ConversionError, match=r"7 rows became no example .*--max_rejects=6.*1.0.0/rejected.jsonl; the"):
        conversion.convert(make_config(max_rejects=6))
    assert conversion.convert(make_config(max_rejects=7)).reused
    assert labels_of(folder)


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
