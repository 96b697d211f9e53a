"""The head: members side by side are so many networks of their own."""

import keras
import numpy as np
import pytest

from tfr.train import models


def _kernel(layer, member):
    """Kernel and bias of one member of a layer."""
    kernel, bias = map(keras.ops.convert_to_numpy, (layer.kernel, layer.bias))
    if kernel.ndim == 3:
        return kernel[member], bias[member]
    units = layer.units // 3
    return kernel[:, member * units : (member + 1) * units], bias[member * units : (member + 1) * units]


@pytest.mark.parametrize("hidden_units", [(), (5,), (5, 4)])
def test_each_member_is_a_network_of_its_own(hidden_units):
    keras.utils.set_random_seed(0)
    head = models.build_head(7, 2, hidden_units=hidden_units, num_members=3, prior=np.array([0.2, 0.5]))
    head.get_layer("member_logits").kernel.assign(np.random.normal(size=head.get_layer("member_logits").kernel.shape))
    inputs = np.random.default_rng(0).standard_normal((6, 7)).astype(np.float32)
    found = keras.ops.convert_to_numpy(head(inputs, training=False))
    assert found.shape == (6, 3, 2)
    for member in range(3):
        x = inputs
        for number in range(1, len(hidden_units) + 1):
            kernel, bias = _kernel(head.get_layer(f"hidden_{number}"), member)
            x = np.maximum(x @ kernel + bias, 0)
        kernel, bias = _kernel(head.get_layer("member_logits"), member)
        np.testing.assert_allclose(bias, [np.log(0.2 / 0.8), 0], atol=1e-6)
        np.testing.assert_allclose(found[:, member], x @ kernel + bias, atol=1e-5)


def test_members_start_as_glorot_would_start_one_alone():
    keras.utils.set_random_seed(0)
    head = models.build_head(300, 2, hidden_units=(100, 50), num_members=4)
    for name, fans in (("hidden_1", 300 + 100), ("hidden_2", 100 + 50)):
        kernel = keras.ops.convert_to_numpy(head.get_layer(name).kernel)
        np.testing.assert_allclose(kernel.std(), np.sqrt(2 / fans), rtol=0.03)
        assert np.abs(kernel).max() <= np.sqrt(6 / fans)
