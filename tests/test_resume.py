"""The same again, another into the same place, interrupted jobs, and disks that fail."""

import contextlib
import dataclasses
import fcntl
import itertools
import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import pytest
from conversion_checks import IMAGES, LABELS, assert_clean, labels_of, read_all, shard_bytes, stamps, write_csv

from tfr import conversion, dataset_dir, earlier_runs, folder_lock, shard_writer
from tfr.annotations import ReadOptions
from tfr.errors import ConversionError, DatasetError, TfrError
from tfr.images import ImageOptions

# The same again


@pytest.mark.usefixtures("pets")
def test_the_same_again_changes_nothing(make_config):
    first = conversion.convert(make_config())
    before = stamps(first.dataset_dir)
    time.sleep(0.01)
    again = conversion.convert(make_config(threads_per_worker=0, max_rejects=5))
    assert again == dataclasses.replace(first, reused=True)
    assert stamps(first.dataset_dir) == before
    assert conversion.summary(again).startswith("Already converted, nothing to do")


CHANGES = {
    "config": ({"split_seed": 3}, None, r"\(split_seed: 0 -> 3\)"),
    "nested config": ({"image": ImageOptions(image_size=16)}, None, r"\(image_size: None -> 16\)"),
    "two settings": ({"num_shards": 1, "min_label_count": 2}, None, r"\(min_label_count: 1 -> 2; num_shards: 3 -> 1\)"),
    "annotations": ({}, lambda folder: (folder.parent / "annotations.csv").open("a").write("\n"), "tables beside"),
    "an image more": ({}, lambda folder: (folder / "new.jpg").write_bytes(b"x"), "the list of images changed"),
    "an image changed": ({}, lambda folder: (folder / "a.jpg").write_bytes(b"x"), "the list of images changed"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_another_conversion_into_the_same_place_is_refused_with_the_difference(kind, pets, make_config):
    changes, change, message = CHANGES[kind]
    first = conversion.convert(make_config())
    before = stamps(first.dataset_dir)
    if change:
        change(pets)
    with pytest.raises(DatasetError, match=rf"{message}.*--overwrite"):
        conversion.convert(make_config(**changes))
    assert stamps(first.dataset_dir) == before
    assert not conversion.convert(make_config(**changes, overwrite=True)).reused


def test_overwrite_leaves_nothing_of_what_was_there(messy, tmp_path, make_config):
    first = conversion.convert(make_config(num_shards=5))
    assert pathlib.Path(first.dataset_dir, "images_without_row.txt").exists()
    write_csv(tmp_path / "annotations.csv", [["id", "cow", "hen"], *([name, 1, 0] for name in "abcdef")])
    for path in messy.iterdir():
        if len(path.stem) > 1:
            path.unlink()
    config = make_config(overwrite=True, num_shards=2, read=ReadOptions(label_columns=("cow", "hen")))
    result = conversion.convert(config)
    fresh = conversion.convert(dataclasses.replace(config, data_dir=str(tmp_path / "fresh")))
    assert sorted(stamps(result.dataset_dir)) == sorted(stamps(fresh.dataset_dir))
    assert shard_bytes(result.dataset_dir) == shard_bytes(fresh.dataset_dir)


@pytest.mark.usefixtures("pets")
def test_overwrite_keeps_the_old_dataset_until_the_new_one_is_planned(tmp_path, make_config):
    first = conversion.convert(make_config())
    for changes in (
        {"annotations": str(tmp_path / "typo.csv")},
        {"images": str(tmp_path / "typo")},
        {"runner": "Typo"},
    ):
        with pytest.raises(TfrError):
            conversion.convert(make_config(**changes, overwrite=True))
    assert labels_of(first.dataset_dir) == IMAGES


@pytest.mark.usefixtures("pets")
def test_a_dataset_of_another_maker_is_not_replaced_silently(make_config):
    result = conversion.convert(make_config())
    manifest = pathlib.Path(result.dataset_dir, "conversion.json")
    manifest.unlink()
    with pytest.raises(DatasetError, match=r"a dataset that tfr convert did not make.*--overwrite"):
        conversion.convert(make_config())
    manifest.write_text("{")
    with pytest.raises(DatasetError, match=r"conversion.json: cannot be read as JSON"):
        conversion.convert(make_config())


# Interrupted jobs


def fail_after(monkeypatch, num_shards):
    """Makes the job fail after so many shards, as it would when a disk is full."""
    real, count = shard_writer.begin_shard, itertools.count()

    def write(plan, settings):
        if next(count) == num_shards:
            raise OSError(28, "No space left on device")
        return real(plan, settings)

    monkeypatch.setattr(shard_writer, "begin_shard", write)


@pytest.mark.usefixtures("many")
def test_a_failed_job_goes_on_where_it_stopped(tmp_path, make_config, monkeypatch):
    reference = conversion.convert(make_config(data_dir=str(tmp_path / "reference"), num_shards=8))
    config = make_config(num_shards=8)
    fail_after(monkeypatch, 5)
    with pytest.raises(ConversionError, match=r"No space left on device.*run the same command again") as info:
        conversion.convert(config)
    assert "\n" not in str(info.value)
    folder = pathlib.Path(config.dataset_dir)
    finished = {name: stamp for name, stamp in stamps(folder).items() if ".tfrecord-" in name}
    assert len(finished) == 5
    with pytest.raises(DatasetError, match=r"no dataset_info.json.* An unfinished conversion is in"):
        dataset_dir.open_builder(config.data_dir)
    (folder / f"{next(iter(finished))}.tmp-0123456789ab").write_bytes(b"half a shard of a process that was killed")
    (folder / "conversion.json.tmp-0123456789ab").write_bytes(b"{")
    monkeypatch.undo()
    result = conversion.convert(config)
    assert not result.reused
    assert shard_bytes(folder) == shard_bytes(reference.dataset_dir)
    assert {name: stamp for name, stamp in stamps(folder).items() if name in finished} == finished
    assert dataclasses.replace(result, dataset_dir="") == dataclasses.replace(reference, dataset_dir="")
    assert_clean(folder)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("changes", [{"num_shards": 3}, {"split_seed": 5}, {"image": ImageOptions(image_size=16)}])
def test_shards_of_another_plan_are_not_taken_over(changes, tmp_path, make_config, monkeypatch):
    reference = conversion.convert(make_config(data_dir=str(tmp_path / "reference"), **{"num_shards": 8, **changes}))
    fail_after(monkeypatch, 5)
    with pytest.raises(ConversionError):
        conversion.convert(make_config(num_shards=8))
    monkeypatch.undo()
    result = conversion.convert(make_config(**{"num_shards": 8, **changes}, overwrite=True))
    assert shard_bytes(result.dataset_dir) == shard_bytes(reference.dataset_dir)


@pytest.mark.usefixtures("many")
def test_a_shard_that_is_lost_is_written_again(make_config, monkeypatch):
    config = make_config(num_shards=8)
    fail_after(monkeypatch, 5)
    with pytest.raises(ConversionError):
        conversion.convert(config)
    monkeypatch.undo()
    next(pathlib.Path(config.dataset_dir).glob("*.tfrecord-*")).unlink()
    assert conversion.convert(config).records_written == len(read_all(config.dataset_dir)) == 38


@pytest.mark.usefixtures("pets")
def test_a_job_that_was_killed_at_its_very_end_is_done(make_config):
    result = conversion.convert(make_config())
    (pathlib.Path(result.dataset_dir) / ".plan").mkdir()
    assert conversion.convert(make_config()).reused
    assert_clean(result.dataset_dir)


@pytest.mark.usefixtures("many")
def test_rows_that_a_runner_loses_are_noticed(make_config, monkeypatch):
    real = shard_writer._manifest_rows
    monkeypatch.setattr(shard_writer, "_manifest_rows", lambda path: itertools.islice(real(path), 3))
    config = make_config(num_shards=2)
    with pytest.raises(ConversionError, match=r"Shard pets-train\S+: \d+ rows planned, 3 written and 0 rejected"):
        conversion.convert(config)
    monkeypatch.undo()
    assert conversion.convert(config).records_written == 38
    nothing = types.SimpleNamespace(file="", num_records=0, num_bytes=0, rejects=())
    monkeypatch.setattr(shard_writer, "begin_shard", lambda *_: lambda: nothing)
    with pytest.raises(ConversionError, match=r"shard pets-train\S+ was not written"):
        conversion.convert(make_config(num_shards=3, overwrite=True))
    assert not os.path.exists(f"{config.dataset_dir}/dataset_info.json")


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"num_shards": 3}, "num_shards: 8 -> 3"),
        ({"image": ImageOptions(image_size=16)}, "image_size: None -> 16"),
        ({"file_format": "array_record"}, "file_format: 'tfrecord' -> 'array_record'"),
    ],
)
def test_an_unfinished_conversion_is_not_mixed_with_another(changes, difference, make_config, monkeypatch):
    config = make_config(num_shards=8)
    fail_after(monkeypatch, 5)
    with pytest.raises(ConversionError):
        conversion.convert(config)
    monkeypatch.undo()
    before = stamps(config.dataset_dir)
    with pytest.raises(DatasetError, match=rf"an unfinished conversion .*\({difference}\).*--overwrite"):
        conversion.convert(make_config(**{"num_shards": 8, **changes}))
    assert stamps(config.dataset_dir) == before
    assert conversion.convert(config).records_written == 38


