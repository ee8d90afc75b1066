"""Descent to the decision boundary along averaged gradients, for networks with many kinks.

Each step costs one gradient, of a smooth margin that includes all rivals and approaches the margin to the strongest one toward
the end. The gradient changes the direction of the perturbation by decreasing shares, so that the direction becomes an average
over the kinks along the path. The same gradient determines the length of the step: to where the margin vanishes if the network
is linear, and slightly farther. This overshoot increases while steps end before the boundary, and decreases while they end
behind it.
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

_STRETCH, _MOST_LOOKS = 1.1, 24  # from look to look until one succeeds
_CLOSE, _CLOSE_LEVELS = 1.002, 1.012  # longer than too short, in the end
_LEAST_SLOPE = 0.2  # of the gradient along the direction: a smaller one would make the step too long
_BEYOND, _LEAST_BEYOND, _MOST_BEYOND = 0.01, 0.002, 0.2  # of the distance: so far behind the boundary a step aims
_PATIENCE = 1.1  # by this factor it aims farther after a step that ended before the boundary, and less far after another
_STRIDE = 0.2  # of the distance: its largest change in one step
_LONGEST_STRETCH, _NUM_HALVINGS = 8.0, 6  # of the first step, and of each, until its rounding to levels changes enough
_TINY = 1e-20


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmoothDescent:
    """Settings of the descent along averaged gradients.

    Attributes:
        num_steps: Gradients per image, fewer where the budget is smaller.
        turns: How much the newest unit gradient is of the direction, beside the direction so far: first and last, falling along
            a cosine.
        smoothing: The temperature t of the margin `logits[wanted] - t * logsumexp(logits[rivals] / t)`, first and last, falling
            by one factor a step; in standard deviations of the logits of an image.
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
    length: tf.Tensor  # [slots], its |r|; infinite where there is none
    beyond: tf.Tensor  # [slots], how far behind the boundary the next step ends, as a share of the distance
    step: tf.Tensor  # [slots] int32


