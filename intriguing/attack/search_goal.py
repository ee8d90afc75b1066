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

    network: objective.Network  # its logits are those before scaling
    weights: list[tf.Tensor]  # without a batch axis
    clean: tf.Tensor  # [batch, n]
    classes: tf.Tensor  # [batch] int32: targets, or labels
    targeted: bool
    num_classes: int
    scale: objective.LogitScale  # of the logits that are searched
    scale_of_c: objective.LogitScale  # of the logits whose cross-entropy c weighs
    rounding: float
    seed: tf.Tensor  # int32 scalar, of the random draws

    @property
    def logits(self) -> objective.FlatLogits:
        """The logits of flat pixels `[batch, n]`, before scaling."""
        return self.network(self.weights)

    @property
    def accepted(self) -> tf.Tensor:
        """Bool `[batch, classes]`, the classes that count as success."""
        return objective.accepted_classes(self.classes, self.num_classes, targeted=self.targeted)

    def reached(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns a bool `[batch]`: logits, one row an image, before scaling, have an accepted class on top."""
        finite = tf.reduce_all(tf.math.is_finite(logits), axis=1)
        return finite & self.scale.reached(self.scale.apply(logits), self.accepted)


def scaled(logits: objective.FlatLogits, scale: objective.LogitScale) -> objective.FlatLogits:
    """Returns the logits, multiplied by the factor of each row."""
    return lambda position: scale.apply(logits(position))


class Progress(NamedTuple):
    """The best result for each image so far, and what it has cost."""

    current: tf.Tensor  # [batch, n], where the search goes on
    nearest: tf.Tensor  # [batch, n], the least distorted success so far
    squared_length: tf.Tensor  # [batch], of its perturbation; infinite where there is none
    num_evaluations: tf.Tensor  # [batch] int32
    line_search_failed: tf.Tensor  # [batch] bool, in the last minimization
    out_of_budget: tf.Tensor  # [batch] bool: something had to be left undone
