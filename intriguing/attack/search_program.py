"""The search for the least distortion as one compiled program, for all images of a batch at once."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import tensorflow as tf

from intriguing.accelerators import num_lanes
from intriguing.attack import objective
from intriguing.attack.bisection import Bracket, bisect_on_c
from intriguing.attack.boundary import BoundaryPoint, BoundaryProblem, BoundaryWalk, walk_the_boundary
from intriguing.attack.distortion_search import DistortionResults, DistortionSearch, SearchStatus
from intriguing.attack.lbfgs import BoxMinimum, minimize_in_box
from intriguing.attack.linear_steps import MOST_STEPS, step_to_boundary
from intriguing.attack.rows import replace_rows
from intriguing.attack.smooth_descent import descend_smoothly
from intriguing.distortion import distortion
from intriguing.models.logits import Architecture

_NUM_RANKED = 9  # classes whose boundaries are compared, where any class will do
_SHARE_OF_STEPS = 4  # the first steps may take one in so many of all evaluations


class SearchRows(NamedTuple):
    """What a search is given for each image."""

    images: tf.Tensor  # [batch, ...], inside the pixel box
    starts: tf.Tensor  # [batch, ...], where to begin
    classes: tf.Tensor  # [batch] int32: targets, or labels
    spent: tf.Tensor  # [batch] int32, evaluations that were spent before


def bytes_per_row(architecture: Architecture, size: int, search: DistortionSearch) -> int:
    """Returns the memory that an image takes beside that of the lanes, roughly.

    L-BFGS keeps two lists of pairs, each written anew in every step; the other searches keep a start for each class. Both
    compute the logits of all images at once.
    """
    vectors = 4 * search.minimization.num_correction_pairs if search.walk is None else 2 * _NUM_RANKED
    return 4 * size * (vectors + 20) + 2 * architecture.bytes_per_image


def _bytes_of_walk(architecture: Architecture, size: int, walk: BoundaryWalk) -> int:
    """What a walk takes for one image, roughly: planes, written anew in every step, points on a ray, and a gradient."""
    return 4 * size * (3 * walk.num_planes + 56) + 2 * architecture.bytes_per_image


@functools.lru_cache(maxsize=32)
def compiled_search(architecture: Architecture, search: DistortionSearch, targeted: bool, jit_compile: bool) -> Any:
    """Returns the program, from weights and `SearchRows` to `DistortionResults`; compiled once for each batch shape."""
    program = functools.partial(_search_rows, architecture, search, targeted)
    return tf.function(program, jit_compile=jit_compile, autograph=False)


def _search_rows(
    architecture: Architecture, search: DistortionSearch, targeted: bool, weights: list[tf.Tensor], rows: SearchRows
) -> DistortionResults:
    batch, image_shape = rows.images.shape[0], rows.images.shape[1:]

    def flat_logits(position: tf.Tensor) -> tf.Tensor:
        return architecture.apply(weights, tf.reshape(position, [-1, *image_shape]))

    clean = tf.reshape(rows.images, [batch, -1])
    accepted = objective.accepted_classes(rows.classes, architecture.num_classes, targeted=targeted)
    clean_logits = flat_logits(clean)
    against_tiny = objective.scale_against_tiny(clean_logits, architecture.rounding)
    by_gaps = objective.scale_of_gaps(clean_logits, accepted, architecture.rounding)
    goal = _Goal(
        clean=clean, classes=rows.classes, targeted=targeted, num_classes=architecture.num_classes, clean_logits=clean_logits,
        # The paper's method is about the cross-entropy of the logits as they are.
        scale=against_tiny if search.walk is None else by_gaps, scale_of_c=against_tiny, rounding=architecture.rounding,
    )  # fmt: skip
    lanes = num_lanes(_bytes_of_walk(architecture, clean.shape[1], search.walk)) if search.walk else 0
    found = _search(flat_logits, goal, tf.reshape(rows.starts, [batch, -1]), rows.spent, search, lanes)
    return found._replace(distorted=tf.reshape(found.distorted, rows.images.shape))


@dataclasses.dataclass(frozen=True)
class _Goal:
    """What is asked of the rows of one replica."""

    clean: tf.Tensor  # [batch, n]
    classes: tf.Tensor  # [batch] int32: targets, or labels
    targeted: bool
    num_classes: int
    clean_logits: tf.Tensor  # [batch, classes]
    scale: objective.LogitScale  # of the logits that are searched
    scale_of_c: objective.LogitScale  # of the logits whose cross-entropy c weighs
    rounding: float

    @property
    def accepted(self) -> tf.Tensor:
        """Bool `[batch, classes]`, the classes that count as success."""
        return objective.accepted_classes(self.classes, self.num_classes, targeted=self.targeted)

    def reached(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns a bool `[batch]`: logits, one row an image, before scaling, have an accepted class on top."""
        finite = tf.reduce_all(tf.math.is_finite(logits), axis=1)
        return finite & self.scale.reached(self.scale.apply(logits), self.accepted)


