"""The loss of a minibatch of clean images and of examples from pools, which train the layers above the pools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from intriguing.models.functional import in_mode
from intriguing.models.layer_split import LayerCut
from intriguing.training.adversarial_pool import LayerPool, Pool
from intriguing.training.losses import cross_entropy_for
from intriguing.training.supervised import MinibatchTraining, WeightLoss, loss_of_weights

Drawn = tuple[tf.Tensor, tf.Tensor, tf.Tensor]
"""Activations, labels, and 1.0 if they come from a pool that is not empty."""


def draw(pool: Pool, num_rows: Any, seed: Any) -> Drawn:
    """Draws rows for this replica from a pool. Every replica draws the rows of all replicas, and keeps its part."""
    context = tf.distribute.get_replica_context()
    num_all = num_rows * context.num_replicas_in_sync
    drawn = tf.random.stateless_uniform([num_all], seed, 0, tf.maximum(pool.count, 1), tf.int32, alg="philox")
    rows = tf.reshape(drawn, [context.num_replicas_in_sync, num_rows])[context.replica_id_in_sync_group]
    return tf.gather(pool.activations, rows), tf.gather(pool.labels, rows), tf.cast(pool.count > 0, tf.float32)


def loss_with_pools(
    model: keras.Model, cuts: Sequence[LayerCut], pools: Sequence[LayerPool], minibatches: MinibatchTraining
) -> WeightLoss:
    """Returns the sum of the losses of clean images and of the examples of every pool, each multiplied by its share."""
    of_images = loss_of_weights(model, cross_entropy_for(model), minibatches)
    of_pools = losses_of_pools(model, cuts)
    clean_share = 1.0 - sum(pool.share for pool in pools)

    def losses(trainable: list[tf.Tensor], fixed: list[tf.Tensor], batch: Any) -> tuple[tf.Tensor, list[tf.Tensor]]:
        clean, drawn = batch
        values, updated = of_images(trainable, fixed, clean)
        regularized, clean_loss = tf.unstack(values)
        pool_losses = of_pools(trainable, fixed, drawn)
        weighed = [pool.share * value for pool, value in zip(pools, pool_losses, strict=True)]
        minimized = (regularized - clean_loss) + clean_share * clean_loss + tf.add_n(weighed)
        return tf.stack([minimized, clean_loss, *pool_losses]), updated

    return losses


def losses_of_pools(
    model: keras.Model, cuts: Sequence[LayerCut]
) -> Callable[[list[tf.Tensor], list[tf.Tensor], Sequence[Drawn]], list[tf.Tensor]]:
    """Returns the mean cross-entropy of the examples drawn from every pool, as a pure function of the weights of the model.

    The weights are the values of `model.trainable_variables` and `model.non_trainable_variables` when the returned function is
    called; `trainable` may change before.
    """
    cross_entropy = cross_entropy_for(model)

    def losses(trainable: list[tf.Tensor], fixed: list[tf.Tensor], drawn: Sequence[Drawn]) -> list[tf.Tensor]:
        values = _values_by_variable(model, trainable, fixed)
        pool_losses = []
        for cut, (activations, labels, filled) in zip(cuts, drawn, strict=True):
            # The updated statistics of batch normalization are discarded: only clean images update them.
            outputs, _ = cut.above.stateless_call(
                [values[id(variable)] for variable in cut.above.trainable_variables],
                [values[id(variable)] for variable in cut.above.non_trainable_variables],
                activations,
                **in_mode(cut.above, training=True),
            )  # fmt: skip
            pool_losses.append(filled * cross_entropy(outputs, activations, labels))
        return pool_losses

    return losses


def _values_by_variable(model: keras.Model, trainable: list[tf.Tensor], fixed: list[tf.Tensor]) -> dict[int, tf.Tensor]:
    """Returns the value of each variable of a model by the variable's `id`.

    The positions of variables in these lists change with `trainable`, and a variable may be trainable in the part above a
    layer, but not in the whole model.
    """
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    return {id(variable): value for variable, value in zip(variables, [*trainable, *fixed], strict=True)}
