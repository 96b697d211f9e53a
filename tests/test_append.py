"""New annotations to an existing version: what is the same as a conversion from scratch, and what is not read again."""

import dataclasses
import os
import pathlib
import time

import numpy as np
import pytest
from conversion_checks import assert_clean, labels_of, read_all, rejects_of, shard_bytes, stamps, write_csv

from tfr import conversion, dataset_dir, splits
from tfr.annotations import ReadOptions
from tfr.config import ConvertConfig
from tfr.errors import AnnotationError, DatasetError, UsageError
from tfr.images import ImageOptions

OLD = {f"{i:02}.jpg": ["cat"] * (i % 2) + ["dog"] * (i % 3 == 0) for i in range(40)}
NEW = {f"{i:02}.jpg": ["ant"] * (i % 2) + ["cat"] * (i % 3 == 0) for i in range(40, 52)}


def write_table(path, rows):
    return write_csv(path, [["image", "labels", "title"], *([name, "|".join(ls), f"of {name}"] for name, ls in rows)])


@pytest.fixture
def make(tmp_path, write_photos):
    """make(rows, **changes): a conversion of (image, labels) pairs; images of OLD and NEW are there."""
    write_photos([*OLD, *NEW])
    count = iter(range(100))

    def make_config(rows, **changes):
        settings = {
            "annotations": write_table(tmp_path / f"table{next(count)}.csv", rows),
            "images": str(tmp_path / "images"),
            "data_dir": str(tmp_path / "data"),
            "name": "pets",
            "read": ReadOptions(
                label_columns=("labels",), label_delimiter="|", keep_columns=("title",), empty_labels="none"
            ),
            "split_ratios": splits.parse_ratios("train=0.7,test=0.3"),
            "num_shards": 3,
            "label_mode": "multi",
        }
        return ConvertConfig(**{**settings, **changes})

    return make_config


def comparable(folder):
    """Examples by id, labels by name: what does not depend on the ids of labels."""
    return {
        id_: {
            "image": example["image"],
            "split": example["split"],
            "labels": sorted(example["labels"]),
            "fingerprint": int(example["fingerprint"]),
            "title": example.get("title"),
        }
        for id_, example in read_all(folder).items()
    }


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_the_result_is_that_of_a_conversion_of_everything(file_format, make, tmp_path):
    old = conversion.convert(make(OLD.items(), file_format=file_format))
    before = stamps(old.dataset_dir)
    result = conversion.convert(make(NEW.items(), append_to="1.0.0", file_format=file_format))
    assert result.dataset_dir.endswith("/pets/1.1.0")
    scratch = conversion.convert(make([*OLD.items(), *NEW.items()], data_dir=str(tmp_path / "scratch")))
    assert comparable(result.dataset_dir) == comparable(scratch.dataset_dir)
    assert result.records_per_split == scratch.records_per_split
    assert (result.records_written, result.num_taken_over, result.rows_read) == (52, 40, 52)
    assert (result.images_without_row, result.num_lost) == (0, 0)
    assert stamps(old.dataset_dir) == before
    assert_clean(result.dataset_dir)
    assert "of an older version     40" in conversion.summary(result)


def test_old_labels_keep_their_ids_and_new_ones_come_behind(make):
    old = conversion.convert(make(OLD.items()))
    result = conversion.convert(make(NEW.items(), append_to="1.0.0"))
    names = [dataset_dir.label_names(dataset_dir.open_builder(r.dataset_dir)) for r in (old, result)]
    assert names == [["cat", "dog"], ["cat", "dog", "ant"]]
    third = conversion.convert(make([("00.jpg", ["ape"])], append_to="1.1.0"))
    assert dataset_dir.label_names(dataset_dir.open_builder(third.dataset_dir)) == ["cat", "dog", "ant", "ape"]
    assert labels_of(third.dataset_dir)["00.jpg"] == ["dog", "ape"]


