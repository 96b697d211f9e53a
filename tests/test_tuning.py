"""`tfr tune`: the first trial is the defaults, a kill loses nothing, the best is trained as `tfr train` would."""

import csv
import dataclasses
import itertools
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from PIL import Image

from tfr import cli, errors
from tfr.train import comparison, evaluation, run_dir
from tfr.train.commands import train as train_command
from tfr.train.config import DataConfig, ModelConfig, TrainConfig
from tfr.train.tuning import journal, report, trials, tune
from tfr.train.tuning.config import TuneConfig, command_line, name_of

pytest.importorskip("optuna")


def config_of(output, **changes):
    base = TrainConfig(run_dir="", data=DataConfig(dataset="anything"))
    settings = {"output": str(output), "base": base, "backbones": ("mobilenet_v2",), "max_trials": 6}
    return TuneConfig(**{**settings, **changes})


# The search itself: trials on a bench that needs no network


class QuickBench:
    """Scores settings by a formula: a kill, an error or a resume is then a matter of milliseconds."""

    def __init__(self):
        self.task = types.SimpleNamespace(multi_label=True, validation_split="validation", measure_on="test")
        self.runs = []
        self.stop_at = None
        self.broken = ()

    def fill(self, config):
        return dataclasses.replace(config, epochs=40, model=dataclasses.replace(config.model, image_size=96))

    def with_bottlenecks(self, config):
        return config

    def run(self, config):
        self.runs.append(config)
        if len(self.runs) == self.stop_at:
            raise KeyboardInterrupt
        if len(self.runs) in self.broken:
            raise errors.TfrError("the loss is not a number")
        # The best learning rate is 5e-3.
        score = 1 - abs(np.log10(config.learning_rate / 5e-3)) / 4 - 0.1 * config.model.dropout
        probabilities = np.random.default_rng(0).random((20, 2))
        return trials.Outcome(score, (probabilities > 0.4).astype(np.float32), probabilities, 0.1)


@pytest.fixture
def search(monkeypatch):
    """search(config, **bench attributes): runs `tune` on a QuickBench; returns the bench and the result, or None."""

    def train(config):
        os.makedirs(config.run_dir, exist_ok=True)
        pathlib.Path(config.run_dir, run_dir.MODEL_FILE).touch()

    def run(config, **attributes):
        bench = QuickBench()
        vars(bench).update(attributes)
        monkeypatch.setattr(tune, "Bench", lambda _: bench)
        monkeypatch.setattr(tune.training, "train", train)
        try:
            return bench, tune.tune(config)
        except KeyboardInterrupt:
            return bench, None

    return run


def content(configs):
    return [config.content() for config in configs]


def test_the_first_trial_is_the_defaults(search, tmp_path):
    config = config_of(tmp_path)
    bench, result = search(config)
    expected = dataclasses.replace(config.base, model=ModelConfig(backbone="mobilenet_v2"))
    assert bench.runs[0].content() == expected.content()
    assert len(bench.runs) == 6
    assert result.default == pytest.approx(min(row["value"] for row in result.table if row["trial"] == 0))
    assert result.best == max(row["value"] for row in result.table)


def test_the_command_leaves_nothing_open(search, tmp_path):
    """Another backbone, or a GPU, would choose other things than the trials had."""
    _, result = search(config_of(tmp_path))
    again = train_command.build_config(train_command.FLAGS.parse(shlex.split(result.command)[2:]))
    assert (again.epochs, again.model.image_size) == (40, 96)
    assert again.learning_rate == result.settings["learning_rate"]


def test_a_killed_search_comes_to_the_trials_of_one_that_was_not(search, tmp_path):
    whole, result = search(config_of(tmp_path / "whole", max_trials=14))
    killed, nothing = search(config_of(tmp_path / "killed", max_trials=14), stop_at=12)
    assert nothing is None
    resumed, after = search(config_of(tmp_path / "killed", max_trials=14))
    assert content(killed.runs[:11] + resumed.runs) == content(whole.runs)
    assert (after.best, after.killed, after.trials) == (result.best, 1, 14)
    with open(tmp_path / "killed" / report.TABLE_FILE, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows if row["note"] == "killed"] == ["11"]
    assert len(rows) == 15


