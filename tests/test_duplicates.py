"""`tfr duplicates`, on datasets that `tfr convert` makes."""

import csv
import json

import pytest
from PIL import Image

from tfr import cli, duplicates


@pytest.fixture
def folder(tmp_path, make_photo, encode, monkeypatch):
    """Images in train/ and test/: copies, the same picture encoded anew, uniform ones; the rest differ."""
    monkeypatch.chdir(tmp_path)
    photo = make_photo(0, (96, 64))
    contents = {
        "train/a/original.jpg": encode(photo, quality=95),
        "test/a/copy.jpg": encode(photo, quality=95),
        "train/b/one.jpg": encode(make_photo(1, (96, 64))),
        "train/b/one_small.jpg": encode(make_photo(1, (96, 64)).resize((48, 32))),
        "train/b/commented.jpg": encode(make_photo(2, (96, 64))),
        "train/a/comment.jpg": encode(make_photo(2, (96, 64)), comment=b"the same pixels"),
        "train/a/gray.jpg": encode(Image.new("RGB", (32, 32), (90, 90, 90))),
        "train/b/white.jpg": encode(Image.new("RGB", (32, 32), "white")),
        "test/b/white_too.jpg": encode(Image.new("RGB", (32, 32), "white")),
        **{f"{split}/a/{i}.jpg": encode(make_photo(i, (96, 64))) for split, i in (("train", 11), ("test", 12))},
    }
    for name, content in contents.items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path


@pytest.fixture
def dataset(folder, capsys):
    """The dataset directory of these images."""
    arguments = [f"--annotations={folder}/images", "--data_dir=data", "--name=letters", "--split_from_folder"]
    assert cli.main(["convert", *arguments]) == 0
    capsys.readouterr()
    return "data/letters/1.0.0"


def names(group):
    return [member.id.rpartition("/")[2] for member in group.members]


def test_finds_leaks_then_exact_then_near_duplicates(dataset):
    result = duplicates.find(dataset)
    assert (result.num_images, result.num_saying_little) == (11, 3)
    leak, white, pixels, near = result.groups
    assert sorted(map(tuple, (names(leak), names(white)))) == [
        ("copy.jpg", "original.jpg"),
        ("white_too.jpg", "white.jpg"),
    ]
    assert all(group.is_leak and group.is_exact and group.splits == ("test", "train") for group in (leak, white))
    assert (names(pixels), pixels.is_exact, pixels.is_leak) == (["comment.jpg", "commented.jpg"], True, False)
    assert (names(near), near.is_exact, near.is_leak) == (["one.jpg", "one_small.jpg"], False, False)
    assert [member.picture for member in near.members] == [0, 1]
    assert 0 <= near.members[1].distance <= 4


def test_radius_zero_wants_equal_fingerprints(dataset):
    for group in duplicates.find(dataset, 0).groups:
        assert {member.distance for member in group.members} == {0}


def test_the_number_of_workers_changes_nothing(dataset):
    assert duplicates.find(dataset, num_workers=1) == duplicates.find(dataset, num_workers=4)


def test_datasets_without_fingerprints_are_compared_as_well(folder, dataset):
    path = folder / dataset / "features.json"
    content = json.loads(path.read_text())
    del content["featuresDict"]["features"]["fingerprint"]
    path.write_text(json.dumps(content))
    assert [names(group) for group in duplicates.find(dataset).groups] != []
    assert duplicates.find(dataset).num_saying_little == 3


def test_prints_draws_and_lists(dataset, capsys):
    assert cli.main(["duplicates", dataset, "--sheet=sheet.png", "--csv=rows.csv"]) == 0
    output = capsys.readouterr().out
    for words in (
        "LEAKS across splits     2 groups; 2 in test and train",
        "exact duplicates        3 groups of 6 images",
        "near duplicates         1 groups of 2 images, radius 4",
        "left out                3 images without structure",
        "LEAK, exact duplicates in test and train",
        "tfr convert --group_near_duplicates",
    ):
        assert words in output
    assert output.index("LEAK, exact") < output.index("4. near duplicates")
    with Image.open("sheet.png") as sheet:
        assert sheet.size == (6 * 208 + 8, 4 * 254 + 8)
    with open("rows.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["group"] for row in rows] == ["1", "1", "2", "2", "3", "3", "4", "4"]
    assert {row["split"] for row in rows if row["leak"] == "1"} == {"train", "test"}


def test_json_has_everything(dataset, capsys):
    assert cli.main(["duplicates", dataset, "--json", "--num_groups=0"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["num_images"] == 11
    assert [group["leak"] for group in result["groups"]] == [True, True, False, False]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "takes one dataset directory"),
        (["data", "--radius=11"], 2, "--radius must be from 0 to 10"),
        (["nowhere"], 1, "No dataset directory at nowhere"),
    ],
)
@pytest.mark.usefixtures("dataset")
def test_fails_in_one_line(arguments, code, message, capsys):
    assert cli.main(["duplicates", *arguments]) == code
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
