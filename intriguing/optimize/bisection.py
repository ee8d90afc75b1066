"""Bisection for the largest c that succeeds, for every row of a batch.

The paper asks for the minimum c, but in `c * |r|**2 + loss` a small c reaches the target and a large one fails: the nearest
image belongs to the largest c that succeeds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import tensorflow as tf

State = TypeVar("State")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bisection:
    """How the weight c is searched.

    Attributes:
        growth: Factor by which c is raised or lowered until one success and one failure bracket the answer.
        bracket_ratio: An image is done when its failing c is at most this many times its succeeding one.
        max_steps: Minimizations per image at most.
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
    """What is known about the largest successful c, one row per image."""

    c: tf.Tensor  # [batch], to be tried next
    succeeded_at: tf.Tensor  # [batch], the largest c that succeeded; 0 where none did
    failed_at: tf.Tensor  # [batch], the smallest c that failed; infinite where none did


def bisect_on_c(
    attempt: Callable[[tf.Tensor, tf.Tensor, State], tuple[tf.Tensor, State]],
    *,
    initial_c: tf.Tensor,
    state: State,
    in_work: tf.Tensor,
    settings: Bisection = Bisection(),
) -> tuple[Bracket, State]:
    """Finds, for each row, the largest c at which `attempt` succeeds, supposing that smaller ones succeed and larger ones fail.

    Args:
        attempt: From `(c [batch], in_work [batch] bool, state)` to `(succeeded [batch] bool, state)`; what it says of rows that
            are not in work is ignored.
        initial_c: Float32 `[batch]`, positive, where each row starts.
        state: Any structure of tensors, handed from attempt to attempt.
        in_work: Bool `[batch]`, the rows to search at all.
        settings: Growth, final width and budget.

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

    def still_open(bracket: Bracket) -> tf.Tensor:
        # Beyond the range of float32 there is nothing left to try: such a row has no c that succeeds, or none that fails.
        in_range = (bracket.c > 1e-30) & (bracket.c < 1e30)
        return in_work & in_range & (bracket.failed_at > settings.bracket_ratio * bracket.succeeded_at)

    def work_left(step: tf.Tensor, bracket: Bracket, state: State) -> tf.Tensor:
        return (step < settings.max_steps) & tf.reduce_any(still_open(bracket))

    def one_step(step: tf.Tensor, bracket: Bracket, state: State) -> tuple[tf.Tensor, Bracket, State]:
        open_rows = still_open(bracket)
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