def test_a_kill_in_the_first_trial_still_leaves_the_defaults_first(search, tmp_path):
    search(config_of(tmp_path), stop_at=1)
    bench, result = search(config_of(tmp_path))
    assert bench.runs[0].learning_rate == TrainConfig.learning_rate
    assert result.default is not None


def test_a_finished_search_does_nothing_and_a_longer_one_goes_on(search, tmp_path):
    _, first = search(config_of(tmp_path))
    bench, again = search(config_of(tmp_path))
    assert bench.runs == []
    assert dataclasses.replace(again, minutes=0.0) == dataclasses.replace(first, minutes=0.0)
    bench, longer = search(config_of(tmp_path, max_trials=8))
    assert (len(bench.runs), longer.trials) == (2, 8)


def test_time_spent_counts_over_all_calls(search, tmp_path, monkeypatch):
    clock = itertools.count(0, 60)  # every look at it a minute later
    monkeypatch.setattr(tune, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    bench, result = search(config_of(tmp_path, max_minutes=3))
    assert (len(bench.runs), result.minutes) == (3, 3)
    bench, result = search(config_of(tmp_path, max_minutes=5))
    assert (len(bench.runs), result.trials) == (2, 5)


def test_trials_that_fail_are_told_and_do_not_end_the_search(search, tmp_path):
    bench, result = search(config_of(tmp_path), broken=(1, 4))
    assert (len(bench.runs), result.trials, result.failed, result.default) == (6, 6, 2, None)
    assert result.difference is None
    assert result.table[-1]["note"] == "the loss is not a number"
    assert "defaults failed" in report.text(result)


def test_what_is_wrong_with_every_trial_ends_the_search_and_costs_none(search, tmp_path):
    def refuse(_):
        raise errors.UsageError("no such weights")

    for attribute in ("with_bottlenecks", "run"):
        with pytest.raises(errors.UsageError, match="no such weights"):
            search(config_of(tmp_path), **{attribute: refuse})
    bench, result = search(config_of(tmp_path))
    assert bench.runs[0].learning_rate == TrainConfig.learning_rate
    assert (len(bench.runs), result.trials, result.failed) == (6, 6, 0)


def test_a_search_in_which_all_fails_says_why(search, tmp_path):
    with pytest.raises(errors.TfrError, match=r"No trial came to anything\. the loss is not a number"):
        search(config_of(tmp_path), broken=range(1, 7))


def test_another_search_in_the_same_place_is_refused_with_the_difference(search, tmp_path):
    search(config_of(tmp_path))
    with pytest.raises(errors.UsageError, match="metric: 'macro_map' -> 'micro_map'"):
        search(config_of(tmp_path, metric="micro_map"))
    bench, _ = search(config_of(tmp_path, metric="micro_map", overwrite=True))
    assert len(bench.runs) == 6


def test_a_folder_of_something_else_is_refused_and_left_alone(search, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(errors.UsageError, match=r"letter\.txt"):
            search(config_of(tmp_path, overwrite=overwrite))
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(tune.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(errors.MissingDependencyError, match=r'pip install "tfr\[tune\]"'):
        tune.check_installed()


# Settings


@pytest.mark.parametrize("finetune_epochs", [0, 3])
@pytest.mark.parametrize("multi_label", [True, False])
def test_the_defaults_of_training_are_in_the_space(multi_label, finetune_epochs):
    base = TrainConfig(run_dir="", data=DataConfig(dataset="x"), finetune_epochs=finetune_epochs)
    names = {name_of(s) for s in config_of("x", base=base, backbones=("a", "b")).space(multi_label)}
    assert {"backbone", "dropout", "learning_rate"} <= names
    assert ("positive_weights" in names) == multi_label
    assert ("augment" in names) == bool(finetune_epochs)


def test_a_base_outside_of_the_space_is_refused():
    base = TrainConfig(run_dir="", data=DataConfig(dataset="x"), learning_rate=1.0)
    with pytest.raises(errors.UsageError, match=r"learning_rate.*1\.0"):
        config_of("x", base=base).space(True)


@pytest.mark.parametrize(
    "changes",
    [{"metric": "loss"}, {"max_trials": 0}, {"max_minutes": 0.0}, {"backbones": ("a", "a")}, {"backbones": ()}],
)
def test_wrong_values_are_refused(changes):
    with pytest.raises(errors.UsageError, match="--" + next(iter(changes))):
        config_of("x", **changes)


def test_the_command_line_builds_the_same_run():
    base = TrainConfig(
        run_dir="", data=DataConfig(dataset="my data/x", validation_split="train[90%:]"), jit_compile=True, epochs=7
    )
    values = {"hidden_units": "256,256", "dropout": 0.123456, "positive_weights": "sqrt", "unfreeze": "3"}
    config = config_of("x", base=base).train_config(values, "runs/best of all")
    assert (config.model.hidden_units, config.model.dropout) == ((256, 256), 0.123)
    words = shlex.split(command_line(config))
    assert words[:2] == ["tfr", "train"]
    assert train_command.build_config(train_command.FLAGS.parse(words[2:])) == config


# What is said


@pytest.mark.parametrize(
    ("low", "high", "words"), [(0.01, 0.05, "more than the chance"), (-0.02, 0.08, "the defaults may be as good")]
)
def test_the_verdict_says_whether_the_best_is_really_better(search, tmp_path, low, high, words):
    _, result = search(config_of(tmp_path))
    difference = comparison.Difference(
        path="b", reference="a", figure="macro_map", difference=0.03, low=low, high=high, share_better=0.9
    )
    text = report.text(dataclasses.replace(result, difference=difference))
    assert words in text
    assert "the best of 6 looks better than it is" in text


def test_importance_is_that_of_the_settings_that_matter(search, tmp_path):
    search(config_of(tmp_path, max_trials=25))
    found = report.importances(journal.open_study(str(tmp_path)))
    assert next(iter(found)) == "learning_rate"
    assert found["learning_rate"] > 2 * found["weight_decay"]
    assert sum(found.values()) == pytest.approx(1)
    assert Image.open(tmp_path / report.PLOT_FILE).width > 800


# The real thing


FLAGS = ["--weights=none", "--image_size=64", "--batch_size=16", "--epochs=1"]


@pytest.mark.slow
def test_the_best_is_trained_as_a_run_of_its_own(drawn, tmp_path, capsys):
    flags = [f"--dataset={drawn[0]}", f"--output={tmp_path / 'search'}", *FLAGS, "--max_trials=2", "--json"]
    assert cli.main(["tune", *flags]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {row["trial"] for row in result["table"]} == {0, 1}
    assert result["table"][0]["value"] == result["best"] >= result["table"][1]["value"]
    run = run_dir.load(result["run_dir"])
    assert run.config["learning_rate"] == result["settings"]["learning_rate"]
    measured = evaluation.evaluate(run.path, split="validation")
    assert measured["macro_map"] == pytest.approx(result["best"], abs=1e-4)  # the head of the trial, trained again
    assert sorted(os.listdir(tmp_path / "search" / "predictions")) == sorted(
        {f"trial-{number:04d}.npz" for number in (0, result["best_trial"])}
    )


@pytest.mark.slow
def test_fine_tuning_is_searched_with_whole_runs(drawn, tmp_path, capsys):
    flags = [f"--dataset={drawn[0]}", f"--output={tmp_path}", *FLAGS, "--finetune_epochs=1", "--max_trials=2"]
    assert cli.main(["tune", *flags]) == 0
    assert "augment" in capsys.readouterr().out
    assert [name for name in os.listdir(tmp_path) if name.startswith("trial-")]


@pytest.mark.slow
def test_a_real_kill_is_survived(drawn, tmp_path):
    flags = ["tune", f"--dataset={drawn[0]}", f"--output={tmp_path}", *FLAGS, "--max_trials=4", "--json"]
    process = subprocess.Popen([sys.executable, "-m", "tfr", *flags], stdout=subprocess.PIPE)
    while not (tmp_path / report.TABLE_FILE).exists():
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run([sys.executable, "-m", "tfr", *flags], stdout=subprocess.PIPE, check=True)
    result = json.loads(done.stdout)
    assert (result["trials"], result["killed"]) in ((4, 1), (4, 0))  # 0 if it was between two trials
    assert [row["value"] for row in result["table"] if row["trial"] == 0]
