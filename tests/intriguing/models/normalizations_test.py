"""Both normalization layers equal their formulas, and are saved, reloaded, compiled and differentiated twice."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.models import ContrastNormalization, LocalResponseNormalization
from tests.oracles.response_normalization import normalize

RTOL_FLOAT32 = 1e-5  # a power of a sum of some numbers in single precision
LAYERS = [LocalResponseNormalization(3, 1.0, 0.5, 0.75), ContrastNormalization(0.3, 0.5)]


def values(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(2, 6), (2, 5, 6), (2, 4, 3, 6), (2, 2, 3, 2, 6), (3, 2, 2, 1)])
@pytest.mark.parametrize("settings", [(5, 2.0, 1e-4, 0.75), (3, 1.0, 0.7, 0.5), (1, 0.5, 2.0, 1.0), (9, 2.0, 0.0, 2.0)])
def test_local_response_normalization_equals_the_formula_of_krizhevsky(shape, settings):
    inputs = values(shape)
    expected = [normalize(place.astype(np.float64), *settings) for place in inputs.reshape(-1, shape[-1])]
    outputs = LocalResponseNormalization(*settings)(inputs)
    np.testing.assert_allclose(outputs, np.reshape(expected, shape), rtol=RTOL_FLOAT32)


def test_local_response_normalization_equals_that_of_tensorflow():
    inputs = values((2, 4, 3, 6))
    expected = tf.nn.local_response_normalization(inputs, depth_radius=2, bias=2.0, alpha=0.3, beta=0.75)
    np.testing.assert_allclose(LocalResponseNormalization(5, 2.0, 0.3, 0.75)(inputs), expected, rtol=RTOL_FLOAT32)


def test_defaults_equal_those_of_the_article():
    layer = LocalResponseNormalization()
    assert (layer.depth, layer.bias, layer.alpha, layer.beta) == (5, 2.0, 1e-4, 0.75)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 0.8, 1.0])
def test_contrast_normalization_divides_by_a_power_of_the_energy_of_the_image(exponent):
    inputs = values((3, 4, 5, 2)) * np.array([0.0, 1.0, 30.0], np.float32)[:, np.newaxis, np.newaxis, np.newaxis]
    expected = [image / (0.3 + np.sum(image.astype(np.float64) ** 2)) ** exponent for image in inputs]
    np.testing.assert_allclose(ContrastNormalization(0.3, exponent)(inputs), expected, rtol=RTOL_FLOAT32)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_network_with_a_normalization_is_saved_and_reloaded(layer, tmp_path):
    model = keras.Sequential([keras.Input((4, 4, 3)), type(layer).from_config(layer.get_config())])
    model.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert reloaded.layers[-1].get_config() == model.layers[-1].get_config()
    np.testing.assert_array_equal(reloaded(values((2, 4, 4, 3))), model(values((2, 4, 4, 3))))
    assert model.output_shape == (None, 4, 4, 3)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_normalizations_are_compiled_and_differentiated_twice(layer):
    def curvature(inputs):
        with tf.GradientTape() as outer:
            outer.watch(inputs)
            with tf.GradientTape() as inner:
                inner.watch(inputs)
                energy = tf.reduce_sum(layer(inputs) ** 2)
            steepness = tf.reduce_sum(inner.gradient(energy, inputs) ** 2)
        return outer.gradient(steepness, inputs)

    inputs = tf.constant(values((2, 4, 4, 3)))
    plain = curvature(inputs)
    assert np.abs(plain).max() > 0
    compiled = tf.function(curvature, autograph=False, jit_compile=True)(inputs)
    np.testing.assert_allclose(compiled, plain, rtol=1e-3, atol=1e-5 * np.abs(plain).max())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 4}, "depth must be odd and positive; received 4."),
        ({"depth": -1}, "depth must be odd and positive; received -1."),
        ({"bias": 0.0}, "bias must be positive, so that inputs of zeros are not divided by zero; received 0.0."),
        ({"bias": float("nan")}, "bias must be positive, so that inputs of zeros are not divided by zero; received nan."),
        ({"alpha": -1.0}, "alpha and beta must be at least zero; received -1.0 and 0.75."),
        ({"beta": -0.5}, "alpha and beta must be at least zero; received 0.0001 and -0.5."),
    ],
)
def test_even_windows_and_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LocalResponseNormalization(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 0.5), "epsilon must be positive, so that an image of zeros is not divided by zero; received 0.0."),
        ((0.3, 1.5), r"exponent must lie in \[0, 1\]; received 1.5. The paper uses \[0.5, 1\]."),
        ((0.3, -0.1), r"exponent must lie in \[0, 1\]; received -0.1."),
    ],
)
def test_zero_energy_offset_and_exponents_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ContrastNormalization(*arguments)
