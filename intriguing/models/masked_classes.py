"""Classes that a network masks by a huge negative logit, such as -1e9."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_HUGE = 1000.0  # a mask is at least so far below zero
_TIMES = 100.0  # and so many times farther than the two largest logits


def in_play(logits: Any, factor: Any = 1.0) -> tf.Tensor:
    """Returns a bool `[..., classes]`: False for masked classes.

    A class is masked if its logit is below -1000, and below -100 times the absolute value of the two largest logits. Those of
    trained networks lie within a few hundred of each other; masks are -1e4 or less.

    Args:
        logits: `[..., classes]`.
        factor: Positive, `[...]` or a number: what the logits were multiplied by.
    """
    two_largest = tf.math.top_k(logits, min(2, logits.shape[-1])).values
    largest = tf.reduce_max(tf.abs(two_largest), axis=-1, keepdims=True)
    huge = tf.cast(_HUGE * factor, logits.dtype)
    return logits >= -tf.maximum(_TIMES * largest, huge[..., tf.newaxis])


def largest_in_play(logits: Any, factor: Any = 1.0) -> tf.Tensor:
    """Returns `[...]`, the largest absolute value of a logit of a class that is not masked; arguments as of `in_play`."""
    return tf.reduce_max(tf.where(in_play(logits, factor), tf.abs(logits), tf.zeros_like(logits)), axis=-1)
