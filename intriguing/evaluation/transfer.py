"""Transfer: error rates of a network on images that were distorted for another network."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from intriguing.statistics.proportions import Proportion


class ErrorRates(NamedTuple):
    """The errors of one network on one set of images."""

    on_all: Proportion  # of all the images
    on_correct: Proportion  # of those whose clean originals the network got right


def error_rate(answers: Any, labels: Any) -> Proportion:
    """Counts the predictions that differ from the label.

    Args:
        answers: Integer `[n]`, the predictions.
        labels: Integer `[n]`.

    Example:
        >>> rate = error_rate(tf.constant([1, 2, 3, 3]), tf.constant([1, 2, 3, 4]))
        >>> rate.num_events, rate.num_trials
        (1, 4)
    """
    answers, labels = _integers(answers), _integers(labels)
    return Proportion(num_events=int(tf.math.count_nonzero(answers != labels)), num_trials=int(labels.shape[0]))


def transfer_rates(answers: Any, clean_answers: Any, labels: Any) -> ErrorRates:
    """Counts the errors of a network on distorted images: of all images, and of those that it classified correctly before.

    The paper counts all images. Images that were misclassified before the distortion are no evidence of transfer, so both
    rates are returned.

    Args:
        answers: Integer `[n]`, the predictions for the distorted images.
        clean_answers: Integer `[n]`, the predictions for the original images.
        labels: Integer `[n]`, the true classes.

    Returns:
        An `ErrorRates`.

    Example:
        >>> noisy = add_gaussian_noise(tf.constant(images), standard_deviation=0.1, seed=0)
        >>> rates = transfer_rates(predict(model, noisy.images), predict(model, images), tf.constant(labels))
        >>> rates.on_correct.num_trials
        200
    """
    answers, clean_answers, labels = _integers(answers), _integers(clean_answers), _integers(labels)
    correct = clean_answers == labels
    return ErrorRates(
        on_all=error_rate(answers, labels),
        on_correct=error_rate(tf.boolean_mask(answers, correct), tf.boolean_mask(labels, correct)),
    )


def _integers(classes: Any) -> tf.Tensor:
    return tf.cast(tf.convert_to_tensor(classes), tf.int64)