def _search(
    flat_logits: objective.FlatLogits,
    goal: _Goal,
    start: tf.Tensor,
    spent: tf.Tensor,
    search: DistortionSearch,
    lanes: int,
) -> DistortionResults:
    clean = goal.clean
    finite = tf.reduce_all(tf.math.is_finite(goal.clean_logits), axis=1)
    already_there = goal.reached(goal.clean_logits)
    alike = objective.alike(goal.clean_logits, goal.rounding)
    loss, gradient = objective.loss_objective(_scaled(flat_logits, goal.scale), goal.accepted)(clean)
    # A start that is another image may lie where there is a gradient.
    no_gradient = tf.reduce_all(gradient == 0.0, axis=1) & tf.reduce_all(start == clean, axis=1)
    in_work = finite & ~already_there & ~alike & ~no_gradient
    progress = _first_look(flat_logits, goal, start, spent, already_there, search)
    if search.walk is None:
        bracket, progress = _bisect(flat_logits, goal, progress, _first_guess(loss, gradient), in_work, search)
        converged = ~progress.out_of_budget & (bracket.failed_at <= search.bisection.bracket_ratio * bracket.succeeded_at)
        c = tf.where(bracket.succeeded_at > 0.0, bracket.succeeded_at, float("nan"))
    else:
        progress, converged = _walk(flat_logits, goal, in_work, progress, search, search.walk, lanes)
        c, progress = _balancing_c(flat_logits, goal, in_work, progress, search)
    succeeded = finite & goal.reached(flat_logits(progress.nearest))
    distorted = replace_rows(succeeded, progress.nearest, clean)
    failed = _choose(
        (~finite, SearchStatus.NOT_FINITE), (alike, SearchStatus.LOGITS_ALIKE), (no_gradient, SearchStatus.NO_GRADIENT),
        otherwise=SearchStatus.NEVER_REACHED,
    )  # fmt: skip
    reached = _choose(
        (converged, SearchStatus.CONVERGED), (progress.line_search_failed, SearchStatus.LINE_SEARCH_FAILED),
        otherwise=SearchStatus.BUDGET_SPENT,
    )  # fmt: skip
    return DistortionResults(
        distorted=distorted,
        distortion=tf.where(succeeded, distortion(clean, distorted), float("nan")),
        succeeded=succeeded,
        status=tf.where(already_there, int(SearchStatus.ALREADY_THERE), tf.where(succeeded, reached, failed)),
        c=tf.where(already_there, float("inf"), tf.where(succeeded, c, float("nan"))),
        num_evaluations=progress.num_evaluations,
    )


def _choose(*cases: tuple[tf.Tensor, SearchStatus], otherwise: SearchStatus) -> tf.Tensor:
    """Returns int32 `[batch]`, the status of the first case that is true of a row."""
    status = tf.fill(tf.shape(cases[0][0]), int(otherwise))
    for case, value in reversed(cases):
        status = tf.where(case, int(value), status)
    return status


def _scaled(flat_logits: objective.FlatLogits, scale: objective.LogitScale) -> objective.FlatLogits:
    return lambda position: scale.apply(flat_logits(position))


class _Progress(NamedTuple):
    current: tf.Tensor  # [batch, n], where the next minimization starts
    nearest: tf.Tensor  # [batch, n], the least distorted success so far
    squared_length: tf.Tensor  # [batch], of its perturbation; infinite where there is none
    num_evaluations: tf.Tensor  # [batch] int32
    line_search_failed: tf.Tensor  # [batch] bool, in the last minimization
    out_of_budget: tf.Tensor  # [batch] bool: something had to be left undone


def _first_look(
    flat_logits: objective.FlatLogits,
    goal: _Goal,
    start: tf.Tensor,
    spent: tf.Tensor,
    already_there: tf.Tensor,
    search: DistortionSearch,
) -> _Progress:
    """Keeps the start where it is a success, as the result of another search is; one evaluation is for the clean image."""
    legal = search.pixel_box.legal(start, search.num_levels)
    nearest = replace_rows(already_there, goal.clean, legal)
    found = already_there | goal.reached(flat_logits(legal))
    squared_length = tf.where(found, tf.reduce_sum((nearest - goal.clean) ** 2, axis=1), float("inf"))
    elsewhere = ~already_there & tf.reduce_any(start != goal.clean, axis=1)
    no = tf.zeros_like(already_there)
    spent = spent + 1 + tf.cast(elsewhere, tf.int32)
    return _Progress(start, nearest, squared_length, spent, line_search_failed=no, out_of_budget=no)


