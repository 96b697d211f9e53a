"""Strategies, batch arithmetic, and that replicas change nothing but the speed."""

import json

import numpy as np
import pytest

from tfr.errors import UsageError
from tfr.train import distribution

_TRAIN_ON_REPLICAS = """
import json, sys
import numpy as np
import keras
from tfr.train import bottlenecks, distribution, losses, models

replicas = int(sys.argv[1])
strategy = distribution.make_strategy("mirrored", replicas)
assert strategy.num_replicas_in_sync == replicas
keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
values = rng.normal(size=(64, 8)).astype("float32")
targets = (values[:, :3] > 0).astype("float32")
targets[::5, 1] = -1  # unknown
batches = bottlenecks.training_batches(bottlenecks.Embeddings(values, targets), 16, seed=3)
with strategy.scope():
    head = models.build_head(8, 3, hidden_units=(5,), num_members=2, dropout=0.0)
    head.set_weights([np.random.default_rng(i).normal(size=w.shape) * 0.3 for i, w in enumerate(head.get_weights())])
    head.compile(keras.optimizers.AdamW(1e-2), losses.TaggerLoss(True), jit_compile=False)
history = head.fit(batches, steps_per_epoch=4, epochs=5, verbose=0).history
print(json.dumps({"loss": history["loss"], "weights": [w.ravel().tolist() for w in head.get_weights()]}))
"""


@pytest.fixture(scope="module")
def trained(run_python):
    """The same training on 1, 2 and 4 logical CPU replicas at the same global batch size."""
    results = {}
    for replicas in (1, 2, 4):
        finished = run_python("-c", _TRAIN_ON_REPLICAS, replicas)
        assert finished.returncode == 0, finished.stderr
        results[replicas] = json.loads(finished.stdout.splitlines()[-1])
    return results


@pytest.mark.parametrize("replicas", [2, 4])
def test_replicas_give_the_same_losses_and_weights(trained, replicas):
    np.testing.assert_allclose(trained[replicas]["loss"], trained[1]["loss"], rtol=1e-4)
    for found, expected in zip(trained[replicas]["weights"], trained[1]["weights"], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert trained[1]["loss"][-1] < 0.9 * trained[1]["loss"][0]  # it did learn


class _Strategy:
    def __init__(self, replicas):
        self.num_replicas_in_sync = replicas


def test_the_global_batch_size_is_shared_out():
    assert distribution.per_replica_batch_size(64, _Strategy(4)) == 16
    with pytest.raises(UsageError, match=r"batch_size=64 with 3 replicas; 63 or 66"):
        distribution.per_replica_batch_size(64, _Strategy(3))


def test_logical_devices_must_be_made_before_tensorflow_starts(run_python):
    code = (
        "import tensorflow as tf\nfrom tfr.train import distribution\ntf.config.list_logical_devices()\n"
        "distribution.make_strategy('auto', 2)"
    )
    finished = run_python("-c", code)
    assert "UsageError: --num_virtual_devices=2: TensorFlow has started" in finished.stderr
