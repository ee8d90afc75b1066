"""The problem of the nearest point on the boundary of a wanted class, and its solution, one row per problem."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from intriguing.attack import objective


class BoundaryProblem(NamedTuple):
    """What is asked, one row per problem."""

    clean: tf.Tensor  # [batch, n], the image to stay near to
    start: tf.Tensor  # [batch, n], where the first walk begins
    wanted: tf.Tensor  # [batch] int32, the class to go to
    rivals: tf.Tensor  # [batch, classes] bool, the classes that the wanted one must beat; that is success
    max_evaluations: tf.Tensor  # [batch] int32, the budget
    max_fruitless: tf.Tensor  # [batch] int32, evaluations after which a row ends that found nothing
    scale: objective.LogitScale  # of the logits of each row

    def logits(self, logits: objective.FlatLogits) -> objective.FlatLogits:
        """Returns the logits of points `[batch, n]`, or of several for each row `[points * batch, n]`, in the rows' scale."""

        def scaled(points: tf.Tensor) -> tf.Tensor:
            num_points = points.shape[0] // self.clean.shape[0]
            return tf.tile(self.scale.factor, [num_points])[:, tf.newaxis] * logits(points)

        return scaled


class BoundaryPoint(NamedTuple):
    """What was found, one row per problem."""

    position: tf.Tensor  # [batch, n]; of no meaning where `length` is infinite
    length: tf.Tensor  # [batch], |r|; infinite where nothing was found
    num_evaluations: tf.Tensor  # [batch] int32
    arrived: tf.Tensor  # [batch] bool: walks enough ended at a nearest point; False where the budget ran out before
