"""Tests of the replacement of single rows."""

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from intriguing.optimize.rows import replace_rows

MASK = tf.constant([True, False, True])


class Pair(NamedTuple):
    pixels: tf.Tensor
    count: tf.Tensor


def test_masked_rows_are_replaced_and_others_kept():
    new, old = tf.reshape(tf.range(6.0), [3, 2]), -tf.ones([3, 2])
    np.testing.assert_array_equal(replace_rows(MASK, new, old), [[0.0, 1.0], [-1.0, -1.0], [4.0, 5.0]])


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_rows_may_have_any_shape(rank):
    shape = [3, 2, 4, 5][:rank]
    replaced = replace_rows(MASK, tf.ones(shape), tf.zeros(shape)).numpy()
    assert replaced.shape == tuple(shape)
    np.testing.assert_array_equal(replaced.reshape(3, -1).min(axis=1), [1.0, 0.0, 1.0])
    np.testing.assert_array_equal(replaced.reshape(3, -1).max(axis=1), [1.0, 0.0, 1.0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_in_unselected_rows_has_no_effect(bad):
    good = tf.ones([3, 2])
    bad_rows = tf.where(MASK[:, tf.newaxis], 1.0, tf.fill([3, 2], bad))
    np.testing.assert_array_equal(replace_rows(MASK, bad_rows, good), good)
    np.testing.assert_array_equal(replace_rows(~MASK, good, bad_rows), good)


def test_structures_and_dtypes_are_kept():
    new = {"pair": Pair(tf.ones([3, 2]), tf.constant([7, 8, 9])), "list": [tf.constant([True, True, True])]}
    old = {"pair": Pair(tf.zeros([3, 2]), tf.constant([0, 1, 2])), "list": [tf.constant([False, False, False])]}
    replaced = replace_rows(MASK, new, old)
    assert isinstance(replaced["pair"], Pair)
    assert replaced["pair"].count.dtype == tf.int32
    assert replaced["pair"].count.numpy().tolist() == [7, 1, 9]
    np.testing.assert_array_equal(replaced["pair"].pixels, [[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    assert replaced["list"][0].numpy().tolist() == [True, False, True]