@pytest.mark.usefixtures("many")
def test_an_unfinished_conversion_goes_on_with_mended_annotations(tmp_path, make_config, monkeypatch):
    config = make_config(num_shards=8)
    fail_after(monkeypatch, 5)
    with pytest.raises(ConversionError):
        conversion.convert(config)
    monkeypatch.undo()
    table = tmp_path / "annotations.csv"
    table.write_text(table.read_text().replace("02,0,0,0", "02,1,1,1"))
    before = stamps(config.dataset_dir)
    result = conversion.convert(config)
    assert labels_of(result.dataset_dir)["02"] == LABELS
    kept = [name for name, stamp in stamps(result.dataset_dir).items() if before.get(name) == stamp]
    assert len(kept) in (4, 5)  # all that were there, but for the one with that row if it was
    reference = conversion.convert(dataclasses.replace(config, data_dir=str(tmp_path / "reference")))
    assert shard_bytes(result.dataset_dir) == shard_bytes(reference.dataset_dir)


@pytest.mark.usefixtures("pets")
@pytest.mark.parametrize(
    "changes",
    [{"annotations": "nowhere.csv"}, {"images": "nowhere"}, {"labels_file": "nowhere"}, {"on_duplicate": "error"}],
)
def test_a_conversion_that_cannot_be_planned_leaves_no_folder(changes, tmp_path, make_config):
    table = tmp_path / "annotations.csv"
    table.write_text(table.read_text() + "a.jpg,1,1,1\n")
    (tmp_path / "data").mkdir()
    with pytest.raises(TfrError):
        conversion.convert(make_config(**changes))
    assert list((tmp_path / "data").iterdir()) == []
    conversion.convert(make_config(version="0.9.0"))
    with pytest.raises(TfrError):
        conversion.convert(make_config(**changes))
    assert [path.name for path in (tmp_path / "data" / "pets").iterdir()] == ["0.9.0"]


