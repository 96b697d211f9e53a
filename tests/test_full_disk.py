"""Disks that are full, read-only, or gone: one line says so, nothing is published, and the same command goes on."""

import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest
from conversion_checks import LABELS, assert_clean, labels_of, shard_bytes, write_csv

from tfr import conversion, files, planning, shard_writer
from tfr.errors import ConversionError


@pytest.fixture
def job(tmp_path, make_photo, encode):
    """The command that converts 60 noisy photographs of 60 KB to data/pets, eight shards, in tmp_path."""
    (tmp_path / "images").mkdir()
    names = [f"{i:02}.jpg" for i in range(60)]
    for seed, name in enumerate(names):
        data = encode(make_photo(seed, (200, 200)))
        (tmp_path / "images" / name).write_bytes(data[:2] + b"\xff\xfe\xff\xff" + bytes(65533) + data[2:])  # a comment
    rows = [[name, *(int(i % (k + 2) == 0) for k in range(3))] for i, name in enumerate(names)]
    write_csv(tmp_path / "annotations.csv", [["image", *LABELS], *rows])
    return [
        sys.executable, "-m", "tfr", "convert", "--annotations=annotations.csv", "--images=images",
        "--label_columns=bird:dog", "--name=pets", "--num_shards=8", "--splits=train=1",
    ]  # fmt: skip


def run(command, cwd, **options):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, **options)


def assert_one_line(finished, message):
    assert finished.returncode == 1
    assert re.fullmatch(r"tfr: .+\n", finished.stderr), finished.stderr
    assert re.search(message, finished.stderr), finished.stderr
    assert "Traceback" not in finished.stderr
    assert "run the same command again" in finished.stderr


def in_small_disk(script):
    """A shell command in a mount namespace of its own, where `small` is a disk of 2 MB."""
    return ["unshare", "-rm", "sh", "-ec", f"mkdir -p small; mount -t tmpfs -o size=2m none small; {script}"]


@pytest.fixture
def can_mount(tmp_path):
    """Skips where an ordinary user may not mount anything."""
    if sys.platform != "linux" or run(in_small_disk("true"), tmp_path).returncode:
        pytest.skip("no user namespaces, so that no small disk can be mounted")


@pytest.mark.usefixtures("can_mount")
def test_a_full_disk_is_said_and_more_room_lets_the_same_command_go_on(job, tmp_path):
    command = " ".join([*job, "--data_dir=small/data"])
    first = "mkdir -p small; ls small/data/pets/1.0.0 | tee {}"
    script = (
        f"{command} 2>first.err && exit 3; {first.format('first.list')}; "
        f"mount -o remount,size=64m small; {command} 2>second.err >second.out; cp -a small/data data"
    )
    finished = run(in_small_disk(script), tmp_path)
    assert finished.returncode == 0, finished.stderr
    error = (tmp_path / "first.err").read_text()
    assert re.fullmatch(r"tfr: The Beam job failed: .*No space left on device.*run the same command again.*\n", error)
    listed = (tmp_path / "first.list").read_text().split()
    assert listed
    assert not [name for name in listed if ".tmp-" in name or name == "dataset_info.json"]
    assert "records written         60" in (tmp_path / "second.out").read_text()
    assert len(labels_of(tmp_path / "data" / "pets" / "1.0.0")) == 60
    assert_clean(tmp_path / "data")


@pytest.mark.usefixtures("can_mount")
def test_a_read_only_disk_is_said(job, tmp_path):
    finished = run(in_small_disk(f"mount -o remount,ro small; {' '.join(job)} --data_dir=small/data"), tmp_path)
    assert_one_line(finished, "small/data.*Read-only file system")


