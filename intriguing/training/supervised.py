"""Supervised training under every strategy: minibatches with Adam, or full-batch L-BFGS until convergence.

The `fit` of Keras fails under MultiWorkerMirroredStrategy, and XLA programs with variables fail under MirroredStrategy. Here,
the weights are passed to `stateless_call` as tensors, and the gradients are averaged over the replicas.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from intriguing.models.functional import in_mode, values_of
from intriguing.optimize import lbfgs
from intriguing.training.checked_examples import (
    check_classifier,
    check_images_shape,
    checked_batches,
    checked_labels,
    raising_label_errors,
)
from intriguing.training.losses import BatchLoss, cross_entropies, cross_entropy_for, returns_probabilities
from intriguing.training.losses import cross_entropy as cross_entropy
from intriguing.training.replicated_step import (
    ReplicatedState,
    WeightLoss,
    check_divides,
    check_float32,
    check_trains_the_same,
    training_step,
    unflatten,
)
from intriguing.training.spectral_regularizer import spectral_penalties


@dataclasses.dataclass(frozen=True, kw_only=True)
class MinibatchTraining:
    """Settings of training by Adam with a learning rate that decreases along a cosine.

    Attributes:
        num_epochs: Passes over the training set.
        batch_size: Number of images in one step, over all replicas together.
        learning_rate: The largest learning rate.
        warmup: Fraction of all steps during which the learning rate first increases from zero.
        last_rate: The last learning rate, relative to the largest.
        spectral_penalty: Weight of the squared bound of the operator norm of every dense and convolutional kernel, in addition
            to the regularizers of the model.
        averaging: Decay of the exponential moving average of the weights, which the trained network uses; 0 for the weights of
            the last step. At 0.999, the average extends over some thousand steps. The decay after t steps is at most t / (t +
            10), which reduces the weight of the first steps.
    """

    num_epochs: int = 60
    batch_size: int = 50
    learning_rate: float = 5e-3
    warmup: float = 0.0
    last_rate: float = 0.0
    spectral_penalty: float = 0.0
    averaging: float = 0.0

    def __post_init__(self) -> None:
        for name in ("num_epochs", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive; received {getattr(self, name)}.")
        for name in ("warmup", "averaging"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must lie in [0, 1); received {getattr(self, name)}.")
        if not 0.0 <= self.last_rate <= 1.0:
            raise ValueError(f"last_rate must lie in [0, 1]; received {self.last_rate}.")
        if not 0.0 <= self.spectral_penalty < inf:
            raise ValueError(f"spectral_penalty must be finite and not negative; received {self.spectral_penalty}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullBatchTraining:
    """Settings of training by L-BFGS on the whole training set, until convergence.

    Attributes:
        max_iterations: Maximum number of iterations.
        tolerance: Training has converged if no entry of the gradient is larger than this.
    """

    max_iterations: int = 1000
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        if self.max_iterations < 1 or self.tolerance < 0:
            raise ValueError(f"max_iterations must be positive and tolerance not negative; received {self}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """The results of training: the mean loss of each epoch, or of each report of L-BFGS."""

    losses: tuple[float, ...]
    converged: bool | None  # L-BFGS met its tolerance, or no step reduces the loss in float32; None for minibatches


_ITERATIONS_PER_REPORT = 50

Report = Callable[[int, int, float], None]
"""Called as `report(done, total, loss)` during training."""


def fit_minibatches(
    model: keras.Model,
    batches: tf.data.Dataset,
    *,
    steps_per_epoch: int,
    settings: MinibatchTraining = MinibatchTraining(),
    loss: BatchLoss | None = None,
    report: Report = lambda done, total, loss: None,
) -> TrainingRecord:
    """Trains `model` in place, under the current strategy.

    Args:
        model: A model that is built inside the scope of the strategy. Its regularizers are added to the loss.
        batches: An infinite data set of batches `(images, labels)` in fixed shapes, `settings.batch_size` images each.
        steps_per_epoch: Number of batches in one epoch.
        settings: Epochs and learning rate.
        loss: The loss of one batch, averaged over the replicas, each of which receives an equal part. If None, the
            cross-entropy of the labels, for a model that returns logits or ends in a softmax.
        report: Called after every epoch.

    Returns:
        A `TrainingRecord`.

    Raises:
        ValueError: If a batch cannot be divided among the replicas, or there is no kernel for the spectral penalty. Without
            a `loss`, also if the model, the images and the labels do not match; labels are checked in every batch.
        TypeError: If the labels are not integers, or the weights of the model are not float32.

    Example:
        >>> batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(50).repeat()
        >>> settings = MinibatchTraining(num_epochs=2, batch_size=50)
        >>> record = fit_minibatches(build("FC10(1)", image_shape=(6, 6, 1)), batches, steps_per_epoch=4, settings=settings)
        >>> len(record.losses)
        2
    """
    strategy = tf.distribute.get_strategy()
    check_divides(settings.batch_size)
    if loss is None:
        batches, _ = checked_batches(model, batches)
        loss = cross_entropy_for(model)
    state = ReplicatedState(model, averaging=settings.averaging)
    step = training_step(loss_of_weights(model, loss, settings), learning_rate(settings, steps_per_epoch), state)

    @tf.function
    def epoch(iterator: Any) -> tf.Tensor:
        total = tf.constant(0.0)
        for _ in tf.range(steps_per_epoch):
            value = strategy.run(step, args=(next(iterator),))
            total += strategy.experimental_local_results(value)[0][0]
        return total / tf.cast(steps_per_epoch, tf.float32)

    iterator = iter(strategy.experimental_distribute_dataset(batches))
    losses = []
    for index in range(settings.num_epochs):
        state.check_unchanged(model)
        with raising_label_errors():
            losses.append(float(epoch(iterator)))
        report(index + 1, settings.num_epochs, losses[-1])
    state.copy_to_model()
    return TrainingRecord(losses=tuple(losses), converged=None)


def learning_rate(settings: MinibatchTraining, steps_per_epoch: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the learning rate as a function of the step: it increases in the warmup, then decreases along a cosine."""
    num_steps = steps_per_epoch * settings.num_epochs
    warmup_steps = int(settings.warmup * num_steps)
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(settings.learning_rate, num_steps, alpha=settings.last_rate)
    return keras.optimizers.schedules.CosineDecay(
        0.0, num_steps - warmup_steps, settings.last_rate, warmup_target=settings.learning_rate, warmup_steps=warmup_steps
    )


