"""Transfer: error rates of a network on images that were distorted for another network."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from intriguing.statistics.proportions import Proportion


class ErrorRates(NamedTuple):
    """The error rates of one network on one set of distorted images."""

    on_all: Proportion  # of all images
    on_correct: Proportion  # of the images whose originals the network classified correctly


def error_rate(predictions: Any, labels: Any) -> Proportion:
    """Computes the fraction of predictions that differ from the labels.

    Args:
        predictions: Integer `[n]`, the predictions.
        labels: Integer `[n]`.

    Raises:
        TypeError: If classes are not integers.
        ValueError: If the shapes differ.

    Example:
        >>> rate = error_rate(tf.constant([1, 2, 3, 3]), tf.constant([1, 2, 3, 4]))
        >>> rate.num_events, rate.num_trials
        (1, 4)
    """
    predictions, labels = _checked_classes(predictions, labels)
    return Proportion(num_events=int(tf.math.count_nonzero(predictions != labels)), num_trials=int(labels.shape[0]))


def transfer_rates(predictions: Any, clean_predictions: Any, labels: Any) -> ErrorRates:
    """Computes the error rates of a network on distorted images: on all images, and on images it classified correctly before.

    The paper counts all images. Images that were misclassified before the distortion are not evidence of transfer; therefore,
    both rates are returned.

    Args:
        predictions: Integer `[n]`, the predictions for the distorted images.
        clean_predictions: Integer `[n]`, the predictions for the original images.
        labels: Integer `[n]`, the true classes.

    Returns:
        An `ErrorRates`.

    Raises:
        TypeError: If classes are not integers.
        ValueError: If the shapes differ.

    Example:
        >>> noisy = add_gaussian_noise(tf.constant(images), standard_deviation=0.1, seed=0)
        >>> rates = transfer_rates(predict(model, noisy.images), predict(model, images), tf.constant(labels))
        >>> rates.on_correct.num_trials
        200
    """
    predictions, clean_predictions, labels = _checked_classes(predictions, clean_predictions, labels)
    correct = clean_predictions == labels
    return ErrorRates(
        on_all=error_rate(predictions, labels),
        on_correct=error_rate(tf.boolean_mask(predictions, correct), tf.boolean_mask(labels, correct)),
    )


def _checked_classes(*given: Any) -> list[tf.Tensor]:
    """Returns classes `[n]` as int64."""
    tensors = [tf.convert_to_tensor(classes) for classes in given]
    shapes = [tensor.shape.as_list() for tensor in tensors]
    if not all(tensor.dtype.is_integer for tensor in tensors):
        raise TypeError(f"classes must be integers; received {', '.join(tensor.dtype.name for tensor in tensors)}.")
    if any(shape != shapes[0] or len(shape) != 1 for shape in shapes):
        raise ValueError(f"classes must all have one shape, [n]; received {', '.join(map(str, shapes))}.")
    return [tf.cast(tensor, tf.int64) for tensor in tensors]
