"""Commands that look at datasets with images that nobody can read, which another maker, or no check, let in."""

import pytest
from conversion_checks import rewrite
from PIL import Image

from tfr import cli, duplicates


@pytest.fixture
def dataset(tmp_path, write_photos, capsys, monkeypatch):
    """A dataset directory of six images without fingerprints; the first three are no images: two equal, one not."""
    folder = write_photos([f"train/{label}/{i}.jpg" for label in "ab" for i in range(3)])
    monkeypatch.chdir(tmp_path)
    flags = ["--data_dir=data", "--name=letters", "--check_images=header", "--num_shards=1"]
    assert cli.main(["convert", f"--annotations={folder}", *flags]) == 0

    def break_images(examples):
        for example, content in zip(examples, (b"no image", b"no image", b"nor is this"), strict=False):
            example.features.feature["image"].bytes_list.value[0] = content

    rewrite(tmp_path / "data/letters/1.0.0/letters-train.tfrecord-00000-of-00001", break_images)
    capsys.readouterr()
    return "data/letters/1.0.0"


def test_equal_ones_are_duplicates_and_others_are_not(dataset):
    (group,) = duplicates.find(dataset).groups
    assert (len(group.members), group.is_exact) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "size"),
    [(["duplicates", "--sheet=sheet.png"], None), (["inspect", "--output=sheet.png"], (3 * 208 + 8, 2 * 254 + 8))],
    ids=["duplicates", "inspect"],
)
def test_sheets_are_drawn_and_say_so(arguments, size, dataset, capsys):
    assert cli.main([arguments[0], dataset, *arguments[1:]]) == 0
    assert not capsys.readouterr().err
    with Image.open("sheet.png") as sheet:
        assert size in (None, sheet.size)
        assert (211, 211, 211) in {color for _, color in sheet.getcolors(1 << 20)}  # light grey
