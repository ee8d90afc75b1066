"""Both bounds of a layer, compared with the singular values of its matrix, or with its outputs if it is not linear."""

import doctest

import keras
import numpy as np
import pytest

from intriguing.lipschitz import linear_norms, operator_norms
from intriguing.lipschitz.network_bound import lipschitz_bound
from intriguing.lipschitz.operator_norms import OperatorNorm, operator_norm, register_norm
from tests.oracles.random_layers import KINDS, RandomLayer, random_layer, true_norm
from tests.oracles.unrolled_operator import largest_singular_value, unroll

RTOL_ROUNDING = 2e-6  # float32 in the layer, and the allowance of the bounds for it
RTOL_SCALE = 1e-5  # as above, and the offset that the unrolled layer subtracts again
RTOL_LOWER, RTOL_UPPER = 1e-3, 2e-3  # of a small layer, which is unrolled to a matrix
RTOL_TORUS = 0.1  # of a window of up to 5 on a grid of 16 to 20, which unlike a torus has a border


def with_random_weights(kind, shape, seed, **options):
    rng = np.random.default_rng(seed)
    layer = kind(**options, activation="tanh", bias_initializer="ones")
    layer.build((None, *shape))
    layer.set_weights([rng.normal(size=weights.shape).astype(np.float32) for weights in layer.get_weights()])
    return layer


def assert_sound(norm, true):
    assert norm.lower <= true * (1 + RTOL_ROUNDING)
    assert norm.upper >= true * (1 - RTOL_ROUNDING)


@pytest.mark.parametrize("seed", range(2 * len(KINDS)))
def test_bounds_of_any_layer_enclose_the_norm_of_its_matrix(seed, monkeypatch):
    drawn = random_layer(seed)
    true = true_norm(drawn)
    norm = operator_norm(drawn.layer, drawn.input_shape)
    assert_sound(norm, true)
    assert norm.lower >= true * (1 - RTOL_LOWER)
    assert norm.upper <= true * (1 + RTOL_UPPER)
    if drawn.convolves:
        monkeypatch.setattr(linear_norms, "_UNROLLED_ENTRIES", 0)
        assert_sound(operator_norm(drawn.layer, drawn.input_shape), true)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [1, 2, 3, 4])
def test_the_bound_from_the_torus_exceeds_the_norm_by_a_tenth_at_most(strides, padding, monkeypatch):
    monkeypatch.setattr(linear_norms, "_UNROLLED_ENTRIES", 0)
    shape = (17, 16, 3)
    layer = with_random_weights(
        keras.layers.Conv2D, shape, strides, filters=4, kernel_size=(3, 5), strides=strides, padding=padding
    )
    norm, true = operator_norm(layer, shape), true_norm(RandomLayer(layer, shape))
    assert_sound(norm, true)
    assert norm.upper <= true * (1 + RTOL_TORUS)


@pytest.mark.parametrize("groups", [2, 3])
def test_the_convolutions_of_groups_equal_the_layer(groups):
    layer = with_random_weights(keras.layers.Conv2D, (7, 6, 6), 0, filters=12, kernel_size=3, groups=groups, strides=2)
    linear = linear_norms._linear_copy(type(layer), layer.get_config(), np.asarray(layer.kernel), (7, 6, 6))
    change = np.random.default_rng(0).normal(size=(2, 7, 6, 6)).astype(np.float32)
    np.testing.assert_allclose(linear_norms._group_by_group(linear, (7, 6, 6))(change), linear(change), rtol=1e-4, atol=1e-4)


def test_the_norm_of_a_window_of_one_pixel_does_not_depend_on_the_stride():
    """Such a layer selects pixels and multiplies them by the weight, which is the norm."""
    layer = keras.layers.Conv2D(1, 1, strides=4)
    layer.build((None, 40, 40, 1))
    layer.set_weights([np.full((1, 1, 1, 1), 3.0, np.float32), np.zeros(1, np.float32)])
    norm = operator_norm(layer, (40, 40, 1))
    np.testing.assert_allclose(norm, 3.0, rtol=1e-3)


@pytest.mark.parametrize("shape", [(40,), (300,), (3, 3, 20)])
def test_a_dense_layer_has_the_norm_of_its_kernel(shape):
    layer = with_random_weights(keras.layers.Dense, shape, 0, units=50)
    true = largest_singular_value(layer.get_weights()[0].astype(np.float64))
    norm = operator_norm(layer, shape)
    assert_sound(norm, true)
    assert norm.upper / norm.lower <= 1 + RTOL_LOWER


@pytest.mark.parametrize(("layer", "shape"), [(keras.layers.Dense(4), (5,)), (keras.layers.Conv2D(4, 3), (5, 5, 2))])
def test_the_norm_includes_a_low_rank_addition(layer, shape):
    layer.build((None, *shape))
    before = operator_norm(layer, shape)
    layer.enable_lora(1)
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.get_weights()])
    norm = operator_norm(layer, shape)
    assert_sound(norm, largest_singular_value(unroll(layer, shape)))
    assert norm.lower > before.upper


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("pool", "stride"), [(2, 2), (3, 2), (3, 1), (2, 3), (4, 3)])
@pytest.mark.parametrize("size", [7, 10])
def test_the_norm_of_average_pooling_is_that_of_its_matrix(size, pool, stride, padding):
    layer = keras.layers.AveragePooling2D(pool, strides=stride, padding=padding)
    norm = operator_norm(layer, (size, size + 1, 2))
    np.testing.assert_allclose(norm, largest_singular_value(unroll(layer, (size, size + 1, 2))), rtol=1e-5)


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_the_norm_of_global_average_pooling_is_that_of_its_matrix(data_format):
    layer = keras.layers.GlobalAveragePooling2D(data_format=data_format)
    norm = operator_norm(layer, (3, 4, 5))
    np.testing.assert_allclose(norm, largest_singular_value(unroll(layer, (3, 4, 5))), rtol=1e-5)


