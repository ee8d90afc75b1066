"""The central sentence of the paper as one function: the least distorted image that the classifier gets wrong."""

from __future__ import annotations

import dataclasses
import functools
from math import prod
from typing import Any, NamedTuple

import tensorflow as tf

from intriguing.accelerators import compile_for_loops, num_lanes, run_on_rows
from intriguing.attack import objective
from intriguing.attack.bisection import Bracket, bisect_on_c
from intriguing.attack.boundary import BoundaryPoint, BoundaryProblem, BoundaryWalk, walk_the_boundary
from intriguing.attack.distortion_search import DistortionResults, DistortionSearch, SearchStatus, default_search
from intriguing.attack.lbfgs import BoxMinimum, minimize_in_box
from intriguing.attack.rows import replace_rows
from intriguing.attack.smooth_descent import descend_smoothly
from intriguing.distortion import distortion
from intriguing.models.logits import Architecture, Classifier, checked_classes, split_weights
from intriguing.pixels import checked_images, checked_perturbations

_NUM_RANKED = 9  # classes whose boundaries are compared, where any class will do
_RESERVED_FOR_WALK = _NUM_RANKED + 1  # evaluations for that comparison, and for c at the end


def minimize_distortion(
    classifier: Classifier,
    images: Any,
    *,
    targets: Any = None,
    labels: Any = None,
    perturbations: Any = None,
    search: DistortionSearch | None = None,
) -> DistortionResults:
    """Finds, for each image, the least distorted neighbor that the classifier gets wrong.

    First the paper's method in short: L-BFGS on `c * sum(r**2) + loss` inside the pixel box, at a c that is estimated from the
    clean image. With `targets` the loss is the cross-entropy of the target; with `labels` it is `-log(1 - P(label))`, so that
    any other class will do. Then a walk along the decision boundary to its nearest point, begun several times; with `labels`,
    the boundaries of the most promising classes. Exact for linear classifiers, a local answer otherwise.

    `search=PAPERS_SEARCH` is the paper's method alone, with a bisection on c until it is known within 2 %. Where the paper is
    silent or contradicts itself: |r| is squared, and the largest successful c is kept, not the smallest.

    Where all logits of a batch are below a thousandth they are multiplied by a power of two, and c is of those.

    Runs as one program, compiled once for each architecture, batch shape and search; the rows are divided among the replicas
    of the `tf.distribute` strategy in whose scope it is called, and worked on in parts where memory is short.

    Args:
        classifier: A Keras model, or a callable from images to logits `[batch, classes]` in inference mode. Rows must not
            influence each other. A Keras model that ends in a softmax is cut before it.
        images: Floating `[batch, ...]`, array or tensor, inside `search.pixel_box`.
        targets: Integer `[batch]`: the class that each image shall be taken for.
        labels: Integer `[batch]`: the class that each image shall no longer be taken for. Exactly one of the two is given.
        perturbations: As `images`: where to begin, such as the answer of another search; clipped to the box. Zero if omitted.
        search: Budgets and tolerances; if None, `default_search` for images of this size.

    Returns:
        A `DistortionResults`; an answer out of reach is reported in `succeeded` and `status`, not raised.

    Raises:
        ValueError: If shapes or classes disagree, or a pixel lies outside the box.
        TypeError: If a dtype does not fit.

    Example:
        >>> results = minimize_distortion(model, images, targets=(labels + 1) % 10)

    References:
        Szegedy et al., Intriguing properties of neural networks, 2014, section 4.1. https://arxiv.org/abs/1312.6199
    """
    if search is None:
        search = default_search(prod(tf.convert_to_tensor(images).shape[1:]))
    images = checked_images(images, search.pixel_box)
    starts = search.pixel_box.clip(images + checked_perturbations(perturbations, images))
    architecture, weights = split_weights(classifier, images.shape[1:])
    if (targets is None) == (labels is None):
        given = "both" if targets is not None else "neither"
        raise ValueError(f"pass exactly one of targets (reach this class) and labels (leave this class); received {given}.")
    name, classes = ("targets", targets) if targets is not None else ("labels", labels)
    classes = checked_classes(classes, name, num_images=images.shape[0], num_classes=architecture.num_classes)
    program = _compiled_search(architecture, search, targets is not None, compile_for_loops(architecture.convolves))
    size = images.shape[1:].num_elements()
    return run_on_rows(
        program, weights, (images, starts, classes), bytes_per_row=_bytes_of_minimization(architecture, size, search)
    )


