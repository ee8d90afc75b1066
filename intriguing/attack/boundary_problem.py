"""The problem of finding the nearest point on the boundary of a wanted class, and its solution, one row per problem."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from intriguing.attack import objective


class BoundaryProblem(NamedTuple):
    """Minimize |r| such that the wanted class has the largest logit, one row per problem."""

    clean: tf.Tensor  # [batch, n], the image from which |r| is measured
    start: tf.Tensor  # [batch, n], the start of the first run
    wanted: tf.Tensor  # [batch] int32, the class to reach
    rivals: tf.Tensor  # [batch, classes] bool, the classes whose logits must be below that of the wanted class
    max_evaluations: tf.Tensor  # [batch] int32, the budget
    max_without_success: tf.Tensor  # [batch] int32, evaluations after which a row without success ends
    scale: objective.LogitScale  # the scale of the logits of each row

    def logits(self, logits: objective.FlatLogits) -> objective.FlatLogits:
        """Returns the logits of points `[batch, n]`, or of several for each row `[points * batch, n]`, in the rows' scale."""

        def scaled(points: tf.Tensor) -> tf.Tensor:
            num_points = points.shape[0] // self.clean.shape[0]
            return tf.tile(self.scale.factor, [num_points])[:, tf.newaxis] * logits(points)

        return scaled


class BoundaryPoint(NamedTuple):
    """The nearest points found, one row per problem."""

    position: tf.Tensor  # [batch, n]; undefined where `length` is infinite
    length: tf.Tensor  # [batch], |r|; infinite where no success was found
    num_evaluations: tf.Tensor  # [batch] int32
    converged: tf.Tensor  # [batch] bool: enough runs converged before the budget was exhausted