def test_the_norm_of_global_max_pooling_is_one():
    assert operator_norm(keras.layers.GlobalMaxPooling2D(), (3, 4, 5)) == (1.0, 1.0)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("pool", "stride"), [(2, 2), (3, 2), (3, 1), (2, 3)])
def test_the_norm_of_max_pooling_is_the_root_of_the_number_of_windows_of_a_pixel(pool, stride, padding):
    layer = keras.layers.MaxPooling2D(pool, strides=stride, padding=padding)
    norm = operator_norm(layer, (7, 8, 1))
    norms = []
    for pixel in np.eye(56, dtype=np.float32).reshape(-1, 7, 8, 1):
        norms.append(np.linalg.norm(layer(pixel[np.newaxis])))
    np.testing.assert_allclose(norm, max(norms), rtol=1e-5)
    rng = np.random.default_rng(0)
    one, other = (rng.normal(size=(200, 7, 8, 1)).astype(np.float32) for _ in range(2))
    moved = np.linalg.norm((layer(one) - layer(other)).numpy().reshape(200, -1), axis=1)
    assert np.all(moved <= norm.upper * np.linalg.norm((one - other).reshape(200, -1), axis=1))


def test_the_norm_of_overlapping_max_pooling_exceeds_one():
    assert operator_norm(keras.layers.MaxPooling2D(3, strides=2), (55, 55, 96)).lower > 1.99


def test_the_norm_of_batch_normalization_and_rescaling_is_their_largest_factor():
    layer = keras.layers.BatchNormalization(epsilon=1e-3)
    layer.build((None, 3))
    layer.set_weights([np.array(values, np.float32) for values in ([1, -6, 2], [9, 9, 9], [5, 5, 5], [1, 4, 9])])
    np.testing.assert_allclose(operator_norm(layer, (3,)), 6 / np.sqrt(4.001), rtol=1e-5)
    np.testing.assert_allclose(operator_norm(keras.layers.Rescaling(-255.0, offset=3), (3,)), 255.0, rtol=1e-5)


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize(
    ("axis", "variance"),
    [(-1, [0.25, 9.0, 0.0]), (-1, [4.0, 2.0, 1e-20]), ((1, 3), np.arange(1.0, 13.0).reshape(4, 3)), (None, 7.0)],
)
def test_the_norm_of_normalization_is_that_of_its_matrix(axis, variance, invert):
    """Keras replaces a deviation of zero by epsilon. With `invert`, the layer multiplies by the deviation."""
    layer = keras.layers.Normalization(axis, mean=np.full_like(variance, 0.5), variance=variance, invert=invert)
    layer.build((None, 4, 5, 3))
    true = largest_singular_value(unroll(layer, (4, 5, 3)))
    np.testing.assert_allclose(operator_norm(layer, (4, 5, 3)), true, rtol=RTOL_SCALE)


def test_an_adapted_normalization_divides_by_the_deviation_of_its_data():
    layer = keras.layers.Normalization()
    layer.adapt(np.array([[1.0, 10.0], [3.0, 90.0]]))
    np.testing.assert_allclose(operator_norm(layer, (2,)), 1.0, rtol=RTOL_SCALE)


def test_the_norm_of_layers_that_move_values_is_one():
    for layer in (keras.layers.Flatten(), keras.layers.ZeroPadding2D(2), keras.layers.Dropout(0.5)):
        assert operator_norm(layer, (4, 4, 2)) == OperatorNorm(1.0, 1.0)


class Doubling(keras.Layer):
    def call(self, inputs):
        return 2.0 * inputs


def test_a_layer_without_a_rule_is_refused_until_one_is_registered(monkeypatch):
    monkeypatch.setattr(operator_norms, "_RULES", dict(operator_norms._RULES))
    with pytest.raises(ValueError, match="no rule for the operator norm of the layer 'mine', a Doubling. Register one with"):
        operator_norm(Doubling(name="mine"), (3,))
    register_norm(Doubling)(lambda layer, input_shape: OperatorNorm(2.0, 2.0))
    assert operator_norm(Doubling(), (3,)) == (2.0, 2.0)


def test_the_example_of_register_norm_is_right(monkeypatch):
    monkeypatch.setattr(operator_norms, "_RULES", dict(operator_norms._RULES))
    (example,) = doctest.DocTestFinder().find(register_norm, "register_norm", globs=dict(vars(operator_norms)))
    results = doctest.DocTestRunner().run(example)
    assert results.attempted == 3 and results.failed == 0


def test_rule_that_returns_a_number_is_named():
    class Doubling(keras.layers.Layer):
        def call(self, inputs):
            return 2.0 * inputs

    @register_norm(Doubling)
    def norm_of_doubling(layer, input_shape):
        return 2.0

    message = (
        r"rule 'norm_of_doubling' for the norm of Doubling must return an OperatorNorm; received float. Return OperatorNorm\("
    )
    with pytest.raises(TypeError, match=message):
        operator_norm(Doubling(), (3,))
    with pytest.raises(TypeError, match=message):
        lipschitz_bound(keras.Sequential([keras.Input((3,)), Doubling()]))
