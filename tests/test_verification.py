"""`tfr.verification` and `tfr verify`, on real shards that are damaged in every way that was thought of."""

import json
import re
import shutil

import numpy as np
import pytest
from conversion_checks import rewrite
from PIL import Image

from tfr import cli, conversion, dataset_dir, shard_jobs, shards, splits, verification
from tfr.annotations import ReadOptions
from tfr.config import ConvertConfig
from tfr.record_layout import layout_of

TRAIN = "posters-train.tfrecord-0000{}-of-00002"


@pytest.fixture(scope="session")
def sound(tmp_path_factory, make_photo, encode):
    """A sound dataset of 36 images of which some had to be normalised; do not change it."""
    root = tmp_path_factory.mktemp("sound")
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    lines = ["image,sky,sea,extra"]
    (root / "images").mkdir()
    for i in range(36):
        format_ = "PNG" if i % 5 == 0 else "JPEG"
        photo = Image.fromarray(np.roll(noise, i, 0)) if i % 7 == 0 else make_photo(i)
        (root / "images" / f"{i}.{format_.lower()}").write_bytes(encode(photo, format_))
        lines.append(f"{i}.{format_.lower()},{i % 2},{'' if i % 3 == 0 else 1},text {i}")
    (root / "rows.csv").write_text("\n".join(lines))
    config = ConvertConfig(
        annotations=str(root / "rows.csv"),
        images=str(root / "images"),
        data_dir=str(root / "data"),
        name="posters",
        read=ReadOptions(label_columns=("sky", "sea"), label_encoding="one_hot", keep_columns=("extra",)),
        split_ratios=splits.parse_ratios("train=0.7,test=0.3"),
        num_shards=2,
    )
    return conversion.convert(config).dataset_dir


@pytest.fixture
def dataset(sound, tmp_path):
    """A copy of the sound dataset, to be damaged."""
    return shutil.copytree(sound, tmp_path / "posters" / "1.0.0")


def kinds(result):
    return dict(sorted(result.problem_counts.items()))


# Sound directories


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_a_sound_dataset_is_sound_with_any_number_of_workers(sound, num_workers, monkeypatch):
    monkeypatch.setattr(shard_jobs, "_MIN_RECORDS", 10)  # or so few records would not be worth a second process
    result = verification.verify(sound, num_workers=num_workers)
    assert (result.problem_counts, result.problems, result.not_compared) == ({}, [], [])
    splits_ = dataset_dir.open_builder(sound).info.splits
    assert result.num_records == sum(split.num_examples for split in splits_.values()) == 36
    assert result.num_bytes == sum(split.num_bytes for split in splits_.values())
    assert verification.text(result).endswith("\nEverything is right.")


