"""Reading examples by place: TFRecord and ArrayRecord, slices, several files, and damage that is named."""

import os

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tfr import dataset_dir, shards, tfrecord_files
from tfr.errors import DatasetError
from tfr.train import records

NUM_EXAMPLES = 23


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def builder(request, tmp_path_factory):
    """A TFDS dataset that is not ours: 23 PNG images with a label each, in 4 shards."""
    features = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(shape=(4, 5, 3)), "label": tfds.features.ClassLabel(num_classes=23)}
    )
    return tfds.dataset_builders.store_as_tfds_dataset(
        name="plain",
        version="1.0.0",
        data_dir=tmp_path_factory.mktemp(request.param),
        features=features,
        split_datasets={"train": _examples(NUM_EXAMPLES), "test": _examples(3)},
        file_format=request.param,
        disable_shuffling=True,
    )


def _examples(count):
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 5, 3), dtype=np.uint8)
    return tf.data.Dataset.from_tensor_slices({"image": images, "label": np.arange(count)})


def _labels(builder, found):
    return [builder.info.features.deserialize_example_np(record)["label"] for record in found]


def test_any_order_with_repetitions(builder):
    opened = records.open_records(builder, "train")
    assert len(opened) == NUM_EXAMPLES
    everything = _labels(builder, opened.read(np.arange(NUM_EXAMPLES)))
    assert sorted(everything) == list(range(NUM_EXAMPLES))
    places = np.array([22, 0, 7, 7, 13])
    assert _labels(builder, opened.read(places)) == [everything[place] for place in places]


@pytest.mark.parametrize("split", ["train[5:9]", "train[:50%]", "train[20:]+test", "test+train[:1]", "all"])
def test_slices_and_sums_are_those_of_tfds(builder, split):
    whole = {name: _labels(builder, records.open_records(builder, name).read(np.arange(n))) for name, n in SIZES}
    expected = {
        "train[5:9]": whole["train"][5:9],
        "train[:50%]": whole["train"][:12],
        "train[20:]+test": whole["train"][20:] + whole["test"],
        "test+train[:1]": whole["test"] + whole["train"][:1],
        "all": None,
    }[split]
    opened = records.open_records(builder, split)
    found = _labels(builder, opened.read(np.arange(len(opened))))
    assert sorted(found) == sorted(whole["train"] + whole["test"]) if expected is None else found == expected


SIZES = (("train", NUM_EXAMPLES), ("test", 3))


@pytest.fixture
def shard(tmp_path):
    """A TFRecord file of 5 records of growing length; returns its path."""
    path = str(tmp_path / "x-train.tfrecord-00000-of-00001")
    with shards.create(path) as writer:
        for i in range(5):
            record = bytes([i]) * (10 + i)
            writer.write(record, *shards.frame(record))
    return path


def test_offsets_lead_from_frame_to_frame(shard):
    offsets = tfrecord_files.frame_offsets(shard)
    assert offsets.tolist() == [offset for offset, _ in shards.read_placed(shard)] + [os.path.getsize(shard)]


@pytest.mark.parametrize("cut", [-1, 5])
def test_a_file_that_ends_too_early_has_no_offsets(shard, cut):
    with open(shard, "r+b") as file:
        file.truncate(os.path.getsize(shard) - 1 if cut == -1 else cut)
    assert tfrecord_files.frame_offsets(shard) is None


@pytest.fixture
def own(tmp_path, write_photos):
    """A dataset directory of ours with 6 images in one shard; returns (directory, shard)."""
    from tfr import config, conversion

    photos = write_photos([f"{label}/{i}.jpg" for label in ("a", "b") for i in range(3)])
    result = conversion.convert(
        config.ConvertConfig(
            annotations=str(photos),
            data_dir=str(tmp_path / "data"),
            name="own",
            split_ratios=config.splits.parse_ratios("train=1"),
            num_shards=1,
        )
    )
    (name,) = [name for name in os.listdir(result.dataset_dir) if "tfrecord" in name]
    return result.dataset_dir, os.path.join(result.dataset_dir, name)


def test_damaged_data_is_named_when_it_is_read(own):
    folder, path = own
    offsets = tfrecord_files.frame_offsets(path)
    with open(path, "r+b") as file:
        file.seek(int(offsets[2]) + 50)
        file.write(b"\0\1\2\3")
    opened = records.open_records(dataset_dir.open_builder(folder), "train")
    opened.read(np.array([0, 1, 3]))
    with pytest.raises(DatasetError, match=rf"record at byte {offsets[2]}: the checksum of the data is wrong"):
        opened.read(np.array([1, 2]))


def test_a_damaged_length_is_named_at_once(own):
    folder, path = own
    offsets = tfrecord_files.frame_offsets(path)
    with open(path, "r+b") as file:
        file.seek(int(offsets[3]))
        file.write(b"\xff")
    with pytest.raises(DatasetError, match=rf"record 3 at byte {offsets[3]}: the checksum of the length is wrong"):
        records.open_records(dataset_dir.open_builder(folder), "train")


def test_a_shard_of_another_conversion_is_named(own):
    folder, path = own
    with open(path, "r+b") as file:
        file.truncate(int(tfrecord_files.frame_offsets(path)[4]))
    with pytest.raises(DatasetError, match=r"holds 4 records, but dataset_info.json counts 6"):
        records.open_records(dataset_dir.open_builder(folder), "train")


def test_a_missing_shard_is_named(own):
    folder, path = own
    os.remove(path)
    with pytest.raises(DatasetError, match="no such shard"):
        records.open_records(dataset_dir.open_builder(folder), "train")
