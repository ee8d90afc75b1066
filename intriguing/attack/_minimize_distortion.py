"""The search for the misclassified image with the least distortion."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from intriguing.attack import objective, own_evaluation
from intriguing.attack.gradient_free import COST, far_starts
from intriguing.attack.presets import DistortionSearch, checked_search, default_search
from intriguing.attack.results import DistortionResults, FoundImages, SearchStatus
from intriguing.attack.search_program import SearchInputs, SearchRows, bytes_per_row, compiled_search
from intriguing.distortion import checked_seed, distortion
from intriguing.distribution.map_rows import run_on_rows, sizes_of_batches
from intriguing.distribution.strategy import num_replicas
from intriguing.models.functional import Architecture, Classifier, checked_classes, split_weights
from intriguing.models.single_output import AMBIGUOUS
from intriguing.optimize.rows import replace_rows
from intriguing.pixels import PixelBox, checked_bounds, checked_images, checked_starts

_LOWEST_LOGIT = -1e30  # lower ones become infinite when they are scaled
_MIN_RESTART_EVALUATIONS = 50  # evaluations that must remain after the search for a far start; fewer do not reduce a distortion


def minimize_distortion(
    classifier: Classifier,
    images: Any,
    *,
    targets: Any = None,
    labels: Any = None,
    bounds: tuple[float, float] | None = None,
    quantization_levels: int | None = None,
    search: DistortionSearch | str | None = None,
    init: Any = None,
    max_evaluations: int | None = None,
    seed: int = 0,
) -> DistortionResults:
    """Finds, for each image, the adversarial example with the least distortion.

    The search begins with linear steps along the gradient of the margin between the wanted class and its strongest rival, as in
    DeepFool. With `labels`, every other class counts as a success: the search steps toward each class with a large logit, and
    keeps the two classes whose boundaries are nearest. A search along the decision boundary then finds its nearest point, from
    several starts. If no adversarial example is found, the search is repeated from an image of the wanted class, which is found
    without gradients. The result is exact for linear classifiers, and a local minimum otherwise. The scale of the logits does
    not matter: they are divided by the gap between the classes at the clean image.

    `search="szegedy_lbfgs"` is the method of the paper: L-BFGS on `c * sum(r**2) + loss` inside the bounds, with a bisection
    that determines c within 2 %. With `targets` the loss is the cross-entropy of the target; with `labels` it is `-log(1 -
    P(label))`. Two points are unclear in the paper: here, |r| is squared, and the largest successful c is kept, not the
    smallest.

    The function attacks `classifier(images, training=False)` with the weights at the time of the call. A final softmax or
    sigmoid is removed, so that the search uses logits. An image succeeds only if the classifier itself, called on the returned
    image, predicts a wanted class.

    The search is compiled once for each architecture, search and batch size; batches are padded to one of a few sizes. The rows
    are divided among the replicas of the current `tf.distribute` strategy, and processed in parts if memory is short.

    Args:
        classifier: A Keras model, or a callable from images to logits or probabilities `[batch, classes]` in inference mode, or
            `[batch, 1]` for two classes, of which the second is predicted where the logit is positive or the probability
            exceeds 0.5. A single output is read as a probability if its operations keep it in [0, 1], as a sigmoid does. If the
            operations do not determine this, it is read as a probability if it lies in [0, 1] for all images, with a warning.
            Rows must not influence each other.
        images: Floating `[batch, ...]`, array or tensor, within the bounds.
        targets: Integer `[batch]`: the class to reach for each image. One integer for all images and one-hot rows are accepted,
            too.
        labels: As `targets`: the class to leave for each image. Pass exactly one of `targets` and `labels`.
        bounds: The smallest and the largest legal pixel value. If omitted, those of the search, by default (0.0, 1.0).
        quantization_levels: Number of evenly spaced values between the bounds that a pixel may have: 256 for images that stay
            adversarial after they are saved as PNG files. If omitted, that of the search; by default, any value is legal.
        search: A `DistortionSearch`, or the name of one: "default", "fast", "thorough", "large_images", "training" or
            "szegedy_lbfgs". If omitted, `default_search` for the size of the images and the cost of the network.
        init: As `images`: the start of the search, such as `results.distorted` of another search; clipped to the bounds. If
            omitted, the images themselves.
        max_evaluations: Maximum number of gradient evaluations per image. If omitted, that of the search.
        seed: Seed of all random draws, in [0, 2**31); the same seed gives the same results. "default" and "thorough" restart
            from noisy copies of an image. All named searches except "training" try images of noise if no adversarial example
            was found; otherwise "fast", "large_images" and "szegedy_lbfgs" draw none. The draws do not depend on the batch.

    Returns:
        A `DistortionResults`. If no adversarial example is found, `succeeded` is False and `status` states the reason; no error
        is raised.

    Raises:
        ValueError: If shapes or classes do not match, a pixel lies outside the bounds, the classifier returns NaN for all
            images, or `seed` is not in [0, 2**31).
        TypeError: If a dtype is wrong, the classifier does not compute with TensorFlow, `search` is not a search, or `seed` is
            not an integer.
        RuntimeError: If the classifier contradicts the search, because it draws random numbers or its rows influence each
            other; or if `minimize_distortion` is called inside a `tf.function` or `strategy.run`.

    Example:
        >>> results = minimize_distortion(model, images[:8], labels=labels[:8])
        >>> int(tf.math.count_nonzero(results.succeeded))
        8

    References:
        Szegedy et al., Intriguing properties of neural networks, 2014, section 4.1. https://arxiv.org/abs/1312.6199
        Moosavi-Dezfooli et al., DeepFool: a simple and accurate method to fool deep neural networks, 2016: the first steps.
        Brendel et al., Accurate, reliable and fast robustness evaluation, 2019: the search along the boundary.
    """
    _check_context()
    search = checked_search(search)
    if bounds is not None:
        box = checked_bounds(bounds)
    else:
        box = search.pixel_box if search else PixelBox()
    for_problem = functools.partial(
        _for_problem, box=box.in_single_precision(), quantization_levels=quantization_levels, max_evaluations=max_evaluations
    )
    for_problem(search or DistortionSearch())  # raises before any work is done
    seed = checked_seed(seed)
    images = checked_images(images, box)
    box = box.in_single_precision()
    starts = box.clip(checked_starts(init, images))
    if (targets is None) == (labels is None):
        given = "both" if targets is not None else "neither"
        raise ValueError(f"pass exactly one of targets (reach this class) and labels (leave this class); received {given}.")
    traced = _inspect(classifier, images)
    num_classes = traced.architecture.num_classes
    name, classes = ("targets", targets) if targets is not None else ("labels", labels)
    classes = checked_classes(classes, name, num_images=images.shape[0], num_classes=num_classes)
    accepted = objective.accepted_classes(classes, num_classes, targeted=targets is not None)
    default = default_search(images.shape[1:].num_elements(), traced.architecture.bytes_per_image)
    search = for_problem(search or default)
    run = functools.partial(_run, traced, search, targets is not None, seed)
    found = run(SearchRows(images, starts, classes, tf.zeros_like(classes)))
    if search.reserved_evaluations:
        found = _restarted(found, run, traced, images, classes, accepted, search, seed)
    return _verified(found, classifier, traced, images, accepted, search)


def _for_problem(
    search: DistortionSearch, *, box: PixelBox, quantization_levels: int | None, max_evaluations: int | None
) -> DistortionSearch:
    changes: dict[str, Any] = {"quantization_levels": quantization_levels, "max_evaluations": max_evaluations}
    for name, value in changes.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer)):
            raise TypeError(f"{name} must be an integer; received {value!r}.")
    given: dict[str, Any] = {name: int(value) for name, value in changes.items() if value is not None}
    return dataclasses.replace(search, pixel_box=box, **given)


class _TracedClassifier(NamedTuple):
    """The classifier, traced and with its weights at the time of the attack."""

    architecture: Architecture
    weights: list[tf.Tensor]
    probabilities: bool  # whether the classifier itself returns probabilities

    def lead(self, classifier: Classifier, accepted: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        """Returns `[batch]`, the margin of the accepted classes in the outputs of the classifier itself."""
        outputs = own_evaluation.own_outputs(classifier, images, self.architecture)
        return own_evaluation.lead(own_evaluation.class_scores(outputs, probabilities=self.probabilities), accepted)


def _check_context() -> None:
    if not tf.executing_eagerly():
        raise RuntimeError(
            "minimize_distortion must be called eagerly; received a call inside a tf.function. Call it outside: it "
            "compiles its own program."
        )
    if tf.distribute.has_strategy() and not tf.distribute.in_cross_replica_context():
        raise RuntimeError(
            "minimize_distortion must be called outside of strategy.run; it divides the images among the replicas itself. Call "
            "it inside `with strategy.scope():`."
        )


def _inspect(classifier: Classifier, images: tf.Tensor) -> _TracedClassifier:
    """Traces the classifier, and checks its outputs for the clean images."""
    architecture, weights = split_weights(classifier, images.shape[1:])
    outputs = own_evaluation.own_outputs(classifier, images, architecture)
    _check_masks(outputs)
    if not bool(tf.reduce_any(tf.math.is_finite(tf.reduce_sum(outputs, axis=1)))):
        raise ValueError(
            "the classifier returns NaN or infinite values for every image. Check its weights, for example with "
            "[weight.path for weight in model.weights if not np.isfinite(weight).all()], and the scale of the images."
        )
    own_evaluation.check_repeatable(classifier, images, outputs, architecture)
    probabilities = own_evaluation.are_probabilities(outputs, architecture)
    if probabilities and not architecture.cuts:
        warnings.warn(_probability_warning(architecture), stacklevel=3)
        architecture, weights = split_weights(classifier, images.shape[1:], scores="logarithms")
    if num_replicas() > 1 and architecture.keeps_variables:
        raise ValueError(
            "the classifier reads variables that cannot be passed to the replicas of a strategy. Pass the Keras model itself "
            "instead of a function that calls it."
        )
    return _TracedClassifier(architecture, weights, probabilities)


def _check_masks(outputs: tf.Tensor) -> None:
    """Raises a `ValueError` if some classes, but not all, have a logit of almost -inf or less for every image."""
    masked = tf.reduce_all(outputs < _LOWEST_LOGIT, axis=0)
    if bool(tf.reduce_any(masked)) and not bool(tf.reduce_all(masked)):
        number = int(tf.argmax(masked))
        logit = float(outputs[0, number])
        raise ValueError(
            f"classifier must return finite logits; received the logit {logit:.3g} of class {number} for every image. "
            "Mask such a class with a smaller number: lambda images: tf.maximum(classifier(images), -1e9)."
        )


def _probability_warning(architecture: Architecture) -> str:
    if architecture.num_outputs == 1 and architecture.threshold is None:
        return AMBIGUOUS
    return (
        "the classifier returns probabilities, and their softmax or sigmoid cannot be removed. The search uses their "
        "logarithm, which has no gradient where a probability rounds to 0 or 1. Pass a classifier that returns logits."
    )


def _run(traced: _TracedClassifier, search: DistortionSearch, targeted: bool, seed: int, rows: SearchRows) -> FoundImages:
    architecture = traced.architecture
    jit_compile = architecture.jit_compile
    program = compiled_search(architecture, search, targeted, jit_compile)
    size = rows.images.shape[1:].num_elements()
    return run_on_rows(
        program, SearchInputs(traced.weights, tf.constant(seed)), rows,
        bytes_per_row=bytes_per_row(architecture, size, search),
        sizes=sizes_of_batches(jit_compile, skips_idle_rows=search.boundary_search is not None),
        idle=lambda rows: rows._replace(spent=tf.fill(rows.spent.shape, search.max_evaluations)),
    )  # fmt: skip


def _restarted(
    found: FoundImages,
    run: Any,
    traced: _TracedClassifier,
    images: tf.Tensor,
    classes: tf.Tensor,
    accepted: tf.Tensor,
    search: DistortionSearch,
    seed: int,
) -> FoundImages:
    """Repeats the search where it failed, from images of a wanted class that are found without gradients."""
    unsearchable = (found.status == int(SearchStatus.CONSTANT_LOGITS)) | (found.status == int(SearchStatus.NOT_FINITE))
    affordable = found.num_evaluations + COST + _MIN_RESTART_EVALUATIONS <= search.max_evaluations
    missed = ~found.succeeded & ~unsearchable & affordable
    bounded = bool(tf.reduce_all(tf.math.is_finite(tf.constant(search.pixel_box))))
    if not bounded or not bool(tf.reduce_any(missed)):
        return found
    far = far_starts(
        traced.architecture,
        traced.weights,
        images,
        accepted=accepted,
        missed=missed,
        pixel_box=search.pixel_box,
        quantization_levels=search.quantization_levels,
        seed=seed,
    )
    spent = found.num_evaluations + tf.where(missed, COST, 0)
    again = missed & far.found
    if not bool(tf.reduce_any(again)):
        return found._replace(num_evaluations=spent)
    starts = replace_rows(again, tf.reshape(far.position, images.shape), images)
    second = run(SearchRows(images, starts, classes, tf.where(again, spent, search.max_evaluations)))
    chosen = replace_rows(again & second.succeeded, second, found)
    # Without a gradient at the clean image, the first search ended at once; a second one that did not converge reports that.
    without_gradient = again & (found.status == int(SearchStatus.NO_GRADIENT)) & (second.status != int(SearchStatus.CONVERGED))
    return chosen._replace(
        status=tf.where(without_gradient, int(SearchStatus.NO_GRADIENT), chosen.status),
        num_evaluations=tf.where(again, second.num_evaluations, spent),
    )


def _verified(
    found: FoundImages,
    classifier: Classifier,
    traced: _TracedClassifier,
    images: tf.Tensor,
    accepted: tf.Tensor,
    search: DistortionSearch,
) -> DistortionResults:
    """Evaluates the classifier itself on the found images, which decides which of them succeeded."""
    lead_of = functools.partial(traced.lead, classifier, accepted)
    lead = lead_of(found.distorted)
    distorted, contradicted = own_evaluation.lengthened(
        lead_of, images, found.distorted, found.succeeded & ~(lead > 0.0),
        lambda longer: search.pixel_box.legal(longer, search.quantization_levels),
    )  # fmt: skip
    # The outputs of the classifier itself are equal where its softmax or sigmoid rounds to 0 or 1.
    tied = contradicted & (lead == 0.0)
    if bool(tf.reduce_any(contradicted & ~tied)):
        number = int(tf.math.count_nonzero(contradicted & ~tied))
        raise RuntimeError(
            f"the classifier contradicts the search on {number} of {images.shape[0]} images: its traced copy predicts a wanted "
            "class, but the classifier itself does not. It draws random numbers, its rows influence each other, or it computes "
            "other outputs when traced. Call it twice on the same images and compare the outputs."
        )
    succeeded = found.succeeded & ~tied
    distorted = replace_rows(succeeded, distorted, images)
    perturbation = distorted - images
    flat = tf.reshape(perturbation, [images.shape[0], -1])
    return DistortionResults(
        distorted=distorted,
        perturbation=perturbation,
        distortion=tf.where(succeeded, distortion(images, distorted), float("nan")),
        l2=tf.where(succeeded, tf.norm(flat, axis=1), float("nan")),
        succeeded=succeeded,
        status=tf.where(tied, int(SearchStatus.CONSTANT_LOGITS), found.status),
        num_evaluations=found.num_evaluations,
        c=tf.where(succeeded, found.c, float("nan")),
    )
