"""Searches along the decision boundary for its nearest point, after linear steps toward several classes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from intriguing.attack.boundary_problem import BoundaryPoint, BoundaryProblem
from intriguing.attack.boundary_search import BoundarySearch, search_boundary
from intriguing.attack.linear_steps import MOST_STEPS, step_to_boundary
from intriguing.attack.presets import DistortionSearch
from intriguing.attack.search_goal import Goal, Progress
from intriguing.attack.smoothed_gradient import descend_smoothly
from intriguing.optimize.rows import repeat_rows, replace_rows

NUM_RANKED = 9  # classes whose boundaries are compared if any class counts as success
_SHARE_OF_STEPS = 4  # the first steps may use this fraction of all evaluations: 1 / _SHARE_OF_STEPS


class _Starts(NamedTuple):
    """The candidate classes, and the start of the search for each."""

    wanted: tf.Tensor  # [batch, candidates] int32
    position: tf.Tensor  # [batch, candidates, n]
    num_evaluations: tf.Tensor  # [batch] int32


@dataclasses.dataclass(frozen=True)
class BoundaryMethod:
    """A search for the nearest point of the decision boundary.

    Attributes:
        goal: The images, the classes to reach or to leave, and the network.
        search: The settings, of which the `descent`, pixel box, levels and budget are used.
        boundary_search: Settings of the search along the boundary.
        num_slots: Rows that are active at once.
        jit_compile: Whether the long loops are compiled with XLA. The operations around them run once, and are not compiled.
    """

    goal: Goal
    search: DistortionSearch
    boundary_search: BoundarySearch
    num_slots: int
    jit_compile: bool

    def run(self, progress: Progress, logits: tf.Tensor, in_work: tf.Tensor) -> tuple[Progress, tf.Tensor]:
        """Searches from the current points of `progress`.

        Args:
            progress: The current points, and the evaluations spent before.
            logits: `[batch, classes]`, at the current points.
            in_work: Bool `[batch]`, the images to search.

        Returns:
            The `Progress`, and a bool `[batch]`, whether the boundary search converged.
        """
        starts = self._first_points(progress, logits, in_work)
        num_candidates = starts.wanted.shape[1]
        spent = progress.num_evaluations + starts.num_evaluations
        # Rows that are not searched spend nothing; the candidates of an image share its remaining budget.
        share = tf.where(in_work, (self.search.max_evaluations - 1 - spent) // num_candidates, 0)
        max_without_success = share - self.search.reserved_evaluations // num_candidates
        share, max_without_success = repeat_rows((share, max_without_success), num_candidates)
        points = self._descend_and_search(self._problem(starts.wanted, starts.position, share, max_without_success))
        point, searched = _best_of(points, num_candidates)
        nearer = in_work & (point.length**2 < progress.squared_length)
        refined = progress._replace(
            nearest=replace_rows(nearer, point.position, progress.nearest),
            squared_length=tf.where(nearer, point.length**2, progress.squared_length),
            num_evaluations=tf.where(in_work, spent + searched, progress.num_evaluations),
        )
        return refined, point.converged

    def _first_points(self, progress: Progress, logits: tf.Tensor, in_work: tf.Tensor) -> _Starts:
        """Steps to the boundary of every class with a large logit, and keeps the classes with the nearest boundaries."""
        classes = self._ranked_classes(logits)
        num_ranked = classes.shape[1]
        left = self.search.max_evaluations - progress.num_evaluations
        num_steps = tf.clip_by_value(left // (_SHARE_OF_STEPS * num_ranked), 1, MOST_STEPS)
        budget = repeat_rows(tf.where(in_work & (left > num_ranked), num_steps, 0), num_ranked)
        position = tf.tile(progress.current[:, tf.newaxis], [1, num_ranked, 1])
        # For a single class, compilation takes longer than the steps.
        compiled = self.jit_compile and num_ranked > 1
        points = self._run(step_to_boundary, self._problem(classes, position, budget, budget), jit_compile=compiled)
        spent = tf.reduce_sum(tf.reshape(points.num_evaluations, [-1, num_ranked]), axis=1)
        distances = tf.reshape(points.distance, [-1, num_ranked])
        _, order = tf.math.top_k(-distances, min(self.boundary_search.num_candidates, num_ranked))
        nearest = functools.partial(tf.gather, indices=order, batch_dims=1)
        return _Starts(nearest(classes), nearest(tf.reshape(points.position, position.shape)), spent)

    def _ranked_classes(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns the classes `[batch, classes]` that are compared: the target, or those with the largest logits."""
        if self.goal.targeted:
            return self.goal.classes[:, tf.newaxis]
        logits = tf.where(self.goal.accepted, logits, logits.dtype.min)
        return tf.math.top_k(logits, min(self.goal.num_classes - 1, NUM_RANKED)).indices

    def _problem(
        self, wanted: tf.Tensor, start: tf.Tensor, max_evaluations: tf.Tensor, max_without_success: tf.Tensor
    ) -> BoundaryProblem:
        """Returns a row for each image and class `[batch, classes]`, from starts `[batch, classes, n]`."""
        num_classes, n = start.shape[1:]
        clean, rivals, scale = repeat_rows((self.goal.clean, ~self.goal.accepted, self.goal.scale), num_classes)
        return BoundaryProblem(
            clean=clean, start=tf.reshape(start, [-1, n]), wanted=tf.reshape(wanted, [-1]), rivals=rivals,
            max_evaluations=max_evaluations, max_without_success=max_without_success, scale=scale,
        )  # fmt: skip

    def _run(self, method: Callable[..., Any], problem: BoundaryProblem, jit_compile: bool, **settings: Any) -> Any:
        """Calls a method on the rows up to the last one with a budget."""
        search, batch = self.search, problem.clean.shape[0]
        num_rows = tf.reduce_max(tf.where(problem.max_evaluations > 0, tf.range(1, batch + 1), 0))
        return method(
            self.goal.network, self.goal.weights, problem, pixel_box=search.pixel_box, num_slots=self.num_slots,
            quantization_levels=search.quantization_levels, num_rows=num_rows, jit_compile=jit_compile, **settings,
        )  # fmt: skip

    def _descend_and_search(self, problem: BoundaryProblem) -> BoundaryPoint:
        """Returns the nearest point of the boundary search, or of the descent if that point is nearer."""
        num_rivals = self.goal.num_classes - 1 if self.goal.targeted else 1
        run = functools.partial(self._run, jit_compile=self.jit_compile)
        search_on = functools.partial(
            run, search_boundary, settings=self.boundary_search, num_rivals=num_rivals, seed=self.goal.seed
        )
        if self.search.descent is None:
            return search_on(problem)
        descended = run(descend_smoothly, problem, descent=self.search.descent)
        left = problem._replace(
            start=descended.position,
            max_evaluations=problem.max_evaluations - descended.num_evaluations,
            max_without_success=problem.max_without_success - descended.num_evaluations,
        )
        searched = search_on(left)
        nearer = descended.length < searched.length
        return searched._replace(
            position=replace_rows(nearer, descended.position, searched.position),
            length=tf.where(nearer, descended.length, searched.length),
            num_evaluations=searched.num_evaluations + descended.num_evaluations,
        )


def _best_of(points: BoundaryPoint, num_candidates: int) -> tuple[BoundaryPoint, tf.Tensor]:
    """Returns the nearest candidate of each image, and the evaluations `[batch]` of all its candidates."""
    grouped = tf.nest.map_structure(lambda tensor: tf.reshape(tensor, [-1, num_candidates, *tensor.shape[1:]]), points)
    best = tf.argmin(grouped.length, axis=1, output_type=tf.int32)
    nearest = tf.nest.map_structure(lambda tensor: tf.gather(tensor, best, batch_dims=1), grouped)
    return nearest, tf.reduce_sum(grouped.num_evaluations, axis=1)