def _begin(problem: BoundaryProblem) -> _State:
    slots = problem.clean.shape[0]
    return _State(
        point=problem.start, nearest=problem.start, length=tf.fill([slots], float("inf")), beyond=tf.fill([slots], _BEYOND),
        step=tf.zeros([slots], tf.int32),
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
    """Searches, for each row, for a small |r| at which the wanted class beats its rivals.

    Args:
        network: From weights to a function from flat pixels `[batch, n]` to logits `[batch, classes]`.
        weights: Of the network.
        problem: The rows; `start` inside the box.
        pixel_box: The bounds of every pixel.
        descent: Steps.
        num_slots: Rows that are active at once.
        quantization_levels: As in `DistortionSearch`: the network is only evaluated at points whose values are levels, and a
            step is long enough to change its rounding to levels. The direction itself is not rounded.
        num_rows: Int32 scalar: only so many of the rows, the first ones, are searched. All rows if omitted.
        jit_compile: Whether the loop over the steps is compiled with XLA.

    Returns:
        A `BoundaryPoint`, inside the box; where nothing was found, `length` is infinite and `position` where the steps ended.
        None has converged.

    References:
        Rony et al., Decoupling direction and norm, 2019, whose directions are means of gradients, too, and Pintor et al., Fast
        minimum-norm adversarial attacks, 2021, who estimate the distance of the boundary by the gradient.
    """

    def step(weights: list[tf.Tensor], problem: BoundaryProblem, state: _State) -> tuple[_State, tf.Tensor]:
        num_steps = tf.minimum(descent.num_steps, problem.max_evaluations - _MOST_LOOKS // 2)
        affordable = state.step < num_steps
        progress = tf.cast(state.step, tf.float32) / tf.cast(tf.maximum(num_steps, 1), tf.float32)
        image = pixel_box.legal(state.point, quantization_levels)
        values, margin, gradient = _smooth_margin(
            problem.logits(network(weights)), problem, image, _geometric(descent.smoothing, progress)
        )
        reached = margin > objective.SURELY * problem.scale.resolution(values)
        state = _keep(problem, state, image, affordable & reached)
        beyond = tf.clip_by_value(state.beyond * tf.where(reached, 1.0 / _PATIENCE, _PATIENCE), _LEAST_BEYOND, _MOST_BEYOND)
        perturbation = pixel_box.clip(state.point) - problem.clean
        length = tf.norm(perturbation, axis=1, keepdims=True)
        # Logits that are lacking at the clean image.
        lacking = _dot(gradient, image - problem.clean) - margin[:, tf.newaxis]
        lacking += beyond[:, tf.newaxis] * length * tf.norm(gradient, axis=1, keepdims=True)
        direction = _turned(perturbation, gradient, falling_along_a_cosine(*descent.turns, progress))
        distance = _distance(direction, gradient, lacking, length)
        if quantization_levels is not None:

            def predicted(distance: tf.Tensor) -> tf.Tensor:
                image = pixel_box.legal(problem.clean + distance * direction, quantization_levels)
                return _dot(gradient, image - problem.clean) - lacking

            distance = _distance_of_levels(predicted, distance, length)
        point = replace_rows(affordable, problem.clean + distance * direction, state.point)
        state = state._replace(point=point, beyond=beyond, step=state.step + tf.cast(affordable, tf.int32))
        return state, state.step >= num_steps

    def result(state: _State) -> BoundaryPoint:
        found = tf.math.is_finite(state.length)
        return BoundaryPoint(replace_rows(found, state.nearest, state.point), state.length, state.step, tf.zeros_like(found))

    run = functools.partial(run_in_slots, shared=weights, num_slots=num_slots, num_rows=num_rows, jit_compile=jit_compile)
    found = run(problem, begin=_begin, step=step, result=result)
    return _stretched(network, problem, found, run, pixel_box=pixel_box, quantization_levels=quantization_levels)


class _Stretch(NamedTuple):
    too_short: tf.Tensor  # [slots], of the perturbation
    enough: tf.Tensor  # [slots]
    length: tf.Tensor  # [slots], |r| at `enough`; infinite where nothing was found yet
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
    """Returns the nearest successes on the ways from the clean images through the points; a look is a forward pass."""
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
        reached = affordable & (margin > objective.SURELY * rows[0].scale.resolution(values))
        state = _Stretch(
            too_short=tf.where(reached, state.too_short, middle),
            enough=tf.where(reached, middle, state.enough),
            length=tf.where(reached, tf.norm(image - rows[0].clean, axis=1), state.length),
            step=state.step + tf.cast(affordable, tf.int32),
        )
        return state, ~affordable | (state.step >= _MOST_LOOKS) | (state.enough < close * state.too_short)

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
    """Returns the logits, the margin itself `[slots]`, and the gradient of the smooth one `[slots, n]`."""
    with tf.GradientTape() as tape:
        tape.watch(point)
        values = logits(point)
        temperature = tf.stop_gradient(smoothing * tf.math.reduce_std(values, axis=1)) + _TINY
        smooth = objective.smooth_margin(values, problem.wanted, problem.rivals, temperature)
    margin = objective.margin(values, problem.wanted, problem.rivals)
    gradient = tape.gradient(smooth, point, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return values, margin, objective.finite(gradient)


def _turned(perturbation: tf.Tensor, gradient: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    return _unit(_unit(perturbation) + turn[:, tf.newaxis] * _unit(gradient))


def _distance(direction: tf.Tensor, gradient: tf.Tensor, lacking: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Returns `[slots, 1]`, how far to go in the direction, by what the gradient says and not too far from `length`."""
    slope = tf.norm(gradient, axis=1, keepdims=True)
    ascent = tf.maximum(_dot(gradient, direction), _LEAST_SLOPE * slope)
    distance = lacking / (ascent + _TINY)
    near, far = (1.0 - _STRIDE) * length, (1.0 + _STRIDE) * length
    return tf.where(length > 0.0, tf.clip_by_value(distance, near, far), distance)


def _distance_of_levels(predicted: Callable[[tf.Tensor], tf.Tensor], distance: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Returns the least distance at which the margin predicted for levels is not negative, or as far as one step may go."""
    too_short = tf.where(length > 0.0, (1.0 - _STRIDE) * length, distance)
    enough = tf.where(length > 0.0, (1.0 + _STRIDE) * length, _LONGEST_STRETCH * distance)
    for _ in range(_NUM_HALVINGS):
        middle = tf.sqrt(too_short * enough)
        met = predicted(middle) >= 0.0
        too_short, enough = tf.where(met, too_short, middle), tf.where(met, middle, enough)
    return enough


def _unit(vectors: tf.Tensor) -> tf.Tensor:
    return vectors / (tf.norm(vectors, axis=1, keepdims=True) + _TINY)


def _dot(ours: tf.Tensor, theirs: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(ours * theirs, axis=1, keepdims=True)


def _geometric(ends: tuple[float, float], progress: tf.Tensor) -> tf.Tensor:
    first, last = ends
    return first * (last / first) ** progress


def _keep(problem: BoundaryProblem, state: _State, image: tf.Tensor, reached: tf.Tensor) -> _State:
    length = tf.norm(image - problem.clean, axis=1)
    nearer = reached & (length < state.length)
    return state._replace(nearest=replace_rows(nearer, image, state.nearest), length=tf.where(nearer, length, state.length))
