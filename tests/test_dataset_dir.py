import json
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfr import conversion, dataset_dir, shards, splits
from tfr.annotations import ReadOptions
from tfr.config import ConvertConfig
from tfr.errors import DatasetError


@pytest.fixture
def convert(tmp_path, write_photos):
    """convert(name, version): a multi-label dataset of ten images in tmp_path/data; returns its directory."""

    def run(name="posters", version="1.0.0", **changes):
        write_photos([f"{i}.jpg" for i in range(10)])
        lines = ["id,labels", *(f"{i},{'drama|war' if i % 3 else 'drama'}" for i in range(10))]
        (tmp_path / "annotations.csv").write_text("\n".join(lines))
        settings = {
            "annotations": str(tmp_path / "annotations.csv"),
            "images": str(tmp_path / "images"),
            "data_dir": str(tmp_path / "data"),
            "read": ReadOptions(label_delimiter="|"),
            "split_ratios": splits.parse_ratios("train=0.6,test=0.4"),
            "num_shards": 2,
            "label_mode": "multi",
        }
        config = ConvertConfig(name=name, version=version, **{**settings, **changes})
        return pathlib.Path(conversion.convert(config).dataset_dir)

    return run


def make_foreign(folder, features, examples):
    """A dataset directory that something else made."""
    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict(features)
    with shards.create(str(folder / shards.shard_name("foreign", "train", 0, 1))) as writer:
        for example in examples:
            record = features.serialize_example(example)
            writer.write(record, *shards.frame(record))
    split = tfds.core.SplitInfo(name="train", shard_lengths=[len(examples)], num_bytes=writer.num_bytes)
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=features, split_infos=[split], filename_template=None, version="2.0.0"
    )
    return folder


# Opening


@pytest.mark.parametrize("above", [0, 1, 2])
def test_opens_a_dataset_directory_or_a_folder_above_its_only_one(convert, above):
    folder = convert()
    path = [folder, *folder.parents][above]
    assert dataset_dir.open_builder(str(path)).info.full_name == "posters/1.0.0"


def test_several_datasets_are_named(convert, tmp_path):
    convert()
    convert(version="2.0.0")
    with pytest.raises(DatasetError, match=r"holds several datasets: name one of .*1\.0\.0.*2\.0\.0"):
        dataset_dir.open_builder(str(tmp_path / "data" / "posters"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", r"No dataset directory at \S+nowhere: there is no such folder"),
        ("file", r"No dataset directory at \S+file"),
        ("empty", r"empty is not a dataset directory: it has no dataset_info.json"),
        ("half", r"not a dataset directory.* An unfinished conversion is in \S+1\.0\.0: run its command again"),
    ],
)
def test_what_is_no_dataset_directory(path, message, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "half" / "posters" / "1.0.0" / ".plan").mkdir(parents=True)
    with pytest.raises(DatasetError, match=message):
        dataset_dir.open_builder(str(tmp_path / path))


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("text", ["", "{", '{"a": 1}'])
def test_damaged_metadata_are_named(convert, name, text):
    folder = convert()
    (folder / name).write_text(text)
    with pytest.raises(DatasetError, match=r"1\.0\.0: its metadata cannot be read: \w+"):
        dataset_dir.describe(dataset_dir.open_builder(str(folder)))


# Reading


def test_reads_a_split_without_tensorflow_as_tensorflow_does(convert):
    builder = dataset_dir.open_builder(str(convert()))
    decoders = {"image": tfds.decode.SkipDecoding()}
    for split in builder.info.splits:
        theirs = list(tfds.as_numpy(builder.as_dataset(split=split, decoders=decoders, shuffle_files=False)))
        ours = list(dataset_dir.read_split(builder, split))
        assert len(ours) == len(theirs) == builder.info.splits[split].num_examples > 0
        for one, other in zip(ours, theirs, strict=True):
            assert one.keys() == other.keys()
            assert all(np.array_equal(one[key], other[key]) for key in one)


