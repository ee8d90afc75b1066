"""Linear enclosures of activation functions on intervals.

For every change d that keeps `z + d` in the interval, `f(z + d) - f(z) - slope(z) * d` lies between
`low * d**2 / 2 - low_slack * |d|` and `high * d**2 / 2 + high_slack * |d|`. A smooth function has its derivative for a slope,
and the range of its second derivative between low and high; a kink costs slack where it is near, and curvature where it is far.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log, sqrt
from typing import Any, NamedTuple

import keras
import tensorflow as tf

_SIGMOIDS_BEND = log(2.0 + sqrt(3.0))  # where its second derivative is extreme: at -bend and bend


class Enclosure(NamedTuple):
    """Departures from a straight line, number by number, all of one shape; None for no slack anywhere."""

    low: tf.Tensor  # of the curvature
    high: tf.Tensor
    low_slack: tf.Tensor | None = None
    high_slack: tf.Tensor | None = None


def slope_at(activation: Callable[..., Any], point: tf.Tensor) -> tf.Tensor:
    """Returns the slope of the line that `enclose` compares with: the derivative, or 0 for a function that is not known."""
    return _CLOSELY[activation][0](point) if activation in _CLOSELY else tf.zeros_like(point)


def enclose(activation: Callable[..., Any], constant: float, point: tf.Tensor, below: tf.Tensor, above: tf.Tensor) -> Enclosure:
    """Encloses an activation function that is applied to every number by itself.

    Args:
        activation: The function; of Keras's own, the rectifier, sigmoid, tanh and softplus are known closely.
        constant: Its Lipschitz constant, which is all that is used of any other.
        point: Where the input is.
        below: How far it may fall, not negative.
        above: How far it may rise, not negative.

    Returns:
        An `Enclosure`, around the line through the point whose slope is `slope_at`.
    """
    if activation in _CLOSELY:
        return _CLOSELY[activation][1](point, below, above)
    nothing = tf.zeros_like(point)
    return Enclosure(nothing, nothing, nothing + constant, nothing + constant)


def _linear(point: tf.Tensor, below: tf.Tensor, above: tf.Tensor) -> Enclosure:
    return Enclosure(tf.zeros_like(point), tf.zeros_like(point))


def _relu(point: tf.Tensor, below: tf.Tensor, above: tf.Tensor) -> Enclosure:
    """Beyond a kink at a distance k it rises by `t - k` over the line for a change t.

    That is at most `t**2 / (4 * k)`, which t = 2 k attains, and at most `t * (1 - k / reach)`.
    The smaller one at the reach is taken.
    """
    nothing = tf.zeros_like(point)
    kink, reach = tf.abs(point), tf.where(point > 0, below, above)
    farthest = tf.minimum(reach, 2.0 * kink)
    half = tf.where(reach > kink, tf.math.divide_no_nan(farthest - kink, farthest**2), nothing)
    slack = tf.where(reach > kink, tf.math.divide_no_nan(reach - kink, reach), nothing)
    near = (kink == 0) | (half * reach > slack)
    return Enclosure(nothing, tf.where(near, nothing, 2.0 * half), nothing, tf.where(near, slack, nothing))


def _step(point: tf.Tensor) -> tf.Tensor:
    return tf.cast(point > 0, point.dtype)


def _sigmoid(point: tf.Tensor, below: tf.Tensor, above: tf.Tensor) -> Enclosure:
    low, high = _range_of_sigmoids_curvature(point - below, point + above)
    return Enclosure(low, high)


def _tanh(point: tf.Tensor, below: tf.Tensor, above: tf.Tensor) -> Enclosure:
    """The sigmoid at twice the place, doubled and shifted."""
    low, high = _range_of_sigmoids_curvature(2.0 * (point - below), 2.0 * (point + above))
    return Enclosure(8.0 * low, 8.0 * high)


def _softplus(point: tf.Tensor, below: tf.Tensor, above: tf.Tensor) -> Enclosure:
    at_start, at_end = _sigmoids_slope(point - below), _sigmoids_slope(point + above)
    top = tf.where((point - below <= 0) & (point + above >= 0), 0.25 * tf.ones_like(point), tf.maximum(at_start, at_end))
    return Enclosure(tf.minimum(at_start, at_end), top)


def _sigmoids_slope(point: tf.Tensor) -> tf.Tensor:
    return tf.sigmoid(point) * tf.sigmoid(-point)


def _sigmoids_curvature(point: tf.Tensor) -> tf.Tensor:
    return -_sigmoids_slope(point) * tf.tanh(point / 2.0)


def _range_of_sigmoids_curvature(start: tf.Tensor, end: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the least and the largest second derivative of the sigmoid over intervals."""
    at_start, at_end = _sigmoids_curvature(start), _sigmoids_curvature(end)
    largest = _sigmoids_curvature(tf.constant(-_SIGMOIDS_BEND, start.dtype))
    low, high = tf.minimum(at_start, at_end), tf.maximum(at_start, at_end)
    low = tf.where((start <= _SIGMOIDS_BEND) & (end >= _SIGMOIDS_BEND), -largest, low)
    return low, tf.where((start <= -_SIGMOIDS_BEND) & (end >= -_SIGMOIDS_BEND), largest, high)


_Slope = Callable[[tf.Tensor], tf.Tensor]
_Bounds = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Enclosure]

_CLOSELY: dict[Callable[..., Any], tuple[_Slope, _Bounds]] = {
    keras.activations.linear: (tf.ones_like, _linear),
    keras.activations.relu: (_step, _relu),
    keras.activations.sigmoid: (_sigmoids_slope, _sigmoid),
    keras.activations.tanh: (lambda point: 4.0 * _sigmoids_slope(2.0 * point), _tanh),
    keras.activations.softplus: (tf.sigmoid, _softplus),
}
