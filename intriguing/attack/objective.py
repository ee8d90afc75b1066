"""The penalty function of the paper, `c * |r|**2 + loss`, as a value and a gradient of flat pixels."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import NamedTuple

import tensorflow as tf

from intriguing.models.masked_classes import is_unmasked, largest_unmasked
from intriguing.optimize.lbfgs import ValueAndGradient

FlatLogits = Callable[[tf.Tensor], tf.Tensor]
"""From flat pixels `[batch, n]` to logits `[batch, classes]`."""

Network = Callable[[list[tf.Tensor]], FlatLogits]
"""From weights to the function that computes the logits of a network with these weights."""

# The class of the returned image must not change if another program sums the same logits in another order.
ROUNDING_MARGIN = 1e-5  # relative to the largest logit of a class that is not masked, in float32
ROUNDINGS = 2.0  # the same for a network of lower precision, in unit roundoffs
SURELY = 1.1  # times the resolution: the margin that a search requires, larger than that required by the check of its result
GAP, LEAST_GAP = 8.0, 0.01  # gap of a clean image after scaling; minimum gap before, relative to the spread


def accepted_classes(classes: tf.Tensor, num_classes: int, *, targeted: bool) -> tf.Tensor:
    """Returns bool `[batch, classes]`, the classes that count as success: the target alone, or all except the label."""
    return tf.one_hot(classes, num_classes, on_value=targeted, off_value=not targeted)


def loss(logits: tf.Tensor, accepted: tf.Tensor) -> tf.Tensor:
    """Returns `-log P(accepted classes)`, `[batch]`: the cross-entropy if a single class is accepted; never negative."""
    return tf.reduce_logsumexp(logits, axis=1) - tf.reduce_logsumexp(_only(logits, accepted), axis=1)


def shortfall(logits: tf.Tensor, accepted: tf.Tensor) -> tf.Tensor:
    """Returns `[batch]`, the largest other logit minus the largest accepted one; negative if an accepted class is predicted."""
    return tf.reduce_max(_only(logits, ~accepted), axis=1) - tf.reduce_max(_only(logits, accepted), axis=1)


class LogitScale(NamedTuple):
    """The scale of the logits of each image, which makes a search independent of their unit."""

    factor: tf.Tensor  # [batch], multiplies the logits
    largest: tf.Tensor  # [batch], the largest multiplied logit of the clean image, without masked classes
    rounding: tf.Tensor  # [batch], the possible change by rounding, relative to the largest logit

    def apply(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns the logits `[batch, classes]`, multiplied by the factor of each row."""
        return self.factor[:, tf.newaxis] * logits

    def resolution(self, scaled: tf.Tensor) -> tf.Tensor:
        """Returns `[..., batch]`, the difference of two multiplied logits below which rounding may change the class."""
        return self.rounding * tf.maximum(self.largest, largest_unmasked(scaled, self.factor))

    def succeeded(self, scaled: tf.Tensor, accepted: tf.Tensor) -> tf.Tensor:
        """Returns bool `[batch]`: whether an accepted class has the largest logit by more than the resolution."""
        return shortfall(scaled, accepted) < -self.resolution(scaled)


def rounding_margin(rounding: float) -> float:
    """Returns the margin that success requires, relative to the largest logit, for a unit roundoff."""
    return max(ROUNDING_MARGIN, ROUNDINGS * rounding)


def scale_of_gaps(logits: tf.Tensor, accepted: tf.Tensor, rounding: float) -> LogitScale:
    """Returns the scale at which the gap of every clean image between accepted and other classes is `GAP`.

    Each image has its own scale, so that no result depends on the batch. If the gap is much smaller than the spread of the
    logits, the spread determines the scale.

    Args:
        logits: `[batch, classes]`, of the clean images.
        accepted: Bool `[batch, classes]`.
        rounding: Unit roundoff of the network.
    """
    gap = tf.abs(shortfall(logits, accepted))
    spread = _spread(logits)
    gap = tf.maximum(gap, LEAST_GAP * spread)
    return _scale(largest_unmasked(logits), tf.where(gap > 0.0, GAP / gap, 1.0), rounding)