def _bisect(
    flat_logits: objective.FlatLogits,
    goal: _Goal,
    first: _Progress,
    initial_c: tf.Tensor,
    in_work: tf.Tensor,
    search: DistortionSearch,
) -> tuple[Bracket, _Progress]:
    scaled = _scaled(flat_logits, goal.scale)

    def attempt(c: tf.Tensor, open_rows: tf.Tensor, progress: _Progress) -> tuple[tf.Tensor, _Progress]:
        left = search.max_evaluations - progress.num_evaluations
        working = open_rows & (left > 0)
        minimum = minimize_in_box(
            objective.penalty_objective(scaled, goal.clean, goal.accepted, c), progress.current,
            pixel_box=search.pixel_box, in_work=working, max_evaluations=left, settings=search.minimization,
        )  # fmt: skip
        succeeded = goal.reached(flat_logits(minimum.position))
        progress = progress._replace(out_of_budget=progress.out_of_budget | (open_rows & ~working))
        return succeeded, _keep_nearest(progress, minimum, goal.clean, succeeded & working, working)

    return bisect_on_c(attempt, initial_c=initial_c, state=first, in_work=in_work, settings=search.bisection)


def _keep_nearest(
    progress: _Progress, minimum: BoxMinimum, clean: tf.Tensor, succeeded: tf.Tensor, in_work: tf.Tensor
) -> _Progress:
    squared_length = tf.reduce_sum((minimum.position - clean) ** 2, axis=1)
    nearer = succeeded & (squared_length < progress.squared_length)
    nearest = replace_rows(nearer, minimum.position, progress.nearest)
    found = tf.where(nearer, squared_length, progress.squared_length)
    return _Progress(
        # From the far side of the boundary: a start on the near side may stop at a local minimum that never crosses it.
        current=replace_rows(tf.math.is_finite(found), nearest, minimum.position),
        nearest=nearest,
        squared_length=found,
        num_evaluations=progress.num_evaluations + tf.where(in_work, minimum.num_evaluations, 0),
        line_search_failed=tf.where(in_work, minimum.line_search_failed, progress.line_search_failed),
        out_of_budget=progress.out_of_budget | (in_work & minimum.out_of_budget),
    )


