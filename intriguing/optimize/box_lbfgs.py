"""L-BFGS inside a box.

TensorFlow Probability's minimizer is batched and can be compiled with XLA, but has no bounds. Clipping inside the objective
does not suffice: the gradient of a pixel that reaches a bound is zero, so that the pixel stays there, and the result is 5 %
above the minimum on average. So the minimization runs in rounds. Each round fixes the pixels that are at a bound and whose
descent direction leaves the box, and minimizes over the other pixels. The next round determines the fixed pixels again.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from intriguing.optimize.lbfgs import ValueAndGradient, lbfgs_minimizer
from intriguing.pixels import PixelBox


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxMinimization:
    """Budget and tolerances of one minimization inside a box.

    Attributes:
        max_rounds: The largest number of rounds.
        iterations_per_round: L-BFGS iterations in one round.
        num_correction_pairs: Curvature pairs that L-BFGS stores; they take `2 * pairs * batch * n` floats of memory.
        relative_tolerance: A row is finished when a round reduces its objective by less than this share.
    """

    max_rounds: int = 40
    iterations_per_round: int = 10
    num_correction_pairs: int = 10
    relative_tolerance: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("max_rounds", "iterations_per_round", "num_correction_pairs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; received {getattr(self, name)}.")
        if not 0.0 <= self.relative_tolerance < 1.0:
            raise ValueError(f"relative_tolerance must lie in [0, 1); received {self.relative_tolerance}.")


class BoxMinimum(NamedTuple):
    """Result of a minimization inside a box, one row per problem."""

    position: tf.Tensor  # [batch, n], inside the box
    objective: tf.Tensor  # [batch]
    finished: tf.Tensor  # [batch] bool: the last round improved by less than the tolerance; False if the budget was exhausted
    line_search_failed: tf.Tensor  # [batch] bool: no step reduced the objective, although the start is not a minimum
    out_of_budget: tf.Tensor  # [batch] bool: a further round would have exceeded `max_evaluations`
    num_evaluations: tf.Tensor  # [batch] int32: gradient evaluations until the row was finished


def minimize_in_box(
    value_and_gradient: ValueAndGradient,
    start: tf.Tensor,
    *,
    pixel_box: PixelBox,
    in_work: tf.Tensor | None = None,
    max_evaluations: tf.Tensor | None = None,
    settings: BoxMinimization = BoxMinimization(),
) -> BoxMinimum:
    """Minimizes a batch of independent functions, each over the box, from `start`.

    Args:
        value_and_gradient: The objective, smooth inside the box, and only evaluated there. Rows must be independent.
        start: Float32 `[batch, n]`, inside the box.
        pixel_box: The bounds, the same for every coordinate.
        in_work: Bool `[batch]`, the rows to minimize; all rows if omitted. The others stay at `start`, and count one
            evaluation.
        max_evaluations: Int32 `[batch]`. A round that exceeds it is neither used nor counted. Unlimited if omitted.
        settings: Budget and tolerances.

    Returns:
        A `BoxMinimum`. A row that is not finished has exhausted its budget.

    Example:
        >>> def squared_distance(x):
        ...     return tf.reduce_sum((x - 2.0) ** 2, axis=1), 2.0 * (x - 2.0)
        >>> minimize_in_box(squared_distance, tf.zeros([1, 3]), pixel_box=PixelBox(0.0, 1.0)).position.numpy()
        array([[1., 1., 1.]], dtype=float32)

    References:
        Bertsekas, Projected Newton methods for optimization problems with simple constraints, 1982, for the set of fixed
        pixels.
    """
    if in_work is None:
        in_work = tf.ones(tf.shape(start)[:1], tf.bool)
    if max_evaluations is None:
        max_evaluations = tf.fill(tf.shape(start)[:1], tf.int32.max)

    def work_left(round_index: tf.Tensor, state: _Round) -> tf.Tensor:
        return (round_index < settings.max_rounds) & tf.reduce_any(~state.finished)

    def one_round(round_index: tf.Tensor, state: _Round) -> tuple[tf.Tensor, _Round]:
        return round_index + 1, _minimize_over_free_pixels(value_and_gradient, state, pixel_box, max_evaluations, settings)

    objective, gradient = value_and_gradient(start)
    none = tf.zeros_like(in_work)
    first = _Round(start, objective, gradient, ~in_work, none, none, tf.ones_like(objective, tf.int32))
    _, last = tf.while_loop(work_left, one_round, [tf.constant(0), first])
    return BoxMinimum(
        last.position, last.objective, last.finished, last.line_search_failed, last.out_of_budget, last.num_evaluations
    )


class _Round(NamedTuple):
    position: tf.Tensor  # [batch, n]
    objective: tf.Tensor  # [batch]
    gradient: tf.Tensor  # [batch, n]
    finished: tf.Tensor  # [batch] bool
    line_search_failed: tf.Tensor  # [batch] bool
    out_of_budget: tf.Tensor  # [batch] bool
    num_evaluations: tf.Tensor  # [batch] int32


def _minimize_over_free_pixels(
    value_and_gradient: ValueAndGradient, state: _Round, pixel_box: PixelBox, max_evaluations: tf.Tensor,
    settings: BoxMinimization,
) -> _Round:  # fmt: skip
    free = _free_pixels(state.position, state.gradient, pixel_box) & ~state.finished[:, tf.newaxis]

    @tf.function(autograph=False)
    def restricted(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        inside = pixel_box.clip(position)
        objective, gradient = value_and_gradient(inside)
        return objective, tf.where(free & (inside == position), gradient, 0.0)

    results = lbfgs_minimizer()(
        # The line search has ten calls of the function. A concrete function is traced only once.
        restricted.get_concrete_function(state.position),
        initial_position=state.position,
        num_correction_pairs=settings.num_correction_pairs,
        tolerance=0.0,
        f_relative_tolerance=settings.relative_tolerance / settings.iterations_per_round,
        max_iterations=settings.iterations_per_round,
        parallel_iterations=1,
    )
    # The gradient of the round is masked. The next set of fixed pixels depends on the whole gradient at the end of the round.
    position = tf.where(free, pixel_box.clip(results.position), state.position)
    objective, gradient = value_and_gradient(position)
    spent = state.num_evaluations + results.num_objective_evaluations + 1
    in_work = ~state.finished
    affordable = spent <= max_evaluations
    improved = in_work & affordable & (objective < state.objective)
    first_round = state.num_evaluations == 1
    stuck = in_work & affordable & first_round & results.failed & ~(objective < state.objective)
    gain = state.objective - objective
    worth_another = improved & (gain > settings.relative_tolerance * tf.abs(state.objective))
    row = improved[:, tf.newaxis]
    return _Round(
        tf.where(row, position, state.position),
        tf.where(improved, objective, state.objective),
        tf.where(row, gradient, state.gradient),
        state.finished | ~worth_another,
        state.line_search_failed | stuck,
        state.out_of_budget | (in_work & ~affordable),
        tf.where(in_work & affordable, spent, state.num_evaluations),
    )


def _free_pixels(position: tf.Tensor, gradient: tf.Tensor, pixel_box: PixelBox) -> tf.Tensor:
    """Returns a bool `[batch, n]`: True if a step against the gradient does not leave the box."""
    held_below = (position <= pixel_box.lower) & (gradient >= 0.0)
    held_above = (position >= pixel_box.upper) & (gradient <= 0.0)
    return ~(held_below | held_above)
