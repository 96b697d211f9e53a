"""A training run that dies and is started again comes to the weights of one that was never disturbed."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tfr import annotations, config, conversion, synthetic
from tfr.errors import RunDirError, UsageError
from tfr.train import checkpoints, run_dir, training
from tfr.train.config import DataConfig, ModelConfig, TrainConfig


class Killed(BaseException):
    """Stands for what ends a process."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """120 drawn images with 9 labels, as a dataset directory."""
    folder = tmp_path_factory.mktemp("drawn")
    csv_path, images = synthetic.write_image_set(str(folder), 120)
    return conversion.convert(
        config.ConvertConfig(
            annotations=csv_path,
            images=images,
            data_dir=str(folder / "data"),
            name="shapes",
            read=annotations.ReadOptions(label_delimiter="|"),
        )
    ).dataset_dir


def _config(dataset, path, **changes):
    """Everything on that has a state: warm-up, averages, plateaus, dropout, augmentation, balanced order."""
    base = TrainConfig(
        run_dir=str(path),
        data=DataConfig(dataset=dataset, batch_size=16, augment="crop,flip", sample="balanced"),
        model=ModelConfig(
            weights="none", image_size=32, hidden_units=(8,), dropout=0.3, backbone="mobilenet_v2", features="stages"
        ),
        epochs=3,
        finetune_epochs=2,
        schedule="auto",
        warmup_epochs=0.5,
        ema_decay=0.9,
        clip_norm=1.0,
        unfreeze="3",
        layer_decay=0.8,
        checkpoint_secs=0.0,
    )
    return dataclasses.replace(base, **changes)


def _outcome(path):
    weights = run_dir.load(str(path)).load_model().get_weights()
    return weights, (pathlib.Path(path) / "history.csv").read_text()


@pytest.fixture(scope="module")
def undisturbed(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "undisturbed"
    training.train(_config(dataset, path))
    return _outcome(path)


def _assert_same(path, undisturbed):
    weights, rows = _outcome(path)
    assert rows == undisturbed[1]
    for one, other in zip(weights, undisturbed[0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert not (pathlib.Path(path) / "checkpoints").exists()


@pytest.mark.slow
def test_a_run_that_died_several_times_in_both_phases_comes_to_the_same_weights(
    dataset, undisturbed, tmp_path, monkeypatch
):
    save, died = checkpoints.Store.save, []

    def die_after(self, position, **arrays):
        save(self, position, **arrays)
        place = position["phase"], position["epoch"], position["step"]
        if place in {("head", 1, 0), ("head", 2, 0), ("finetune", 0, 4), ("finetune", 1, 4)} - set(died):
            died.append(place)
            raise Killed

    monkeypatch.setattr(checkpoints.Store, "save", die_after)
    for _ in range(4):
        with pytest.raises(Killed):
            training.train(_config(dataset, tmp_path / "run"))
        assert not (tmp_path / "run" / "model.keras").exists()
    assert len(died) == 4
    training.train(_config(dataset, tmp_path / "run"))
    _assert_same(tmp_path / "run", undisturbed)


def test_an_unfinished_run_is_only_continued_with_its_settings(dataset, tmp_path, monkeypatch):
    save = checkpoints.Store.save
    base = _config(dataset, tmp_path / "run", finetune_epochs=0)

    def save_and_die(self, position, **arrays):
        save(self, position, **arrays)
        raise Killed

    monkeypatch.setattr(checkpoints.Store, "save", save_and_die)
    with pytest.raises(Killed):
        training.train(base)
    monkeypatch.undo()
    with pytest.raises(UsageError, match=r"unfinished run with other settings \(learning_rate: 0\.002 -> 0\.5\)"):
        training.train(dataclasses.replace(base, learning_rate=0.5))
    moved = str(shutil.copytree(dataset, tmp_path / "moved" / "1.0.0"))
    elsewhere = dataclasses.replace(base, data=dataclasses.replace(base.data, dataset=moved))
    monkeypatch.setattr(checkpoints.Store, "save", save_and_die)
    with pytest.raises(Killed):
        training.train(elsewhere)  # goes on: the same examples in another place
    monkeypatch.undo()
    with open(f"{moved}/conversion.json", encoding="utf-8") as file:
        conversion_of_others = {**json.load(file), "content_hash": "0"}
    pathlib.Path(moved, "conversion.json").write_text(json.dumps(conversion_of_others), encoding="utf-8")
    with pytest.raises(UsageError, match=r"other settings \(examples of the dataset: '\w+' -> '\w+'\)"):
        training.train(elsewhere)
    anew = training.train(dataclasses.replace(base, learning_rate=0.5, overwrite=True))
    assert anew.epochs["head"] == 3


def test_nothing_half_written_stays_or_is_in_the_way_at_the_end(tmp_path, monkeypatch):
    store, folder = checkpoints.Store(str(tmp_path), {}), tmp_path / "checkpoints"
    store.save({"step": 3}, state=[np.zeros(2)])

    def write_some(file, **_):
        file.write(b"x")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", write_some)
    with pytest.raises(KeyboardInterrupt):
        store.save({"step": 4}, state=[np.zeros(2)])
    assert os.listdir(folder) == ["state.npz"]
    (folder / "state.npz.tmp-1").write_bytes(b"left by kill -9")
    assert store.load()[0] == {"step": 3}
    assert os.listdir(folder) == ["state.npz"]
    (folder / "state.npz.tmp-2").write_bytes(b"left by another")
    store.remove()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more"])
def test_a_damaged_state_is_named(tmp_path, content):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "state.npz").write_bytes(content)
    with pytest.raises(RunDirError, match=r"state\.npz cannot be read: .*--overwrite"):
        checkpoints.Store(str(tmp_path), {}).load()


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["head", "finetune"])
def test_a_process_killed_in_either_phase_goes_on(dataset, undisturbed, tmp_path, phase):
    path = tmp_path / "run"
    flags = [
        f"--dataset={dataset}", f"--run_dir={path}", "--batch_size=16", "--augment=crop,flip", "--sample=balanced",
        "--weights=none", "--image_size=32", "--hidden_units=8", "--dropout=0.3", "--backbone=mobilenet_v2",
        "--epochs=3", "--finetune_epochs=2", "--schedule=auto", "--warmup_epochs=0.5", "--ema_decay=0.9",
        "--clip_norm=1", "--features=stages", "--unfreeze=3", "--layer_decay=0.8", "--checkpoint_secs=0",
    ]  # fmt: skip
    command = [sys.executable, "-m", "tfr", "train", *flags]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and first.poll() is None and _phase_of(path) != phase:
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert _phase_of(path) == phase
    subprocess.run(command, check=True, capture_output=True)
    _assert_same(path, undisturbed)


def _phase_of(path):
    try:
        with np.load(path / "checkpoints" / "state.npz") as state:
            return json.loads(str(state["position"]))["phase"]
    except OSError:
        return None
