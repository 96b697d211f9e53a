"""Predicting on Beam's runners: what local prediction says, a file a shard, nothing done twice."""

import dataclasses
import json
import os
import pathlib

import numpy as np
import pytest

from tfr import cli, dataset_dir
from tfr.errors import ConversionError, DatasetError, UsageError
from tfr.train.prediction import job as prediction_job
from tfr.train.prediction import predict as predicting
from tfr.train.prediction.job import JobConfig
from tfr.train.prediction.predict import PredictConfig

NUM_LISTED, PER_SHARD = 21, 6


@pytest.fixture(scope="module", autouse=True)
def _loaded_once():
    """Loading the run takes longer than predicting with it; jobs in this process share what the first one loads."""
    real, loaded = prediction_job._LoadTagger.__call__, []

    def load_once(self):
        loaded.extend([] if loaded else [real(self)])
        return loaded[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction_job._LoadTagger, "__call__", load_once)
        yield


@pytest.fixture
def listed(drawn, tmp_path):
    """A list of drawn images, some of them broken and one not there."""
    names = sorted(os.listdir(drawn[1]))
    broken = [name for name in names if not name.startswith("shapes_")]
    assert "truncated.jpg" in broken
    chosen = [*(name for name in names if name.startswith("shapes_"))][: NUM_LISTED - 3]
    chosen[2:2] = ["truncated.jpg", "no_such.jpg"]
    chosen.append("empty.jpg")
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{name}\n" for name in chosen))
    return str(path)


@pytest.fixture
def make_job(trained_run, drawn, tmp_path):
    """make_job(predict={...}, **changes): a job on `trained_run` that writes to tmp_path/out."""

    def make(predict, **changes):
        config = PredictConfig(
            **{
                "run_dir": trained_run,
                "format": "jsonl",
                "output": str(tmp_path / "out"),
                "folder": drawn[1],
                **predict,
            }
        )
        return JobConfig(**{"predict": config, "runner": "in_process", "images_per_shard": PER_SHARD, **changes})

    return make


def rows(path):
    """All rows of a folder of predictions, in the order of its summary."""
    summary = json.loads(pathlib.Path(path, "summary.json").read_text())
    return [json.loads(line) for shard in summary["shards"] for line in pathlib.Path(path, shard["file"]).open()]


def local_rows(config, path):
    """What prediction without Beam writes."""
    predicting.predict(dataclasses.replace(config, output=str(path)))
    return [json.loads(line) for line in path.open()]


def assert_same(found, expected):
    assert [(row["image"], row["error"]) for row in found] == [(row["image"], row["error"]) for row in expected]
    for one, other in zip(found, expected, strict=True):
        assert {key for key in one if key != "tags"} == {key for key in other if key != "tags"}
        values, others = (np.array([row["tags"][name] for name in sorted(row["tags"])]) for row in (one, other))
        np.testing.assert_allclose(values, others, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="in_process"),
        pytest.param({"num_workers": 2}, id="processes", marks=pytest.mark.slow),
        pytest.param({"runner": "portable"}, id="portable", marks=pytest.mark.slow),
        pytest.param({"runner": "dask", "num_workers": 2}, id="dask", marks=pytest.mark.slow),
    ],
)
def test_a_job_on_a_list_says_what_local_prediction_says(options, make_job, listed, tmp_path):
    """And after shards were removed, it brings back those alone."""
    job = make_job({"images_file": listed}, **options)
    summary = prediction_job.predict(job)
    assert (summary.num_images, summary.num_bad) == (NUM_LISTED, 3)
    expected = local_rows(job.predict, tmp_path / "local.jsonl")
    assert_same(rows(tmp_path / "out"), expected)
    assert [row["error"].split(":")[0] for row in expected if row["error"]] == ["truncated", "missing", "empty"]
    files = sorted((tmp_path / "out").glob("predictions-*"))
    assert [file.name for file in files] == [f"predictions-{i:05d}.jsonl" for i in range(4)]
    assert {entry.name for entry in (tmp_path / "out").iterdir()} == {"summary.json", *(file.name for file in files)}
    files[0].unlink()
    files[2].write_text("half")
    kept = {file.name: file.stat().st_mtime_ns for file in (files[1], files[3])}
    prediction_job.predict(job)
    assert kept.items() <= {file.name: file.stat().st_mtime_ns for file in files}.items()
    assert_same(rows(tmp_path / "out"), expected)


