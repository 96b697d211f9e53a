"""Steps are the same on one replica, on several, on several machines, and after their state was put back."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

_TRAIN = """
import json, sys
import keras
import numpy as np
import tensorflow as tf
from tfr.train import distribution, losses, loop, optimizers

name, replicas, optimizer, size = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
strategy = distribution.make_strategy(name, replicas or None)
rng = np.random.default_rng(0)
images = rng.normal(size=(size, 8, 8, 3)).astype("float32")
targets = (rng.random((size, 5)) < 0.3).astype("float32")
targets[rng.random(targets.shape) < 0.2] = -1  # unknown

def batches(start_step, context):
    data = tf.data.Dataset.from_tensor_slices((images, targets)).batch(16)  # of 40: 16, 16 and 8
    if context:
        part = 16 // context.num_input_pipelines
        first = context.input_pipeline_id * part
        data = data.map(lambda x, y: (x[first:first + part], y[first:first + part]))
        data = data.unbatch().batch(16 // context.num_replicas_in_sync)
    return data.repeat().skip(start_step)

keras.utils.set_random_seed(1)
with strategy.scope():
    model = keras.Sequential([
        keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten(),
        keras.layers.Dense(5),
    ])
    schedule = optimizers.Schedule(0.01, total_steps=12, warmup_steps=2)
    factors = {model.layers[0].kernel.path: 0.1}
    made = optimizers.make_optimizer(
        optimizer, schedule, model.trainable_variables, weight_decay=0.1, factors=factors
    )
steps = loop.Loop(model, losses.TaggerLoss(True), made, strategy, clip_norm=0.05, ema_decay=0.9)
stream = steps.distribute(batches, 0)
found = [steps.run(stream, 1) for _ in range(5)] + [steps.run(stream, 4)]
state = steps.state()
last, weights = steps.run(stream, 3), steps.weights()
steps.set_state(state)
again = steps.run(steps.distribute(batches, steps.steps_done), 3)
restored = again == last and all(np.array_equal(a, b) for a, b in zip(weights, steps.weights()))
weights = [w.ravel().tolist() for w in (*weights, *steps.raw_weights())]
print(json.dumps({"losses": [*found, last], "weights": weights, "restored": restored}))
"""


def _read(output):
    return json.loads(output.splitlines()[-1])


@pytest.fixture(scope="module")
def on_one_device(run_python):
    """The losses and weights of both optimizers on one device, without any strategy."""
    return {name: _read(run_python("-c", _TRAIN, "none", 0, name, 40).stdout) for name in ("adamw", "sgd")}


def _assert_same(found, expected):
    assert found["restored"]
    np.testing.assert_allclose(found["losses"], expected["losses"], rtol=1e-5)
    for one, other in zip(found["weights"], expected["weights"], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_state_that_is_put_back_gives_the_same_steps(on_one_device, name):
    assert on_one_device[name]["restored"]
    assert len(set(on_one_device[name]["losses"])) > 5


@pytest.mark.parametrize(("replicas", "optimizer"), [(1, "adamw"), (2, "adamw"), (2, "sgd"), (4, "adamw")])
def test_replicas_change_nothing_with_masks_clipping_averages_and_a_short_batch(
    on_one_device, run_python, replicas, optimizer
):
    finished = run_python("-c", _TRAIN, "mirrored", replicas, optimizer, 40)
    assert finished.returncode == 0, finished.stderr
    _assert_same(_read(finished.stdout), on_one_device[optimizer])


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_two_workers_agree_with_one_device(run_python):
    alone = _read(run_python("-c", _TRAIN, "none", 0, "adamw", 48).stdout)
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(2)]
    workers = []
    for index in range(2):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        workers.append(
            subprocess.Popen(
                [sys.executable, "-c", _TRAIN, "multi_worker", "0", "adamw", "48"],
                env={**os.environ, "TF_CONFIG": json.dumps(config)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        outputs = [worker.communicate(timeout=240) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    for worker, (output, errors) in zip(workers, outputs, strict=True):
        assert worker.returncode == 0, errors
        _assert_same(_read(output), alone)