def loss_of_weights(model: keras.Model, loss: BatchLoss, settings: MinibatchTraining) -> WeightLoss:
    """Returns a pure function of the weights and a batch `(images, labels)`: the loss with all regularizers, and without them.

    Raises:
        ValueError: If there is a spectral penalty, but no kernel for it.
    """
    spectral = spectral_penalties(model, settings.spectral_penalty)

    def losses(trainable: list[tf.Tensor], fixed: list[tf.Tensor], batch: Any) -> tuple[tf.Tensor, list[tf.Tensor]]:
        images, labels = batch
        outputs, updated, penalties = model.stateless_call(
            trainable, fixed, images, return_losses=True, **in_mode(model, training=True)
        )
        value = loss(outputs, images, labels)
        return tf.stack([value + total_of([*penalties, *spectral(trainable)]), value]), updated

    return losses


def total_of(penalties: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the sum of penalties, which may have a lower precision, as a float32 scalar."""
    return tf.add_n([tf.constant(0.0), *(tf.cast(tf.reduce_sum(penalty), tf.float32) for penalty in penalties)])


def fit_full_batch(
    model: keras.Model,
    images: tf.Tensor,
    labels: tf.Tensor,
    *,
    settings: FullBatchTraining = FullBatchTraining(),
    report: Report = lambda done, total, loss: None,
) -> TrainingRecord:
    """Trains `model` in place by L-BFGS on the mean cross-entropy of the whole training set, plus regularizers.

    Args:
        model: A built model from images to logits, or to probabilities by a final softmax.
        images: Float32 `[n, ...]`; divided among the replicas of the current strategy.
        labels: Integer `[n]`, one class for each image.
        settings: Maximum number of iterations and tolerance.
        report: Called every fifty iterations.

    Returns:
        A `TrainingRecord`; `converged` is False if L-BFGS stopped after `max_iterations`.

    Raises:
        ValueError: If the model, the images and the labels do not match.
        TypeError: If the labels are not integers, or the weights of the model are not float32.

    Example:
        >>> record = fit_full_batch(build("FC10(1)", image_shape=(6, 6, 1)), tf.constant(images), tf.constant(labels))
        >>> record.converged
        True

    References:
        Szegedy et al., 2014, section 4.2: each model was trained with L-BFGS until convergence.
    """
    strategy = tf.distribute.get_strategy()
    check_float32(model)
    check_images_shape(model, images.shape)
    labels = checked_labels(labels, num_images=len(images), num_classes=check_classifier(model, images))
    from_logits = not returns_probabilities(model)
    trained = list(model.trainable_variables)  # stored, because the list changes with `trainable`
    shapes = [tuple(variable.shape) for variable in trained]
    fixed = values_of(model.non_trainable_variables)
    shards = _shards(strategy, images, labels)

    @tf.function(jit_compile=True, autograph=False)
    def value_and_gradient(flat: tf.Tensor, fixed: list[tf.Tensor], shard: tuple[tf.Tensor, ...]) -> Any:
        images, labels, weights = shard
        with tf.GradientTape() as tape:
            tape.watch(flat)
            outputs, _, penalties = model.stateless_call(
                unflatten(flat, shapes), fixed, images, return_losses=True, **in_mode(model, training=False)
            )
            losses = cross_entropies(outputs, labels, from_logits=from_logits)
            value = tf.reduce_sum(weights * losses) + total_of(penalties) / strategy.num_replicas_in_sync
        return tf.concat([value[tf.newaxis], tape.gradient(value, flat)], axis=0)

    @tf.function(autograph=False)
    def objective(flat: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        both = strategy.run(value_and_gradient, args=(flat, fixed, shards))
        total = strategy.reduce(tf.distribute.ReduceOp.SUM, both, axis=None)
        return total[0], total[1:]

    def advance(progress: lbfgs.Progress, until: tf.Tensor) -> lbfgs.Progress:
        return lbfgs.resume(objective, progress, max_iterations=until, tolerance=settings.tolerance)

    # TensorFlow 2.21 orders the collectives of several workers by edges that cannot cross the nested loops of the line search;
    # such a graph hangs. With several workers, the iterations run in a Python loop.
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        advance = tf.function(advance, autograph=False)
    start = tf.concat([tf.reshape(value, [-1]) for value in values_of(trained)], axis=0)
    progress = lbfgs.begin(objective, start, tolerance=settings.tolerance)
    losses = []
    for until in range(_ITERATIONS_PER_REPORT, settings.max_iterations + _ITERATIONS_PER_REPORT, _ITERATIONS_PER_REPORT):
        check_trains_the_same(model, trained)
        progress = advance(progress, tf.constant(min(until, settings.max_iterations)))
        losses.append(float(progress.objective_value))
        report(int(progress.num_iterations), settings.max_iterations, losses[-1])
        if progress.converged or progress.failed:
            break
    for variable, value in zip(trained, unflatten(progress.position, shapes), strict=True):
        variable.assign(value)
    return TrainingRecord(losses=tuple(losses), converged=bool(progress.converged))


def _shards(strategy: tf.distribute.Strategy, images: tf.Tensor, labels: tf.Tensor) -> Any:
    """Returns the rows of each replica, with weights that sum to 1 over all replicas; rows of padding have weight 0."""
    num_images, num_replicas = int(images.shape[0]), strategy.num_replicas_in_sync
    share = -(-num_images // num_replicas)

    def share_of(context: tf.distribute.ValueContext) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        index = context.replica_id_in_sync_group * share + np.arange(share)
        rows = np.minimum(index, num_images - 1)
        weights = (index < num_images).astype(np.float32) / num_images
        return tf.gather(images, rows), tf.gather(labels, rows), tf.constant(weights)

    return strategy.experimental_distribute_values_from_function(share_of)
