"""Adam as a pure function of tensors.

Keras's optimizers do not support `stateless_apply` on the TensorFlow backend, and their stateful form cannot be part of a
compiled step under every strategy.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-7


def initial_moments(weights: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Returns the step count, followed by the first and the second moment of every weight, all zero."""
    zeros = [tf.zeros_like(weight) for weight in weights]
    return [tf.constant(0.0), *zeros, *zeros]


def adam_step(
    weights: Sequence[tf.Tensor], gradients: Sequence[tf.Tensor], moments: Sequence[tf.Tensor], learning_rate: tf.Tensor
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Takes one step of Adam.

    Args:
        weights: Trainable weights.
        gradients: One gradient for each weight.
        moments: The result of `initial_moments` or of the previous step.
        learning_rate: Scalar.

    Returns:
        The new weights and the new moments.

    References:
        Kingma, Ba, Adam: a method for stochastic optimization, 2015, end of section 2. https://arxiv.org/abs/1412.6980
    """
    step = moments[0] + 1.0
    first, second = moments[1 : 1 + len(weights)], moments[1 + len(weights) :]
    first = [FIRST_DECAY * moment + (1.0 - FIRST_DECAY) * gradient for moment, gradient in zip(first, gradients, strict=True)]
    second = [
        SECOND_DECAY * moment + (1.0 - SECOND_DECAY) * gradient**2 for moment, gradient in zip(second, gradients, strict=True)
    ]
    rate = learning_rate * tf.sqrt(1.0 - SECOND_DECAY**step) / (1.0 - FIRST_DECAY**step)
    moved = [
        weight - rate * mean / (tf.sqrt(square) + EPSILON) for weight, mean, square in zip(weights, first, second, strict=True)
    ]
    return moved, [step, *first, *second]
