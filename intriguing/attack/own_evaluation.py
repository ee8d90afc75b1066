"""Evaluates the caller's classifier itself, outside of all compiled programs, to decide which images succeeded.

A search runs in a compiled program, whose rounding may differ, and does in low precision. An image succeeds only if the
classifier that the caller passed predicts a wanted class for it.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from intriguing.attack.objective import rounding_margin
from intriguing.distribution.map_rows import rows_that_fit
from intriguing.models.functional import Architecture, Classifier, in_unit_interval
from intriguing.models.masked_classes import is_unmasked, largest_unmasked
from intriguing.models.traced_classifier import inference_call

_MOST_ROWS = 256  # maximum number of images in one call of a classifier
_SUM_TOLERANCE = 1e-2  # for the sum of probabilities that were rounded to eight bits
_FEW = 2  # images that are evaluated without the others
_OTHER_ORDER, _ROUNDINGS_OF_OTHER_ORDER = 0.01, 16.0  # allowed change, relative to the largest output
_LONGER = (1.0005, 1.002, 1.007, 1.02, 1.05, 1.12, 1.3)  # factors of the perturbation if rounding changed the class


def own_outputs(classifier: Classifier, images: tf.Tensor, architecture: Architecture) -> tf.Tensor:
    """Calls the classifier on images, a few at a time.

    Args:
        classifier: As in `minimize_distortion`.
        images: Float32 `[batch, ...]`.
        architecture: The traced classifier.

    Returns:
        Float32 `[batch, outputs]`.

    Raises:
        ValueError: If the classifier does not return one row for each image.
    """
    call = inference_call(classifier)
    size = architecture.batch_size or min(_MOST_ROWS, rows_that_fit(architecture.bytes_per_image, images.shape[0]))
    parts = []
    for begin in range(0, images.shape[0], size):
        part = images[begin : begin + size]
        rows = part.shape[0]
        missing = (architecture.batch_size or rows) - rows
        outputs = call(tf.pad(part, [[0, missing], *[[0, 0]] * (part.shape.rank - 1)]) if missing else part)
        if isinstance(outputs, dict):
            outputs = next(iter(outputs.values()))
        outputs = tf.cast(tf.convert_to_tensor(outputs), tf.float32)
        if outputs.shape[0] != rows + missing:
            raise ValueError(
                f"classifier must return one row of logits for each image; expected {rows + missing} rows for {rows + missing} "
                f"images, received {outputs.shape[0]} rows. Check that it keeps the first axis of the images."
            )
        parts.append(outputs[:rows])
    return tf.concat(parts, axis=0)


def check_repeatable(classifier: Classifier, images: tf.Tensor, outputs: tf.Tensor, architecture: Architecture) -> None:
    """Raises a `RuntimeError` if the classifier draws random numbers, or if its rows influence each other.

    The outputs of two calls on the same images may differ by less than the margin that success requires, as sums on an
    accelerator do. They must be equal if the outputs depend on an operation that draws random numbers. A call on a part of the
    images may sum in another order, and may differ more.

    Args:
        classifier: As in `minimize_distortion`.
        images: Float32 `[batch, ...]`.
        outputs: The outputs of the classifier for all images.
        architecture: The traced classifier.
    """
    first = images[:_FEW]
    alone = own_outputs(classifier, first, architecture)
    again = own_outputs(classifier, first, architecture)
    margin = 0.0 if architecture.draws_random_numbers else rounding_margin(architecture.rounding)
    if (change := _largest_change(alone, again, margin)) is not None:
        raise RuntimeError(
            f"the classifier must return the same outputs for the same images; two calls on the first {first.shape[0]} images "
            f"differ by up to {change:.3g}. It draws random numbers, or its state changes. Pass it in inference mode, without "
            "layers that add noise, or with a fixed seed."
        )
    margin = max(_OTHER_ORDER, _ROUNDINGS_OF_OTHER_ORDER * architecture.rounding)
    if (change := _largest_change(outputs[:_FEW], alone, margin)) is not None:
        raise RuntimeError(
            f"the outputs of the classifier must not depend on the batch; for the first {first.shape[0]} images, a "
            f"call without the others differs by up to {change:.3g}. Its rows influence each other. Pass it in inference mode."
        )


def _largest_change(outputs: tf.Tensor, others: tf.Tensor, margin: float) -> float | None:
    """Returns the largest change of an output; None if no change relative to the largest output of its row exceeds `margin`."""
    both = tf.math.is_finite(outputs) & tf.math.is_finite(others)
    change = tf.where(both, tf.abs(outputs - others), 0.0)
    known = tf.where(both, outputs, 0.0)
    largest = tf.reduce_max(tf.abs(known), axis=1) if outputs.shape[1] == 1 else largest_unmasked(known)
    # The change of a masked class is relative to its own logit.
    allowed = margin * tf.maximum(largest[:, tf.newaxis], tf.where(is_unmasked(known), 0.0, tf.abs(known)))
    return float(tf.reduce_max(change)) if bool(tf.reduce_any(change > allowed)) else None


def are_probabilities(outputs: tf.Tensor, architecture: Architecture) -> bool:
    """Returns True if outputs `[batch, outputs]` are probabilities: values in [0, 1] that sum to 1 over several classes.

    For a single output, the operations that compute it decide; see `Architecture.is_probability`.
    """
    if architecture.num_outputs == 1:
        return architecture.is_probability(outputs)
    sums = tf.reduce_sum(outputs, axis=1)
    return in_unit_interval(outputs) and bool(tf.reduce_all(tf.abs(sums - 1.0) < _SUM_TOLERANCE))


def class_scores(outputs: tf.Tensor, *, probabilities: bool) -> tf.Tensor:
    """Returns scores `[batch, classes]`, of which the predicted class has the largest; a single output becomes two scores."""
    if outputs.shape[1] > 1:
        return outputs
    return tf.concat([0.5 * tf.ones_like(outputs) if probabilities else tf.zeros_like(outputs), outputs], axis=1)


def lead(scores: tf.Tensor, accepted: tf.Tensor) -> tf.Tensor:
    """Returns `[batch]`, the largest accepted score minus the largest other score; NaN if a score is not finite."""
    lowest = scores.dtype.min
    ahead = tf.reduce_max(tf.where(accepted, scores, lowest), axis=1) - tf.reduce_max(
        tf.where(accepted, lowest, scores), axis=1
    )
    return tf.where(tf.reduce_all(tf.math.is_finite(scores), axis=1), ahead, float("nan"))


def lengthened(
    lead_of: Any, images: tf.Tensor, distorted: tf.Tensor, contradicted: tf.Tensor, legal: Any
) -> tuple[tf.Tensor, tf.Tensor]:
    """Lengthens the perturbations of some images until the classifier itself predicts an accepted class.

    Args:
        lead_of: From images `[batch, ...]` to the margin of the accepted classes, `[batch]`.
        images: The clean images.
        distorted: The images that the search returned.
        contradicted: Bool `[batch]`, the images on which the classifier disagrees with the search.
        legal: From images to images with legal pixel values.

    Returns:
        The images, and bool `[batch]`: those on which the classifier still disagrees.
    """
    for factor in _LONGER:
        if not bool(tf.reduce_any(contradicted)):
            break
        longer = legal(images + factor * (distorted - images))
        right = contradicted & (lead_of(longer) > 0.0)
        distorted = tf.where(tf.reshape(right, [-1] + [1] * (images.shape.rank - 1)), longer, distorted)
        contradicted &= ~right
    return distorted, contradicted