def scale_against_tiny(logits: tf.Tensor, rounding: float) -> LogitScale:
    """Returns the power of 1024 that raises the largest logit of each image above 1/1024; 1 if it is above, or zero.

    The logits of an untrained network can be 1e-10; rounding then removes the gradient of the cross-entropy.
    """
    largest = largest_unmasked(logits)
    thousands = tf.floor(-tf.math.log(largest) / log(1024.0))
    factor = tf.where(largest > 0.0, 1024.0 ** tf.clip_by_value(thousands, 0.0, 10.0), 1.0)
    return _scale(largest, factor, rounding)


def _scale(largest: tf.Tensor, factor: tf.Tensor, rounding: float) -> LogitScale:
    return LogitScale(factor, factor * largest, tf.fill(tf.shape(factor), rounding_margin(rounding)))


def has_constant_logits(logits: tf.Tensor, rounding: float) -> tf.Tensor:
    """Returns bool `[batch]`: whether all logits are equal up to rounding."""
    return _spread(logits) <= rounding_margin(rounding) * largest_unmasked(logits)


def _spread(logits: tf.Tensor) -> tf.Tensor:
    """Returns `[batch]`, the largest minus the smallest logit of the classes that are not masked."""
    return tf.reduce_max(logits, axis=1) - tf.reduce_min(tf.where(is_unmasked(logits), logits, logits.dtype.max), axis=1)


def margin(logits: tf.Tensor, wanted: tf.Tensor, rivals: tf.Tensor) -> tf.Tensor:
    """Returns `[..., batch]`, the wanted logit of `[..., batch, classes]` minus the largest logit of its rivals."""
    wanted_logit = tf.reduce_sum(logits * tf.one_hot(wanted, logits.shape[-1]), axis=-1)
    return wanted_logit - tf.reduce_max(_only(logits, rivals), axis=-1)


def smooth_margin(logits: tf.Tensor, wanted: tf.Tensor, rivals: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
    """Returns `logits[wanted] - t * logsumexp(logits[rivals] / t)`, `[batch]`, which increases to `margin` as t decreases to 0.

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

    |r| is squared to keep the gradient finite at r = 0, where every search begins; the paper writes |r|.

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
    """Logits, loss and gradient at one position for each image."""

    logits: tf.Tensor  # [batch, classes]
    loss: tf.Tensor  # [batch]
    gradient: tf.Tensor  # [batch, n], of the loss with respect to the pixels


def evaluate_loss(flat_logits: FlatLogits, position: tf.Tensor, loss_of: Callable[[tf.Tensor], tf.Tensor]) -> Evaluation:
    """Returns the logits at flat pixels `[batch, n]`, a loss `[batch]` of those logits, and its gradient."""
    with tf.GradientTape() as tape:
        tape.watch(position)
        logits = flat_logits(position)
        value = loss_of(logits)
    gradient = tape.gradient(value, position, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return Evaluation(logits, value, finite(gradient))


def finite(gradient: tf.Tensor) -> tf.Tensor:
    """Replaces NaN and infinite values of a gradient, such as the derivative of a square root at 0, by 0."""
    return tf.where(tf.math.is_finite(gradient), gradient, 0.0)


class Margins(NamedTuple):
    """The margins of one logit over those of its strongest rivals, and their gradients."""

    logits: tf.Tensor  # [batch, classes]
    rivals: tf.Tensor  # [batch, rivals] int32, the strongest first
    margins: tf.Tensor  # [batch, rivals]
    gradients: tf.Tensor  # [batch, rivals, n], of the margins with respect to the pixels


def linearize_margins(
    flat_logits: FlatLogits, position: tf.Tensor, *, wanted: tf.Tensor, rivals: tf.Tensor, num_rivals: int
) -> Margins:
    """Linearizes `logits[wanted] - logits[rival]` for the rivals with the largest logits; each costs one gradient.

    Args:
        flat_logits: The classifier.
        position: Float32 `[batch, n]`.
        wanted: Int32 `[batch]`.
        rivals: Bool `[batch, classes]`, at least `num_rivals` of them true.
        num_rivals: Number of margins to linearize.

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
    # The lowest finite float instead of -inf, so that the difference of two such values is 0, not NaN.
    return tf.where(mask, logits, logits.dtype.min)