# Damage to the bytes


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("length", "the checksum of the length is wrong"),
        ("length_crc", "the checksum of the length is wrong"),
        ("data", "the checksum of the data is wrong"),
        ("data_crc", "the checksum of the data is wrong"),
    ],
)
def test_a_flipped_byte_is_named_and_the_rest_is_still_read(dataset, place, message):
    path = dataset / TRAIN.format(1)
    records = list(shards.scan(str(path)))
    target = records[3]
    at = {"length": 2, "length_crc": 9, "data": 12 + len(target.data) // 2, "data_crc": 12 + len(target.data) + 1}
    data = bytearray(path.read_bytes())
    data[target.offset + at[place]] ^= 4
    path.write_bytes(data)
    result = verification.verify(str(dataset))
    (problem,) = result.problems
    assert problem[:4] == ("damaged", path.name, 3, target.offset)
    assert message in problem.message
    assert result.num_records == 35


def test_several_damaged_shards_are_all_named(dataset):
    for index, number in ((0, 1), (0, 4), (1, 0)):
        path = dataset / TRAIN.format(index)
        place = list(shards.scan(str(path)))[number]
        data = bytearray(path.read_bytes())
        data[place.offset + 100] ^= 1
        path.write_bytes(data)
    result = verification.verify(str(dataset), max_problems=2)
    assert kinds(result) == {"damaged": 3}
    assert [(problem.file, problem.record) for problem in result.problems] == [
        (TRAIN.format(0), 1),
        (TRAIN.format(0), 4),
    ]
    assert "... and 1 more problems" in verification.text(result)


@pytest.mark.parametrize(("cut", "message"), [(5, "inside the record"), (None, "inside the record's header")])
def test_a_truncated_shard_is_named(dataset, cut, message):
    path = dataset / TRAIN.format(0)
    last = list(shards.scan(str(path)))[-1]
    path.write_bytes(path.read_bytes()[: -cut if cut else last.offset + 7])
    (problem,) = verification.verify(str(dataset)).problems
    assert problem[:4] == ("damaged", path.name, last.number, last.offset)
    assert problem.message.endswith(message)


def test_an_empty_shard_and_one_that_is_cut_between_records(dataset):
    (dataset / TRAIN.format(0)).write_bytes(b"")
    path = dataset / TRAIN.format(1)
    last = list(shards.scan(str(path)))[-1]
    path.write_bytes(path.read_bytes()[: last.offset])
    result = verification.verify(str(dataset))
    assert kinds(result) == {"manifest": 2, "metadata": 2}
    assert f"{last.number} records, but dataset_info.json says {last.number + 1}" in verification.text(result)


# Sound records that are not the right ones


def test_swapped_shards_are_named(dataset):
    one, other = dataset / TRAIN.format(0), dataset / TRAIN.format(1)
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)
    result = verification.verify(str(dataset))
    assert {problem.file for problem in result.problems if problem.kind == "manifest"} == {one.name, other.name}


def test_swapped_records_of_equal_number_are_named(dataset):
    rewrite(dataset / TRAIN.format(0), lambda examples: examples.reverse())
    (problem,) = verification.verify(str(dataset)).problems
    assert problem.kind == "manifest"
    assert "not those that were converted" in problem.message


def test_a_removed_record_is_named(dataset):
    rewrite(dataset / TRAIN.format(1), lambda examples: examples.pop(2))
    result = verification.verify(str(dataset))
    assert kinds(result) == {"manifest": 1, "metadata": 1}
    assert {problem.file for problem in result.problems} == {TRAIN.format(1)}


def test_a_repeated_record_is_named_across_shards(dataset):
    again = list(shards.read_records(str(dataset / TRAIN.format(0))))[2]
    path = dataset / "posters-test.tfrecord-00001-of-00002"
    with open(path, "ab") as file:
        file.write(b"".join((shards.frame(again)[0], again, shards.frame(again)[1])))
    result = verification.verify(str(dataset))
    (problem,) = [problem for problem in result.problems if problem.kind == "duplicate_id"]
    layout = layout_of(dataset_dir.open_builder(str(dataset)))
    assert (problem.file, problem.record) == (TRAIN.format(0), 2)  # splits are in the order of dataset_info.json
    assert repr(layout.parse(again).id) in problem.message
    assert path.name in problem.message


def test_missing_and_left_over_shards_are_named(dataset):
    (dataset / TRAIN.format(0)).rename(dataset / "posters-train.tfrecord-00000-of-00009")
    (dataset / (TRAIN.format(1) + ".tmp-0123456789ab")).touch()
    result = verification.verify(str(dataset))
    assert kinds(result) == {"missing_shard": 1, "stray_file": 2}
    assert [problem.file for problem in result.problems] == [
        TRAIN.format(0),
        "posters-train.tfrecord-00000-of-00009",
        TRAIN.format(1) + ".tmp-0123456789ab",
    ]


def test_counts_in_the_metadata_are_held_against_the_records(dataset):
    path = dataset / dataset_dir.LABEL_COUNTS_FILE
    rows = path.read_text().splitlines()
    assert rows[2].startswith("sky,")
    path.write_text("\n".join([*rows[:2], "sky,1,2,3"]))
    info = json.loads((dataset / "dataset_info.json").read_text())
    for split in info["splits"]:
        split["numBytes"] = "1"
    (dataset / "dataset_info.json").write_text(json.dumps(info))
    assert kinds(verification.verify(str(dataset))) == {"metadata": 4}


