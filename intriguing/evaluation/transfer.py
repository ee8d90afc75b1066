"""Transfer: how often images made to fool one network fool another."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from intriguing.statistics.proportions import Proportion


class ErrorRates(NamedTuple):
    """The errors of one network on one set of images."""

    on_all: Proportion  # of all the images
    on_correct: Proportion  # of those whose clean originals the network got right


def error_rate(answers: tf.Tensor, labels: tf.Tensor) -> Proportion:
    """Counts the answers that are not the label.

    Args:
        answers: Int32 `[n]`.
        labels: Int32 `[n]`.
    """
    return Proportion(num_events=int(tf.math.count_nonzero(answers != labels)), num_trials=int(labels.shape[0]))


def transfer_rates(answers: tf.Tensor, clean_answers: tf.Tensor, labels: tf.Tensor) -> ErrorRates:
    """Counts the errors that changed images induce in a network, on all of them and on those it got right before.

    The paper counts all. An image that the network got wrong from the start says nothing of transfer, so both are reported.

    Args:
        answers: Int32 `[n]`, what the network answers on the changed images.
        clean_answers: Int32 `[n]`, what it answers on their originals.
        labels: Int32 `[n]`, the true classes.

    Returns:
        An `ErrorRates`.
    """
    correct = clean_answers == labels
    return ErrorRates(
        on_all=error_rate(answers, labels),
        on_correct=error_rate(tf.boolean_mask(answers, correct), tf.boolean_mask(labels, correct)),
    )
