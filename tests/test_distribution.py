"""Strategies and batch arithmetic."""

import pytest

from tfr.errors import UsageError
from tfr.train import distribution


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


@pytest.mark.parametrize(
    ("name", "environment", "message"),
    [
        ("multi_worker", {"TF_CONFIG": ""}, "--strategy=multi_worker needs the environment variable TF_CONFIG"),
        ("auto", {"TF_CONFIG": "{cluster"}, "The environment variable TF_CONFIG is not what"),
    ],
)
def test_what_a_strategy_lacks_is_said(run_python, name, environment, message):
    code = f"from tfr.train import distribution; distribution.make_strategy({name!r})"
    assert f"UsageError: {message}" in run_python("-c", code, env=environment).stderr
