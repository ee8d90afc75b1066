"""Tests of random layers: every kind is drawn, seeds determine layers, and the exact norm is correct in known cases."""

import keras
import numpy as np

from tests.oracles.random_layers import KINDS, RandomLayer, random_layer, true_norm


def test_every_layer_kind_and_option_is_drawn():
    drawn = [random_layer(seed) for seed in range(4 * len(KINDS))]
    assert {one.kind for one in drawn} == set(KINDS)
    convolutions = [one.layer for one in drawn if one.convolves]
    assert {size for layer in convolutions for size in layer.strides} == {1, 2, 3, 4}
    assert {layer.padding for layer in convolutions} == {"same", "valid"}
    assert {layer.data_format for layer in convolutions} == {"channels_first", "channels_last"}
    assert {getattr(layer, "groups", 1) for layer in convolutions} >= {1, 2, 3}
    assert any(one.dilated for one in drawn)
    assert any(one.convolves and one.shortest_axis >= 16 for one in drawn)


def test_seed_determines_the_layer():
    for one, other in ((random_layer(1), random_layer(1)), (random_layer(24), random_layer(24))):
        assert one.input_shape == other.input_shape
        for mine, yours in zip(one.layer.get_weights(), other.layer.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, yours)


def test_true_norm_excludes_offset_and_activation_and_covers_max_pooling():
    dense = keras.layers.Dense(2, activation="sigmoid", bias_initializer="ones")
    dense.build((None, 2))
    dense.set_weights([np.diag([3.0, -7.0]), np.ones(2)])
    np.testing.assert_allclose(true_norm(RandomLayer(dense, (2,))), 7.0, rtol=1e-6)
    assert dense.activation is keras.activations.sigmoid
    overlapping = keras.layers.MaxPooling2D(3, strides=2)
    overlapping.build((None, 7, 7, 1))
    np.testing.assert_allclose(true_norm(RandomLayer(overlapping, (7, 7, 1))), 2.0, rtol=1e-6)
