import os

import pytest

from tfr import shards, tfrecord_files
from tfr.errors import DatasetError

RECORDS = [b"first", b"", b"\x00" * 100, bytes(range(256)) * 40]


def write(path, records=RECORDS):
    with shards.create(str(path)) as writer:
        for record in records:
            writer.write(record, *shards.frame(record))
    return writer


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "x-train.tfrecord-00000-of-00001"
    write(path)
    return path


def test_name_is_the_one_that_tfds_looks_for():
    import tensorflow_datasets as tfds

    template = tfds.core.ShardedFileTemplate(
        data_dir="", dataset_name="posters", split="train", filetype_suffix="tfrecord"
    )
    expected = template.sharded_filepath(shard_index=3, num_shards=8)
    assert shards.shard_name("posters", "train", 3, 8) == str(expected)


def test_reads_what_it_wrote(shard):
    assert list(shards.read_records(str(shard))) == RECORDS


def test_tensorflow_reads_what_it_wrote(shard):
    import tensorflow as tf

    assert list(tf.data.TFRecordDataset(str(shard)).as_numpy_iterator()) == RECORDS


def test_reads_and_writes_what_tensorflow_writes(shard, tmp_path):
    import tensorflow as tf

    path = tmp_path / "tensorflow"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in RECORDS:
            writer.write(record)
    assert list(shards.read_records(str(path))) == RECORDS
    assert path.read_bytes() == shard.read_bytes()


def test_counts(tmp_path):
    path = tmp_path / "shard"
    writer = write(path)
    assert writer.num_records == len(RECORDS)
    assert writer.num_bytes == sum(map(len, RECORDS))
    assert writer.file_bytes == path.stat().st_size
    assert writer.checksum == write(tmp_path / "same").checksum
    others = [RECORDS[::-1], RECORDS[1:], [*RECORDS, b""], [b"First", *RECORDS[1:]]]
    assert writer.checksum not in {write(tmp_path / "other", other).checksum for other in others}


MANY = [[b"x"] * 1500, [bytes([i]) * 300_000 for i in range(9)], [b"", bytes(3_000_000), b"x"]]


@pytest.mark.parametrize("records", MANY, ids=["small", "large", "larger than what is written at once"])
@pytest.mark.parametrize("most_bytes", [None, 700_000])
def test_records_are_written_in_order_however_much_the_system_takes_at_once(records, most_bytes, tmp_path, monkeypatch):
    real = os.write
    if most_bytes:
        monkeypatch.setattr(os, "writev", lambda file, buffers: real(file, b"".join(buffers)[:most_bytes]))
        monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:most_bytes]))
    write(tmp_path / "shard", records)
    monkeypatch.undo()
    assert list(shards.read_records(str(tmp_path / "shard"))) == records


def test_an_empty_shard_is_a_shard(tmp_path):
    writer = write(tmp_path / "empty", [])
    assert writer.file_bytes == 0
    assert list(shards.read_records(str(tmp_path / "empty"))) == []


# The second record starts at 21 = 12 + 5 + 4, the third at 37.
@pytest.mark.parametrize(
    ("position", "message"),
    [
        (0, "record 0 at byte 0: the checksum of the length is wrong"),
        (9, "record 0 at byte 0: the checksum of the length is wrong"),
        (13, "record 0 at byte 0: the checksum of the data is wrong"),
        (18, "record 0 at byte 0: the checksum of the data is wrong"),
        (22, "record 1 at byte 21: the checksum of the length is wrong"),
        (33, "record 1 at byte 21: the checksum of the data is wrong"),
        (90, "record 2 at byte 37: the checksum of the data is wrong"),
        (-1, "record 3 at byte 153: the checksum of the data is wrong"),
    ],
)
def test_a_changed_byte_is_found_and_placed(shard, position, message):
    data = bytearray(shard.read_bytes())
    data[position] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DatasetError, match=f"{shard.name}: {message}"):
        list(shards.read_records(str(shard)))


@pytest.mark.parametrize(
    ("length", "num_sound", "message"),
    [
        (5, 0, "record 0 at byte 0: the file ends inside the record's header"),
        (12, 0, "record 0 at byte 0: the file ends inside the record"),
        (20, 0, "record 0 at byte 0: the file ends inside the record"),
        (30, 1, "record 1 at byte 21: the file ends inside the record's header"),
        (-1, 3, "record 3 at byte 153: the file ends inside the record"),
    ],
)
def test_a_cut_file_is_found_and_placed(shard, length, num_sound, message):
    shard.write_bytes(shard.read_bytes()[:length])
    sound = []
    with pytest.raises(DatasetError, match=message):
        sound.extend(shards.read_records(str(shard)))
    records = shards.read_records(str(shard))
    assert [next(records) for _ in range(num_sound)] == RECORDS[:num_sound]


def test_a_missing_shard_and_another_kind_of_file(tmp_path):
    with pytest.raises(DatasetError, match="nowhere: no such shard"):
        list(shards.read_records(str(tmp_path / "nowhere")))
    (tmp_path / "text").write_bytes(b"id,label\n1,cat\n2,dog\n")
    with pytest.raises(DatasetError, match=r"text: record 0 at byte 0: .* not a TFRecord file, or damaged"):
        list(shards.read_records(str(tmp_path / "text")))


# Going on behind damage: the records start at 0, 21, 37 and 153.


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (0, [None, b"", RECORDS[2], RECORDS[3]]),  # length
        (9, [None, b"", RECORDS[2], RECORDS[3]]),  # its checksum
        (13, [None, b"", RECORDS[2], RECORDS[3]]),  # data
        (18, [None, b"", RECORDS[2], RECORDS[3]]),  # their checksum
        (40, [RECORDS[0], b"", None, RECORDS[3]]),
        (153, [*RECORDS[:3], None]),
    ],
)
def test_the_records_behind_a_damaged_one_are_found(shard, position, expected):
    data = bytearray(shard.read_bytes())
    data[position] ^= 1
    shard.write_bytes(data)
    scanned = list(shards.scan(str(shard)))
    assert [None if record.problem else record.data for record in scanned] == expected
    assert [(record.number, record.offset) for record in scanned] == [(0, 0), (1, 21), (2, 37), (3, 153)]


@pytest.mark.parametrize("gap", [b"\x00" * 5000, bytes(range(1, 200)) * 30])
def test_the_next_record_is_found_behind_a_long_stretch_of_damage(tmp_path, gap, monkeypatch):
    monkeypatch.setattr(tfrecord_files, "_WINDOW_BYTES", 1000)
    path = tmp_path / "shard"
    write(path, RECORDS[2:])
    path.write_bytes(gap + path.read_bytes())
    first, *sound = shards.scan(str(path))
    assert "checksum of the length is wrong" in first.problem
    assert [(record.offset, record.data) for record in sound] == [
        (len(gap), RECORDS[2]),
        (len(gap) + 116, RECORDS[3]),
    ]


def test_scanning_gives_the_checksums_that_the_shard_is_known_by(shard):
    import hashlib

    digest = hashlib.blake2b(b"".join(record.footer for record in shards.scan(str(shard))), digest_size=16)
    assert digest.hexdigest() == write(shard.with_name("again")).checksum
