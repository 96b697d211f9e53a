"""`tfr train` on two machines, here two processes: it comes to what one machine comes to."""

import csv
import json
import os
import socket
import subprocess
import sys

import pytest

from tfr import annotations, config, conversion, synthetic


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _start(dataset, path, environment):
    flags = [
        f"--dataset={dataset}", f"--run_dir={path}", "--batch_size=8", "--weights=none", "--image_size=32",
        "--backbone=mobilenet_v2", "--hidden_units=8", "--dropout=0", "--epochs=2", "--finetune_epochs=1",
        "--clip_norm=1", "--ema_decay=0.9",
    ]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "tfr", "train", *flags],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _history(path):
    with open(path / "history.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_two_workers_train_what_one_would(tmp_path):
    csv_path, images = synthetic.write_image_set(str(tmp_path), 60)
    dataset = conversion.convert(
        config.ConvertConfig(
            annotations=csv_path,
            images=images,
            data_dir=str(tmp_path / "data"),
            name="shapes",
            read=annotations.ReadOptions(label_delimiter="|"),
        )
    ).dataset_dir
    cluster = {"worker": [f"127.0.0.1:{port}" for port in _free_ports(2)]}
    tasks = [{"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(2)]
    workers = [_start(dataset, tmp_path / "two", {"TF_CONFIG": json.dumps(task)}) for task in tasks]
    workers.append(_start(dataset, tmp_path / "one", {}))
    try:
        outputs = [worker.communicate(timeout=500) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    for worker, (_, errors) in zip(workers, outputs, strict=True):
        assert worker.returncode == 0, errors
    one, two = _history(tmp_path / "one"), _history(tmp_path / "two")
    assert [row["phase"] for row in two] == ["head", "head", "finetune"]
    for row, expected in zip(two, one, strict=True):
        for key in ("loss", "val_loss", "val_macro_map", "learning_rate"):
            assert float(row[key]) == pytest.approx(float(expected[key]), rel=1e-4, abs=1e-7), (row["phase"], key)
    with open(tmp_path / "two" / "config.json", encoding="utf-8") as file:
        assert json.load(file)["resolved"]["num_replicas"] == 2
