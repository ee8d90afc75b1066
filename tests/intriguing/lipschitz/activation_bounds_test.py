"""Enclosures of activation functions hold on dense grids, are tight, and contain the range of the second derivative."""

from math import log, sqrt

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.lipschitz.activation_bounds import enclose, slope_at

ATOL = 1e-12  # rounding of values of up to 40, in double precision
RTOL_CURVATURE = 2e-3  # the second derivative may be slightly larger between grid points
SIGMOIDS_BEND = log(2.0 + sqrt(3.0))
REACHES = (0.0, 1e-3, 0.03, 0.4, 1.0, 2.0, 5.0, 30.0)
SMOOTH = (keras.activations.sigmoid, keras.activations.tanh, keras.activations.softplus)
KNOWN = (*SMOOTH, keras.activations.linear, keras.activations.relu)
UNKNOWN = {keras.activations.gelu: 1.129, keras.activations.elu: 1.0, keras.activations.relu6: 1.0, tf.sin: 1.0}


def named(function):
    return getattr(function, "__name__", None)


def intervals():
    """Returns points at and on both sides of every kink and inflection, each combined with all intervals below and above."""
    special = [0.0, SIGMOIDS_BEND, SIGMOIDS_BEND / 2.0, 1e-3, 0.4, 1.0, 5.0]
    points = np.concatenate([special, np.negative(special), np.random.default_rng(0).normal(scale=3.0, size=20)])
    return [tf.constant(array.ravel()) for array in np.meshgrid(points, REACHES, REACHES)]


def changes(below, above, number=401):
    """Returns changes `[number, intervals]` that cover each interval and include 0."""
    inner = tf.constant(np.linspace(0.0, 1.0, number // 2 + 1))[:, tf.newaxis]
    return tf.concat([-below * inner[::-1], above * inner], axis=0)


def bounds(enclosure, change):
    """Returns the lower and upper bounds of the departure from the linear function."""
    low_slack = 0.0 if enclosure.low_slack is None else enclosure.low_slack
    high_slack = 0.0 if enclosure.high_slack is None else enclosure.high_slack
    square, size = 0.5 * change**2, tf.abs(change)
    return enclosure.low * square - low_slack * size, enclosure.high * square + high_slack * size


def departure(activation, point, change):
    return activation(point + change) - activation(point) - slope_at(activation, point) * change


def second_derivative(activation, points):
    with tf.GradientTape() as outer:
        outer.watch(points)
        with tf.GradientTape() as inner:
            inner.watch(points)
            values = activation(points)
        first = inner.gradient(values, points)
    return outer.gradient(first, points)


@pytest.mark.parametrize("activation", [*KNOWN, *UNKNOWN], ids=named)
def test_enclosures_contain_all_changes_in_the_interval(activation):
    point, below, above = intervals()
    change = changes(below, above)
    low, high = bounds(enclose(activation, UNKNOWN.get(activation, 1.0), point, below, above), change)
    departs = departure(activation, point, change)
    assert float(tf.reduce_max(low - departs)) <= ATOL
    assert float(tf.reduce_max(departs - high)) <= ATOL


@pytest.mark.parametrize("activation", SMOOTH, ids=named)
def test_enclosure_slope_of_a_smooth_function_is_its_derivative(activation):
    point = tf.linspace(tf.constant(-9.0, tf.float64), 9.0, 101)
    with tf.GradientTape() as tape:
        tape.watch(point)
        values = activation(point)
    np.testing.assert_allclose(slope_at(activation, point), tape.gradient(values, point), atol=ATOL)


@pytest.mark.parametrize("activation", SMOOTH, ids=named)
def test_curvature_bounds_are_the_range_of_the_second_derivative(activation):
    point, below, above = intervals()
    curvatures = second_derivative(activation, point + changes(below, above, number=2001))
    enclosure = enclose(activation, 1.0, point, below, above)
    least, most = tf.reduce_min(curvatures, axis=0), tf.reduce_max(curvatures, axis=0)
    scale = float(tf.reduce_max(tf.abs(curvatures)))
    assert enclosure.low_slack is None and enclosure.high_slack is None
    assert float(tf.reduce_max(enclosure.low - least)) <= ATOL
    assert float(tf.reduce_max(most - enclosure.high)) <= ATOL
    np.testing.assert_allclose(enclosure.low, least, atol=RTOL_CURVATURE * scale)
    np.testing.assert_allclose(enclosure.high, most, atol=RTOL_CURVATURE * scale)


@pytest.mark.parametrize(
    ("activation", "place", "extreme"),
    [
        (keras.activations.sigmoid, SIGMOIDS_BEND, -1.0 / (6.0 * sqrt(3.0))),
        (keras.activations.sigmoid, -SIGMOIDS_BEND, 1.0 / (6.0 * sqrt(3.0))),
        (keras.activations.tanh, SIGMOIDS_BEND / 2.0, -4.0 / (3.0 * sqrt(3.0))),
        (keras.activations.tanh, -SIGMOIDS_BEND / 2.0, 4.0 / (3.0 * sqrt(3.0))),
        (keras.activations.softplus, 0.0, 0.25),
    ],
)
def test_curvature_bounds_include_extrema_inside_the_interval(activation, place, extreme):
    below, above = (array.ravel() for array in np.meshgrid([1e-3, 0.1, 3.0], [1e-3, 0.1, 3.0]))
    for shift in (-0.9 * above, 0.0 * above, 0.9 * below):
        enclosure = enclose(activation, 1.0, *map(tf.constant, (place + shift, below, above)))
        np.testing.assert_allclose(enclosure.low if extreme < 0 else enclosure.high, extreme, atol=ATOL)


def test_rectifier_enclosure_is_tight_beyond_every_kink_in_the_interval():
    point, below, above = intervals()
    reach = tf.where(point > 0, below, above)
    crosses = np.asarray(reach > tf.abs(point))
    change = -tf.where(point > 0, 1.0, tf.constant(-1.0, tf.float64)) * tf.stack(
        [reach, tf.minimum(reach, 2.0 * tf.abs(point))]
    )
    low, high = bounds(enclose(keras.activations.relu, 1.0, point, below, above), change)
    gaps = np.asarray(high - departure(keras.activations.relu, point, change)).min(axis=0)
    assert crosses.any() and not crosses.all()
    np.testing.assert_allclose(gaps[crosses], 0.0, atol=ATOL)
    np.testing.assert_array_equal(np.asarray(high)[:, ~crosses], 0.0)
    np.testing.assert_array_equal(low, 0.0)


def test_linear_function_has_zero_departure():
    enclosure = enclose(keras.activations.linear, 1.0, *intervals())
    assert not np.any(enclosure.low) and not np.any(enclosure.high)
    np.testing.assert_array_equal(slope_at(keras.activations.linear, tf.constant([-2.0, 0.0])), 1.0)


@pytest.mark.parametrize("activation", UNKNOWN, ids=named)
def test_unknown_function_uses_only_its_lipschitz_constant(activation):
    point, below, above = intervals()
    enclosure = enclose(activation, UNKNOWN[activation], point, below, above)
    np.testing.assert_array_equal(slope_at(activation, point), 0.0)
    for curvature, slack in ((enclosure.low, enclosure.low_slack), (enclosure.high, enclosure.high_slack)):
        np.testing.assert_array_equal(curvature, 0.0)
        np.testing.assert_array_equal(slack, UNKNOWN[activation])