@pytest.mark.usefixtures("many")
def test_a_run_that_waited_for_another_one_does_not_do_its_work_again(make_config, monkeypatch):
    config, real = make_config(), earlier_runs.exclusive

    @contextlib.contextmanager
    def after_another(config):
        monkeypatch.undo()
        conversion.convert(config)
        with real(config):
            yield

    monkeypatch.setattr(earlier_runs, "exclusive", after_another)
    assert conversion.convert(config).reused
    assert_clean(config.dataset_dir)


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(make_config, monkeypatch):
    config, real = make_config(), folder_lock._open_locked
    os.makedirs(config.dataset_dir)

    def open_and_lose(*args):
        lock = real(*args)
        monkeypatch.undo()
        os.unlink(f"{config.dataset_dir}/.plan/lock")
        return lock

    monkeypatch.setattr(folder_lock, "_open_locked", open_and_lose)
    another = pytest.raises(ConversionError, match="Another conversion")
    with earlier_runs.exclusive(config), another, earlier_runs.exclusive(config):
        pass


@pytest.mark.usefixtures("pets")
def test_two_conversions_at_once_do_not_mix(make_config):
    config = make_config()
    os.makedirs(f"{config.dataset_dir}/.plan")
    with open(f"{config.dataset_dir}/.plan/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConversionError, match="Another conversion is writing to"):
            conversion.convert(config)
    assert labels_of(conversion.convert(config).dataset_dir) == IMAGES


def test_a_killed_process_leaves_what_the_next_one_goes_on_with(tmp_path, make_photo, encode, make_config):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "slow.png").write_bytes(encode(make_photo(1, (700, 700)), "PNG"))
    rows = [[f"row{i}", "slow.png", ("cat", "dog")[i % 2]] for i in range(48)]
    write_csv(tmp_path / "annotations.csv", [["id", "image", "label"], *rows])
    config = make_config(read=ReadOptions(id_column="id", image_column="image"), num_shards=12, label_mode="single")
    command = [
        sys.executable, "-m", "tfr", "convert", f"--annotations={config.annotations}", f"--images={config.images}",
        "--id_column=id", "--image_column=image", f"--data_dir={config.data_dir}", "--name=pets", "--num_shards=12",
        "--splits=train=1", "--label_mode=single",
    ]  # fmt: skip
    folder = pathlib.Path(config.dataset_dir)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list(folder.glob("*-of-00012"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the conversion was over before it could be killed"
    assert not (folder / "dataset_info.json").exists()
    done = {path.name.removesuffix(".report.json") for path in (folder / ".plan").glob("*.report.json")}
    assert 1 <= len(done) < 12
    before = {name: stamps(folder)[name] for name in done}
    result = conversion.convert(config)
    reference = conversion.convert(dataclasses.replace(config, data_dir=str(tmp_path / "reference")))
    assert shard_bytes(folder) == shard_bytes(reference.dataset_dir)
    assert (result.records_written, result.reused) == (48, False)
    assert {name: stamps(folder)[name] for name in done} == before
    assert_clean(folder)
