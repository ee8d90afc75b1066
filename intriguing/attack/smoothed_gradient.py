"""Descent along the decision boundary by averaged gradients, for networks with many kinks.

Each step costs one gradient of a smooth margin. The smooth margin includes all rivals, and approaches the margin to the
strongest rival toward the end. The gradient changes the direction of the perturbation with a decreasing weight, so that the
direction becomes an average over the kinks of the boundary. The same gradient determines the length of the perturbation:
slightly beyond the point where the linearized margin is zero. This overshoot increases after a step that ends before the
boundary, and decreases after a step that ends beyond it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from intriguing.attack import objective
from intriguing.attack.boundary_problem import BoundaryPoint, BoundaryProblem
from intriguing.attack.boundary_search import falling_along_a_cosine
from intriguing.optimize.active_rows import run_in_slots
from intriguing.optimize.rows import replace_rows
from intriguing.pixels import PixelBox

_STRETCH, _MOST_TRIALS = 1.1, 24  # factor between two trials until one succeeds; maximum number of trials
_CLOSE, _CLOSE_LEVELS = 1.002, 1.012  # final ratio of `enough` to `too_short`, without and with quantization
_LEAST_SLOPE = 0.2  # minimum cosine of gradient and direction: a smaller one would make the step too long
_OVERSHOOT, _LEAST_OVERSHOOT, _MOST_OVERSHOOT = 0.01, 0.002, 0.2  # relative overshoot: first, minimum, maximum
_OVERSHOOT_FACTOR = 1.1  # factor of the overshoot after a step that ends before the boundary, and divisor after any other
_MOST_CHANGE = 0.2  # maximum relative change of the distance in one step
_LONGEST_STRETCH, _NUM_HALVINGS = 8.0, 6  # for levels: maximum factor of the first step; halvings of the interval in each step
_TINY = 1e-20


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmoothDescent:
    """Settings of the descent along averaged gradients.

    Attributes:
        num_steps: Number of steps, each of which costs a gradient; fewer if the budget is smaller.
        turns: Weight of the newest unit gradient when it is added to the unit direction, which has weight 1. The first and the
            last weight; in between, the weight decreases along a cosine.
        smoothing: The temperature t of the margin `logits[wanted] - t * logsumexp(logits[rivals] / t)`, in standard deviations
            of the logits of an image. The first and the last temperature; in between, it decreases geometrically.
    """

    num_steps: int = 200
    turns: tuple[float, float] = (1.0, 0.05)
    smoothing: tuple[float, float] = (2.7, 0.04)

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1; received {self.num_steps}.")
        for name in ("turns", "smoothing"):
            ends = getattr(self, name)
            if len(ends) != 2 or not min(ends) > 0.0:
                raise ValueError(f"{name} must be two positive numbers, the first and the last; received {ends}.")


class _State(NamedTuple):
    point: tf.Tensor  # [slots, n], the current point, before it is clipped to the box and rounded to levels
    nearest: tf.Tensor  # [slots, n], the nearest success
    length: tf.Tensor  # [slots], |r| of `nearest`; infinite if there is none
    overshoot: tf.Tensor  # [slots], overshoot of the next step beyond the boundary, relative to the distance
    step: tf.Tensor  # [slots] int32


def _begin(problem: BoundaryProblem) -> _State:
    slots = problem.clean.shape[0]
    return _State(
        point=problem.start, nearest=problem.start, length=tf.fill([slots], float("inf")),
        overshoot=tf.fill([slots], _OVERSHOOT), step=tf.zeros([slots], tf.int32),
    )  # fmt: skip


def descend_smoothly(
    network: objective.Network,
    weights: list[tf.Tensor],
    problem: BoundaryProblem,
    *,
    pixel_box: PixelBox,
    descent: SmoothDescent,
    num_slots: int,
    quantization_levels: int | None = None,
    num_rows: tf.Tensor | None = None,
    jit_compile: bool = False,
) -> BoundaryPoint:
    """Searches, for each row, for a small |r| such that the logit of the wanted class exceeds those of its rivals.

    Args:
        network: From weights to a function from flat pixels `[batch, n]` to logits `[batch, classes]`.
        weights: The weights of the network.
        problem: The rows; `start` inside the box.
        pixel_box: The bounds of every pixel.
        descent: The settings.
        num_slots: Rows that are active at once.
        quantization_levels: As in `DistortionSearch`: the network is evaluated only at points whose values are levels, and a
            step is long enough to change them. The direction itself is not rounded.
        num_rows: Int32 scalar: only the first `num_rows` rows are searched. If omitted, all rows.
        jit_compile: Whether the loop over the steps is compiled with XLA.

    Returns:
        A `BoundaryPoint`, inside the box. For a row without success, `length` is infinite and `position` is the last point.
        `converged` is always False.

    References:
        Rony et al., Decoupling direction and norm, 2019: directions that are means of gradients. Pintor et al., Fast
        minimum-norm adversarial attacks, 2021: an estimate of the distance to the boundary by the gradient.
    """

    def step(weights: list[tf.Tensor], problem: BoundaryProblem, state: _State) -> tuple[_State, tf.Tensor]:
        num_steps = tf.minimum(descent.num_steps, problem.max_evaluations - _MOST_TRIALS // 2)
        affordable = state.step < num_steps
        progress = tf.cast(state.step, tf.float32) / tf.cast(tf.maximum(num_steps, 1), tf.float32)
        image = pixel_box.legal(state.point, quantization_levels)
        values, margin, gradient = _smooth_margin(
            problem.logits(network(weights)), problem, image, _geometric(descent.smoothing, progress)
        )
        succeeded = margin > objective.SURELY * problem.scale.resolution(values)
        state = _keep(problem, state, image, affordable & succeeded)
        overshoot = tf.clip_by_value(
            state.overshoot * tf.where(succeeded, 1.0 / _OVERSHOOT_FACTOR, _OVERSHOOT_FACTOR), _LEAST_OVERSHOOT, _MOST_OVERSHOOT
        )
        perturbation = pixel_box.clip(state.point) - problem.clean
        length = tf.norm(perturbation, axis=1, keepdims=True)
        # The deficit of the linearized margin at the clean image, including the overshoot.
        deficit = _dot(gradient, image - problem.clean) - margin[:, tf.newaxis]
        deficit += overshoot[:, tf.newaxis] * length * tf.norm(gradient, axis=1, keepdims=True)
        direction = _new_direction(perturbation, gradient, falling_along_a_cosine(*descent.turns, progress))
        distance = _distance(direction, gradient, deficit, length)
        if quantization_levels is not None:

            def predicted(distance: tf.Tensor) -> tf.Tensor:
                image = pixel_box.legal(problem.clean + distance * direction, quantization_levels)
                return _dot(gradient, image - problem.clean) - deficit

            distance = _distance_of_levels(predicted, distance, length)
        point = replace_rows(affordable, problem.clean + distance * direction, state.point)
        state = state._replace(point=point, overshoot=overshoot, step=state.step + tf.cast(affordable, tf.int32))
        return state, state.step >= num_steps

    def result(state: _State) -> BoundaryPoint:
        found = tf.math.is_finite(state.length)
        return BoundaryPoint(replace_rows(found, state.nearest, state.point), state.length, state.step, tf.zeros_like(found))

    run = functools.partial(run_in_slots, shared=weights, num_slots=num_slots, num_rows=num_rows, jit_compile=jit_compile)
    found = run(problem, begin=_begin, step=step, result=result)
    return _stretched(network, problem, found, run, pixel_box=pixel_box, quantization_levels=quantization_levels)


class _Stretch(NamedTuple):
    too_short: tf.Tensor  # [slots], a factor of the perturbation that does not succeed
    enough: tf.Tensor  # [slots], a factor of the perturbation that succeeds; infinite before the first success
    length: tf.Tensor  # [slots], |r| at `enough`; infinite before the first success
    step: tf.Tensor  # [slots] int32


def _stretched(
    network: objective.Network,
    problem: BoundaryProblem,
    found: BoundaryPoint,
    run: Callable[..., Any],
    *,
    pixel_box: PixelBox,
    quantization_levels: int | None,
) -> BoundaryPoint:
    """Returns the nearest successes on the rays from the clean images through the points; a trial costs a forward pass."""
    close = _CLOSE if quantization_levels is None else _CLOSE_LEVELS

    def at(rows: tuple[BoundaryProblem, BoundaryPoint], stretch: tf.Tensor) -> tf.Tensor:
        clean = rows[0].clean
        return pixel_box.legal(clean + stretch[:, tf.newaxis] * (rows[1].position - clean), quantization_levels)

    def begin(rows: tuple[BoundaryProblem, BoundaryPoint]) -> _Stretch:
        length = rows[1].length
        one = tf.ones_like(length)
        enough = tf.where(tf.math.is_finite(length), one, float("inf"))
        return _Stretch(one / _STRETCH, enough, length, tf.zeros_like(rows[1].num_evaluations))

    def step(
        weights: list[tf.Tensor], rows: tuple[BoundaryProblem, BoundaryPoint], state: _Stretch
    ) -> tuple[_Stretch, tf.Tensor]:
        affordable = rows[1].num_evaluations + (state.step + 2) // 2 <= rows[0].max_evaluations
        between = tf.math.is_finite(state.enough)
        middle = tf.where(between, tf.sqrt(state.too_short * state.enough), _STRETCH * state.too_short)
        image = at(rows, middle)
        values = rows[0].logits(network(weights))(image)
        margin = objective.margin(values, rows[0].wanted, rows[0].rivals)
        succeeded = affordable & (margin > objective.SURELY * rows[0].scale.resolution(values))
        state = _Stretch(
            too_short=tf.where(succeeded, state.too_short, middle),
            enough=tf.where(succeeded, middle, state.enough),
            length=tf.where(succeeded, tf.norm(image - rows[0].clean, axis=1), state.length),
            step=state.step + tf.cast(affordable, tf.int32),
        )
        return state, ~affordable | (state.step >= _MOST_TRIALS) | (state.enough < close * state.too_short)

    ends = run((problem, found), begin=begin, step=step, result=lambda state: state)
    nearer = ends.length < found.length
    return found._replace(
        position=replace_rows(nearer, at((problem, found), tf.where(nearer, ends.enough, 1.0)), found.position),
        length=tf.minimum(ends.length, found.length),
        num_evaluations=found.num_evaluations + (ends.step + 1) // 2,
    )


def _smooth_margin(
    logits: objective.FlatLogits, problem: BoundaryProblem, point: tf.Tensor, smoothing: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the logits, the margin `[slots]`, and the gradient `[slots, n]` of the smooth margin."""
    with tf.GradientTape() as tape:
        tape.watch(point)
        values = logits(point)
        temperature = tf.stop_gradient(smoothing * tf.math.reduce_std(values, axis=1)) + _TINY
        smooth = objective.smooth_margin(values, problem.wanted, problem.rivals, temperature)
    margin = objective.margin(values, problem.wanted, problem.rivals)
    gradient = tape.gradient(smooth, point, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return values, margin, objective.finite(gradient)


def _new_direction(perturbation: tf.Tensor, gradient: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    return _unit(_unit(perturbation) + weight[:, tf.newaxis] * _unit(gradient))


def _distance(direction: tf.Tensor, gradient: tf.Tensor, deficit: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Returns `[slots, 1]`, the distance along the direction where the linearized margin is zero, limited to near `length`."""
    slope = tf.norm(gradient, axis=1, keepdims=True)
    ascent = tf.maximum(_dot(gradient, direction), _LEAST_SLOPE * slope)
    distance = deficit / (ascent + _TINY)
    near, far = (1.0 - _MOST_CHANGE) * length, (1.0 + _MOST_CHANGE) * length
    return tf.where(length > 0.0, tf.clip_by_value(distance, near, far), distance)


def _distance_of_levels(predicted: Callable[[tf.Tensor], tf.Tensor], distance: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Returns the least distance with a predicted margin of at least 0 after rounding to levels, or the maximum of one step."""
    too_short = tf.where(length > 0.0, (1.0 - _MOST_CHANGE) * length, distance)
    enough = tf.where(length > 0.0, (1.0 + _MOST_CHANGE) * length, _LONGEST_STRETCH * distance)
    for _ in range(_NUM_HALVINGS):
        middle = tf.sqrt(too_short * enough)
        met = predicted(middle) >= 0.0
        too_short, enough = tf.where(met, too_short, middle), tf.where(met, middle, enough)
    return enough


def _unit(vectors: tf.Tensor) -> tf.Tensor:
    return vectors / (tf.norm(vectors, axis=1, keepdims=True) + _TINY)


def _dot(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(a * b, axis=1, keepdims=True)


def _geometric(ends: tuple[float, float], progress: tf.Tensor) -> tf.Tensor:
    first, last = ends
    return first * (last / first) ** progress


def _keep(problem: BoundaryProblem, state: _State, image: tf.Tensor, succeeded: tf.Tensor) -> _State:
    length = tf.norm(image - problem.clean, axis=1)
    nearer = succeeded & (length < state.length)
    return state._replace(nearest=replace_rows(nearer, image, state.nearest), length=tf.where(nearer, length, state.length))
