"""Tests of unrolled layers whose matrices are known."""

import keras
import numpy as np

from tests.oracles.unrolled_operator import largest_singular_value, unroll


def test_dense_layer_unrolls_to_its_kernel():
    layer = keras.layers.Dense(3, bias_initializer="ones")
    layer.build((None, 4))
    np.testing.assert_allclose(unroll(layer, (4,)), layer.kernel.numpy().T, atol=1e-6)


def test_one_dimensional_convolution_unrolls_to_a_band_matrix():
    layer = keras.layers.Conv1D(1, 2, strides=2)
    layer.build((None, 5, 1))
    layer.set_weights([np.array([3.0, 4.0], np.float32).reshape(2, 1, 1), np.zeros(1, np.float32)])
    matrix = unroll(layer, (5, 1))
    np.testing.assert_allclose(matrix, [[3, 4, 0, 0, 0], [0, 0, 3, 4, 0]], atol=1e-6)
    np.testing.assert_allclose(largest_singular_value(matrix), 5.0, rtol=1e-6)
