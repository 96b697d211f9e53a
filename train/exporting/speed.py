"""How many images a second exported formats take, one image at a time.

As a program, `python -m tfr.train.exporting.speed`, it measures on one thread, which TensorFlow can only be told at the
start of a process; see `on_one_thread`.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfr.errors import TfrError

from .. import memory, quiet
from . import runtimes
from .runtimes import Image, Predict

_IMAGES = 32
_ROUNDS = 2  # the faster one counts


class Entry(NamedTuple):
    """A format, and its file: relative to the export, or by itself."""

    format: str
    file_name: str


def measure(predict: Predict, images: Sequence[Image]) -> float:
    """Images per second, one at a time, decoding included where the format decodes."""
    images = images[:_IMAGES]
    predict(images[0])  # traces, and makes room
    best = float("inf")
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        for image in images:
            predict(image)
        best = min(best, time.perf_counter() - start)
    return len(images) / best


def on_one_thread(folder: str, entries: Sequence[Entry], images: Sequence[Image]) -> dict[str, float]:
    """Images per second of each row of each entry on one thread of the CPU, by another process."""
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "images.npz")
        _save(path, images[:_IMAGES])
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
            "CUDA_VISIBLE_DEVICES": "",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        command = [sys.executable, "-m", __name__, folder, path, json.dumps(entries)]
        finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    if finished.returncode:
        raise TfrError(f"Measuring the speed on one thread failed: {finished.stderr.strip()[-300:]}")
    return json.loads(finished.stdout.splitlines()[-1])


def _save(path: str, images: Sequence[Image]) -> None:
    encoded = {f"data_{number}": np.frombuffer(image.data, np.uint8) for number, image in enumerate(images)}
    np.savez(path, pixels=np.array([image.pixels for image in images]), **encoded)  # type: ignore[arg-type]


def _load(path: str) -> list[Image]:
    with np.load(path) as saved:
        return [Image(pixels, saved[f"data_{number}"].tobytes()) for number, pixels in enumerate(saved["pixels"])]


def _main(folder: str, path: str, entries: str) -> None:
    quiet.import_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    images = _load(path)
    rates: dict[str, float] = {}
    for format, file_name in json.loads(entries):
        opened = runtimes.open_format(folder, format, file_name, threads=1)
        rates |= {f"{file_name}:{row}": measure(predict, images) for row, predict in opened.items()}
        del opened
        memory.give_back()
    print(json.dumps(rates))


if __name__ == "__main__":
    _main(*sys.argv[1:])
