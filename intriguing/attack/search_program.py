"""The search for the minimum distortion as one compiled program for all images of a batch."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import tensorflow as tf

from intriguing.attack import objective
from intriguing.attack.boundary_method import NUM_RANKED, BoundaryMethod
from intriguing.attack.boundary_search import BoundarySearch
from intriguing.attack.penalty_method import search_by_penalty
from intriguing.attack.presets import DistortionSearch
from intriguing.attack.results import FoundImages, SearchStatus
from intriguing.attack.search_goal import Goal, Progress
from intriguing.distortion import distortion
from intriguing.distribution.compilation import compile_program
from intriguing.distribution.kept_traces import keep_traces
from intriguing.distribution.map_rows import num_slots
from intriguing.models.functional import Architecture
from intriguing.optimize.rows import replace_rows


class SearchRows(NamedTuple):
    """The inputs of a search for each image."""

    images: tf.Tensor  # [batch, ...], inside the pixel box
    starts: tf.Tensor  # [batch, ...], the starts of the search
    classes: tf.Tensor  # [batch] int32: targets, or labels
    spent: tf.Tensor  # [batch] int32, evaluations spent before


class SearchInputs(NamedTuple):
    """The inputs of a search that all images share."""

    weights: list[tf.Tensor]  # of the network
    seed: tf.Tensor  # int32 scalar, the seed of the random draws


def bytes_per_row(architecture: Architecture, size: int, search: DistortionSearch) -> int:
    """Estimates the memory of an image in bytes, without the memory that `num_slots` accounts for.

    L-BFGS keeps two lists of curvature pairs and copies them in each step; the other searches keep a start for each class. All
    searches compute the logits of all images at once.
    """
    vectors = 4 * search.minimization.num_correction_pairs if search.boundary_search is None else 2 * NUM_RANKED
    return 4 * size * (vectors + 20) + 2 * architecture.bytes_per_image


def _bytes_of_search(architecture: Architecture, size: int, boundary_search: BoundarySearch) -> int:
    """Estimates the memory of one slot in bytes: constraints, which every step rewrites, points on a ray, and a gradient."""
    return 4 * size * (3 * boundary_search.num_constraints + 56) + 2 * architecture.bytes_per_image


@functools.lru_cache(maxsize=32)
def compiled_search(architecture: Architecture, search: DistortionSearch, targeted: bool, jit_compile: bool) -> Any:
    """Returns the program from `SearchInputs` and `SearchRows` to `FoundImages`, compiled once for each batch shape."""
    program = functools.partial(_search_rows, architecture, search, targeted, jit_compile)

    def key(inputs: SearchInputs, rows: SearchRows) -> str:
        slots = _slots(architecture, rows.images, search)
        return f"{architecture.identity} {search} {targeted} {jit_compile} {slots}"

    # In a search along the boundary, only the loops are compiled with XLA: the operations around them run once.
    compiled = compile_program(program, jit_compile=jit_compile and search.boundary_search is None)
    return keep_traces(compiled, key=key, results=FoundImages) if architecture.is_portable else compiled


def _slots(architecture: Architecture, images: tf.Tensor, search: DistortionSearch) -> int:
    size = images.shape[1:].num_elements()
    return num_slots(_bytes_of_search(architecture, size, search.boundary_search)) if search.boundary_search else 0


def _search_rows(
    architecture: Architecture,
    search: DistortionSearch,
    targeted: bool,
    jit_compile: bool,
    inputs: SearchInputs,
    rows: SearchRows,
) -> FoundImages:
    batch, image_shape = rows.images.shape[0], rows.images.shape[1:]

    def network(weights: list[tf.Tensor]) -> objective.FlatLogits:
        return lambda position: architecture.apply(weights, tf.reshape(position, [-1, *image_shape]))

    clean = tf.reshape(rows.images, [batch, -1])
    accepted = objective.accepted_classes(rows.classes, architecture.num_classes, targeted=targeted)

    def scales(logits: tf.Tensor) -> tuple[objective.LogitScale, objective.LogitScale]:
        against_tiny = objective.scale_against_tiny(logits, architecture.rounding)
        # The method of the paper uses the cross-entropy of the logits without scaling.
        by_gaps = objective.scale_of_gaps(logits, accepted, architecture.rounding) if search.boundary_search else against_tiny
        return tf.nest.map_structure(tf.stop_gradient, (by_gaps, against_tiny))

    at_clean = objective.evaluate_loss(
        network(inputs.weights), clean, lambda logits: objective.loss(scales(logits)[0].apply(logits), accepted)
    )
    scale, scale_of_c = scales(at_clean.logits)
    goal = Goal(
        network=network, weights=inputs.weights, clean=clean, classes=rows.classes, targeted=targeted,
        num_classes=architecture.num_classes, scale=scale, scale_of_c=scale_of_c, rounding=architecture.rounding,
        seed=inputs.seed,
    )  # fmt: skip
    slots = _slots(architecture, rows.images, search)
    found = _search(goal, at_clean, tf.reshape(rows.starts, [batch, -1]), rows.spent, search, slots, jit_compile)
    return found._replace(distorted=tf.reshape(found.distorted, rows.images.shape))


def _search(
    goal: Goal,
    at_clean: objective.Evaluation,
    start: tf.Tensor,
    spent: tf.Tensor,
    search: DistortionSearch,
    slots: int,
    jit_compile: bool,
) -> FoundImages:
    clean = goal.clean
    finite = tf.reduce_all(tf.math.is_finite(at_clean.logits), axis=1)
    initially_adversarial = goal.succeeded(at_clean.logits)
    constant = objective.has_constant_logits(at_clean.logits, goal.rounding)
    # If the start is another image, the gradient there may differ from zero.
    no_gradient = tf.reduce_all(at_clean.gradient == 0.0, axis=1) & tf.reduce_all(start == clean, axis=1)
    in_work = finite & ~initially_adversarial & ~constant & ~no_gradient & (spent < search.max_evaluations)
    logits = goal.logits(search.pixel_box.legal(start, search.quantization_levels))
    first = _initial_progress(goal, start, logits, spent, initially_adversarial, search)
    if search.boundary_search is None:
        progress, converged, c = search_by_penalty(goal, first, at_clean, in_work, search)
        logits = goal.logits(progress.nearest)
    else:
        method = BoundaryMethod(goal, search, search.boundary_search, slots, jit_compile)
        progress, converged = method.run(first, logits, in_work)
        logits, c, progress = _balancing_c(goal, search, progress, in_work)
    succeeded = finite & goal.succeeded(logits)
    distorted = replace_rows(succeeded, progress.nearest, clean)
    if_failed = _choose(
        (~finite, SearchStatus.NOT_FINITE), (constant, SearchStatus.CONSTANT_LOGITS), (no_gradient, SearchStatus.NO_GRADIENT),
        otherwise=SearchStatus.NOT_FOUND,
    )  # fmt: skip
    if_succeeded = _choose(
        (converged, SearchStatus.CONVERGED), (progress.line_search_failed, SearchStatus.LINE_SEARCH_FAILED),
        otherwise=SearchStatus.BUDGET_SPENT,
    )  # fmt: skip
    return FoundImages(
        distorted=distorted,
        distortion=tf.where(succeeded, distortion(clean, distorted), float("nan")),
        succeeded=succeeded,
        status=tf.where(
            initially_adversarial, int(SearchStatus.INITIALLY_ADVERSARIAL), tf.where(succeeded, if_succeeded, if_failed)
        ),
        c=tf.where(initially_adversarial, float("inf"), tf.where(succeeded, c, float("nan"))),
        num_evaluations=progress.num_evaluations,
    )


def _balancing_c(
    goal: Goal, search: DistortionSearch, progress: Progress, in_work: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, Progress]:
    """Returns the logits at the nearest images, and the c at which the gradients of both terms have the same norm there.

    That is `|gradient of the loss| / |2 r|` over the pixels that are not on their bounds.
    """
    box = search.pixel_box
    at_nearest = objective.evaluate_loss(
        goal.logits, progress.nearest, lambda logits: objective.loss(goal.scale_of_c.apply(logits), goal.accepted)
    )
    free = (progress.nearest > box.lower) & (progress.nearest < box.upper)
    pull = tf.norm(tf.where(free, at_nearest.gradient, 0.0), axis=1)
    push = 2.0 * tf.norm(tf.where(free, progress.nearest - goal.clean, 0.0), axis=1)
    affordable = in_work & (progress.num_evaluations < search.max_evaluations)
    spent = progress.num_evaluations + tf.cast(affordable, tf.int32)
    return at_nearest.logits, tf.math.divide_no_nan(pull, push), progress._replace(num_evaluations=spent)


def _choose(*cases: tuple[tf.Tensor, SearchStatus], otherwise: SearchStatus) -> tf.Tensor:
    """Returns int32 `[batch]`, the status of the first case that is True for a row."""
    status = tf.fill(tf.shape(cases[0][0]), int(otherwise))
    for case, value in reversed(cases):
        status = tf.where(case, int(value), status)
    return status


def _initial_progress(
    goal: Goal,
    start: tf.Tensor,
    logits: tf.Tensor,
    spent: tf.Tensor,
    initially_adversarial: tf.Tensor,
    search: DistortionSearch,
) -> Progress:
    """Returns the first `Progress`: a start that succeeds is the nearest image. The clean image costs one evaluation."""
    legal = search.pixel_box.legal(start, search.quantization_levels)
    nearest = replace_rows(initially_adversarial, goal.clean, legal)
    found = initially_adversarial | goal.succeeded(logits)
    squared_length = tf.where(found, tf.reduce_sum((nearest - goal.clean) ** 2, axis=1), float("inf"))
    elsewhere = ~initially_adversarial & tf.reduce_any(start != goal.clean, axis=1)
    no = tf.zeros_like(initially_adversarial)
    spent = spent + 1 + tf.cast(elsewhere, tf.int32)
    return Progress(start, nearest, squared_length, spent, line_search_failed=no, out_of_budget=no)