def _bytes_of_minimization(architecture: Architecture, size: int, search: DistortionSearch) -> int:
    """What L-BFGS takes for one image, roughly: two lists of pairs, each written anew in every step, and a gradient."""
    vectors = 4 * search.minimization.num_correction_pairs + 20
    return 4 * size * vectors + 2 * architecture.bytes_per_image


def _bytes_of_walk(architecture: Architecture, size: int, walk: BoundaryWalk) -> int:
    """What a walk takes for one image, roughly: planes, written anew in every step, points on a ray, and a gradient."""
    return 4 * size * (3 * walk.num_planes + 56) + 2 * architecture.bytes_per_image


@functools.lru_cache(maxsize=32)
def _compiled_search(architecture: Architecture, search: DistortionSearch, targeted: bool, jit_compile: bool) -> Any:
    program = functools.partial(_search_rows, architecture, search, targeted)
    return tf.function(program, jit_compile=jit_compile, autograph=False)


def _search_rows(
    architecture: Architecture,
    search: DistortionSearch,
    targeted: bool,
    weights: list[tf.Tensor],
    rows: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
) -> DistortionResults:
    images, starts, classes = rows
    batch, image_shape = images.shape[0], images.shape[1:]
    scale = objective.power_against_tiny(architecture.apply(weights, images))

    def flat_logits(position: tf.Tensor) -> tf.Tensor:
        return scale * architecture.apply(weights, tf.reshape(position, [-1, *image_shape]))

    goal = _Goal(tf.reshape(images, [batch, -1]), classes, targeted, architecture.num_classes)
    lanes = num_lanes(_bytes_of_walk(architecture, goal.clean.shape[1], search.walk)) if search.walk else 0
    found = _search(flat_logits, goal, tf.reshape(starts, [batch, -1]), search, lanes)
    return found._replace(distorted=tf.reshape(found.distorted, images.shape))


@dataclasses.dataclass(frozen=True)
class _Goal:
    """What is asked of the rows of one replica."""

    clean: tf.Tensor  # [batch, n]
    classes: tf.Tensor  # [batch] int32: targets, or labels
    targeted: bool
    num_classes: int

    @property
    def accepted(self) -> tf.Tensor:
        """Bool `[batch, classes]`, the answers that count as success."""
        return objective.accepted_classes(self.classes, self.num_classes, targeted=self.targeted)


def _search(
    flat_logits: objective.FlatLogits, goal: _Goal, start: tf.Tensor, search: DistortionSearch, lanes: int
) -> DistortionResults:
    clean, accepted = goal.clean, goal.accepted
    clean_logits = flat_logits(clean)
    already_there = objective.reached(clean_logits, accepted)
    first = _first_look(flat_logits, goal, start, already_there, search)
    bracket, progress = _bisect(flat_logits, goal, first, already_there, search)
    converged = ~progress.out_of_budget & (bracket.failed_at <= search.bisection.bracket_ratio * bracket.succeeded_at)
    c = tf.where(bracket.succeeded_at > 0.0, bracket.succeeded_at, float("nan"))
    if search.walk is not None:
        progress, converged = _refine(flat_logits, goal, already_there, progress, search, search.walk, lanes)
        c, progress = _balancing_c(flat_logits, goal, already_there, progress, search)
    succeeded = objective.reached(flat_logits(progress.nearest), accepted)
    distorted = replace_rows(succeeded, progress.nearest, clean)
    return DistortionResults(
        distorted=distorted,
        distortion=tf.where(succeeded, distortion(clean, distorted), float("nan")),
        succeeded=succeeded,
        status=_status(succeeded, already_there, objective.alike(clean_logits), converged, progress.line_search_failed),
        c=tf.where(already_there, float("inf"), tf.where(succeeded, c, float("nan"))),
        num_evaluations=progress.num_evaluations,
    )


