"""The goal of a search for the images of one replica, and its progress."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from intriguing.attack import objective


@dataclasses.dataclass(frozen=True)
class Goal:
    """The images of one replica, the classes to reach or to leave, and the network.

    Tensors are `[batch, ...]`, one row for each image.
    """

    network: objective.Network  # computes logits before scaling
    weights: list[tf.Tensor]  # without a batch axis
    clean: tf.Tensor  # [batch, n]
    classes: tf.Tensor  # [batch] int32: targets, or labels
    targeted: bool
    num_classes: int
    scale: objective.LogitScale  # for the logits in the search
    scale_of_c: objective.LogitScale  # for the logits in the cross-entropy that c refers to
    rounding: float  # unit roundoff of the network
    seed: tf.Tensor  # int32 scalar, the seed of the random draws

    @property
    def logits(self) -> objective.FlatLogits:
        """The logits of flat pixels `[batch, n]`, before scaling."""
        return self.network(self.weights)

    @property
    def accepted(self) -> tf.Tensor:
        """Bool `[batch, classes]`, the classes that count as success."""
        return objective.accepted_classes(self.classes, self.num_classes, targeted=self.targeted)

    def succeeded(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns bool `[batch]`: whether an accepted class has the largest logit. `logits` are those before scaling."""
        finite = tf.reduce_all(tf.math.is_finite(logits), axis=1)
        return finite & self.scale.succeeded(self.scale.apply(logits), self.accepted)


def scaled(logits: objective.FlatLogits, scale: objective.LogitScale) -> objective.FlatLogits:
    """Returns a function that multiplies the logits by the factor of each row."""
    return lambda position: scale.apply(logits(position))


class Progress(NamedTuple):
    """The best result for each image up to now, and the evaluations spent."""

    current: tf.Tensor  # [batch, n], the point from which the search continues
    nearest: tf.Tensor  # [batch, n], the success with the least distortion
    squared_length: tf.Tensor  # [batch], of the perturbation of `nearest`; infinite if there is no success
    num_evaluations: tf.Tensor  # [batch] int32
    line_search_failed: tf.Tensor  # [batch] bool, in the last minimization
    out_of_budget: tf.Tensor  # [batch] bool: the budget ended the search before it converged
