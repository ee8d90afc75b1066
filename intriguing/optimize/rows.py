"""Replaces and repeats rows of batches."""

from __future__ import annotations

from typing import TypeVar

import tensorflow as tf

Rows = TypeVar("Rows")


def replace_rows(mask: tf.Tensor, new: Rows, old: Rows) -> Rows:
    """Returns `old` with the rows of `new` where `mask` is true; both are structures of tensors `[batch, ...]`.

    Rows are selected, and not multiplied by the mask, because 0 * NaN is NaN.
    """

    def choose(new: tf.Tensor, old: tf.Tensor) -> tf.Tensor:
        return tf.where(tf.reshape(mask, [-1] + [1] * (new.shape.rank - 1)), new, old)

    return tf.nest.map_structure(choose, new, old)


def repeat_rows(rows: Rows, times: int) -> Rows:
    """Repeats every row of a structure of tensors `[batch, ...]`, and returns `[times * batch, ...]`."""

    def repeat(tensor: tf.Tensor) -> tf.Tensor:
        shape = tensor.shape.as_list()
        copies = tf.tile(tensor[:, tf.newaxis], [1, times] + [1] * (len(shape) - 1))
        return tf.reshape(copies, [-1, *shape[1:]])

    return rows if times == 1 else tf.nest.map_structure(repeat, rows)
