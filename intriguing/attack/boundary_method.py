"""The searches that end at the decision boundary: linear steps to the nearest classes, then a walk along each boundary."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import tensorflow as tf

from intriguing.attack import objective
from intriguing.attack.boundary import BoundaryPoint, BoundaryProblem, BoundaryWalk, walk_the_boundary
from intriguing.attack.distortion_search import DistortionSearch
from intriguing.attack.linear_steps import MOST_STEPS, step_to_boundary
from intriguing.attack.rows import replace_rows
from intriguing.attack.search_goal import Goal, Progress, scaled
from intriguing.attack.smooth_descent import descend_smoothly

NUM_RANKED = 9  # classes whose boundaries are compared, where any class will do
_SHARE_OF_STEPS = 4  # the first steps may take one in so many of all evaluations


class _Starts(NamedTuple):
    """The classes that are tried, and where the walk to each begins."""

    wanted: tf.Tensor  # [batch, candidates] int32
    position: tf.Tensor  # [batch, candidates, n]
    num_evaluations: tf.Tensor  # [batch] int32


@dataclasses.dataclass(frozen=True)
class BoundaryMethod:
    """A search that ends at the decision boundary.

    Attributes:
        goal: What is asked.
        search: Its `descent`, pixel box, levels and budget.
        walk: That of the search.
        num_lanes: Rows that are worked on at once.
    """

    goal: Goal
    search: DistortionSearch
    walk: BoundaryWalk
    num_lanes: int

    def run(self, progress: Progress, in_work: tf.Tensor) -> tuple[Progress, tf.Tensor, tf.Tensor]:
        """Searches from where `progress` stands.

        Args:
            progress: Where the steps begin, and what was spent before.
            in_work: Bool `[batch]`, the images to search.

        Returns:
            The `Progress`; a bool `[batch]`, whether the boundary search converged; and c `[batch]`, at which the gradients of
            `c * |r|**2` and of the loss balance.
        """
        progress, converged = self._walk(progress, in_work)
        c, progress = self._balancing_c(progress, in_work)
        return progress, converged, c

    def _walk(self, progress: Progress, in_work: tf.Tensor) -> tuple[Progress, tf.Tensor]:
        starts = self._first_points(progress, in_work)
        num_candidates = starts.wanted.shape[1]
        spent = progress.num_evaluations + starts.num_evaluations
        # Rows that are not in work spend nothing; the candidates of an image share what is left to it.
        share = tf.where(in_work, (self.search.max_evaluations - 1 - spent) // num_candidates, 0)
        fruitless = share - self.search.reserved_evaluations // num_candidates
        every = functools.partial(tf.repeat, repeats=num_candidates, axis=0)
        points = self._descend_and_walk(self._problem(starts.wanted, starts.position, every(share), every(fruitless)))
        point, walked = _best_of(points, num_candidates)
        nearer = in_work & (point.length**2 < progress.squared_length)
        refined = progress._replace(
            nearest=replace_rows(nearer, point.position, progress.nearest),
            squared_length=tf.where(nearer, point.length**2, progress.squared_length),
            num_evaluations=tf.where(in_work, spent + walked, progress.num_evaluations),
        )
        return refined, point.arrived

    def _first_points(self, progress: Progress, in_work: tf.Tensor) -> _Starts:
        """Steps to the boundary of every class with a large logit, and keeps those whose boundaries are the nearest."""
        classes = self._ranked_classes(progress.current)
        num_ranked = classes.shape[1]
        left = self.search.max_evaluations - progress.num_evaluations
        num_steps = tf.clip_by_value(left // (_SHARE_OF_STEPS * num_ranked), 1, MOST_STEPS)
        budget = tf.repeat(tf.where(in_work & (left > num_ranked), num_steps, 0), num_ranked)
        position = tf.repeat(progress.current[:, tf.newaxis], num_ranked, axis=1)
        points = step_to_boundary(
            self.goal.logits, self._problem(classes, position, budget, budget), pixel_box=self.search.pixel_box,
            num_lanes=self.num_lanes, num_levels=self.search.num_levels,
        )  # fmt: skip
        spent = tf.reduce_sum(tf.reshape(points.num_evaluations, [-1, num_ranked]), axis=1)
        distances = tf.reshape(points.distance, [-1, num_ranked])
        _, order = tf.math.top_k(-distances, min(self.walk.num_candidates, num_ranked))
        nearest = functools.partial(tf.gather, indices=order, batch_dims=1)
        return _Starts(nearest(classes), nearest(tf.reshape(points.position, position.shape)), spent)

    def _ranked_classes(self, position: tf.Tensor) -> tf.Tensor:
        """Returns the classes `[batch, classes]` that are compared: the target, or those with the largest logits."""
        if self.goal.targeted:
            return self.goal.classes[:, tf.newaxis]
        logits = tf.where(self.goal.accepted, self.goal.logits(position), self.goal.clean_logits.dtype.min)
        return tf.math.top_k(logits, min(self.goal.num_classes - 1, NUM_RANKED)).indices

    def _problem(
        self, wanted: tf.Tensor, start: tf.Tensor, max_evaluations: tf.Tensor, max_fruitless: tf.Tensor
    ) -> BoundaryProblem:
        """Returns a row for each image and class `[batch, classes]`, from starts `[batch, classes, n]`."""
        num_classes, n = start.shape[1:]
        every = functools.partial(tf.repeat, repeats=num_classes, axis=0)
        return BoundaryProblem(
            clean=every(self.goal.clean), start=tf.reshape(start, [-1, n]), wanted=tf.reshape(wanted, [-1]),
            rivals=every(~self.goal.accepted), max_evaluations=max_evaluations, max_fruitless=max_fruitless,
            scale=tf.nest.map_structure(every, self.goal.scale),
        )  # fmt: skip

    def _descend_and_walk(self, problem: BoundaryProblem) -> BoundaryPoint:
        """Returns the nearest point of the walk, or of the descent if there is one and it was nearer; at the cost of both."""
        search = self.search
        walk_on = functools.partial(
            walk_the_boundary, self.goal.logits, pixel_box=search.pixel_box, walk=self.walk,
            num_rivals=self.goal.num_classes - 1 if self.goal.targeted else 1, num_lanes=self.num_lanes,
            num_levels=search.num_levels,
        )  # fmt: skip
        if search.descent is None:
            return walk_on(problem)
        descended = descend_smoothly(
            self.goal.logits, problem, pixel_box=search.pixel_box, descent=search.descent, num_lanes=self.num_lanes,
            num_levels=search.num_levels,
        )  # fmt: skip
        left = problem._replace(
            start=descended.position,
            max_evaluations=problem.max_evaluations - descended.num_evaluations,
            max_fruitless=problem.max_fruitless - descended.num_evaluations,
        )
        walked = walk_on(left)
        nearer = descended.length < walked.length
        return walked._replace(
            position=replace_rows(nearer, descended.position, walked.position),
            length=tf.where(nearer, descended.length, walked.length),
            num_evaluations=walked.num_evaluations + descended.num_evaluations,
        )

    def _balancing_c(self, progress: Progress, in_work: tf.Tensor) -> tuple[tf.Tensor, Progress]:
        """Returns the c at which both gradients are equally long: `|gradient of the loss| / |2 r|` over the free pixels."""
        goal, box = self.goal, self.search.pixel_box
        _, gradient = objective.loss_objective(scaled(goal.logits, goal.scale_of_c), goal.accepted)(progress.nearest)
        free = (progress.nearest > box.lower) & (progress.nearest < box.upper)
        pull = tf.norm(tf.where(free, gradient, 0.0), axis=1)
        push = 2.0 * tf.norm(tf.where(free, progress.nearest - goal.clean, 0.0), axis=1)
        affordable = in_work & (progress.num_evaluations < self.search.max_evaluations)
        spent = progress.num_evaluations + tf.cast(affordable, tf.int32)
        return tf.math.divide_no_nan(pull, push), progress._replace(num_evaluations=spent)


def _best_of(points: BoundaryPoint, num_candidates: int) -> tuple[BoundaryPoint, tf.Tensor]:
    """Returns the nearest of the candidates of each image, and what all of them cost."""
    grouped = tf.nest.map_structure(lambda tensor: tf.reshape(tensor, [-1, num_candidates, *tensor.shape[1:]]), points)
    best = tf.argmin(grouped.length, axis=1, output_type=tf.int32)
    nearest = tf.nest.map_structure(lambda tensor: tf.gather(tensor, best, batch_dims=1), grouped)
    return nearest, tf.reduce_sum(grouped.num_evaluations, axis=1)
