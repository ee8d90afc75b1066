"""Classes that are masked by a huge negative logit are recognized."""

import numpy as np
import pytest
import tensorflow as tf

from intriguing.models.masked_classes import is_unmasked, largest_unmasked


@pytest.mark.parametrize("mask", [-1e4, -65504.0, -1e9, -3e38])
@pytest.mark.parametrize("others", [[1.0, 0.5, -12.0], [0.0, 0.0, 0.0], [-3.0, -3.0, -4.0], [1e-9, 0.0, -5.0]])
def test_only_masked_logits_are_excluded(mask, others):
    logits = tf.constant([[mask, *others]])
    np.testing.assert_array_equal(is_unmasked(logits), [[False, True, True, True]])
    np.testing.assert_allclose(largest_unmasked(logits), [np.max(np.abs(others))])


@pytest.mark.parametrize("logits", [[5.0, -90.0, -900.0], [2e6, -3e6, 1e6], [0.0, -1e9], [-1e9, -1e9, -2e9], [7.0, 7.0]])
def test_logits_of_similar_size_and_the_two_largest_are_included(logits):
    assert np.all(is_unmasked(tf.constant([logits])))


def test_scale_of_multiplied_logits_is_taken_into_account():
    logits, factor = tf.constant([[1.0, 0.5, -5e3], [1.0, 0.5, -5e3]]), tf.constant([1e-3, 10.0])
    scaled = factor[:, tf.newaxis] * logits
    np.testing.assert_array_equal(is_unmasked(scaled, factor), is_unmasked(logits))
    np.testing.assert_allclose(largest_unmasked(tf.stack([scaled, scaled]), factor), [factor, factor])
