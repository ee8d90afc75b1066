"""The nearest point of a box that satisfies a few linear constraints: a quadratic program for every row of a batch at once.

Its dual has one unknown for each constraint. For multipliers m the nearest point is `clip(center + normals.T @ m)`. Newton's
method finds the optimal m >= 0: the dual is piecewise quadratic, with one piece for each set of clipped pixels.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import tensorflow as tf

from intriguing.optimize.rows import replace_rows
from intriguing.pixels import PixelBox

_RIDGE = 1e-6  # added to the diagonal for parallel constraints, relative to their squared length
_NUM_SWEEPS = 12  # of coordinate ascent through the constraints, in one Newton step
_SHORTER_STEP = 0.3


class NearestPoint(NamedTuple):
    """One row per problem."""

    position: tf.Tensor  # [batch, n], inside the box
    multipliers: tf.Tensor  # [batch, constraints], not negative; positive for active constraints
    residual: tf.Tensor  # [batch], the largest violation of a constraint or of complementary slackness, as a length


def nearest_point(
    center: tf.Tensor,
    normals: tf.Tensor,
    offsets: tf.Tensor,
    *,
    pixel_box: PixelBox,
    multipliers: tf.Tensor,
    max_steps: int = 20,
    tolerance: float = 1e-5,
) -> NearestPoint:
    """Minimizes `|y - center|` subject to `normals @ y + offsets >= 0` and y in the box.

    Args:
        center: Float32 `[batch, n]`.
        normals: Float32 `[batch, constraints, n]`; constraints whose normal is zero are ignored.
        offsets: Float32 `[batch, constraints]`.
        pixel_box: The bounds of every coordinate.
        multipliers: Float32 `[batch, constraints]`, not negative, the start, such as the solution of a similar problem.
        max_steps: The largest number of Newton steps.
        tolerance: A row is finished when its residual is below this share of its distance.

    Returns:
        A `NearestPoint`. If no point of the box satisfies the constraints, `residual` is the largest violation.

    References:
        Li, Sun and Toh, A highly efficient semismooth Newton augmented Lagrangian method, 2018, for Newton on a clipped dual.
    """
    squared_lengths = tf.reduce_sum(normals**2, axis=2)
    lengths = tf.sqrt(squared_lengths)
    ridge = tf.linalg.diag(_RIDGE * squared_lengths + tf.cast(squared_lengths == 0.0, tf.float32))

    def at(multipliers: tf.Tensor) -> _Dual:
        unclipped = center + tf.linalg.matvec(normals, multipliers, transpose_a=True)
        position = pixel_box.clip(unclipped)
        slack = tf.linalg.matvec(normals, position) + offsets
        distance = tf.reduce_sum((position - center) ** 2, axis=1)
        value = 0.5 * distance - tf.reduce_sum(multipliers * slack, axis=1)
        unmet = tf.abs(tf.minimum(multipliers * squared_lengths, slack)) / (lengths + 1e-20)
        return _Dual(multipliers, unclipped, position, slack, value, tf.reduce_max(unmet, axis=1), tf.sqrt(distance))

    def open_rows(dual: _Dual) -> tf.Tensor:
        return dual.residual > tolerance * dual.distance + 1e-9

    def newton(dual: _Dual, share: tf.Tensor) -> tf.Tensor:
        # A pixel at its bound is free: a step may move it inside, and without it the dual may have no curvature.
        free = (dual.unclipped >= pixel_box.lower) & (dual.unclipped <= pixel_box.upper)
        curvature = tf.matmul(tf.where(free[:, tf.newaxis], normals, 0.0), normals, transpose_b=True) + ridge
        return dual.multipliers + share[:, tf.newaxis] * (_ascend(dual.multipliers, dual.slack, curvature) - dual.multipliers)

    # The first step evaluates the given multipliers, so that `at` appears in the program only once.
    def one_step(
        step: tf.Tensor, dual: _Dual, share: tf.Tensor, multipliers: tf.Tensor, continues: tf.Tensor
    ) -> tuple[tf.Tensor, _Dual, tf.Tensor, tf.Tensor, tf.Tensor]:
        trial = at(multipliers)
        better = trial.value >= dual.value - 1e-6 * tf.abs(dual.value)
        dual = replace_rows(better & open_rows(dual), trial, dual)
        share = tf.where(better, 1.0, _SHORTER_STEP * share)
        continues = (step < max_steps) & tf.reduce_any(open_rows(dual))
        multipliers = tf.cond(continues, lambda: newton(dual, share), lambda: multipliers)
        return step + 1, dual, share, multipliers, continues

    ones = tf.ones_like(center[:, 0])
    not_evaluated = _Dual(multipliers, center, center, offsets, value=-inf * ones, residual=inf * ones, distance=ones)
    begin = tf.constant(0), not_evaluated, ones, multipliers, tf.constant(True)
    _, dual, *_ = tf.while_loop(lambda *state: state[-1], one_step, begin)
    return NearestPoint(dual.position, dual.multipliers, dual.residual)


class _Dual(NamedTuple):
    multipliers: tf.Tensor  # [batch, constraints]
    unclipped: tf.Tensor  # [batch, n]
    position: tf.Tensor  # [batch, n]
    slack: tf.Tensor  # [batch, constraints]
    value: tf.Tensor  # [batch]
    residual: tf.Tensor  # [batch]
    distance: tf.Tensor  # [batch]


def _ascend(multipliers: tf.Tensor, slack: tf.Tensor, curvature: tf.Tensor) -> tf.Tensor:
    """Maximizes the quadratic piece of the dual over m >= 0, one coordinate after another."""
    num_constraints = multipliers.shape[1]
    # Coordinate i is best at `max(0, constants[i] + sum(weights[i][j] * m[j] for j != i))`.
    diagonal = tf.linalg.diag_part(curvature)
    weights = -curvature / diagonal[:, :, tf.newaxis]
    constants = -slack / diagonal - tf.reduce_sum(weights * multipliers[:, tf.newaxis], axis=2)
    coefficients = tf.transpose(tf.linalg.set_diag(weights, tf.zeros_like(diagonal)), [1, 2, 0])
    constants = tf.transpose(constants)
    coordinates = tf.range(num_constraints)[:, tf.newaxis]

    def improve(step: tf.Tensor, current: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        i = step % num_constraints
        best = tf.nn.relu(constants[i] + tf.reduce_sum(coefficients[i] * current, axis=0))
        return step + 1, tf.where(coordinates == i, best, current)

    num_steps = _NUM_SWEEPS * num_constraints
    _, ascended = tf.while_loop(lambda step, _: step < num_steps, improve, [tf.constant(0), tf.transpose(multipliers)])
    return tf.transpose(ascended)
