"""The central sentence of the paper as one function: the least distorted image that the classifier gets wrong."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from intriguing.accelerators import run_on_rows
from intriguing.attack import objective
from intriguing.attack.bisection import Bisection, Bracket, bisect_on_c
from intriguing.attack.lbfgs import BoxMinimization, BoxMinimum, minimize_in_box
from intriguing.distortion import distortion
from intriguing.models.logits import Architecture, Classifier, split_weights
from intriguing.pixels import PixelBox


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistortionSearch:
    """Budgets and tolerances of a search for the least distortion.

    Attributes:
        pixel_box: The legal pixel values; every image returned lies inside, exactly.
        temperatures: After the paper's cross-entropy the search is repeated, from the nearest image so far, on
            `cross_entropy(logits / T)` for each T in turn, as a share of the margin that the clean image has to cross. A low
            temperature sees the decision boundary alone, where cross-entropy also pushes away from the third-best classes.
            Empty for the paper's method as it stands.
        bisection: The middle loop, on c.
        minimization: The inner loop, L-BFGS at a fixed c.
    """

    pixel_box: PixelBox = PixelBox()
    temperatures: tuple[float, ...] = (0.03,)
    bisection: Bisection = Bisection()
    minimization: BoxMinimization = BoxMinimization()

    def __post_init__(self) -> None:
        if not all(temperature > 0.0 for temperature in self.temperatures):
            raise ValueError(f"temperatures must be positive; received {self.temperatures}.")


PAPERS_SEARCH = DistortionSearch(temperatures=())
"""The method of the paper as it stands: cross-entropy and a search for c, without the second look at a low temperature."""


class DistortionResults(NamedTuple):
    """The nearest images found, one row per input image."""

    distorted: tf.Tensor  # [batch, ...], inside the pixel box; the clean image where not succeeded
    distortion: tf.Tensor  # [batch], root-mean-square pixel change, in pixel units; NaN where not succeeded
    succeeded: tf.Tensor  # [batch] bool: the answer on `distorted` is the wanted one; re-evaluated, not inferred
    c: tf.Tensor  # [batch], the largest weight at which cross-entropy succeeded; NaN for none, infinite if already there
    num_evaluations: tf.Tensor  # [batch] int32, gradient evaluations of the batch while this image was in work


def minimize_distortion(
    classifier: Classifier,
    images: Any,
    *,
    targets: Any = None,
    labels: Any = None,
    search: DistortionSearch = DistortionSearch(),
) -> DistortionResults:
    """Finds, for each image, the least distorted neighbor that the classifier gets wrong.

    Minimizes `c * sum(r**2) + loss` inside the pixel box and bisects on c, for every image of the batch at once. With
    `targets` the loss is the cross-entropy of the target; with `labels` it is `-log(1 - P(label))`, so that any other class
    will do. Where the paper is silent or contradicts itself: |r| is squared, and the largest successful c is kept, not the
    smallest. With more than two classes cross-entropy alone ends 2 to 17 % beyond the nearest point even for a linear
    classifier; the second look at a low temperature leaves less than one percent. `PAPERS_SEARCH` does without it.

    Runs as one XLA program, compiled once for each architecture, batch shape and search; the rows are divided among the
    replicas of the `tf.distribute` strategy in whose scope it is called.

    Args:
        classifier: A Keras model, or a callable from images to logits `[batch, classes]` in inference mode. Rows must not
            influence each other. A Keras model that ends in a softmax is cut before it.
        images: Floating `[batch, ...]`, array or tensor, inside `search.pixel_box`.
        targets: Integer `[batch]`: the class that each image shall be taken for.
        labels: Integer `[batch]`: the class that each image shall no longer be taken for. Exactly one of the two is given.
        search: Budgets and tolerances.

    Returns:
        A `DistortionResults`; an answer out of reach is reported in `succeeded`, not raised.

    Raises:
        ValueError: If shapes or classes disagree, or a pixel lies outside the box.
        TypeError: If a dtype does not fit.

    Example:
        >>> results = minimize_distortion(model, images, targets=(labels + 1) % 10)

    References:
        Szegedy et al., Intriguing properties of neural networks, 2014, section 4.1. https://arxiv.org/abs/1312.6199
    """
    images = _checked_images(images, search.pixel_box)
    architecture, weights = split_weights(classifier, images.shape[1:])
    if (targets is None) == (labels is None):
        given = "both" if targets is not None else "neither"
        raise ValueError(f"pass exactly one of targets (reach this class) and labels (leave this class); received {given}.")
    name, classes = ("targets", targets) if targets is not None else ("labels", labels)
    classes = _checked_classes(classes, name, num_images=images.shape[0], num_classes=architecture.num_classes)
    accepted = objective.accepted_classes(architecture.num_classes, **{"targets": None, "labels": None, name: classes})
    return run_on_rows(_compiled_search(architecture, search), weights, (images, accepted))


@functools.lru_cache(maxsize=32)
def _compiled_search(architecture: Architecture, search: DistortionSearch) -> Any:
    return tf.function(functools.partial(_search_rows, architecture, search), jit_compile=True, autograph=False)


def _search_rows(
    architecture: Architecture, search: DistortionSearch, weights: list[tf.Tensor], rows: tuple[tf.Tensor, tf.Tensor]
) -> DistortionResults:
    images, accepted = rows
    return _search(functools.partial(architecture.apply, weights), images, accepted, search)


class _Progress(NamedTuple):
    current: tf.Tensor  # [batch, n], where the next minimization starts
    nearest: tf.Tensor  # [batch, n], the least distorted success so far
    squared_length: tf.Tensor  # [batch], of its perturbation; infinite where there is none
    num_evaluations: tf.Tensor  # [batch] int32


def _search(logits: Classifier, images: tf.Tensor, accepted: tf.Tensor, search: DistortionSearch) -> DistortionResults:
    clean = tf.reshape(images, [images.shape[0], -1])

    def flat_logits(position: tf.Tensor) -> tf.Tensor:
        return logits(tf.reshape(position, images.shape))

    temperatures = _temperatures(flat_logits(clean), accepted, search.temperatures)
    already_there = objective.reached(flat_logits(clean), accepted)

    def stages_left(stage: tf.Tensor, progress: _Progress, largest_c: tf.Tensor) -> tf.Tensor:
        return stage < temperatures.shape[0]

    def one_stage(stage: tf.Tensor, progress: _Progress, largest_c: tf.Tensor) -> tuple[tf.Tensor, _Progress, tf.Tensor]:
        bracket, progress = _bisect(flat_logits, clean, accepted, temperatures[stage], ~already_there, progress, search)
        return stage + 1, progress, tf.where(stage == 0, bracket.succeeded_at, largest_c)

    nothing_found = tf.where(already_there, 0.0, float("inf"))
    start = _Progress(clean, clean, nothing_found, tf.zeros_like(nothing_found, tf.int32))
    _, progress, largest_c = tf.while_loop(stages_left, one_stage, [tf.constant(0), start, tf.zeros_like(nothing_found)])
    succeeded = objective.reached(flat_logits(progress.nearest), accepted)
    distorted = tf.reshape(tf.where(succeeded[:, tf.newaxis], progress.nearest, clean), images.shape)
    return DistortionResults(
        distorted=distorted,
        distortion=tf.where(succeeded, distortion(images, distorted), float("nan")),
        succeeded=succeeded,
        c=tf.where(already_there, float("inf"), tf.where(largest_c > 0.0, largest_c, float("nan"))),
        num_evaluations=progress.num_evaluations,
    )


def _temperatures(logits: tf.Tensor, accepted: tf.Tensor, shares: tuple[float, ...]) -> tf.Tensor:
    """Returns `[stages, batch]`: one, the paper's, then shares of the margin of each clean image, as far as float32 sees."""
    resolution = 1e-4 * (tf.reduce_max(logits, axis=1) - tf.reduce_min(logits, axis=1)) + 1e-20
    margin = objective.shortfall(logits, accepted)
    return tf.stack([tf.ones_like(margin), *(tf.maximum(share * margin, resolution) for share in shares)])