def test_old_images_are_not_read(make, tmp_path):
    conversion.convert(make(OLD.items()))
    for name in OLD:
        (tmp_path / "images" / name).unlink()
    result = conversion.convert(make(NEW.items(), append_to="1.0.0"))
    assert labels_of(result.dataset_dir) == {**OLD, **{name: sorted(labels)[::-1] for name, labels in NEW.items()}}


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_shards_in_which_nothing_changes_are_the_old_files(file_format, make):
    old = conversion.convert(make(OLD.items(), num_shards=10, file_format=file_format))
    config = make([("40.jpg", ["ant"])], num_shards=10, append_to="1.0.0", file_format=file_format)
    result = conversion.convert(config)
    changed = [
        name for name, data in shard_bytes(result.dataset_dir).items() if data != shard_bytes(old.dataset_dir)[name]
    ]
    folders = pathlib.Path(old.dataset_dir), pathlib.Path(result.dataset_dir)
    names = [path.name for path in folders[0].glob("pets-*")]
    same = [name for name in names if os.path.samefile(folders[0] / name, folders[1] / name)]
    assert len(names) == 20
    # Empty shards have no record to tell where they come from; they are written again.
    empty = [name for name in names if not list(dataset_dir.shards.read_records(str(folders[0] / name)))]
    assert len(same) == len(names) - len(empty) - 1
    assert len(changed) <= 1
    assert (result.records_written, result.num_taken_over) == (41, 40)
    scratch = conversion.convert(
        dataclasses.replace(
            config,
            append_to=None,
            version="2.0.0",
            annotations=result.dataset_dir,
            format="tfds",
            read=ReadOptions(keep_columns=("title",)),
        )
    )
    assert comparable(scratch.dataset_dir) == comparable(result.dataset_dir)


def test_other_labels_for_an_old_id_change_its_record_alone(make):
    old = conversion.convert(make(OLD.items(), num_shards=1))
    result = conversion.convert(make([("01.jpg", ["dog"])], append_to="1.0.0", num_shards=1))
    assert labels_of(result.dataset_dir) == {**OLD, "01.jpg": ["cat", "dog"]}
    assert result.rejects_by_reason == {"duplicate_id": 1}
    (reject,) = rejects_of(result.dataset_dir)
    assert reject["detail"].startswith(f"merged into {old.dataset_dir}:")
    first = conversion.convert(make([("01.jpg", ["dog"])], append_to="1.0.0", version="1.2.0", on_duplicate="first"))
    assert labels_of(first.dataset_dir) == OLD
    with pytest.raises(AnnotationError, match=r"the id stands on \S+/pets/1.0.0:\w+:\d+ already, with other labels"):
        conversion.convert(make([("01.jpg", ["dog"])], append_to="1.0.0", version="1.3.0", on_duplicate="error"))


def test_what_is_not_known_of_an_old_record_is_not_known_of_new_labels(tmp_path, make):
    options = ReadOptions(label_columns=("cat", "dog"), label_encoding="one_hot")
    table = write_csv(tmp_path / "old.csv", [["image", "cat", "dog"], ["00.jpg", 1, 0], ["01.jpg", "", 1]])
    shared = {"read": options, "split_ratios": splits.parse_ratios("train=1")}
    conversion.convert(make((), annotations=table, **shared))
    table = write_csv(tmp_path / "new.csv", [["image", "cat", "ewe"], ["02.jpg", 1, 1], ["03.jpg", 0, ""]])
    options = dataclasses.replace(options, label_columns=("cat", "ewe"))
    result = conversion.convert(make((), annotations=table, append_to="1.0.0", **{**shared, "read": options}))
    examples = read_all(result.dataset_dir)
    assert {id_: (e["labels"], np.asarray(e["labels_unknown"]).tolist()) for id_, e in examples.items()} == {
        "00.jpg": (["cat"], []), "01.jpg": (["dog"], [0, 2]), "02.jpg": (["cat", "ewe"], []), "03.jpg": ([], [2]),
    }  # fmt: skip


def test_the_same_again_changes_nothing_and_an_old_version_that_changed_is_noticed(make):
    conversion.convert(make(OLD.items()))
    config = make(NEW.items(), append_to="1.0.0")
    result = conversion.convert(config)
    before = stamps(result.dataset_dir)
    time.sleep(0.01)
    assert conversion.convert(config).reused
    assert stamps(result.dataset_dir) == before
    conversion.convert(make([*OLD.items()][:30], overwrite=True))
    with pytest.raises(DatasetError, match="--overwrite"):
        conversion.convert(config)
    assert len(labels_of(conversion.convert(dataclasses.replace(config, overwrite=True)).dataset_dir)) == 42


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"append_to": "0.1.0", "version": "1.1.0"}, DatasetError, "no finished dataset of tfr's in .*/pets/0.1.0"),
        ({"image": ImageOptions(image_size=16)}, UsageError, "made with other settings .image: "),
        ({"split_seed": 3}, UsageError, "split_seed: 0 -> 3"),
        ({"split_ratios": splits.parse_ratios("train=1")}, UsageError, "split_ratios: "),
        ({"read": ReadOptions(label_delimiter="|")}, UsageError, "keep_columns: "),
        ({"label_mode": "single"}, UsageError, "version 1.0.0 is multi-label"),
        ({"exclude_labels": ("cat",)}, UsageError, r"--exclude_labels names \['cat'\]"),
        ({"labels": ("dog", "cat", "ant")}, AnnotationError, "must begin with .*'cat', 'dog'"),
    ],
)
def test_what_does_not_fit_the_old_version_is_refused(changes, error, message, make):
    conversion.convert(make(OLD.items()))
    with pytest.raises(error, match=message):
        conversion.convert(make(NEW.items(), **{"append_to": "1.0.0", **changes}))
    assert not os.path.exists(make(()).data_dir + "/pets/1.1.0")


