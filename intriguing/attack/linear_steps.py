"""The first steps of a search: from the clean image to the decision boundary, by a linear model of the network.

A step follows the gradient of the margin between the wanted class and its strongest rival to slightly beyond the point where
the linear model of the margin is zero. The length of a step is limited, because the model is accurate only near the current
point. Each further step goes farther beyond the zero of its model. The steps also estimate the distance to the boundary, by
which classes are compared.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from intriguing.attack import objective
from intriguing.attack.boundary_problem import BoundaryProblem
from intriguing.optimize.active_rows import run_in_slots
from intriguing.optimize.rows import replace_rows
from intriguing.pixels import PixelBox

MOST_STEPS = 60
_OVERSHOOT = 1.02  # length of the first step relative to the distance to the zero of the linear model
_GROWTH = 1.1  # factor of the overshoot from step to step
_AIM = 2.0  # the intended margin after a step, relative to the resolution
_LONGEST = 0.01  # RMS length of the longest step, relative to the width of the box


class FirstPoint(NamedTuple):
    """The point after the last step, one row per problem."""

    position: tf.Tensor  # [batch, n], inside the box; not always classified as the wanted class
    distance: tf.Tensor  # [batch], an estimate of |r| at the boundary; infinite if the gradient is zero
    num_evaluations: tf.Tensor  # [batch] int32


class _State(NamedTuple):
    point: tf.Tensor  # [slots, n]
    distance: tf.Tensor  # [slots]
    num_evaluations: tf.Tensor  # [slots] int32


def step_to_boundary(
    network: objective.Network,
    weights: list[tf.Tensor],
    problem: BoundaryProblem,
    *,
    pixel_box: PixelBox,
    num_slots: int,
    quantization_levels: int | None = None,
    num_rows: tf.Tensor | None = None,
    jit_compile: bool = False,
) -> FirstPoint:
    """Takes steps toward the boundary of the wanted class until the row succeeds or `max_evaluations` are spent.

    Args:
        network: From weights to a function from flat pixels `[batch, n]` to logits `[batch, classes]`.
        weights: The weights of the network.
        problem: The rows; `start` inside the box.
        pixel_box: The bounds of every pixel.
        num_slots: Rows that are active at once.
        quantization_levels: As in `DistortionSearch`: the network is evaluated only at points whose values are levels.
        num_rows: Int32 scalar: only the first `num_rows` rows are searched. If omitted, all rows.
        jit_compile: Whether the loop over the steps is compiled with XLA.

    Returns:
        A `FirstPoint`. A row whose gradient is zero is not moved.

    References:
        Moosavi-Dezfooli et al., DeepFool: a simple and accurate method to fool deep neural networks, 2016. The steps of
        DeepFool have no maximum length, and a constant overshoot.
    """
    width = pixel_box.upper - pixel_box.lower  # infinite for unbounded pixels
    longest = _LONGEST * width * float(problem.clean.shape[1]) ** 0.5

    def begin(problem: BoundaryProblem) -> _State:
        slots = problem.clean.shape[0]
        return _State(problem.start, tf.fill([slots], float("inf")), tf.zeros([slots], tf.int32))

    def step(weights: list[tf.Tensor], problem: BoundaryProblem, state: _State) -> tuple[_State, tf.Tensor]:
        affordable = state.num_evaluations < problem.max_evaluations
        margins = objective.linearize_margins(
            problem.logits(network(weights)), pixel_box.legal(state.point, quantization_levels), wanted=problem.wanted,
            rivals=problem.rivals, num_rivals=1,
        )  # fmt: skip
        margin, gradient = margins.margins[:, 0], margins.gradients[:, 0]
        resolution = problem.scale.resolution(margins.logits)
        succeeded = margin > objective.SURELY * resolution
        slope = tf.norm(gradient, axis=1)
        flat = slope == 0.0
        overshoot = _OVERSHOOT * _GROWTH ** tf.cast(state.num_evaluations, tf.float32)
        left = tf.where(flat, float("inf"), overshoot * (_AIM * resolution - margin) / (slope + 1e-30))
        left = tf.where(succeeded, 0.0, left)
        moving = affordable & ~succeeded & ~flat
        stride = tf.where(moving, tf.minimum(left, longest), 0.0)
        moved = pixel_box.clip(state.point + (stride / (slope + 1e-30))[:, tf.newaxis] * gradient)
        point = replace_rows(moving, moved, state.point)
        distance = tf.norm(point - problem.clean, axis=1) + left - stride
        state = _State(
            point=point,
            distance=tf.where(affordable, distance, state.distance),
            num_evaluations=state.num_evaluations + tf.cast(affordable, tf.int32),
        )
        return state, ~moving | (state.num_evaluations >= problem.max_evaluations)

    def result(state: _State) -> FirstPoint:
        return FirstPoint(*state)

    return run_in_slots(
        problem, shared=weights, begin=begin, step=step, result=result, num_slots=num_slots, num_rows=num_rows,
        jit_compile=jit_compile,
    )  # fmt: skip
