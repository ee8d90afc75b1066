"""The method of the paper: L-BFGS on `c * |r|**2 + loss`, and a bisection on c."""

from __future__ import annotations

import tensorflow as tf

from intriguing.attack import objective
from intriguing.attack.presets import DistortionSearch
from intriguing.attack.search_goal import Goal, Progress, scaled
from intriguing.optimize.bisection import Bracket, bisect_on_c
from intriguing.optimize.box_lbfgs import BoxMinimum, minimize_in_box
from intriguing.optimize.rows import replace_rows


def search_by_penalty(
    goal: Goal, first: Progress, clean: objective.Evaluation, in_work: tf.Tensor, search: DistortionSearch
) -> tuple[Progress, tf.Tensor, tf.Tensor]:
    """Searches for the largest c for which the minimum of the objective succeeds.

    Args:
        goal: The images, the classes to reach or to leave, and the network.
        first: The start of L-BFGS, and the evaluations spent before.
        clean: The loss at the clean images, and its gradient.
        in_work: Bool `[batch]`, the images to search.
        search: The settings, of which `bisection`, `minimization`, the pixel box and the budget are used.

    Returns:
        The `Progress`; bool `[batch]`, whether the bracket of c is as narrow as `bisection` requires; and c `[batch]`, NaN
        where no c succeeded.

    References:
        Szegedy et al., Intriguing properties of neural networks, 2014, section 4.1.
    """
    bracket, progress = _bisect(goal, first, _first_guess(clean.loss, clean.gradient), in_work, search)
    converged = ~progress.out_of_budget & (bracket.failed_at <= search.bisection.bracket_ratio * bracket.succeeded_at)
    return progress, converged, tf.where(bracket.succeeded_at > 0.0, bracket.succeeded_at, float("nan"))


def _bisect(
    goal: Goal,
    first: Progress,
    initial_c: tf.Tensor,
    in_work: tf.Tensor,
    search: DistortionSearch,
) -> tuple[Bracket, Progress]:
    logits = scaled(goal.logits, goal.scale)

    def attempt(c: tf.Tensor, open_rows: tf.Tensor, progress: Progress) -> tuple[tf.Tensor, Progress]:
        left = search.max_evaluations - progress.num_evaluations
        working = open_rows & (left > 0)
        minimum = minimize_in_box(
            objective.penalty_objective(logits, goal.clean, goal.accepted, c), progress.current,
            pixel_box=search.pixel_box, in_work=working, max_evaluations=left, settings=search.minimization,
        )  # fmt: skip
        succeeded = goal.succeeded(goal.logits(minimum.position))
        progress = progress._replace(out_of_budget=progress.out_of_budget | (open_rows & ~working))
        return succeeded, _keep_nearest(progress, minimum, goal.clean, succeeded & working, working)

    return bisect_on_c(attempt, initial_c=initial_c, state=first, in_work=in_work, settings=search.bisection)


def _keep_nearest(
    progress: Progress, minimum: BoxMinimum, clean: tf.Tensor, succeeded: tf.Tensor, in_work: tf.Tensor
) -> Progress:
    squared_length = tf.reduce_sum((minimum.position - clean) ** 2, axis=1)
    nearer = succeeded & (squared_length < progress.squared_length)
    nearest = replace_rows(nearer, minimum.position, progress.nearest)
    found = tf.where(nearer, squared_length, progress.squared_length)
    return Progress(
        # A start beyond the boundary: a start before it may stop at a local minimum that is not misclassified.
        current=replace_rows(tf.math.is_finite(found), nearest, minimum.position),
        nearest=nearest,
        squared_length=found,
        num_evaluations=progress.num_evaluations + tf.where(in_work, minimum.num_evaluations, 0),
        line_search_failed=tf.where(in_work, minimum.line_search_failed, progress.line_search_failed),
        out_of_budget=progress.out_of_budget | (in_work & minimum.out_of_budget),
    )


def _first_guess(loss: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Estimates the critical c: |gradient|**2 / (4 * loss), exact for two linear classes and a confident prediction."""
    steepness = tf.reduce_sum(gradient**2, axis=1)
    return tf.clip_by_value(steepness / (4.0 * loss + 1e-6), 1e-6, 1e6)