def _status(
    succeeded: tf.Tensor, already_there: tf.Tensor, alike: tf.Tensor, converged: tf.Tensor, line_search_failed: tf.Tensor
) -> tf.Tensor:
    reached = tf.where(
        converged,
        int(SearchStatus.CONVERGED),
        tf.where(line_search_failed, int(SearchStatus.LINE_SEARCH_FAILED), int(SearchStatus.BUDGET_SPENT)),
    )
    failed = tf.where(alike, int(SearchStatus.LOGITS_ALIKE), int(SearchStatus.NEVER_REACHED))
    return tf.where(already_there, int(SearchStatus.ALREADY_THERE), tf.where(succeeded, reached, failed))


class _Progress(NamedTuple):
    current: tf.Tensor  # [batch, n], where the next minimization starts
    nearest: tf.Tensor  # [batch, n], the least distorted success so far
    squared_length: tf.Tensor  # [batch], of its perturbation; infinite where there is none
    num_evaluations: tf.Tensor  # [batch] int32
    line_search_failed: tf.Tensor  # [batch] bool, in the last minimization
    out_of_budget: tf.Tensor  # [batch] bool: something had to be left undone


def _first_look(
    flat_logits: objective.FlatLogits, goal: _Goal, start: tf.Tensor, already_there: tf.Tensor, search: DistortionSearch
) -> _Progress:
    """Keeps the start where it is an answer, as that of another search is; one evaluation is for the clean image."""
    legal = search.pixel_box.legal(start, search.num_levels)
    nearest = replace_rows(already_there, goal.clean, legal)
    found = already_there | objective.reached(flat_logits(legal), goal.accepted)
    squared_length = tf.where(found, tf.reduce_sum((nearest - goal.clean) ** 2, axis=1), float("inf"))
    elsewhere = ~already_there & tf.reduce_any(start != goal.clean, axis=1)
    no = tf.zeros_like(already_there)
    return _Progress(start, nearest, squared_length, 1 + tf.cast(elsewhere, tf.int32), line_search_failed=no, out_of_budget=no)


def _bisect(
    flat_logits: objective.FlatLogits, goal: _Goal, first: _Progress, already_there: tf.Tensor, search: DistortionSearch
) -> tuple[Bracket, _Progress]:
    clean, accepted = goal.clean, goal.accepted
    reserved = 0 if search.walk is None else _RESERVED_FOR_WALK

    def attempt(c: tf.Tensor, open_rows: tf.Tensor, progress: _Progress) -> tuple[tf.Tensor, _Progress]:
        left = search.max_evaluations - reserved - progress.num_evaluations
        in_work = open_rows & (left > 0)
        minimum = minimize_in_box(
            objective.penalty_objective(flat_logits, clean, accepted, c), progress.current,
            pixel_box=search.pixel_box, in_work=in_work, max_evaluations=left, settings=search.minimization,
        )  # fmt: skip
        succeeded = objective.reached(flat_logits(minimum.position), accepted)
        progress = progress._replace(out_of_budget=progress.out_of_budget | (open_rows & ~in_work))
        counts = succeeded & in_work & (search.num_levels is None)  # what L-BFGS finds has no levels
        return succeeded, _keep_nearest(progress, minimum, clean, counts, in_work)

    initial_c = _first_guess(*objective.loss_objective(flat_logits, accepted)(clean))
    return bisect_on_c(attempt, initial_c=initial_c, state=first, in_work=~already_there, settings=search.bisection)


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


