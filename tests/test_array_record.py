import json
import os
import pathlib

import numpy as np
import pytest

from tfr import conversion, dataset_dir, shards, splits
from tfr.annotations import ReadOptions
from tfr.config import ConvertConfig
from tfr.errors import DatasetError

RECORDS = [b"first", b"", b"\x00" * 100, bytes(range(256)) * 4000]


def write(path, records=RECORDS):
    with shards.create(str(path)) as writer:
        for record in records:
            writer.write(record, *shards.frame(record))
    return writer


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "x-train.array_record-00000-of-00001"
    write(path)
    return path


def test_reads_what_it_wrote_in_order_and_at_random(shard):
    assert list(shards.read_records(str(shard))) == RECORDS
    for place, record in shards.read_placed(str(shard)):
        assert shards.read_at(str(shard), place, len(record)) == record


def test_bytes_and_counts_are_the_same_every_time(shard, tmp_path):
    again = write(tmp_path / "y-train.array_record-00000-of-00001")
    assert (tmp_path / "y-train.array_record-00000-of-00001").read_bytes() == shard.read_bytes()
    assert again.file_bytes == os.path.getsize(shard)
    as_tfrecord = write(tmp_path / "y-train.tfrecord-00000-of-00001")
    for field in ("num_records", "num_bytes", "checksum"):
        assert getattr(again, field) == getattr(as_tfrecord, field)


def test_an_empty_shard_is_a_shard(tmp_path):
    path = tmp_path / "x-train.array_record-00000-of-00001"
    write(path, [])
    assert list(shards.read_records(str(path))) == []


@pytest.mark.parametrize("position", [70, 100, 2000, 100_000, 900_000])
def test_a_changed_byte_is_found_and_placed(shard, position):
    data = bytearray(shard.read_bytes())
    data[position] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DatasetError, match=rf"{shard.name}: record \d: .*hash"):
        list(shards.read_records(str(shard)))


@pytest.mark.parametrize("length", [0, 10, 70_000, 500_000, -1])
def test_a_cut_file_is_found(shard, length):
    shard.write_bytes(shard.read_bytes()[:length])
    with pytest.raises(DatasetError, match=f"{shard.name}: record 0: not an ArrayRecord file, or damaged"):
        list(shards.read_records(str(shard)))


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DatasetError, match="no such shard"):
        list(shards.read_records(str(tmp_path / "x-train.array_record-00000-of-00001")))


def test_an_interrupted_shard_leaves_nothing(tmp_path):
    def write_half():
        with shards.create(str(tmp_path / "x-train.array_record-00000-of-00001")) as writer:
            writer.write(RECORDS[0], *shards.frame(RECORDS[0]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_an_os_error_that_names_the_file():
    from tfr import array_record_files

    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        array_record_files.Writer("/dev/full").close()


# A dataset of such files


@pytest.fixture
def pets(tmp_path, write_photos):
    """convert(file_format): twelve images with labels as a dataset directory."""
    folder = write_photos([f"{i:02}.jpg" for i in range(12)])
    rows = "".join(f"{i:02},{'cat|dog' if i % 3 else 'dog'}\n" for i in range(12))
    (tmp_path / "annotations.csv").write_text(f"id,labels\n{rows}")

    def convert(file_format):
        config = ConvertConfig(
            annotations=str(tmp_path / "annotations.csv"),
            images=str(folder),
            data_dir=str(tmp_path / file_format),
            name="pets",
            read=ReadOptions(label_delimiter="|"),
            split_ratios=splits.parse_ratios("train=0.6,test=0.4"),
            num_shards=2,
            file_format=file_format,
        )
        return conversion.convert(config).dataset_dir

    return convert


def examples(folder):
    builder = dataset_dir.open_builder(folder)
    return {
        split: [{key: np.asarray(value).tolist() for key, value in e.items()} for e in rows]
        for split in builder.info.splits
        if (rows := list(dataset_dir.read_split(builder, split)))
    }


def test_both_formats_hold_the_same_examples(pets):
    array_record, tfrecord = pets("array_record"), pets("tfrecord")
    assert examples(array_record) == examples(tfrecord)
    names = sorted(path.name for path in pathlib.Path(array_record).glob("pets-*"))
    assert names == [f"pets-{s}.array_record-0000{i}-of-00002" for s in ("test", "train") for i in range(2)]
    assert json.loads(pathlib.Path(array_record, "dataset_info.json").read_text())["fileFormat"] == "array_record"
    description = dataset_dir.describe(dataset_dir.open_builder(array_record))
    assert description["splits"]["train"]["first_shard"] == names[2]


_PLAIN_SESSION = """
import json, sys
import tensorflow_datasets as tfds

directory, data_dir = sys.argv[1:]
opened = tfds.builder_from_directory(directory).as_data_source()
named = tfds.data_source("pets", data_dir=data_dir)
found = {}
for split in opened:
    for place in reversed(range(len(opened[split]))):
        one, other = opened[split][place], named[split][place]
        assert one["id"] == other["id"]
        found[one["id"].decode()] = [split, list(map(int, one["labels"])), one["image"].shape]
assert "tensorflow" not in sys.modules
assert not [module for module in sys.modules if module == "tfr" or module.startswith("tfr.")]
print(json.dumps(found))
"""


def test_a_plain_tfds_session_reads_it_at_random_without_tensorflow(pets, tmp_path, run_python):
    folder = pets("array_record")
    session = run_python("-c", _PLAIN_SESSION, folder, tmp_path / "array_record", cwd=tmp_path)
    assert session.returncode == 0, session.stderr
    expected = {
        bytes(example["id"]).decode(): [split, example["labels"], [32, 48, 3]]
        for split, rows in examples(folder).items()
        for example in rows
    }
    assert json.loads(session.stdout) == expected


def test_such_a_dataset_can_be_converted_again(pets, tmp_path):
    again = ConvertConfig(
        annotations=pets("array_record"),
        data_dir=str(tmp_path / "again"),
        name="pets",
        num_shards=2,
        file_format="array_record",
    )
    assert examples(conversion.convert(again).dataset_dir) == examples(pets("tfrecord"))


def test_training_reads_it_like_tfrecords(pets):
    from tfr.train import input_pipeline

    def pixels(file_format):
        builder = input_pipeline.open_dataset(pets(file_format))
        batches = input_pipeline.for_evaluation(builder, "all", input_pipeline.BatchShape(16, 4))
        return {id_: image.tobytes() for batch in batches.as_numpy_iterator() for id_, image in zip(
            batch["id"], batch["image"], strict=True)}  # fmt: skip

    found = pixels("array_record")
    assert found == pixels("tfrecord")
    assert len(found) > 3


def test_the_records_behind_a_damaged_one_are_found(shard):
    data = bytearray(shard.read_bytes())
    data[data.index(RECORDS[0])] ^= 1
    shard.write_bytes(data)
    first, *others = shards.scan(str(shard))
    assert "hash" in first.problem
    assert [(record.number, record.data, record.problem) for record in others] == [
        (number, record, "") for number, record in enumerate(RECORDS[1:], 1)
    ]
