"""Batches as rows that are replaced one by one."""

from __future__ import annotations

from typing import TypeVar

import tensorflow as tf

Rows = TypeVar("Rows")


def replace_rows(mask: tf.Tensor, new: Rows, old: Rows) -> Rows:
    """Returns `old` with the rows of `new` where `mask` is true; both are structures of tensors `[batch, ...]`.

    A choice and not a product with the mask: 0 * NaN is NaN, and a row must not suffer from what is not taken.
    """

    def choose(new: tf.Tensor, old: tf.Tensor) -> tf.Tensor:
        return tf.where(tf.reshape(mask, [-1] + [1] * (new.shape.rank - 1)), new, old)

    return tf.nest.map_structure(choose, new, old)
