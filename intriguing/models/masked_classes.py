"""Classes that a network masks by a huge negative logit, such as -1e9."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_HUGE = 1000.0  # the logit of a masked class is below minus this
_TIMES = 100.0  # and below minus this times the absolute value of the two largest logits


def is_unmasked(logits: Any, factor: Any = 1.0) -> tf.Tensor:
    """Returns bool `[..., classes]`: False for masked classes.

    A class is masked if its logit is below -1000, and below -100 times the absolute value of the two largest logits. The logits
    of trained networks differ by at most a few hundred; those of masked classes are -1e4 or less.

    Args:
        logits: `[..., classes]`.
        factor: A positive number or tensor `[...]` by which the logits were multiplied.
    """
    two_largest = tf.math.top_k(logits, min(2, logits.shape[-1])).values
    largest = tf.reduce_max(tf.abs(two_largest), axis=-1, keepdims=True)
    huge = tf.cast(_HUGE * factor, logits.dtype)
    return logits >= -tf.maximum(_TIMES * largest, huge[..., tf.newaxis])


def largest_unmasked(logits: Any, factor: Any = 1.0) -> tf.Tensor:
    """Returns `[...]`, the largest absolute logit of the classes that are not masked; for the arguments see `is_unmasked`."""
    return tf.reduce_max(tf.where(is_unmasked(logits, factor), tf.abs(logits), tf.zeros_like(logits)), axis=-1)