def _walk(
    flat_logits: objective.FlatLogits,
    goal: _Goal,
    in_work: tf.Tensor,
    progress: _Progress,
    search: DistortionSearch,
    walk: BoundaryWalk,
    lanes: int,
) -> tuple[_Progress, tf.Tensor]:
    """Steps to the boundary and walks along it; returns what is nearest, and which rows have arrived."""
    starts = _first_points(flat_logits, goal, in_work, progress, search, walk, lanes)
    num_candidates = starts.wanted.shape[1]
    spent = progress.num_evaluations + starts.num_evaluations
    # Rows that are not in work spend nothing; the candidates of an image share what is left to it.
    share = tf.where(in_work, (search.max_evaluations - 1 - spent) // num_candidates, 0)
    fruitless = share - search.reserved_evaluations // num_candidates
    every = functools.partial(tf.repeat, repeats=num_candidates, axis=0)
    problem = _problem(goal, starts.wanted, starts.position, every(share), every(fruitless))
    num_rivals = goal.num_classes - 1 if goal.targeted else 1
    points = _descend_and_walk(flat_logits, problem, search, walk, num_rivals, lanes)
    point, walked = _best_of(points, num_candidates)
    nearer = in_work & (point.length**2 < progress.squared_length)
    refined = progress._replace(
        nearest=replace_rows(nearer, point.position, progress.nearest),
        squared_length=tf.where(nearer, point.length**2, progress.squared_length),
        num_evaluations=tf.where(in_work, spent + walked, progress.num_evaluations),
    )
    return refined, point.arrived


def _descend_and_walk(
    flat_logits: objective.FlatLogits,
    problem: BoundaryProblem,
    search: DistortionSearch,
    walk: BoundaryWalk,
    num_rivals: int,
    lanes: int,
) -> BoundaryPoint:
    """Returns the nearest point of the walk, or of the descent where there is one and it was nearer; at the cost of both."""
    walk_on = functools.partial(
        walk_the_boundary, flat_logits, pixel_box=search.pixel_box, walk=walk, num_rivals=num_rivals, num_lanes=lanes,
        num_levels=search.num_levels,
    )  # fmt: skip
    if search.descent is None:
        return walk_on(problem)
    descended = descend_smoothly(
        flat_logits, problem, pixel_box=search.pixel_box, descent=search.descent, num_lanes=lanes, num_levels=search.num_levels
    )
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


class _Starts(NamedTuple):
    """The classes that are tried, and where the walk to each begins."""

    wanted: tf.Tensor  # [batch, candidates] int32
    position: tf.Tensor  # [batch, candidates, n]
    num_evaluations: tf.Tensor  # [batch] int32


def _first_points(
    flat_logits: objective.FlatLogits,
    goal: _Goal,
    in_work: tf.Tensor,
    progress: _Progress,
    search: DistortionSearch,
    walk: BoundaryWalk,
    lanes: int,
) -> _Starts:
    """Steps to the boundary of every class with a large logit, and keeps those whose boundaries are the nearest."""
    if goal.targeted:
        classes = goal.classes[:, tf.newaxis]
    else:
        logits = tf.where(goal.accepted, flat_logits(progress.current), goal.clean_logits.dtype.min)
        _, classes = tf.math.top_k(logits, min(goal.num_classes - 1, _NUM_RANKED))
    num_ranked = classes.shape[1]
    left = search.max_evaluations - progress.num_evaluations
    num_steps = tf.clip_by_value(left // (_SHARE_OF_STEPS * num_ranked), 1, MOST_STEPS)
    budget = tf.repeat(tf.where(in_work & (left > num_ranked), num_steps, 0), num_ranked)
    position = tf.repeat(progress.current[:, tf.newaxis], num_ranked, axis=1)
    points = step_to_boundary(
        flat_logits, _problem(goal, classes, position, budget, budget), pixel_box=search.pixel_box, num_lanes=lanes,
        num_levels=search.num_levels,
    )  # fmt: skip
    spent = tf.reduce_sum(tf.reshape(points.num_evaluations, [-1, num_ranked]), axis=1)
    distances = tf.reshape(points.distance, [-1, num_ranked])
    _, order = tf.math.top_k(-distances, min(walk.num_candidates, num_ranked))
    nearest = functools.partial(tf.gather, indices=order, batch_dims=1)
    return _Starts(nearest(classes), nearest(tf.reshape(points.position, position.shape)), spent)


def _problem(
    goal: _Goal, wanted: tf.Tensor, start: tf.Tensor, max_evaluations: tf.Tensor, max_fruitless: tf.Tensor
) -> BoundaryProblem:
    """Returns a row for each image and class `[batch, classes]`, from starts `[batch, classes, n]`."""
    num_classes, n = start.shape[1:]
    every = functools.partial(tf.repeat, repeats=num_classes, axis=0)
    return BoundaryProblem(
        clean=every(goal.clean), start=tf.reshape(start, [-1, n]), wanted=tf.reshape(wanted, [-1]),
        rivals=every(~goal.accepted), max_evaluations=max_evaluations, max_fruitless=max_fruitless,
        scale=tf.nest.map_structure(every, goal.scale),
    )  # fmt: skip


def _best_of(points: BoundaryPoint, num_candidates: int) -> tuple[BoundaryPoint, tf.Tensor]:
    """Returns the nearest of the candidates of each image, and what all of them cost."""
    grouped = tf.nest.map_structure(lambda tensor: tf.reshape(tensor, [-1, num_candidates, *tensor.shape[1:]]), points)
    best = tf.argmin(grouped.length, axis=1, output_type=tf.int32)
    nearest = tf.nest.map_structure(lambda tensor: tf.gather(tensor, best, batch_dims=1), grouped)
    return nearest, tf.reduce_sum(grouped.num_evaluations, axis=1)


def _balancing_c(
    flat_logits: objective.FlatLogits, goal: _Goal, in_work: tf.Tensor, progress: _Progress, search: DistortionSearch
) -> tuple[tf.Tensor, _Progress]:
    """Returns the c at which closeness and loss pull equally: `|gradient of the loss| / |2 r|` over the free pixels."""
    _, gradient = objective.loss_objective(_scaled(flat_logits, goal.scale_of_c), goal.accepted)(progress.nearest)
    free = (progress.nearest > search.pixel_box.lower) & (progress.nearest < search.pixel_box.upper)
    pull = tf.norm(tf.where(free, gradient, 0.0), axis=1)
    push = 2.0 * tf.norm(tf.where(free, progress.nearest - goal.clean, 0.0), axis=1)
    affordable = in_work & (progress.num_evaluations < search.max_evaluations)
    spent = progress.num_evaluations + tf.cast(affordable, tf.int32)
    return tf.math.divide_no_nan(pull, push), progress._replace(num_evaluations=spent)


def _first_guess(loss: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Estimates the critical c: exact for two linear classes and a confident answer, where c = |gradient|**2 / (4 * loss)."""
    steepness = tf.reduce_sum(gradient**2, axis=1)
    return tf.clip_by_value(steepness / (4.0 * loss + 1e-6), 1e-6, 1e6)