def test_a_job_on_a_split_has_a_file_for_each_of_its_shards(make_job, drawn, tmp_path):
    job = make_job({"dataset": drawn[0], "split": "validation", "targets": True, "thresholds": "run", "folder": ""})
    prediction_job.predict(job)
    assert_same(rows(tmp_path / "out"), local_rows(job.predict, tmp_path / "local.jsonl"))
    num_shards = dataset_dir.open_builder(drawn[0]).info.splits["validation"].num_shards
    expected = {f"validation-{i:05d}.jsonl" for i in range(num_shards)}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"summary.json", *expected}


@pytest.fixture
def writes(monkeypatch):
    """`done`: names of the shards that are written, in order; `fails_at`: the one that the disk is full at."""
    done, real = [], prediction_job.output.write

    def write(predictions, path, options):
        done.append(os.path.basename(path))
        if done[-1] == getattr(write, "fails_at", None):
            raise OSError(28, "No space left on device", path)
        real(predictions, path, options)

    write.done = done
    monkeypatch.setattr(prediction_job.output, "write", write)
    return write


def test_a_failed_job_goes_on_and_a_longer_list_does_what_is_new(make_job, listed, tmp_path, writes):
    job = make_job({"images_file": listed, "format": "parquet"})
    writes.fails_at = "predictions-00002.parquet"
    with pytest.raises(ConversionError, match=r"No space left.*run the same command again"):
        prediction_job.predict(job)
    assert not (tmp_path / "out" / "summary.json").exists()
    writes.fails_at = None
    writes.done.clear()
    prediction_job.predict(job)
    assert writes.done == ["predictions-00002.parquet", "predictions-00003.parquet"]
    with open(listed, "a", encoding="utf-8") as file:
        file.write("empty.jpg\n" * 4)
    writes.done.clear()
    assert prediction_job.predict(job).num_images == NUM_LISTED + 4
    assert writes.done == ["predictions-00003.parquet", "predictions-00004.parquet"]
    writes.done.clear()
    prediction_job.predict(job)
    assert not writes.done


def test_predictions_made_otherwise_are_refused_with_the_difference(make_job, listed, tmp_path):
    prediction_job.predict(make_job({"images_file": listed}))
    other = {"images_file": listed, "top_k": 2}
    with pytest.raises(DatasetError, match=r"made otherwise .*top_k: 10 -> 2.*--overwrite"):
        prediction_job.predict(make_job(other))
    prediction_job.predict(make_job(other, overwrite=True))
    assert {len(row["tags"]) for row in rows(tmp_path / "out")} == {0, 2}


def test_the_command_runs_a_job(trained_run, drawn, tmp_path, capsys):
    images = [os.path.join(drawn[1], name) for name in ("empty.jpg", "shapes_0001.jpg")]
    command = ["predict", trained_run, *images, f"--output={tmp_path / 'out'}", "--runner=in_process"]
    assert cli.main([*command, "--", "--direct_num_workers=1"]) == 0
    assert "2 images, 1 of them could not be used" in capsys.readouterr().err
    assert [row["image"] for row in rows(tmp_path / "out")] == images


@pytest.mark.parametrize(
    ("predict", "message"),
    [
        ({"images": ("a.jpg",), "output": None}, "give --output=FOLDER"),
        ({"images": ("a.jpg",), "format": "text"}, "--runner writes jsonl, csv, parquet, npz"),
        ({"images": ("-",)}, "images that can be read again"),
    ],
)
def test_wrong_calls_are_refused_at_once(predict, message, make_job):
    with pytest.raises(UsageError, match=message):
        make_job(predict)


def test_other_peoples_folders_are_left_alone(make_job, listed, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_text("years of work")
    with pytest.raises(DatasetError, match="holds files that are no predictions of a job"):
        prediction_job.predict(make_job({"images_file": listed}, overwrite=True))
    assert os.listdir(tmp_path / "out") == ["thesis.doc"]


def test_slices_and_unknown_splits_are_refused(make_job, drawn):
    with pytest.raises(UsageError, match=r"a job takes whole splits, and \S+ has \["):
        prediction_job.predict(make_job({"dataset": drawn[0], "split": "train[:5]", "folder": ""}))


def test_another_model_is_another_recipe(make_job, listed, run_copy):
    prediction_job.predict(make_job({"images_file": listed}))
    with open(os.path.join(run_copy, "model.keras"), "ab") as file:
        file.write(b" ")
    with pytest.raises(DatasetError, match=r"model: \w{12}\.\.\. -> \w{12}\.\.\."):
        prediction_job.predict(make_job({"images_file": listed, "run_dir": run_copy}))
