"""Adam agrees with the optimizer of Keras."""

import keras
import numpy as np
import tensorflow as tf

from intriguing.optimize.adam import adam_step, initial_moments

RTOL_ROUNDING = 1e-5  # the same formula, evaluated in another order


def test_agrees_with_keras_for_a_decaying_learning_rate():
    rng = np.random.default_rng(0)
    shapes = [(4, 3), (3,), (3, 2)]
    weights = [tf.constant(rng.normal(size=shape), tf.float32) for shape in shapes]
    variables = [keras.Variable(weight) for weight in weights]
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 20)
    optimizer = keras.optimizers.Adam(schedule)
    moments = initial_moments(weights)
    for step in range(20):
        # From tiny to large gradients, because epsilon matters for the tiny ones.
        gradients = [tf.constant(rng.normal(size=shape) * 10.0 ** rng.integers(-7, 2), tf.float32) for shape in shapes]
        optimizer.apply(gradients, variables)
        weights, moments = adam_step(weights, gradients, moments, schedule(float(step)))
        for weight, variable in zip(weights, variables, strict=True):
            np.testing.assert_allclose(weight, variable.value, rtol=RTOL_ROUNDING, atol=1e-6)
    assert float(moments[0]) == 20.0


def test_initial_moments_are_zero():
    count, first, second = initial_moments([tf.ones([2, 3])])
    assert float(count) == 0.0
    np.testing.assert_array_equal(first, np.zeros((2, 3)))
    np.testing.assert_array_equal(second, np.zeros((2, 3)))
