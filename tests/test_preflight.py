"""What is checked before a conversion, on small image sets that are wrong in some way."""

import collections
import dataclasses

import pytest
from conversion_checks import write_csv

from tfr import conversion, preflight
from tfr.annotations import ReadOptions
from tfr.errors import AnnotationError, ConversionError, UsageError


@pytest.mark.usefixtures("messy")
def test_it_finds_what_the_conversion_will_find(make_config):
    config = make_config()
    checked = preflight.check(config)
    result = conversion.convert(config)
    assert (checked.rows_read, checked.is_whole) == (result.rows_read, True)
    read = {"truncated", "not_an_image", "empty"}  # found in the images, of which a check opens but some
    rejects = collections.Counter(reject.reason for reject in checked.rejects)
    assert rejects == {reason: n for reason, n in result.rejects_by_reason.items() if reason not in read}
    bad = sum(result.rejects_by_reason[reason] for reason in read)
    assert len(checked.bad_images) == bad == 3
    assert checked.num_usable == result.records_written + bad == sum(checked.splits.values())
    assert checked.multi_label == (result.label_mode == "multi")


@pytest.mark.usefixtures("messy")
def test_it_leaves_nothing_behind(make_config, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    preflight.check(make_config())
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("messy")
def test_it_says_it_in_words(make_config):
    text = preflight.text(preflight.check(make_config()))
    assert "13; 7 of them have an image and labels to learn from" in text
    assert "1 without an image file, such as" in text
    assert "3 of them cannot be used" in text
    assert "on fewer than 20 images, which is hardly enough to learn: cat, dog, bird" in text
    assert "disk    about 200 MiB needed" in text


@pytest.mark.usefixtures("many")
def test_of_a_long_table_the_first_rows_are_looked_at(make_config, monkeypatch, tmp_path):
    monkeypatch.setattr(preflight, "MAX_ROWS", 12)
    (tmp_path / "later.csv").write_text("id,label,present\n39,cat,1\n")  # an image further down
    checked = preflight.check(make_config(min_label_count=13, corrections=str(tmp_path / "later.csv")))
    assert (checked.rows_read, checked.is_whole, checked.num_usable) == (12, False, 12)
    assert len(checked.label_counts) == 3  # the rest may have enough of each
    assert "the first 12 were looked at" in preflight.text(checked)
    assert 0 < checked.num_opened <= 12


@pytest.mark.usefixtures("many")
def test_options_of_the_reader_apply_once(make_config, tmp_path):
    rows = [["path", "label", "part"], *([f"old/{i:02}.png", "x" if i % 2 else "y", "train"] for i in range(0, 40, 7))]
    write_csv(tmp_path / "annotations.csv", rows)
    read = ReadOptions(strip_prefix="old/", split_column="part", ignore_splits=True, where="label == 'x'")
    checked = preflight.check(make_config(read=read))
    assert (checked.num_usable, checked.label_counts) == (3, {"x": 3})


def test_images_none_of_which_is_one_are_an_error(make_config, tmp_path, write_photos):
    folder = write_photos([f"{i}.jpg" for i in range(4)])
    for image in folder.iterdir():
        image.write_text("no image")
    write_csv(tmp_path / "annotations.csv", [["id", "label"], *([str(i), "x"] for i in range(4))])
    with pytest.raises(
        ConversionError, match=r"None of the 4 images that were tried can be used; the first is .*not_an"
    ):
        preflight.check(make_config(read=ReadOptions()))


@pytest.mark.usefixtures("pets")
def test_a_full_disk_is_an_error(make_config, monkeypatch):
    monkeypatch.setattr(preflight, "_free", lambda _: 1 << 20)
    with pytest.raises(ConversionError, match=r"About 200 MiB are needed, and the disk of .* has 1 MiB left"):
        preflight.check(make_config())


@pytest.mark.usefixtures("pets")
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"annotations": "nowhere.csv"}, AnnotationError, "No annotation file at nowhere.csv"),
        ({"images": "nowhere"}, AnnotationError, "No image folder at nowhere"),
        ({"read": ReadOptions(id_column="key")}, AnnotationError, "no column 'key'"),
        ({"exclude_labels": ("cow",)}, UsageError, "--exclude_labels"),
    ],
)
def test_what_the_conversion_refuses_is_refused_at_once(changes, error, message, make_config):
    with pytest.raises(error, match=message):
        preflight.check(make_config(**changes))


def test_folders_are_checked_like_tables(make_config, write_photos, tmp_path):
    write_photos([f"{split}/{label}/{i}.jpg" for split in ("train", "test") for label in "ab" for i in range(3)])
    config = dataclasses.replace(make_config(read=ReadOptions()), annotations=str(tmp_path / "images"))
    checked = preflight.check(config)
    assert checked.splits == {"test": 6, "train": 6}
    assert not checked.multi_label
