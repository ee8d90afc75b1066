"""Bounds of the difference between an activation function and a line, on an interval.

For every change d for which `z + d` is in the interval, the difference `f(z + d) - f(z) - slope(z) * d` lies between
`low * d**2 / 2 - low_slack * |d|` and `high * d**2 / 2 + high_slack * |d|`. For a smooth function, the slope is the derivative,
and low and high are the least and the largest second derivative on the interval. For a rectifier, the difference is bounded by
slack if its kink is near z, and by curvature if the kink is farther away.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log, sqrt
from typing import Any, NamedTuple

import keras
import tensorflow as tf

_SIGMOID_EXTREMUM = log(2.0 + sqrt(3.0))  # the second derivative of the sigmoid is extreme here and at the negative value


class Enclosure(NamedTuple):
    """Bounds of the difference from a line, elementwise and all of one shape; the slack is None if it is zero everywhere."""

    low: tf.Tensor  # lower bound of the curvature
    high: tf.Tensor  # upper bound of the curvature
    low_slack: tf.Tensor | None = None  # of the lower bound, not negative
    high_slack: tf.Tensor | None = None  # of the upper bound, not negative


def slope_at(activation: Callable[..., Any], point: tf.Tensor) -> tf.Tensor:
    """Returns the slope of the line in `enclose`: the derivative, or 0 for a function without known curvature bounds."""
    return _CURVATURE_BOUNDS[activation][0](point) if activation in _CURVATURE_BOUNDS else tf.zeros_like(point)


def enclose(activation: Callable[..., Any], constant: float, point: tf.Tensor, below: tf.Tensor, above: tf.Tensor) -> Enclosure:
    """Bounds the difference between an elementwise activation function and a line.

    Args:
        activation: The function. Keras's relu, sigmoid, tanh and softplus have bounds of their curvature.
        constant: The Lipschitz constant of the function; the bounds of any other function depend on it alone.
        point: The value of the input.
        below: The largest decrease of the input, not negative.
        above: The largest increase of the input, not negative.

    Returns:
        An `Enclosure` for the line through the point with the slope `slope_at`.
    """
    if activation in _CURVATURE_BOUNDS:
        return _CURVATURE_BOUNDS[activation][1](point, below, above)
    zeros = tf.zeros_like(point)
    return Enclosure(zeros, zeros, zeros + constant, zeros + constant)


def _linear(point: tf.Tensor, below: tf.Tensor, above: tf.Tensor) -> Enclosure:
    return Enclosure(tf.zeros_like(point), tf.zeros_like(point))


def _relu(point: tf.Tensor, below: tf.Tensor, above: tf.Tensor) -> Enclosure:
    """Bounds a rectifier whose kink is at the distance k.

    For a change t beyond the kink, the function exceeds the line by `t - k`. This is at most `t**2 / (4 * k)`, with equality at
    t = 2 k, and at most `t * (1 - k / reach)`. The bound that is smaller at the reach is used.
    """
    zeros = tf.zeros_like(point)
    kink, reach = tf.abs(point), tf.where(point > 0, below, above)
    farthest = tf.minimum(reach, 2.0 * kink)
    half = tf.where(reach > kink, tf.math.divide_no_nan(farthest - kink, farthest**2), zeros)
    slack = tf.where(reach > kink, tf.math.divide_no_nan(reach - kink, reach), zeros)
    near = (kink == 0) | (half * reach > slack)
    return Enclosure(zeros, tf.where(near, zeros, 2.0 * half), zeros, tf.where(near, slack, zeros))


def _step(point: tf.Tensor) -> tf.Tensor:
    return tf.cast(point > 0, point.dtype)


def _sigmoid(point: tf.Tensor, below: tf.Tensor, above: tf.Tensor) -> Enclosure:
    low, high = _range_of_sigmoid_curvature(point - below, point + above)
    return Enclosure(low, high)


def _tanh(point: tf.Tensor, below: tf.Tensor, above: tf.Tensor) -> Enclosure:
    """Uses `tanh(z) = 2 * sigmoid(2 * z) - 1`."""
    low, high = _range_of_sigmoid_curvature(2.0 * (point - below), 2.0 * (point + above))
    return Enclosure(8.0 * low, 8.0 * high)


def _softplus(point: tf.Tensor, below: tf.Tensor, above: tf.Tensor) -> Enclosure:
    at_start, at_end = _sigmoid_derivative(point - below), _sigmoid_derivative(point + above)
    top = tf.where((point - below <= 0) & (point + above >= 0), 0.25 * tf.ones_like(point), tf.maximum(at_start, at_end))
    return Enclosure(tf.minimum(at_start, at_end), top)


def _sigmoid_derivative(point: tf.Tensor) -> tf.Tensor:
    return tf.sigmoid(point) * tf.sigmoid(-point)


def _sigmoid_curvature(point: tf.Tensor) -> tf.Tensor:
    return -_sigmoid_derivative(point) * tf.tanh(point / 2.0)


def _range_of_sigmoid_curvature(start: tf.Tensor, end: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the least and the largest second derivative of the sigmoid over intervals."""
    at_start, at_end = _sigmoid_curvature(start), _sigmoid_curvature(end)
    largest = _sigmoid_curvature(tf.constant(-_SIGMOID_EXTREMUM, start.dtype))
    low, high = tf.minimum(at_start, at_end), tf.maximum(at_start, at_end)
    low = tf.where((start <= _SIGMOID_EXTREMUM) & (end >= _SIGMOID_EXTREMUM), -largest, low)
    return low, tf.where((start <= -_SIGMOID_EXTREMUM) & (end >= -_SIGMOID_EXTREMUM), largest, high)


_Slope = Callable[[tf.Tensor], tf.Tensor]
_Bounds = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Enclosure]

_CURVATURE_BOUNDS: dict[Callable[..., Any], tuple[_Slope, _Bounds]] = {
    keras.activations.linear: (tf.ones_like, _linear),
    keras.activations.relu: (_step, _relu),
    keras.activations.sigmoid: (_sigmoid_derivative, _sigmoid),
    keras.activations.tanh: (lambda point: 4.0 * _sigmoid_derivative(2.0 * point), _tanh),
    keras.activations.softplus: (tf.sigmoid, _softplus),
}
