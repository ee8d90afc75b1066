"""Norms of normalizations against the maximized Jacobian, and the computed maximum against a fine grid."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.lipschitz import lipschitz_bound, operator_norm
from intriguing.lipschitz.normalization_norms import _most_above_zero, _Sums
from intriguing.models import ContrastNormalization, LocalResponseNormalization
from tests.oracles.response_normalization import jacobian

RTOL_ROUNDING = 2e-6  # rounding of single precision in the bounds
RTOL_FLOAT32 = 1e-4  # a Jacobian in single precision
ARTICLE = (5, 2.0, 1e-4, 0.75)
SETTINGS = [ARTICLE, (3, 1.0, 1.0, 0.75), (5, 1.0, 0.2, 1.0), (7, 0.5, 2.0, 0.5), (9, 2.0, 1.0, 0.75), (5, 1.0, 1.0, 3.0), (5, 3.0, 1.0, 0.05)]  # fmt: skip


def largest(matrix):
    return np.linalg.norm(matrix, 2)


def maximized(settings, channels, seed, steps=150):
    """Maximizes the norm of the Jacobian from a random point, and returns the largest norm."""
    rng = np.random.default_rng(seed)
    _, bias, alpha, _ = settings
    place = rng.normal(size=channels) * 10.0 ** rng.uniform(-1, 0.7) * np.sqrt(bias / alpha)
    highest, step = largest(jacobian(place, *settings)), 0.3
    for _ in range(steps):
        candidate = place + step * rng.normal(size=channels) * np.mean(np.abs(place))
        norm = largest(jacobian(candidate, *settings))
        if norm > highest:
            place, highest, step = candidate, norm, 1.3 * step
        else:
            step *= 0.95
    return highest


@pytest.mark.parametrize("settings", SETTINGS)
def test_jacobian_norms_lie_within_both_bounds(settings):
    depth = settings[0]
    for channels in (1, depth // 2 + 1, depth // 2 + 2, 2 * depth):
        norm = operator_norm(LocalResponseNormalization(*settings), (4, 4, channels))
        assert max(maximized(settings, channels, seed) for seed in range(8)) <= norm.upper
        at_zero = largest(jacobian(np.zeros(channels), *settings))
        assert at_zero * (1 - RTOL_ROUNDING) <= norm.lower <= at_zero


def test_maximized_jacobian_equals_that_of_the_layer():
    places = np.random.default_rng(0).normal(size=(1, 8)).astype(np.float32)
    layer = LocalResponseNormalization(5, 1.0, 0.4, 0.75)
    with tf.GradientTape() as tape:
        inputs = tf.constant(places)
        tape.watch(inputs)
        outputs = layer(inputs)
    np.testing.assert_allclose(
        tape.jacobian(outputs, inputs)[0, :, 0], jacobian(places[0].astype(np.float64), 5, 1.0, 0.4, 0.75), atol=RTOL_FLOAT32
    )


@pytest.mark.parametrize(("depth", "looseness"), [(1, 1e-5), (3, 3e-3), (5, 0.033), (7, 0.112), (9, 0.19), (31, 0.19)])
def test_bounds_are_close_for_typical_windows(depth, looseness):
    norm = operator_norm(LocalResponseNormalization(depth, 2.0, 1e-4, 0.75), (27, 27, 96))
    assert norm.upper <= norm.lower * (1 + looseness)
    np.testing.assert_allclose(norm.lower, 2.0**-0.75, rtol=RTOL_ROUNDING)


@pytest.mark.parametrize("settings", [(5, 2.0, 1.0, 0.0), (5, 2.0, 0.0, 0.75), (1, 2.0, 1.0, 2.0)])
def test_norm_is_exact_for_windows_of_one_channel(settings):
    norm = operator_norm(LocalResponseNormalization(*settings), (3, 3, 16))
    np.testing.assert_allclose(norm, settings[1] ** -settings[3], rtol=RTOL_ROUNDING)


@pytest.mark.parametrize("beta", [0.05, 0.75, 1.0, 4.0])
@pytest.mark.parametrize("groups", [1, 2])
def test_computed_maximum_is_a_tight_upper_bound(groups, beta):
    sums = _Sums(beta, lambda t, o: 2.0 * beta * np.sqrt(4.0 * t * o), beta * 2.0)
    places = np.log1p(np.concatenate([[0.0], np.geomspace(1e-3, 1e4, 60)]))
    grid = np.stack(np.meshgrid(*[places] * (1 + groups)), axis=-1).reshape(-1, 1 + groups)
    highest = np.max(sums._upper(grid, grid))
    assert highest <= sums.maximum(groups) <= highest * 1.01


def test_bounds_of_a_box_hold_at_all_its_points():
    rng = np.random.default_rng(0)
    sums = _Sums(0.75, lambda t, o: 1.5 * np.sqrt(2.0 * t * o), 0.75 * np.sqrt(2.0))
    low = rng.exponential(size=(200, 3))
    high = low + rng.exponential(size=(200, 3))
    for _ in range(50):
        place = low + rng.uniform(size=low.shape) * (high - low)
        assert np.all(sums._upper(place, place) <= sums._upper(low, high) * (1 + 1e-12))


@pytest.mark.parametrize("beta", [1e-4, 1e-2, 60.0])
def test_extreme_exponents_have_finite_bounds(beta):
    assert 1.0 <= _most_above_zero(2, 16, beta) < 2.0


@pytest.mark.parametrize(("epsilon", "exponent"), [(0.25, 0.5), (2.0, 0.75), (1.0, 1.0), (0.1, 0.0)])
def test_contrast_normalization_has_its_largest_jacobian_at_zero(epsilon, exponent):
    layer = ContrastNormalization(epsilon, exponent)
    norm = operator_norm(layer, (2, 3))
    np.testing.assert_allclose(norm, epsilon**-exponent, rtol=RTOL_ROUNDING)
    rng = np.random.default_rng(0)
    steepest = []
    for scale in (0.0, 0.1, 0.5, 1.0, 3.0, 30.0):
        inputs = tf.constant(scale * rng.normal(size=(1, 2, 3)), tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs)
        steepest.append(largest(tape.jacobian(outputs, inputs).numpy().reshape(6, 6)))
    assert max(steepest) <= norm.upper * (1 + RTOL_FLOAT32)
    np.testing.assert_allclose(steepest[0], epsilon**-exponent, rtol=RTOL_FLOAT32)


def test_network_with_normalizations_has_a_bound():
    model = keras.Sequential([keras.Input((4, 4, 8)), LocalResponseNormalization(), ContrastNormalization(0.25, 0.5)])
    bound = lipschitz_bound(model)
    np.testing.assert_allclose(bound.upper, 2.0**-0.75 * 2.0, rtol=0.033)
    assert [layer.kind for layer in bound.layers] == ["LocalResponseNormalization", "ContrastNormalization"]
