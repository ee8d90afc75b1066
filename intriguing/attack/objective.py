"""The paper's penalty function, `c * |r|**2 + loss`, as a value and a gradient of flat pixels."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import NamedTuple

import tensorflow as tf

from intriguing.attack.lbfgs import ValueAndGradient

FlatLogits = Callable[[tf.Tensor], tf.Tensor]
"""From flat pixels `[batch, n]` to logits `[batch, classes]`."""

# The returned image must keep its class when another program adds up the same logits in another order.
ROUNDING_MARGIN = 1e-5
SURELY = 1.1  # times the resolution: a search asks for more than whoever asks again


def accepted_classes(classes: tf.Tensor, num_classes: int, *, targeted: bool) -> tf.Tensor:
    """Returns the bool `[batch, classes]` of answers that count as success: the target alone, or all but the label."""
    return tf.one_hot(classes, num_classes, on_value=targeted, off_value=not targeted)


def loss(logits: tf.Tensor, accepted: tf.Tensor) -> tf.Tensor:
    """Returns `-log P(accepted classes)`, `[batch]`: the cross-entropy when a single class is accepted; never negative."""
    return tf.reduce_logsumexp(logits, axis=1) - tf.reduce_logsumexp(_only(logits, accepted), axis=1)


def shortfall(logits: tf.Tensor, accepted: tf.Tensor) -> tf.Tensor:
    """Returns `[batch]`, by how much the best other logit exceeds the best accepted one; negative where the goal is reached."""
    return tf.reduce_max(_only(logits, ~accepted), axis=1) - tf.reduce_max(_only(logits, accepted), axis=1)


def reached(logits: tf.Tensor, accepted: tf.Tensor) -> tf.Tensor:
    """Returns a bool `[batch]`: the largest logit belongs to an accepted class, by more than rounding can take back."""
    return shortfall(logits, accepted) < -resolution(logits)


def resolution(logits: tf.Tensor) -> tf.Tensor:
    """Returns `[..., batch]`, the difference of two logits below which rounding may turn the answer."""
    return ROUNDING_MARGIN * (1.0 + tf.reduce_max(tf.abs(logits), axis=-1))


def alike(logits: tf.Tensor) -> tf.Tensor:
    """Returns a bool `[..., batch]`: no logit exceeds another by more than rounding can take back."""
    return tf.reduce_max(logits, axis=-1) - tf.reduce_min(logits, axis=-1) <= resolution(logits)


def power_against_tiny(logits: tf.Tensor) -> tf.Tensor:
    """Returns the power of two that brings the largest of all logits above a thousandth; 1 where it is, or where all are zero.

    The logits of an untrained network can be 1e-10, and differ by as much from image to image; its answers are no less clear.
    """
    largest = tf.reduce_max(tf.abs(logits))
    thousands = tf.floor(-tf.math.log(largest) / log(1024.0))
    return tf.where(largest > 0.0, 1024.0 ** tf.clip_by_value(thousands, 0.0, 10.0), 1.0)


def margin(logits: tf.Tensor, wanted: tf.Tensor, rivals: tf.Tensor) -> tf.Tensor:
    """Returns `[..., batch]`, by how much the wanted logit of `[..., batch, classes]` exceeds the best of its rivals."""
    ours = tf.reduce_sum(logits * tf.one_hot(wanted, logits.shape[-1]), axis=-1)
    return ours - tf.reduce_max(_only(logits, rivals), axis=-1)


def smooth_margin(logits: tf.Tensor, wanted: tf.Tensor, rivals: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
    """Returns `logits[wanted] - t * logsumexp(logits[rivals] / t)`, `[batch]`: below `margin`, and equal to it for t to 0.

    Args:
        logits: `[batch, classes]`.
        wanted: Int32 `[batch]`.
        rivals: Bool `[batch, classes]`, at least one of them true in each row.
        temperature: Positive t, `[batch]`, in logits.
    """
    scaled = _only(logits / temperature[:, tf.newaxis], rivals)
    return tf.gather(logits, wanted, batch_dims=1) - temperature * tf.reduce_logsumexp(scaled, axis=1)


def penalty_objective(flat_logits: FlatLogits, images: tf.Tensor, accepted: tf.Tensor, c: tf.Tensor) -> ValueAndGradient:
    """Builds `c * sum((x - images)**2) + loss(x)` as a function of flat pixels x.

    The square keeps the gradient finite at r = 0, where every search begins; the paper writes plain bars.

    Args:
        flat_logits: The classifier.
        images: Float32 `[batch, n]`, the clean images.
        accepted: Bool `[batch, classes]`.
        c: Float32 `[batch]`.

    Returns:
        A function from `[batch, n]` to the objective `[batch]` and its gradient `[batch, n]`.
    """
    loss_and_gradient = loss_objective(flat_logits, accepted)

    def value_and_gradient(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        value, gradient = loss_and_gradient(position)
        perturbation = position - images
        closeness = c * tf.reduce_sum(perturbation**2, axis=1)
        return closeness + value, 2.0 * c[:, tf.newaxis] * perturbation + gradient

    return value_and_gradient


def loss_objective(flat_logits: FlatLogits, accepted: tf.Tensor) -> ValueAndGradient:
    """Builds the loss alone as a function of flat pixels; see `penalty_objective`."""

    def value_and_gradient(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(position)
            value = loss(flat_logits(position), accepted)
        return value, tape.gradient(value, position, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    return value_and_gradient


class Margins(NamedTuple):
    """By how much one logit exceeds its strongest rivals, and where that grows."""

    logits: tf.Tensor  # [batch, classes]
    rivals: tf.Tensor  # [batch, rivals] int32, the strongest first
    margins: tf.Tensor  # [batch, rivals]
    gradients: tf.Tensor  # [batch, rivals, n], of the margins by the pixels


def linearize_margins(
    flat_logits: FlatLogits, position: tf.Tensor, *, wanted: tf.Tensor, rivals: tf.Tensor, num_rivals: int
) -> Margins:
    """Linearizes `logits[wanted] - logits[rival]` for the rivals with the largest logits, a gradient each.

    Args:
        flat_logits: The classifier.
        position: Float32 `[batch, n]`.
        wanted: Int32 `[batch]`.
        rivals: Bool `[batch, classes]`, at least `num_rivals` of them true.
        num_rivals: How many to linearize.

    Returns:
        The `Margins`.
    """
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(position)
        logits = flat_logits(position)
    strongest, indices = tf.math.top_k(_only(logits, rivals), num_rivals)
    num_classes = logits.shape[1]
    seeds = tf.one_hot(wanted, num_classes)[:, tf.newaxis] - tf.one_hot(indices, num_classes)
    gradients = [
        tape.gradient(logits, position, output_gradients=seeds[:, i], unconnected_gradients=tf.UnconnectedGradients.ZERO)
        for i in range(num_rivals)
    ]
    margins = tf.gather(logits, wanted, batch_dims=1)[:, tf.newaxis] - strongest
    return Margins(logits, indices, margins, tf.stack(gradients, axis=1))


def _only(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    # The lowest finite float, not -inf: its difference to itself is 0, not NaN.
    return tf.where(mask, logits, logits.dtype.min)