@pytest.mark.usefixtures("can_mount")
def test_a_disk_too_small_for_the_plan_is_said_and_left_empty(job, tmp_path):
    script = f"mount -o remount,size=4k small; {' '.join(job)} --data_dir=small/data && exit 3; ls -A small >left"
    finished = run(in_small_disk(script), tmp_path)
    assert finished.returncode == 0
    assert re.fullmatch(r"tfr: .*No space left on device.*run the same command again.*\n", finished.stderr)
    assert (tmp_path / "left").read_text() == ""


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_a_limit_on_file_sizes_is_said_and_lifting_it_lets_the_same_command_go_on(file_format, job, tmp_path):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    job = [*job, "--data_dir=data", f"--file_format={file_format}"]
    assert_one_line(run(job, tmp_path, preexec_fn=limit), "The Beam job failed: .*File too large")
    assert not list(tmp_path.rglob("data/**/*.tmp-*"))
    assert not list(tmp_path.rglob("data/**/dataset_info.json"))
    finished = run(job, tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert len(labels_of(tmp_path / "data" / "pets" / "1.0.0")) == 60


# What is read from


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("how", ["removed", "emptied"])
def test_an_image_folder_that_vanishes_midway_is_no_pile_of_rejects(how, tmp_path, make_config, monkeypatch):
    config, real, count = make_config(num_shards=8), shard_writer.begin_shard, []
    folder, away = tmp_path / "images", tmp_path / "away"

    def write(plan, settings):
        count.append(plan)
        if len(count) == 4:
            shutil.move(folder, away)
            if how == "emptied":
                folder.mkdir()
        return real(plan, settings)

    monkeypatch.setattr(shard_writer, "begin_shard", write)
    with pytest.raises(ConversionError, match=r"The image folder \S+ is gone, or empty now.*same command again"):
        conversion.convert(config)
    assert not os.path.exists(f"{config.dataset_dir}/dataset_info.json")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.move(away, folder)
    monkeypatch.undo()
    result = conversion.convert(config)
    assert (result.records_written, result.rejects_by_reason) == (38, {"not_an_image": 1, "truncated": 1})


@pytest.mark.usefixtures("many")
def test_a_full_disk_under_the_plan_s_tables_is_said(make_config, monkeypatch):
    def fail(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(planning.row_store.RowStore, "add_annotations", fail)
    config = make_config()
    with pytest.raises(ConversionError, match=r"database or disk is full\. Make room in .*TMPDIR.*same command again"):
        conversion.convert(config)
    assert not os.path.exists(config.data_dir)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("last", [1, 3, 8])
def test_a_disk_that_fails_when_a_shard_is_finished_fails_the_job(last, make_config, monkeypatch):
    real, synced = files._sync, []

    def sync(path):
        synced.append(path)
        if len(synced) == last:
            raise OSError(5, "Input/output error")
        real(path)

    config = make_config(num_shards=8)
    monkeypatch.setattr(files, "_sync", sync)
    with pytest.raises(ConversionError, match=r"Input/output error.*run the same command again"):
        conversion.convert(config)
    assert len(synced) in (last, min(last + 1, 8))  # the next shard is on its way already, and comes to its end
    assert not [name for name in os.listdir(config.dataset_dir) if ".tmp-" in name]
    assert len(shard_bytes(config.dataset_dir)) == len(synced) - 1
    monkeypatch.undo()
    assert conversion.convert(config).records_written == len(labels_of(config.dataset_dir)) == 38


@pytest.mark.usefixtures("many")
def test_a_shard_that_was_cut_after_it_was_finished_is_written_again(make_config, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    config = make_config(num_shards=4)
    monkeypatch.setattr(conversion.dataset_dir, "publish", interrupt)
    with pytest.raises(KeyboardInterrupt):
        conversion.convert(config)
    monkeypatch.undo()
    expected = shard_bytes(config.dataset_dir)
    with open(f"{config.dataset_dir}/{next(iter(expected))}", "r+b") as file:
        file.truncate(100)  # as a power failure may
    conversion.convert(config)
    assert shard_bytes(config.dataset_dir) == expected
