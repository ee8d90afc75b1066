"""Lipschitz constants of layers that divide by the energy of their inputs, with proofs.

The Jacobians of Keras's `LayerNormalization`, `GroupNormalization` and `RMSNormalization` have their largest norm where the
energy is zero: there the layers divide by the root of epsilon.

The Jacobians of the layers of `models.normalizations` are diagonal at zero, and their norm there is the lower bound. For
`ContrastNormalization` it is the upper bound as well. The upper bound of `LocalResponseNormalization`, with the exponent 0.75
of Krizhevsky et al., exceeds the lower one by 3.2% for their windows of five channels, by 0.2% for three, and by 19% for many.
Searches have found no Jacobian with a norm above the lower bound.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import exp, log, prod, sqrt
from typing import Any

import keras
import numpy as np

from intriguing.lipschitz.operator_norms import OperatorNorm, refuse_norm, register_norm
from intriguing.models.layer_graph import described
from intriguing.models.normalizations import ContrastNormalization, LocalResponseNormalization

_SEARCH_TOLERANCE = 2e-3  # relative excess of a bound over the maximum; the search takes a second or two at most
_TAIL = 0.1  # upper bound of the terms that vanish at infinity, outside of the searched range; the maximum is at least 1
_LONGEST_RANGE = 300.0  # of logarithms, so that a product of two numbers is finite
_TILT = 1.5  # weight of rows against columns; the best of a few for exponents from 0.25 to 2
_ROUNDING = 1e-6  # allowance for single precision in both bounds


refuse_norm(
    keras.layers.UnitNormalization,
    reason="divides by the length of its input without a lower limit, so that no useful bound holds: changes of inputs near "
    "zero are multiplied by a million. Use keras.layers.RMSNormalization or LayerNormalization with a larger epsilon.",
)


def _check_layer_normalization(layer: Any, input_shape: tuple[int, ...]) -> None:
    if getattr(layer, "rms_scaling", False):
        raise ValueError(
            f"{described(layer)}, divides by the deviation without subtracting the mean (rms_scaling=True), so that no bound "
            "holds: changes of an input with a large mean are multiplied without limit. Use keras.layers.RMSNormalization."
        )


@register_norm(keras.layers.LayerNormalization, check=_check_layer_normalization)
def _norm_of_layer_normalization(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    """Returns the norm at zero, which is the largest.

    Let z be the differences of n values from their mean, S = epsilon + |z|**2 / n, and P the matrix that subtracts the mean.
    The Jacobian before the factors gamma is `S**-0.5 (P - z z^T / (n S))`, with the eigenvalues S**-0.5 and S**-1.5 epsilon:
    both are largest at z = 0, and epsilon**-0.5 there.
    """
    _check_layer_normalization(layer, input_shape)
    axes = _axes(layer, input_shape)
    sizes = [input_shape[axis - 1] for axis in axes]
    gamma = np.ones(sizes) if layer.gamma is None else np.abs(np.asarray(layer.gamma, np.float64)).reshape(sizes)
    return _centered(gamma.reshape(1, -1), layer.epsilon)


@register_norm(keras.layers.GroupNormalization)
def _norm_of_group_normalization(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    """Uses that the layer is a layer normalization of each group of channels, with one factor for each channel."""
    channels = input_shape[layer.axis % (len(input_shape) + 1) - 1]
    gamma = np.abs(np.asarray(layer.gamma, np.float64)) if layer.scale else np.ones(channels)
    groups = channels if layer.groups == -1 else layer.groups
    twice = 1 if prod(input_shape) == channels else 2  # two positions suffice, because all have the same factors
    return _centered(np.repeat(gamma.reshape(groups, -1), twice, axis=1), layer.epsilon)


def _centered(factors: np.ndarray, epsilon: float) -> OperatorNorm:
    """Bounds a normalization around the mean, for absolute factors `[groups, values]`.

    The norm is that of `diag(factors) P`, divided by the root of epsilon, where P subtracts the mean. It is at most the largest
    factor. It is at least the second largest factor of a group, since some combination of the two values has the mean 0. The
    difference between a single value and its mean is 0.
    """
    if factors.shape[1] < 2:
        return OperatorNorm(0.0, 0.0)
    at_zero = float(epsilon) ** -0.5
    second = float(np.max(np.sort(factors, axis=1)[:, -2]))
    return OperatorNorm(second * at_zero * (1.0 - _ROUNDING), float(np.max(factors)) * at_zero * (1.0 + _ROUNDING))


def _axes(layer: Any, input_shape: tuple[int, ...]) -> list[int]:
    """Returns the axes over which a layer normalizes, the batch axis counted as axis 0."""
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    axes = [axis % (len(input_shape) + 1) for axis in axes]
    if 0 in axes:
        raise ValueError(f"{described(layer)}, normalizes over the batch, so that no bound of one image exists.")
    return axes


if hasattr(keras.layers, "RMSNormalization"):  # since Keras 3.10

    @register_norm(keras.layers.RMSNormalization)
    def _norm_of_rms_normalization(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
        """Returns the norm at zero, as for a layer normalization: the Jacobian there is `diag(scale) / sqrt(epsilon)`."""
        _axes(layer, input_shape)
        norm = float(np.max(np.abs(np.asarray(layer.scale, np.float64)))) * float(layer.epsilon) ** -0.5
        return OperatorNorm(norm * (1.0 - _ROUNDING), norm * (1.0 + _ROUNDING))


@register_norm(ContrastNormalization)
def _norm_of_contrast_normalization(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    """Returns the norm at zero, which is the largest.

    With S = epsilon + |x|**2 the Jacobian has the eigenvalues S**-g and S**-g (1 - 2 g |x|**2 / S), for g in [0, 1].
    """
    norm = layer.epsilon**-layer.exponent
    return OperatorNorm(norm * (1.0 - _ROUNDING), norm * (1.0 + _ROUNDING))


@register_norm(LocalResponseNormalization)
def _norm_of_local_response_normalization(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    at_zero = layer.bias**-layer.beta
    factor = _most_above_zero(layer.depth // 2, input_shape[-1], layer.beta) if layer.alpha else 1.0
    return OperatorNorm(at_zero * (1.0 - _ROUNDING), at_zero * factor * (1.0 + _ROUNDING))


@functools.cache
def _most_above_zero(side: int, channels: int, beta: float) -> float:
    """Returns a bound of the norm of the Jacobian of a local response normalization, divided by the norm at zero.

    Let `x` be the input times `sqrt(alpha / bias)`, and `S[i] = 1 + sum(x[j]**2)` over the window N(i). The Jacobian, divided
    by its norm at zero, is `J[i, j] = (i == j) S[i]**-beta - 2 beta x[i] x[j] S[i]**(-beta - 1) (j in N(i))`.

    If every window contains all channels, or one, J is symmetric, with the eigenvalues S**-beta and
    S**-beta (1 - 2 beta |x|**2 / S). The minimum of the latter is at |x|**2 = 3 / (2 beta - 1), and exceeds -2 exp(-3 / 2).

    Otherwise, by the test of Schur, the square of the norm is at most the largest sum of a row of |J| times that of a column.
    Let t = x[i]**2, and o the energy of the other channels. By the Cauchy-Schwarz inequality, the sum of a row is at most
    `S**(-beta - 1) (|S - 2 beta t| + 2 beta sqrt(n t o))`, with S = 1 + t + o and n other channels. In a column, each of the
    channels to the left, with energy o, is in the windows of the others, so that its S is at least 1 + t + o. The same holds
    for the channels to the right.

    For windows of many channels it is better to bound |x[i] x[j] v[i] u[j]| by half the sum of `tilt * (x[j] v[i])**2` and
    `(x[i] u[j])**2 / tilt`, instead of |x[i] x[j]| times half the sum of v[i]**2 and u[j]**2: this bound does not contain n.
    """
    if side == 0 or channels <= side + 1 or beta == 0.0:
        return 1.0
    others, neighbors = min(2 * side, channels - 1), min(side, channels - 1)

    def by_root(number: int) -> _Sums:
        return _Sums(beta, lambda t, o: 2.0 * beta * np.sqrt(number * t * o), beta * sqrt(number))

    def by_square(tilt: float) -> _Sums:
        return _Sums(beta, lambda t, o: 2.0 * beta * tilt * o, 2.0 * beta * tilt)

    few = by_root(others).maximum(1) * by_root(neighbors).maximum(2)
    many = by_square(_TILT).maximum(1) * by_square(1.0 / _TILT).maximum(2)
    return sqrt(min(few, many))


class _Sums:
    """The bound of a row or column, as a function of t and of one or two numbers o, none of them negative.

    `S**(-beta - 1) |S - 2 beta t| + sum(coupling(t, o) (1 + t + o)**(-beta - 1))`, with S = 1 + t + sum(o).
    """

    def __init__(self, beta: float, coupling: Callable[[np.ndarray, np.ndarray], np.ndarray], factor: float):
        """Takes a coupling that increases with both arguments, and a factor: the coupling is at most `factor * (t + o)`."""
        self._beta, self._coupling, self._factor = beta, coupling, factor

    def maximum(self, groups: int) -> float:
        """Bounds the maximum over t and so many numbers o: by bisection of their logarithms, and by a formula outside."""
        largest = max(1.0, abs(2.0 * self._beta - 1.0)) + groups * self._factor
        length = min(log(largest / _TAIL) / self._beta, _LONGEST_RANGE)
        low, high = np.zeros((1, 1 + groups)), np.full((1, 1 + groups), length)
        best = 0.0
        while len(low):
            best = max(best, float(np.max(self._upper(low, low))))
            undecided = self._upper(low, high) > best * (1.0 + _SEARCH_TOLERANCE)
            low, high = _halved(low[undecided], high[undecided])
        return max(best * (1.0 + _SEARCH_TOLERANCE), self._far_away(groups, largest, length))

    def _upper(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Bounds the function in boxes `[boxes, 1 + groups]`; in boxes that are points, the result is its value."""
        least, most = np.expm1(low), np.expm1(high)
        share_least = least[:, 0] / (1.0 + least[:, 0] + most[:, 1:].sum(axis=1))  # t / S
        share_most = most[:, 0] / (1.0 + most[:, 0] + least[:, 1:].sum(axis=1))
        own = np.maximum(np.abs(1.0 - 2.0 * self._beta * share_least), np.abs(1.0 - 2.0 * self._beta * share_most))
        total = own * (1.0 + least.sum(axis=1)) ** -self._beta
        for group in range(1, low.shape[1]):
            coupled = self._coupling(most[:, 0], most[:, group])
            total += coupled * (1.0 + least[:, 0] + least[:, group]) ** (-self._beta - 1.0)
        return total

    def _far_away(self, groups: int, largest: float, length: float) -> float:
        """Bounds the function where t or one of the numbers o exceeds exp(length) - 1.

        The first term is at most `max(1, |2 beta - 1|) S**-beta`, and each other one `factor (1 + t + o)**-beta`. If only one
        of two numbers o is large, the other term is at most the factor times the maximum of `s (1 + s)**(-beta - 1)`, which is
        at s = 1 / beta.
        """
        peak = exp(-self._beta * log(self._beta + 1.0) + self._beta * log(self._beta)) / (self._beta + 1.0)
        return largest * exp(-self._beta * length) + (groups - 1) * self._factor * peak


def _halved(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divides each box in the middle of each axis."""
    for axis in range(low.shape[1]):
        middle = 0.5 * (low[:, axis] + high[:, axis])
        left, right = high.copy(), low.copy()
        left[:, axis], right[:, axis] = middle, middle
        low, high = np.concatenate([low, right]), np.concatenate([left, high])
    return low, high