def _bisect(
    flat_logits: objective.FlatLogits,
    clean: tf.Tensor,
    accepted: tf.Tensor,
    temperature: tf.Tensor,
    in_work: tf.Tensor,
    progress: _Progress,
    search: DistortionSearch,
) -> tuple[Bracket, _Progress]:
    def tempered(position: tf.Tensor) -> tf.Tensor:
        return flat_logits(position) / temperature[:, tf.newaxis]

    def attempt(c: tf.Tensor, open_rows: tf.Tensor, progress: _Progress) -> tuple[tf.Tensor, _Progress]:
        minimum = minimize_in_box(
            objective.penalty_objective(tempered, clean, accepted, c), progress.current,
            pixel_box=search.pixel_box, in_work=open_rows, settings=search.minimization,
        )  # fmt: skip
        succeeded = objective.reached(flat_logits(minimum.position), accepted)
        return succeeded, _keep_nearest(progress, minimum, clean, succeeded & open_rows, open_rows)

    initial_c = _first_guess(*objective.loss_objective(tempered, accepted)(clean))
    progress = progress._replace(num_evaluations=progress.num_evaluations + 1)  # for that guess
    return bisect_on_c(attempt, initial_c=initial_c, state=progress, in_work=in_work, settings=search.bisection)


def _keep_nearest(
    progress: _Progress, minimum: BoxMinimum, clean: tf.Tensor, succeeded: tf.Tensor, open_rows: tf.Tensor
) -> _Progress:
    squared_length = tf.reduce_sum((minimum.position - clean) ** 2, axis=1)
    nearer = succeeded & (squared_length < progress.squared_length)
    nearest = tf.where(nearer[:, tf.newaxis], minimum.position, progress.nearest)
    found = tf.where(nearer, squared_length, progress.squared_length)
    # From the far side of the boundary: a start on the near side may stop at a local minimum that never crosses it.
    current = tf.where(tf.math.is_finite(found)[:, tf.newaxis], nearest, minimum.position)
    spent = tf.where(open_rows, minimum.num_evaluations, 0)
    return _Progress(current, nearest, found, progress.num_evaluations + spent)


