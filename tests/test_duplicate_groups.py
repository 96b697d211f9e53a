"""`tfr convert --group_near_duplicates`."""

import itertools

import pytest

import tfr
from tfr import cli, dataset_dir, duplicate_groups, duplicates, images, splits
from tfr.errors import AnnotationError, UsageError


@pytest.fixture
def folder(tmp_path, make_photo, encode):
    """Sixty images, of which every other one is a smaller copy of the one before; and a broken one."""
    path = tmp_path / "images" / "a"
    path.mkdir(parents=True)
    for seed in range(30):
        photo = make_photo(seed, (96, 64))
        (path / f"{seed}.jpg").write_bytes(encode(photo, quality=95))
        (path / f"{seed}_copy.jpg").write_bytes(encode(photo.resize((72, 48)), quality=60))
    (path / "broken.jpg").write_bytes(b"no image")
    return tmp_path / "images"


def convert(folder, tmp_path, name, **options):
    ratios = splits.parse_ratios("train=1,test=1")
    return tfr.convert(str(folder), data_dir=str(tmp_path), name=name, split_ratios=ratios, **options)


def split_of(result):
    builder = dataset_dir.open_builder(result.dataset_dir)
    return {
        example["id"].decode(): split
        for split in builder.info.splits
        for example in dataset_dir.read_split(builder, split)
    }


def test_duplicates_stay_in_one_split_and_the_rest_is_shared_out(folder, tmp_path):
    loose = duplicates.find(convert(folder, tmp_path, "loose").dataset_dir)
    assert sum(group.is_leak for group in loose.groups) > 5
    result = convert(folder, tmp_path, "kept", group_near_duplicates=4)
    assert not any(group.is_leak for group in duplicates.find(result.dataset_dir).groups)
    assert all(count > 10 for count in result.records_per_split.values())
    assert sum(result.records_per_split.values()) == 60
    found = duplicates.find(result.dataset_dir)
    images_in_groups = sum(len(group.members) for group in found.groups)
    note = f"duplicates kept in one split each: {len(found.groups)} groups of {images_in_groups} images (radius 4)"
    assert any(warning.startswith(note) for warning in result.warnings)
    assert not result.reused
    assert convert(folder, tmp_path, "kept", group_near_duplicates=4).reused


def test_groups_of_the_source_are_joined_with_those_found(folder, tmp_path):
    rows = tmp_path / "rows.csv"
    lines = [
        f"a/{seed}{copy}.jpg,x,{'pair' if seed in (3, 7) and not copy else ''}"
        for seed in range(30)
        for copy in ("", "_copy")
    ]
    rows.write_text("image,label,shot\n" + "\n".join(lines) + "\n")
    for seed in range(6):
        result = tfr.convert(
            str(rows), images=str(folder), data_dir=str(tmp_path), name=f"joined{seed}", group_column="shot",
            split_ratios=splits.parse_ratios("train=1,test=1"), group_near_duplicates=4, split_seed=seed,
            label_columns=("label",),
        )  # fmt: skip
        where = split_of(result)
        assert len({where[f"a/{name}.jpg"] for name in ("3", "3_copy", "7", "7_copy")}) == 1
        assert all(where[f"a/{i}.jpg"] == where[f"a/{i}_copy.jpg"] for i in range(30))


def test_splits_do_not_depend_on_the_order_of_the_rows(folder, tmp_path):
    results = []
    for name, order in (("forth", 1), ("back", -1)):
        rows = tmp_path / f"{name}.csv"
        lines = [f"a/{seed}{copy}.jpg,x" for seed, copy in itertools.product(range(30), ("", "_copy"))][::order]
        rows.write_text("image,label\n" + "\n".join(lines) + "\n")
        results.append(split_of(convert_table(rows, folder, tmp_path, name)))
    assert results[0] == results[1]


def convert_table(rows, folder, tmp_path, name):
    ratios = splits.parse_ratios("train=1,test=1")
    return tfr.convert(
        str(rows), images=str(folder), data_dir=str(tmp_path), name=name, split_ratios=ratios, group_near_duplicates=4,
        label_columns=("label",),
    )  # fmt: skip


def test_a_run_that_was_killed_does_not_read_finished_chunks_again(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(duplicate_groups, "_CHUNK", 10)
    prepare, calls = images.prepare_image, []

    def count_and_stop(data, options):
        calls.append(data)
        if len(calls) == 35:
            raise KeyboardInterrupt
        return prepare(data, options)

    monkeypatch.setattr(duplicate_groups.images, "prepare_image", count_and_stop)
    with pytest.raises(KeyboardInterrupt):
        convert(folder, tmp_path, "killed", group_near_duplicates=4, threads_per_worker=1)
    stopped = len(calls)
    result = convert(folder, tmp_path, "killed", group_near_duplicates=4, threads_per_worker=1)
    # 61 images for the groups, and once more to write them; 30 had been read
    assert len(calls) - stopped == 61 - 30 + 61
    assert split_of(result) == split_of(convert(folder, tmp_path, "undisturbed", group_near_duplicates=4))


def test_splits_of_the_source_that_tear_duplicates_apart_are_an_error(tmp_path, make_photo, encode):
    for split in ("train", "test"):
        path = tmp_path / "images" / split / "a"
        path.mkdir(parents=True)
        for seed in (1, 2):
            (path / f"{seed}.jpg").write_bytes(encode(make_photo(seed)))
    with pytest.raises(
        AnnotationError, match=r"2 groups are in several splits.*duplicates of test/a/1.jpg.*--group_near"
    ):
        tfr.convert(
            str(tmp_path / "images"),
            data_dir=str(tmp_path),
            name="torn",
            split_from_folder=True,
            group_near_duplicates=4,
        )


@pytest.mark.parametrize(
    ("flag", "radius"), [("", None), ("--group_near_duplicates", 4), ("--group_near_duplicates=7", 7)]
)
def test_the_radius_may_be_left_out(folder, tmp_path, flag, radius, capsys):
    arguments = [f"--annotations={folder}", f"--data_dir={tmp_path}", "--name=flags", *filter(None, [flag])]
    assert cli.main(["convert", *arguments]) == 0
    config = dataset_dir.read_conversion(str(tmp_path / "flags" / "1.0.0"))["config"]
    assert config["group_near_duplicates"] == radius
    assert ("duplicates kept in one split" in capsys.readouterr().out) == (radius is not None)


def test_a_senseless_radius_is_refused(folder, tmp_path):
    with pytest.raises(UsageError, match=r"--group_near_duplicates must be from 0 to 10"):
        convert(folder, tmp_path, "wrong", group_near_duplicates=11)
    assert cli.main(["convert", "--annotations=a", "--data_dir=b", "--name=c", "--group_near_duplicates=near"]) == 2
