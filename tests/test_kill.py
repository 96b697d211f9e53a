"""Conversions that are killed: everywhere, and at random moments of a real command."""

import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
from conversion_checks import assert_clean, shard_bytes, write_csv

HERE = pathlib.Path(__file__).parent


@pytest.mark.usefixtures("pets")
@pytest.mark.parametrize("start", ["nothing", "overwrite"])
@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
def test_killed_before_any_file_operation_the_same_call_goes_on(start, step, tmp_path, run_python):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    finished = run_python(HERE / "kill_everywhere.py", tmp_path, start, step, env={"TMPDIR": str(scratch)})
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["operations"] > 25
    assert os.listdir(scratch) == []


@pytest.fixture
def slow_job(tmp_path, make_photo, encode):
    """(command, dataset directory, its environment): 240 rows of a PNG that takes a while to encode, in 24 shards."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "slow.png").write_bytes(encode(make_photo(1, (500, 500)), "PNG"))
    rows = [[f"row{i}", "slow.png", ("cat", "dog")[i % 2]] for i in range(240)]
    write_csv(tmp_path / "annotations.csv", [["id", "image", "label"], *rows])
    (tmp_path / "scratch").mkdir()

    def command(data_dir):
        return [
            sys.executable, "-m", "tfr", "convert", "--annotations=annotations.csv", "--images=images",
            "--id_column=id", "--image_column=image", f"--data_dir={data_dir}", "--name=pets", "--num_shards=24",
            "--splits=train=1", "--label_mode=single",
        ]  # fmt: skip

    return command


def stamp(path):
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


@pytest.mark.parametrize(
    ("seed", "num_kills"), [(1, 3), pytest.param(2, 10, marks=pytest.mark.slow)], ids=["3 kills", "10 kills"]
)
def test_killed_at_random_moments_the_same_command_goes_on(seed, num_kills, slow_job, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path / "scratch")}
    began = time.monotonic()
    reference = subprocess.run(slow_job("reference"), cwd=tmp_path, env=environment, capture_output=True)
    duration = time.monotonic() - began
    assert reference.returncode == 0, reference.stderr
    generator, folder = random.Random(seed), tmp_path / "data" / "pets" / "1.0.0"
    num_interrupted, kept = 0, {}
    for _ in range(num_kills):
        process = subprocess.Popen(
            slow_job("data"), cwd=tmp_path, env=environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(generator.uniform(0, 0.4) * duration)  # to the start, the planning, the first shards
        goal = len(kept) + generator.randrange(3)  # and on to some more; so few that the last kill still meets it
        while process.poll() is None and len(list((folder / ".plan").glob("*.report.json"))) < goal:
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):  # a machine that is much faster now has finished
            os.killpg(process.pid, signal.SIGKILL)
        num_interrupted += process.wait() == -signal.SIGKILL
        for path, before in kept.items():
            assert stamp(path) == before, f"{path.name} was finished and is written again"
        reports = (folder / ".plan").glob("*.report.json")
        kept |= {
            path: stamp(path) for path in (folder / report.name.removesuffix(".report.json") for report in reports)
        }
    assert num_interrupted
    last = subprocess.run(slow_job("data"), cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    assert {path: stamp(path) for path in kept} == kept
    assert shard_bytes(folder) == shard_bytes(tmp_path / "reference" / "pets" / "1.0.0")
    assert len(shard_bytes(folder)) == 24
    for name in ("dataset_info.json", "features.json", "label_counts.csv", "rejected.jsonl"):
        assert (folder / name).read_bytes() == (tmp_path / "reference" / "pets" / "1.0.0" / name).read_bytes()
    assert_clean(tmp_path / "data")
    assert os.listdir(tmp_path / "scratch") == []