# Groups

HASHED = {"group_column": "who"}
KEPT = {**HASHED, "keep_columns": ("who",)}


def _grouped(tmp_path, write_photos, numbers, **changes):
    """A conversion of images 'N.jpg', N of these numbers, of person N % 7 each."""
    names = [f"{number}.jpg" for number in numbers]
    write_photos(names)
    table = tmp_path / f"grouped{numbers[0]}.csv"
    write_csv(
        table, [["image", "labels", "who"], *([name, "x", f"p{i % 7}"] for name, i in zip(names, numbers, strict=True))]
    )
    read = {"label_columns": ("labels",), **changes.pop("read", {})}
    settings = {"images": str(tmp_path / "images"), "data_dir": str(tmp_path / "data"), "name": "people"}
    settings |= {"split_ratios": splits.parse_ratios("train=0.5,test=0.5"), "num_shards": 1, **changes}
    return conversion.convert(ConvertConfig(annotations=str(table), read=ReadOptions(**read), **settings))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"read": HASHED}, {"read": HASHED}),
        ({"read": KEPT, "stratify": True}, {"read": KEPT}),
        ({"read": KEPT, "stratify": True}, {"read": KEPT, "stratify": True}),
        ({"read": KEPT}, {"read": KEPT, "group_near_duplicates": 0}),
    ],
    ids=["by hash", "then by hash", "stratified", "near duplicates"],
)
def test_new_rows_follow_the_old_records_of_their_group(first, second, tmp_path, write_photos):
    _grouped(tmp_path, write_photos, range(35), **first)
    folder = _grouped(tmp_path, write_photos, range(35, 70), append_to="1.0.0", **second).dataset_dir
    found = {(int(id_.removesuffix(".jpg")) % 7, example["split"]) for id_, example in read_all(folder).items()}
    assert len(found) == 7


@pytest.mark.parametrize(
    ("first", "second", "error", "message"),
    [
        ({}, {"read": HASHED}, UsageError, "--group_column=who they are in.*Leave --group_column out"),
        ({"read": HASHED, "stratify": True}, {"read": HASHED}, UsageError, "--keep_columns=who if more"),
        ({"read": HASHED}, {"read": HASHED, "stratify": True}, UsageError, "could end in another split"),
        ({"read": HASHED}, {"read": HASHED, "group_near_duplicates": 0}, UsageError, "could end in another split"),
        ({"read": {"keep_columns": ("who",)}}, {"read": KEPT}, AnnotationError, "7 groups are in several splits"),
    ],
    ids=["no groups", "stratified", "to be stratified", "near duplicates", "torn already"],
)
def test_groups_that_could_be_torn_are_refused(first, second, error, message, tmp_path, write_photos):
    _grouped(tmp_path, write_photos, range(35), **first)
    with pytest.raises(error, match=message):
        _grouped(tmp_path, write_photos, range(35, 70), append_to="1.0.0", **second)


# Versions


def test_versions_that_cannot_be_are_refused(make):
    for changes in ({"append_to": "1.0"}, {"append_to": "1.0.0", "version": "1.0.0"}):
        with pytest.raises(UsageError, match="--append_to"):
            make((), **changes)
    assert make((), append_to="2.7.3").version == "2.8.0"
    assert make(()).version == "1.0.0"


@pytest.mark.parametrize("data_dir", ["data", "./data/", "images/../data"])
def test_the_command_appends_below_a_relative_folder(data_dir, tmp_path, make, run_tfr):
    for rows, version in ((OLD, ()), (NEW, ("--append_to=1.0.0",))):
        finished = run_tfr(
            "convert", f"--annotations={make(rows.items()).annotations}", "--images=images", f"--data_dir={data_dir}",
            "--name=pets", "--num_shards=1", "--splits=train=0.7,test=0.3", "--label_columns=labels",
            "--label_delimiter=|", "--label_mode=multi", "--empty_labels=none", "--json", *version, cwd=tmp_path,
        )  # fmt: skip
        assert finished.returncode == 0, finished.stderr
    assert '"num_taken_over": 40' in finished.stdout
    assert len(labels_of(tmp_path / "data" / "pets" / "1.1.0")) == 52
