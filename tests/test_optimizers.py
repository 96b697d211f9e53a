"""Optimizers: the update in one pass is Keras's own, and decay is of kernels, by the rate of each."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfr.train import optimizers


def _values(variables):
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def test_adam_in_one_pass_is_the_adam_of_keras():
    start = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    ours, theirs = keras.Variable(start, name="kernel"), keras.Variable(start, name="kernel")
    schedule = optimizers.Schedule(0.1, total_steps=6)
    adam = keras.optimizers.Adam(schedule)
    adam.build([theirs])
    fused = optimizers.make_optimizer("adamw", schedule, [ours])
    for exponent in range(6):  # gradients that fall, so that the moments lag behind
        gradient = tf.constant(start[::-1] * 10.0**-exponent)
        adam.apply([gradient], [theirs])
        fused.apply([gradient], [ours])
    found, expected = (_values([variable, *adam_.variables]) for variable, adam_ in ((ours, fused), (theirs, adam)))
    assert np.abs(found[0] - start).min() > 0.1
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_kernels_alone_decay_each_by_its_own_rate(name):
    model = keras.Sequential([keras.Input((4,)), *(keras.layers.Dense(4, bias_initializer="ones") for _ in range(2))])
    variables = model.trainable_variables
    before = _values(variables)
    optimizer = optimizers.make_optimizer(
        name,
        optimizers.Schedule(0.1, total_steps=3, cosine=False),
        variables,
        weight_decay=0.2,
        factors={model.layers[0].kernel.path: 0.5},
    )
    for _ in range(3):
        optimizer.apply([tf.zeros(variable.shape) for variable in variables], variables)
    shares = [(1 - 0.05 * 0.2) ** 3, 1, (1 - 0.1 * 0.2) ** 3, 1]
    for after, start, share in zip(_values(variables), before, shares, strict=True):
        np.testing.assert_allclose(after, start * share, rtol=1e-5)
