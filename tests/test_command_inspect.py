"""`tfr inspect`."""

import json
import os

import pytest
from PIL import Image

from tfr import cli


@pytest.fixture
def dataset(tmp_path, write_photos, capsys, monkeypatch):
    """A dataset directory of ten images in two splits; the working directory is tmp_path."""
    folder = write_photos(
        [f"{split}/{label}/{i}.jpg" for split in ("train", "test") for label in "ab" for i in range(5)]
    )
    monkeypatch.chdir(tmp_path)
    assert cli.main(["convert", f"--annotations={folder}", "--data_dir=data", "--name=letters"]) == 0
    capsys.readouterr()
    return "data/letters/1.0.0"


def test_shows_the_dataset_and_draws_its_first_split(dataset, capsys):
    assert cli.main(["inspect", dataset]) == 0
    output, errors = capsys.readouterr()
    for words in ("letters 1.0.0", "2 labels, single-label", "letters-train.tfrecord-00000-of-00001"):
        assert words in output
    assert output.splitlines()[-2] == "The first 10 images of test: letters-test.png"
    assert "tfr stats" in output.splitlines()[-1]
    assert "tfr verify" in output.splitlines()[-1]
    assert errors == ""
    with Image.open("letters-test.png") as sheet:
        assert (sheet.format, sheet.size) == ("PNG", (4 * 208 + 8, 3 * 254 + 8))


def test_draws_what_is_asked_for(dataset, capsys):
    arguments = ["--split=train", "--num_images=3", "--output=sheet.png"]
    assert cli.main(["inspect", dataset, *arguments]) == 0
    assert "The first 3 images of train: sheet.png" in capsys.readouterr().out
    with Image.open("sheet.png") as sheet:
        assert sheet.size == (3 * 208 + 8, 254 + 8)
    assert sorted(os.listdir()) == ["data", "images", "sheet.png"]


def test_json_is_all_there_is_on_standard_output(dataset, capsys):
    assert cli.main(["inspect", dataset, "--json", "--num_images=0"]) == 0
    description = json.loads(capsys.readouterr().out)
    assert {name: split["examples"] for name, split in description["splits"].items()} == {"train": 10, "test": 10}
    assert sorted(os.listdir()) == ["data", "images"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "takes one dataset directory. Received: []"),
        (["data", "more"], 2, "takes one dataset directory"),
        (["data", "--num_images=-1"], 2, "--num_images"),
        (["nowhere"], 1, "No dataset directory at nowhere"),
        (["images"], 1, "images is not a dataset directory"),
        (["data", "--split=dev"], 1, "has no split 'dev'"),
        (["data", "--output=nowhere/sheet.png"], 1, "nowhere/sheet.png"),
    ],
)
@pytest.mark.usefixtures("dataset")
def test_fails_in_one_line(arguments, code, message, capsys):
    assert cli.main(["inspect", *arguments]) == code
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
