"""The penalty function of the paper, `c * |r|**2 + loss`, as a value and a gradient of flat pixels."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import NamedTuple

import tensorflow as tf

from intriguing.models.masked_classes import in_play, largest_in_play
from intriguing.optimize.lbfgs import ValueAndGradient

FlatLogits = Callable[[tf.Tensor], tf.Tensor]
"""From flat pixels `[batch, n]` to logits `[batch, classes]`."""

Network = Callable[[list[tf.Tensor]], FlatLogits]
"""From weights to the logits that a network with these weights computes."""

# The returned image must keep its class when another program adds up the same logits in another order.
ROUNDING_MARGIN = 1e-5  # of the largest logit of a class that is not masked, in float32
ROUNDINGS = 2.0  # unit roundoffs of a network of lower precision
SURELY = 1.1  # times the resolution: a search requires more than the check of its result
GAP, LEAST_GAP = 8.0, 0.01  # the gap of a clean image after scaling, in logits; and the least, as a share of their spread


def accepted_classes(classes: tf.Tensor, num_classes: int, *, targeted: bool) -> tf.Tensor:
    """Returns the bool `[batch, classes]` of answers that count as success: the target alone, or all but the label."""
    return tf.one_hot(classes, num_classes, on_value=targeted, off_value=not targeted)


def loss(logits: tf.Tensor, accepted: tf.Tensor) -> tf.Tensor:
    """Returns `-log P(accepted classes)`, `[batch]`: the cross-entropy when a single class is accepted; never negative."""
    return tf.reduce_logsumexp(logits, axis=1) - tf.reduce_logsumexp(_only(logits, accepted), axis=1)


def shortfall(logits: tf.Tensor, accepted: tf.Tensor) -> tf.Tensor:
    """Returns `[batch]`, by how much the best other logit exceeds the best accepted one; negative where the goal is reached."""
    return tf.reduce_max(_only(logits, ~accepted), axis=1) - tf.reduce_max(_only(logits, accepted), axis=1)


class LogitScale(NamedTuple):
    """How the logits of each image are measured, so that a search does not depend on their unit."""

    factor: tf.Tensor  # [batch], multiplies the logits
    largest: tf.Tensor  # [batch], the largest multiplied logit of the clean image; masked classes do not count
    rounding: tf.Tensor  # [batch], the share of the largest logit that rounding may change

    def apply(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns the logits `[batch, classes]`, multiplied."""
        return self.factor[:, tf.newaxis] * logits

    def resolution(self, scaled: tf.Tensor) -> tf.Tensor:
        """Returns `[..., batch]`, the difference of two multiplied logits below which rounding may change the class."""
        return self.rounding * tf.maximum(self.largest, largest_in_play(scaled, self.factor))

    def reached(self, scaled: tf.Tensor, accepted: tf.Tensor) -> tf.Tensor:
        """Returns a bool `[batch]`: the largest multiplied logit is of an accepted class, by more than the resolution."""
        return shortfall(scaled, accepted) < -self.resolution(scaled)


def rounding_margin(rounding: float) -> float:
    """Returns the share of the largest logit by which success must exceed rounding, for a unit roundoff."""
    return max(ROUNDING_MARGIN, ROUNDINGS * rounding)


def scale_of_gaps(logits: tf.Tensor, accepted: tf.Tensor, rounding: float) -> LogitScale:
    """Returns the scale at which the gap of every clean image between accepted and other classes is `GAP`.

    Each image has a scale of its own, so that no image depends on its batch. Where the gap is a small share of the spread of
    the logits, the spread decides.

    Args:
        logits: `[batch, classes]`, of the clean images.
        accepted: Bool `[batch, classes]`.
        rounding: Unit roundoff of the network.
    """
    gap = tf.abs(shortfall(logits, accepted))
    spread = _spread(logits)
    gap = tf.maximum(gap, LEAST_GAP * spread)
    return _scale(largest_in_play(logits), tf.where(gap > 0.0, GAP / gap, 1.0), rounding)


def scale_against_tiny(logits: tf.Tensor, rounding: float) -> LogitScale:
    """Returns the power of two that brings the largest logit of each image above a thousandth; 1 where it is, or is zero.

    The logits of an untrained network can be 1e-10, and the gradient of the cross-entropy is then lost.
    """
    largest = largest_in_play(logits)
    thousands = tf.floor(-tf.math.log(largest) / log(1024.0))
    factor = tf.where(largest > 0.0, 1024.0 ** tf.clip_by_value(thousands, 0.0, 10.0), 1.0)
    return _scale(largest, factor, rounding)


def _scale(largest: tf.Tensor, factor: tf.Tensor, rounding: float) -> LogitScale:
    return LogitScale(factor, factor * largest, tf.fill(tf.shape(factor), rounding_margin(rounding)))


def has_constant_logits(logits: tf.Tensor, rounding: float) -> tf.Tensor:
    """Returns a bool `[batch]`: no logit exceeds another by more than rounding can take back."""
    return _spread(logits) <= rounding_margin(rounding) * largest_in_play(logits)


def _spread(logits: tf.Tensor) -> tf.Tensor:
    """Returns `[batch]`, the difference of the largest and the least logit of the classes that are not masked."""
    return tf.reduce_max(logits, axis=1) - tf.reduce_min(tf.where(in_play(logits), logits, logits.dtype.max), axis=1)


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
        evaluation = evaluate_loss(flat_logits, position, lambda logits: loss(logits, accepted))
        return evaluation.loss, evaluation.gradient

    return value_and_gradient


class Evaluation(NamedTuple):
    """A network at one position for each image."""

    logits: tf.Tensor  # [batch, classes]
    loss: tf.Tensor  # [batch]
    gradient: tf.Tensor  # [batch, n], of the loss by the pixels


def evaluate_loss(flat_logits: FlatLogits, position: tf.Tensor, loss_of: Callable[[tf.Tensor], tf.Tensor]) -> Evaluation:
    """Returns the logits at flat pixels `[batch, n]`, a loss `[batch]` of those logits, and its gradient."""
    with tf.GradientTape() as tape:
        tape.watch(position)
        logits = flat_logits(position)
        value = loss_of(logits)
    gradient = tape.gradient(value, position, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return Evaluation(logits, value, finite(gradient))


def finite(gradient: tf.Tensor) -> tf.Tensor:
    """Returns the gradient with 0 for what is not a number, as the derivative of a square root at 0."""
    return tf.where(tf.math.is_finite(gradient), gradient, 0.0)


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
    return Margins(logits, indices, margins, finite(tf.stack(gradients, axis=1)))


def _only(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    # The lowest finite float, not -inf: its difference to itself is 0, not NaN.
    return tf.where(mask, logits, logits.dtype.min)
