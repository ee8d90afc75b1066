"""A way to the decision boundary for networks full of kinks, where one gradient says little of what lies a step away.

Each step costs a gradient. It is that of a smooth margin, in which all rivals have a part and ever fewer the nearer the end. It
turns the direction of the perturbation by ever smaller shares, so that the direction becomes a mean over the kinks on the way.
How far to go in that direction is told by the same gradient: to where the margin vanishes if the network is linear.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from math import pi
from typing import NamedTuple

import tensorflow as tf

from intriguing.attack import objective
from intriguing.attack.boundary import BoundaryPoint, BoundaryProblem
from intriguing.attack.lanes import run_in_lanes
from intriguing.attack.rows import replace_rows
from intriguing.pixels import PixelBox

_STRETCH, _MOST_LOOKS = 1.1, 24  # from look to look until one succeeds
_CLOSE, _CLOSE_LEVELS = 1.002, 1.012  # longer than too short, in the end
_SURELY = 1.1  # as on a walk
_LEAST_SLOPE = 0.2  # of the gradient along the direction: less would promise too long a step
_BEYOND = 0.01  # of the distance: so far behind the boundary a step aims
_STRIDE = 0.2  # of the distance: its largest change in one step
_TINY = 1e-20


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmoothDescent:
    """How many steps, and how they grow calm.

    Attributes:
        num_steps: Gradients per image, fewer where the budget is smaller.
        turns: How much the newest unit gradient is of the direction, beside the direction so far: first and last, falling along
            a cosine.
        smoothing: The temperature t of the margin `logits[wanted] - t * logsumexp(logits[rivals] / t)`, first and last, falling
            by one factor a step; in standard deviations of the logits of an image.
    """

    num_steps: int = 85
    turns: tuple[float, ...] = (1.0, 0.05)
    smoothing: tuple[float, ...] = (2.7, 0.04)

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1; received {self.num_steps}.")
        for name in ("turns", "smoothing"):
            ends = getattr(self, name)
            if len(ends) != 2 or not min(ends) > 0.0:
                raise ValueError(f"{name} must be two positive numbers, the first and the last; received {ends}.")


class _State(NamedTuple):
    point: tf.Tensor  # [lanes, n], the present point
    nearest: tf.Tensor  # [lanes, n], the nearest success
    length: tf.Tensor  # [lanes], its |r|; infinite where there is none
    step: tf.Tensor  # [lanes] int32


def descend_smoothly(
    logits: objective.FlatLogits,
    problem: BoundaryProblem,
    *,
    pixel_box: PixelBox,
    descent: SmoothDescent,
    num_lanes: int,
    num_levels: int | None = None,
) -> BoundaryPoint:
    """Searches, for each row, for a small |r| at which the wanted class beats its rivals.

    Args:
        logits: From flat pixels `[batch, n]` to logits `[batch, classes]`.
        problem: The rows; `start` inside the box.
        pixel_box: The bounds of every pixel.
        descent: Steps.
        num_lanes: Rows in work at once.
        num_levels: As in `DistortionSearch`. The steps know nothing of levels. The direction in which they ended is followed to
            the boundary, or until what it is rounded to is a success; a linear network has no nearer one.

    Returns:
        A `BoundaryPoint`, inside the box; where nothing was found, `length` is infinite and `position` where the steps ended.
        None has arrived.

    References:
        Rony et al., Decoupling direction and norm, 2019, whose directions are means of gradients, too, and Pintor et al., Fast
        minimum-norm adversarial attacks, 2021, who estimate the distance of the boundary by the gradient.
    """

    def begin(problem: BoundaryProblem) -> _State:
        lanes = problem.clean.shape[0]
        return _State(
            point=problem.start, nearest=problem.start, length=tf.fill([lanes], float("inf")),
            step=tf.zeros([lanes], tf.int32),
        )  # fmt: skip

    def step(problem: BoundaryProblem, state: _State) -> tuple[_State, tf.Tensor]:
        num_steps = tf.minimum(descent.num_steps, problem.max_evaluations - _MOST_LOOKS // 2)
        affordable = state.step < num_steps
        progress = tf.cast(state.step, tf.float32) / tf.cast(tf.maximum(num_steps, 1), tf.float32)
        values, margin, gradient = _smooth_margin(logits, problem, state.point, _geometric(descent.smoothing, progress))
        state = _keep(problem, state, affordable & (margin > _SURELY * objective.resolution(values)))
        perturbation = state.point - problem.clean
        lacking = tf.reduce_sum(gradient * perturbation, axis=1) - margin  # logits, at the clean image
        turn = _cosine(descent.turns, progress)
        point = pixel_box.clip(problem.clean + _next(perturbation, lacking, gradient, turn))
        state = state._replace(
            point=replace_rows(affordable, point, state.point), step=state.step + tf.cast(affordable, tf.int32)
        )
        return state, state.step >= num_steps

    def result(state: _State) -> BoundaryPoint:
        found = tf.math.is_finite(state.length)
        return BoundaryPoint(replace_rows(found, state.nearest, state.point), state.length, state.step, tf.zeros_like(found))

    num_lanes = min(num_lanes, problem.clean.shape[0])
    found = run_in_lanes(problem, begin=begin, step=step, result=result, num_lanes=num_lanes)
    legal = pixel_box.clip if num_levels is None else lambda points: pixel_box.to_levels(pixel_box.clip(points), num_levels)
    close = _CLOSE if num_levels is None else _CLOSE_LEVELS
    return _stretched(logits, problem, found, legal=legal, close=close, num_lanes=num_lanes)


class _Stretch(NamedTuple):
    too_short: tf.Tensor  # [lanes], of the perturbation
    enough: tf.Tensor  # [lanes]
    length: tf.Tensor  # [lanes], |r| at `enough`; infinite where nothing was found yet
    step: tf.Tensor  # [lanes] int32


def _stretched(
    logits: objective.FlatLogits,
    problem: BoundaryProblem,
    found: BoundaryPoint,
    *,
    legal: Callable[[tf.Tensor], tf.Tensor],
    close: float,
    num_lanes: int,
) -> BoundaryPoint:
    """Returns the nearest successes on the ways from the clean images through the points; a look is a forward pass."""

    def at(rows: tuple[BoundaryProblem, BoundaryPoint], stretch: tf.Tensor) -> tf.Tensor:
        clean = rows[0].clean
        return legal(clean + stretch[:, tf.newaxis] * (rows[1].position - clean))

    def begin(rows: tuple[BoundaryProblem, BoundaryPoint]) -> _Stretch:
        one = tf.ones_like(rows[1].length)
        infinite = tf.fill(one.shape, float("inf"))
        return _Stretch(one / _STRETCH, infinite, infinite, tf.zeros_like(rows[1].num_evaluations))

    def step(rows: tuple[BoundaryProblem, BoundaryPoint], state: _Stretch) -> tuple[_Stretch, tf.Tensor]:
        affordable = rows[1].num_evaluations + (state.step + 2) // 2 <= rows[0].max_evaluations
        between = tf.math.is_finite(state.enough)
        middle = tf.where(between, tf.sqrt(state.too_short * state.enough), _STRETCH * state.too_short)
        image = at(rows, middle)
        values = logits(image)
        margin = objective.margin(values, rows[0].wanted, rows[0].rivals)
        reached = affordable & (margin > _SURELY * objective.resolution(values))
        state = _Stretch(
            too_short=tf.where(reached, state.too_short, middle),
            enough=tf.where(reached, middle, state.enough),
            length=tf.where(reached, tf.norm(image - rows[0].clean, axis=1), state.length),
            step=state.step + tf.cast(affordable, tf.int32),
        )
        return state, ~affordable | (state.step >= _MOST_LOOKS) | (state.enough < close * state.too_short)

    ends = run_in_lanes((problem, found), begin=begin, step=step, result=lambda state: state, num_lanes=num_lanes)
    success = tf.math.is_finite(ends.length)
    return BoundaryPoint(
        position=replace_rows(success, at((problem, found), tf.where(success, ends.enough, 1.0)), found.position),
        length=ends.length,
        num_evaluations=found.num_evaluations + (ends.step + 1) // 2,
        arrived=found.arrived,
    )


def _smooth_margin(
    logits: objective.FlatLogits, problem: BoundaryProblem, point: tf.Tensor, smoothing: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the logits, the margin itself `[lanes]`, and the gradient of the smooth one `[lanes, n]`."""
    with tf.GradientTape() as tape:
        tape.watch(point)
        values = logits(point)
        margin = objective.margin(values, problem.wanted, problem.rivals)
        temperature = tf.stop_gradient(smoothing * tf.math.reduce_std(values, axis=1)) + _TINY
        rivals = tf.where(problem.rivals, values / temperature[:, tf.newaxis], values.dtype.min)
        smooth = tf.gather(values, problem.wanted, batch_dims=1) - temperature * tf.reduce_logsumexp(rivals, axis=1)
    return values, margin, tape.gradient(smooth, point, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def _next(perturbation: tf.Tensor, lacking: tf.Tensor, gradient: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Returns the next perturbation: turned toward the gradient, and as long as the gradient says."""
    length, slope = (tf.norm(vector, axis=1, keepdims=True) for vector in (perturbation, gradient))
    direction = perturbation / (length + _TINY) + turn[:, tf.newaxis] * gradient / (slope + _TINY)
    direction /= tf.norm(direction, axis=1, keepdims=True) + _TINY
    ascent = tf.maximum(tf.reduce_sum(gradient * direction, axis=1, keepdims=True), _LEAST_SLOPE * slope)
    distance = (lacking[:, tf.newaxis] + _BEYOND * slope * length) / (ascent + _TINY)
    near, far = (1.0 - _STRIDE) * length, (1.0 + _STRIDE) * length
    return tf.where(length > 0.0, tf.clip_by_value(distance, near, far), distance) * direction


def _cosine(ends: tuple[float, ...], progress: tf.Tensor) -> tf.Tensor:
    first, last = ends
    return last + (first - last) * 0.5 * (1.0 + tf.cos(pi * progress))


def _geometric(ends: tuple[float, ...], progress: tf.Tensor) -> tf.Tensor:
    first, last = ends
    return first * (last / first) ** progress


def _keep(problem: BoundaryProblem, state: _State, reached: tf.Tensor) -> _State:
    length = tf.norm(state.point - problem.clean, axis=1)
    nearer = reached & (length < state.length)
    return state._replace(
        nearest=replace_rows(nearer, state.point, state.nearest), length=tf.where(nearer, length, state.length)
    )
