"""Transfer rates on cases counted by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf

from intriguing.evaluation.transfer import error_rate, transfer_rates
from intriguing.statistics.proportions import Proportion


def classes(*values):
    return tf.constant(values, tf.int32)


LABELS = classes(0, 1, 2, 3, 4)


def test_counts_predictions_that_differ_from_the_label():
    assert error_rate(classes(0, 1, 1, 3, 0), LABELS) == Proportion(num_events=2, num_trials=5)


def test_initially_misclassified_images_count_only_among_all():
    clean = classes(0, 1, 2, 9, 9)  # the last two were wrong before anything was changed
    changed = classes(0, 7, 7, 9, 4)  # one of them is now classified correctly
    assert transfer_rates(changed, clean, LABELS) == (Proportion(3, 5), Proportion(2, 3))


def test_correct_predictions_are_not_transfer():
    assert transfer_rates(LABELS, LABELS, LABELS) == (Proportion(0, 5), Proportion(0, 5))


def test_rate_on_correct_images_is_undefined_if_none_was_correct():
    wrong = (LABELS + 1) % 5
    rates = transfer_rates(wrong, wrong, LABELS)
    assert rates.on_all.rate == 1.0
    assert rates.on_correct == Proportion(0, 0) and math.isnan(rates.on_correct.rate)


def test_accepts_integers_of_any_dtype():
    labels = np.array([0, 1, 2, 3, 4], np.int64)
    assert error_rate(classes(0, 1, 1, 3, 0), labels) == Proportion(num_events=2, num_trials=5)
    assert transfer_rates(LABELS, labels.astype(np.uint8), labels) == (Proportion(0, 5), Proportion(0, 5))


def test_refuses_scores_and_other_shapes():
    with pytest.raises(TypeError, match="classes must be integers; received float32, int32"):
        error_rate(tf.zeros(5), LABELS)
    with pytest.raises(ValueError, match=r"classes must all have one shape, \[n\]; received \[5\], \[5, 1\]"):
        error_rate(LABELS, LABELS[:, tf.newaxis])