def _refine(
    flat_logits: objective.FlatLogits,
    goal: _Goal,
    already_there: tf.Tensor,
    progress: _Progress,
    search: DistortionSearch,
    walk: BoundaryWalk,
    lanes: int,
) -> tuple[_Progress, tf.Tensor]:
    """Walks along the boundary from where L-BFGS ended; returns what is nearest, and which rows have arrived."""
    if goal.targeted:
        wanted, ranking_cost = goal.classes[:, tf.newaxis], 0
    else:
        wanted, ranking_cost = _promising_classes(flat_logits, goal, progress.current, walk.num_candidates)
    num_candidates = wanted.shape[1]
    spent = progress.num_evaluations + ranking_cost
    # Rows that are there already may spend nothing; the candidates of an image share what is left to it.
    share = tf.where(already_there, 0, (search.max_evaluations - 1 - spent) // num_candidates)
    every = functools.partial(tf.repeat, repeats=num_candidates, axis=0)
    problem = BoundaryProblem(
        clean=every(goal.clean), start=every(progress.current), wanted=tf.reshape(wanted, [-1]),
        rivals=every(~goal.accepted), max_evaluations=every(share),
    )  # fmt: skip
    share_of_walk = dataclasses.replace(walk, num_starts=-(-walk.num_starts // num_candidates))
    num_rivals = goal.num_classes - 1 if goal.targeted else 1
    points = _descend_and_walk(flat_logits, problem, search, share_of_walk, num_rivals, lanes)
    point, walked = _best_of(points, num_candidates)
    nearer = ~already_there & (point.length**2 < progress.squared_length)
    refined = progress._replace(
        nearest=replace_rows(nearer, point.position, progress.nearest),
        squared_length=tf.where(nearer, point.length**2, progress.squared_length),
        num_evaluations=tf.where(already_there, progress.num_evaluations, spent + walked),
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
    left = problem.max_evaluations - descended.num_evaluations
    walked = walk_on(problem._replace(start=descended.position, max_evaluations=left))
    nearer = descended.length < walked.length
    return walked._replace(
        position=replace_rows(nearer, descended.position, walked.position),
        length=tf.where(nearer, descended.length, walked.length),
        num_evaluations=walked.num_evaluations + descended.num_evaluations,
    )


def _promising_classes(
    flat_logits: objective.FlatLogits, goal: _Goal, point: tf.Tensor, num_candidates: int
) -> tuple[tf.Tensor, int]:
    """Returns the classes `[batch, candidates]` whose planes at `point` are nearest to the clean image, and what that costs."""
    num_ranked = min(goal.num_classes - 1, _NUM_RANKED)
    planes = objective.linearize_margins(flat_logits, point, wanted=goal.classes, rivals=goal.accepted, num_rivals=num_ranked)
    at_clean = planes.margins + tf.linalg.matvec(planes.gradients, goal.clean - point)
    distances = at_clean / (tf.norm(planes.gradients, axis=2) + 1e-20)
    _, order = tf.math.top_k(-distances, min(num_candidates, num_ranked))
    return tf.gather(planes.rivals, order, batch_dims=1), num_ranked


def _best_of(points: BoundaryPoint, num_candidates: int) -> tuple[BoundaryPoint, tf.Tensor]:
    """Returns the nearest of the candidates of each image, and what all of them cost."""
    grouped = tf.nest.map_structure(lambda tensor: tf.reshape(tensor, [-1, num_candidates, *tensor.shape[1:]]), points)
    best = tf.argmin(grouped.length, axis=1, output_type=tf.int32)
    nearest = tf.nest.map_structure(lambda tensor: tf.gather(tensor, best, batch_dims=1), grouped)
    return nearest, tf.reduce_sum(grouped.num_evaluations, axis=1)


def _balancing_c(
    flat_logits: objective.FlatLogits, goal: _Goal, already_there: tf.Tensor, progress: _Progress, search: DistortionSearch
) -> tuple[tf.Tensor, _Progress]:
    """Returns the c at which closeness and loss pull equally: `|gradient of the loss| / |2 r|` over the free pixels."""
    _, gradient = objective.loss_objective(flat_logits, goal.accepted)(progress.nearest)
    free = (progress.nearest > search.pixel_box.lower) & (progress.nearest < search.pixel_box.upper)
    pull = tf.norm(tf.where(free, gradient, 0.0), axis=1)
    push = 2.0 * tf.norm(tf.where(free, progress.nearest - goal.clean, 0.0), axis=1)
    spent = progress.num_evaluations + tf.where(already_there, 0, 1)
    return tf.math.divide_no_nan(pull, push), progress._replace(num_evaluations=spent)


def _first_guess(loss: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Estimates the critical c: exact for two linear classes and a confident answer, where c = |gradient|**2 / (4 * loss)."""
    steepness = tf.reduce_sum(gradient**2, axis=1)
    return tf.clip_by_value(steepness / (4.0 * loss + 1e-6), 1e-6, 1e6)