def test_a_split_that_is_not_there_and_a_damaged_shard(convert):
    folder = convert()
    builder = dataset_dir.open_builder(str(folder))
    with pytest.raises(DatasetError, match=r"has no split 'dev'. It has \['test', 'train'\]"):
        list(dataset_dir.read_split(builder, "dev"))
    shard = folder / "posters-train.tfrecord-00001-of-00002"
    shard.write_bytes(shard.read_bytes()[:-3])
    with pytest.raises(
        DatasetError, match=r"posters-train.tfrecord-00001-of-00002: record \d at byte \d+: the file ends"
    ):
        list(dataset_dir.read_split(builder, "train"))
    shard.unlink()
    with pytest.raises(DatasetError, match=r"posters-train.tfrecord-00001-of-00002: no such shard"):
        list(dataset_dir.read_split(builder, "train"))


# Describing


def test_describes_what_was_converted(convert):
    folder = convert()
    description = json.loads(json.dumps(dataset_dir.describe(dataset_dir.open_builder(str(folder)))))
    assert description["name"] == "posters"
    assert description["dataset_dir"] == str(folder)
    assert (description["label_mode"], description["labels"]) == ("multi", ["drama", "war"])
    assert {name: split["shards"] for name, split in description["splits"].items()} == {"test": 2, "train": 2}
    assert sum(split["examples"] for split in description["splits"].values()) == 10
    assert description["label_counts"]["war"]["total"] == 6
    assert description["label_counts"]["drama"]["total"] == 10
    assert description["conversion"]["rows_read"] == 10
    text = dataset_dir.description_text(description)
    for words in (
        "posters 1.0.0",
        "labels (Sequence)",
        "posters-train.tfrecord-00000-of-00002",
        "2 labels, multi-label",
    ):
        assert words in text
    assert text.index("drama ") < text.index("war ")  # the most frequent first


def test_describes_a_dataset_that_something_else_made(tmp_path, make_photo, encode):
    features = {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=["a", "b"]),
    }
    image = encode(make_photo())
    folder = make_foreign(tmp_path / "foreign" / "2.0.0", features, [{"image": image, "label": "b"}] * 3)
    builder = dataset_dir.open_builder(str(folder))
    description = dataset_dir.describe(builder)
    assert (description["label_mode"], description["labels"]) == ("single", ["a", "b"])
    assert (description["label_counts"], description["conversion"]) == ({}, {})
    assert "2 labels, single-label:\n  a, b" in dataset_dir.description_text(description)
    assert [example["label"] for example in dataset_dir.read_split(builder, "train")] == [1, 1, 1]


@pytest.mark.parametrize(
    ("feature", "value"),
    [(tfds.features.Sequence(tfds.features.Text()), ["cat"]), (tfds.features.Scalar(dtype=np.int64), 3)],
)
def test_a_dataset_without_class_labels_is_said_to_be_one(tmp_path, feature, value):
    folder = make_foreign(tmp_path / "foreign" / "2.0.0", {"labels": feature}, [{"labels": value}])
    with pytest.raises(
        DatasetError, match=r"foreign\S* has no feature 'labels' or 'label' of class labels. Its features: \['labels'\]"
    ):
        dataset_dir.describe(dataset_dir.open_builder(str(folder)))


def test_odd_label_names_survive(convert, tmp_path):
    names = ["a,b", 'quoted "x"', "猫", "-", "0", "#1", "[x"]
    (tmp_path / "list.json").write_text(json.dumps({f"{i}.jpg": [name] for i, name in enumerate(names)}))
    changes = {"read": ReadOptions(), "split_ratios": splits.parse_ratios("train=1")}
    folder = convert(**changes, format="json", annotations=str(tmp_path / "list.json"))
    builder = dataset_dir.open_builder(str(folder))
    assert dataset_dir.label_names(builder) == sorted(names)
    assert {
        name: counts["total"] for name, counts in dataset_dir.describe(builder)["label_counts"].items()
    } == dict.fromkeys(names, 1)