# Sound frames around bad records


def set_feature(name, kind, values):
    def change(examples):
        feature = examples[1].features.feature[name]
        feature.Clear()
        getattr(feature, kind).value.extend(values)

    return change


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (set_feature("labels", "int64_list", [2]), "label_id", r"labels \[2\] are not ids of the 2 labels \(0 to 1\)"),
        (set_feature("labels", "int64_list", [-1]), "label_id", r"labels \[-1\] are not ids"),
        (set_feature("labels_unknown", "int64_list", [7]), "label_id", r"labels_unknown \[7\] are not ids"),
        (set_feature("labels", "float_list", [1.0]), "bad_record", "'labels' is a float_list, but .* int64_list"),
        (set_feature("image", "bytes_list", [b"GIF"]), "bad_image", "its image: not_an_image"),
        (set_feature("image", "bytes_list", [b""]), "bad_image", "its image: empty"),
        (set_feature("image", "bytes_list", [b"a", b"b"]), "bad_record", "'image' has 2 values"),
        (set_feature("fingerprint", "int64_list", [123]), "fingerprint", "its fingerprint is 123, but that of"),
        (set_feature("id", "bytes_list", [b""]), "bad_record", "its id is empty"),
        (set_feature("id", "bytes_list", [b"\xff"]), "bad_record", "its id is not UTF-8"),
        (lambda examples: examples[1].features.feature.pop("extra"), "bad_record", "it has no feature 'extra'"),
    ],
)
def test_a_record_with_the_right_checksums_and_wrong_content_is_named(dataset, change, kind, message):
    path = dataset / TRAIN.format(0)
    rewrite(path, change)
    found = [problem for problem in verification.verify(str(dataset)).problems if problem.kind == kind]
    offset = list(shards.scan(str(path)))[1].offset
    assert [problem[:4] for problem in found] == [(kind, path.name, 1, offset)]
    assert re.search(message, found[0].message)


def test_bytes_that_are_no_example_are_named(dataset):
    path = dataset / TRAIN.format(0)
    records = list(shards.read_records(str(path)))
    records[0] = b"\xff\xff no proto"
    with shards.create(str(path)) as writer:
        for record in records:
            writer.write(record, *shards.frame(record))
    assert "bad_record" in kinds(verification.verify(str(dataset)))


def test_an_image_that_is_broken_or_stored_otherwise_is_named(dataset, make_photo, encode):
    path = dataset / TRAIN.format(0)

    def change(examples):
        for example, image in zip(examples, (encode(make_photo(1), "PNG"), None), strict=False):
            value = example.features.feature["image"].bytes_list.value
            value[0] = image or value[0][: len(value[0]) // 2]

    rewrite(path, change)
    found = [p for p in verification.verify(str(dataset)).problems if p.kind == "bad_image"]
    assert [problem.record for problem in found] == [0, 1]
    assert "not as a conversion stores it" in found[0].message
    assert "truncated" in found[1].message


# The command


def test_the_command_says_what_is_wrong_and_exits_with_1(dataset, capsys):
    assert cli.main(["verify", str(dataset)]) == 0
    assert "36 records in 4 shards" in capsys.readouterr().out
    path = dataset / TRAIN.format(0)
    path.write_bytes(path.read_bytes()[:-1])
    assert cli.main(["verify", str(dataset)]) == 1
    output, errors = capsys.readouterr()
    assert f"{path.name}: record" in output
    assert "Problems: 1 (damaged 1)." in output
    assert errors.startswith("tfr: ")
    assert errors.count("\n") == 1
    assert cli.main(["verify", str(dataset), "--json"]) == 1
    values = json.loads(capsys.readouterr().out)
    assert (values["num_problems"], values["problems"][0]["file"]) == (1, path.name)


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["a", "b"], 2), (["nowhere"], 1), (["--max_problems=0"], 2)])
def test_the_command_fails_in_one_line(arguments, code, capsys):
    assert cli.main(["verify", *arguments]) == code
    assert capsys.readouterr().err.count("\n") == 1
