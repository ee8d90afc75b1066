"""Bisection for the largest c that succeeds, for every row of a batch.

The paper asks for the minimum c. In `c * |r|**2 + loss`, however, a small c reaches the target and a large c fails, so that the
largest c that succeeds gives the nearest image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import tensorflow as tf

State = TypeVar("State")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bisection:
    """Settings of the search for the weight c.

    Attributes:
        growth: Factor by which c is increased or decreased until one success and one failure bracket the solution.
        bracket_ratio: The search ends when the c that failed is at most this many times the c that succeeded.
        max_steps: The largest number of minimizations per image.
    """

    growth: float = 4.0
    bracket_ratio: float = 1.02
    max_steps: int = 20

    def __post_init__(self) -> None:
        for name in ("growth", "bracket_ratio"):
            if not getattr(self, name) > 1.0:
                raise ValueError(f"{name} must be greater than 1; received {getattr(self, name)}.")
        if self.max_steps < 1:
            raise ValueError(f"max_steps must be at least 1; received {self.max_steps}.")


class Bracket(NamedTuple):
    """Bounds of the largest c that succeeds, one row per image."""

    c: tf.Tensor  # [batch], the next c to try
    succeeded_at: tf.Tensor  # [batch], the largest c that succeeded; 0 if no c did
    failed_at: tf.Tensor  # [batch], the smallest c that failed; infinite if no c did


def bisect_on_c(
    attempt: Callable[[tf.Tensor, tf.Tensor, State], tuple[tf.Tensor, State]],
    *,
    initial_c: tf.Tensor,
    state: State,
    in_work: tf.Tensor,
    settings: Bisection = Bisection(),
) -> tuple[Bracket, State]:
    """Finds, for each row, the largest c for which `attempt` succeeds.

    The function assumes that `attempt` succeeds for all smaller c and fails for all larger c.

    Args:
        attempt: A function from `(c [batch], in_work [batch] bool, state)` to `(succeeded [batch] bool, state)`. Its results
            for rows whose `in_work` is False are ignored.
        initial_c: Float32 `[batch]`, positive, the first c of each row.
        state: Any structure of tensors, passed from one attempt to the next.
        in_work: Bool `[batch]`, the rows to search.
        settings: Growth, final bracket and budget.

    Returns:
        The last `Bracket` and the last state.

    Example:
        >>> def attempt(c, in_work, state):
        ...     return c <= 3.0, state
        >>> bracket, _ = bisect_on_c(attempt, initial_c=tf.ones([1]), state=(), in_work=tf.constant([True]))
        >>> bool(bracket.succeeded_at[0] <= 3.0 < bracket.failed_at[0])
        True
    """
    start = Bracket(initial_c, tf.zeros_like(initial_c), tf.fill(tf.shape(initial_c), float("inf")))

    def is_open(bracket: Bracket) -> tf.Tensor:
        # If c leaves the range of float32, the row has no c that succeeds, or no c that fails.
        in_range = (bracket.c > 1e-30) & (bracket.c < 1e30)
        return in_work & in_range & (bracket.failed_at > settings.bracket_ratio * bracket.succeeded_at)

    def work_left(step: tf.Tensor, bracket: Bracket, state: State) -> tf.Tensor:
        return (step < settings.max_steps) & tf.reduce_any(is_open(bracket))

    def one_step(step: tf.Tensor, bracket: Bracket, state: State) -> tuple[tf.Tensor, Bracket, State]:
        open_rows = is_open(bracket)
        succeeded, state = attempt(bracket.c, open_rows, state)
        return step + 1, _narrow(bracket, succeeded, open_rows, settings), state

    _, bracket, state = tf.while_loop(work_left, one_step, [tf.constant(0), start, state])
    return bracket, state


def _narrow(bracket: Bracket, succeeded: tf.Tensor, open_rows: tf.Tensor, settings: Bisection) -> Bracket:
    succeeded_at = tf.where(open_rows & succeeded, bracket.c, bracket.succeeded_at)
    failed_at = tf.where(open_rows & ~succeeded, bracket.c, bracket.failed_at)
    halved = tf.sqrt(succeeded_at) * tf.sqrt(failed_at)
    grown = tf.where(succeeded, bracket.c * settings.growth, bracket.c / settings.growth)
    bracketed = (succeeded_at > 0.0) & tf.math.is_finite(failed_at)
    next_c = tf.where(bracketed, halved, grown)
    return Bracket(tf.where(open_rows, next_c, bracket.c), succeeded_at, failed_at)