def _first_guess(loss: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Estimates the critical c: exact for two linear classes and a confident answer, where c = |gradient|**2 / (4 * loss)."""
    steepness = tf.reduce_sum(gradient**2, axis=1)
    return tf.clip_by_value(steepness / (4.0 * loss + 1e-6), 1e-6, 1e6)


def _checked_images(images: Any, pixel_box: PixelBox) -> tf.Tensor:
    images = tf.convert_to_tensor(images)
    if not images.dtype.is_floating:
        raise TypeError(f"images must be floating point; received {images.dtype.name}. Rescale them with PixelBox.rescale.")
    if images.shape.rank is None or images.shape.rank < 2:
        raise ValueError(f"images must be a batch [batch, ...]; received shape {images.shape.as_list()}. Add a batch axis.")
    if images.shape.num_elements() == 0:
        raise ValueError(f"images must hold at least one image; received shape {images.shape.as_list()}.")
    images = tf.cast(images, tf.float32)
    pixel_box.check(images)
    return images


def _checked_classes(classes: Any, name: str, *, num_images: int, num_classes: int) -> tf.Tensor:
    classes = np.asarray(classes)
    if not np.issubdtype(classes.dtype, np.integer):
        raise TypeError(f"{name} must be integers; received {classes.dtype}.")
    if classes.shape != (num_images,):
        raise ValueError(f"{name} must have one class for each of the {num_images} images; received shape {classes.shape}.")
    if classes.min() < 0 or classes.max() >= num_classes:
        raise ValueError(
            f"{name} must lie in 0..{num_classes - 1}, the classes of the classifier; received values from {classes.min()} to "
            f"{classes.max()}."
        )
    return tf.constant(classes, tf.int32)
