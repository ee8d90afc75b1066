"""The nearest point of a box that satisfies a few linear constraints: a quadratic program for every row of a batch at once.

Its dual has one unknown for each constraint. For multipliers m the nearest point is `clip(center + normals.T @ m)`, and the
best m >= 0 is found by Newton's method: the dual is piecewise quadratic, its pieces told apart by which pixels are clipped.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from intriguing.attack.rows import replace_rows
from intriguing.pixels import PixelBox

_RIDGE = 1e-6  # keeps parallel constraints solvable, as a share of their squared length
_NUM_SWEEPS = 12  # of coordinate ascent through the constraints, in one Newton step
_SHORTER_STEP = 0.3


class NearestPoint(NamedTuple):
    """One row per problem."""

    position: tf.Tensor  # [batch, n], inside the box
    multipliers: tf.Tensor  # [batch, constraints], not negative; positive where a constraint pushes
    residual: tf.Tensor  # [batch]: the farthest that a constraint is from being met, or from being needed, as a length


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
        normals: Float32 `[batch, constraints, n]`; a zero normal is a constraint that is ignored.
        offsets: Float32 `[batch, constraints]`.
        pixel_box: The bounds of every coordinate.
        multipliers: Float32 `[batch, constraints]`, not negative: where to start, such as the answer to a similar problem.
        max_steps: Newton steps at most.
        tolerance: A row is left alone once its residual is below this share of its distance.

    Returns:
        A `NearestPoint`. Where no point of the box satisfies the constraints, `residual` tells by how much.

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

    def work_left(step: tf.Tensor, dual: _Dual, share: tf.Tensor) -> tf.Tensor:
        return (step < max_steps) & tf.reduce_any(open_rows(dual))

    def one_step(step: tf.Tensor, dual: _Dual, share: tf.Tensor) -> tuple[tf.Tensor, _Dual, tf.Tensor]:
        # A pixel on its bound is free: a step may take it inside, and one counted as held makes the dual look flat.
        free = (dual.unclipped >= pixel_box.lower) & (dual.unclipped <= pixel_box.upper)
        curvature = tf.matmul(tf.where(free[:, tf.newaxis], normals, 0.0), normals, transpose_b=True) + ridge
        newton = _ascend(dual.multipliers, dual.slack, curvature)
        trial = at(dual.multipliers + share[:, tf.newaxis] * (newton - dual.multipliers))
        better = trial.value >= dual.value - 1e-6 * tf.abs(dual.value)
        taken = better & open_rows(dual)
        return step + 1, replace_rows(taken, trial, dual), tf.where(better, 1.0, _SHORTER_STEP * share)

    start = at(multipliers)
    _, dual, _ = tf.while_loop(work_left, one_step, [tf.constant(0), start, tf.ones_like(start.value)])
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
    coefficients = tf.concat([weights, constants[:, :, tf.newaxis]], axis=2)

    def one_sweep(sweep: tf.Tensor, current: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        now = tf.unstack(current, axis=1)
        # Taken apart in here, where XLA reads the numbers in place; outside it copies each of them.
        rows = [tf.unstack(row, axis=1) for row in tf.unstack(coefficients, axis=1)]
        for i in range(num_constraints):
            pulls = [rows[i][j] * now[j] for j in range(num_constraints) if j != i]
            now[i] = tf.nn.relu(tf.add_n([rows[i][-1], *pulls]))
        return sweep + 1, tf.stack(now, axis=1)

    _, ascended = tf.while_loop(lambda sweep, _: sweep < _NUM_SWEEPS, one_sweep, [tf.constant(0), multipliers])
    return ascended
