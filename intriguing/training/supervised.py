"""Supervised training under every strategy: minibatches with Adam, or full-batch L-BFGS until convergence.

Keras's `fit` fails under MultiWorkerMirroredStrategy, and variables inside XLA programs fail under MirroredStrategy. Here the
weights travel through `stateless_call` as tensors; gradients are averaged over the replicas in between.
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
    telling_wrong_labels,
)
from intriguing.training.losses import BatchLoss, returns_probabilities, surprise_of, surprises
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
    """Adam with a learning rate that falls along a cosine.

    Attributes:
        num_epochs: Passes over the training set.
        batch_size: Images of one step, over all replicas together.
        learning_rate: The largest one.
        warmup: Share of all steps over which the learning rate first climbs from zero.
        last_rate: Where the learning rate ends, as a share of the largest.
        spectral_penalty: Weight of the squared bound of the operator norm of every dense and convolutional kernel, added to the
            regularizers that the model brings.
        averaging: What the trained network keeps of its weights in every step, of an average over the path that Adam takes; 0
            for the weights where the path ends. At 0.999 the average looks back over some thousand steps. It forgets its
            beginning: after t steps it keeps at most t / (t + 10).
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
    """L-BFGS on the whole training set, until convergence.

    Attributes:
        max_iterations: The budget.
        tolerance: Converged when no entry of the gradient is larger.
    """

    max_iterations: int = 1000
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        if self.max_iterations < 1 or self.tolerance < 0:
            raise ValueError(f"max_iterations must be positive and tolerance not negative; received {self}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """What training did: the mean loss of each epoch, or of each report of L-BFGS."""

    losses: tuple[float, ...]
    converged: bool | None  # L-BFGS met its tolerance, or no step in float32 goes lower; None for minibatches


_ITERATIONS_PER_REPORT = 50

Report = Callable[[int, int, float], None]
"""Called as `report(done, total, loss)` while training runs."""


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
        model: Built inside the scope of the strategy. Its regularizers are added to the loss.
        batches: Endless `(images, labels)`, each batch `settings.batch_size` images, in fixed shapes.
        steps_per_epoch: Batches between two reports.
        settings: Epochs and learning rate.
        loss: Of one batch; averaged over the replicas, each of which sees an equal part. None for the cross-entropy of the
            labels, of a model that returns logits or ends in a softmax.
        report: Called after every epoch.

    Returns:
        A `TrainingRecord`.

    Raises:
        ValueError: If a batch cannot be divided among the replicas, or if there is no kernel for the spectral penalty; without
            a `loss`, also if the model, the images and the labels do not fit together; labels are checked in every batch.
        TypeError: If the labels are not integers, or the weights of the model not float32.

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
        loss = surprise_of(model)
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
        with telling_wrong_labels():
            losses.append(float(epoch(iterator)))
        report(index + 1, settings.num_epochs, losses[-1])
    state.copy_to_model()
    return TrainingRecord(losses=tuple(losses), converged=None)


def learning_rate(settings: MinibatchTraining, steps_per_epoch: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the learning rate as a function of the number of steps taken: up over the warmup, then down along a cosine."""
    num_steps = steps_per_epoch * settings.num_epochs
    climbing = int(settings.warmup * num_steps)
    if not climbing:
        return keras.optimizers.schedules.CosineDecay(settings.learning_rate, num_steps, alpha=settings.last_rate)
    return keras.optimizers.schedules.CosineDecay(
        0.0, num_steps - climbing, settings.last_rate, warmup_target=settings.learning_rate, warmup_steps=climbing
    )


def loss_of_weights(model: keras.Model, loss: BatchLoss, settings: MinibatchTraining) -> WeightLoss:
    """Returns the loss of a batch `(images, labels)`, with all regularizers and without, as a pure function of the weights.

    Raises:
        ValueError: If a spectral penalty is asked for, and there is no kernel for it.
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
    """Returns the sum of penalties as a float32 scalar, also of those of layers with reduced precision."""
    return tf.add_n([tf.constant(0.0), *(tf.cast(tf.reduce_sum(penalty), tf.float32) for penalty in penalties)])


def fit_full_batch(
    model: keras.Model,
    images: tf.Tensor,
    labels: tf.Tensor,
    *,
    settings: FullBatchTraining = FullBatchTraining(),
    report: Report = lambda done, total, loss: None,
) -> TrainingRecord:
    """Trains the trainable weights of `model` in place by L-BFGS on the mean cross-entropy of the whole set, plus regularizers.

    Args:
        model: Built, from `images` to logits, or to probabilities by a softmax at its end.
        images: Float32 `[n, ...]`; divided among the replicas of the current strategy.
        labels: Integer `[n]`, one class for each image.
        settings: Budget and tolerance.
        report: Called every fifty iterations.

    Returns:
        A `TrainingRecord`; whether L-BFGS ended by itself is in `converged`.

    Raises:
        ValueError: If the model, the images and the labels do not fit together.
        TypeError: If the labels are not integers, or the weights of the model not float32.

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
    trained = list(model.trainable_variables)  # kept, as the list changes with `trainable`
    shapes = [tuple(variable.shape) for variable in trained]
    fixed = values_of(model.non_trainable_variables)
    shards = _shards(strategy, images, labels)

    @tf.function(jit_compile=True, autograph=False)
    def value_and_gradient(flat: tf.Tensor, fixed: list[tf.Tensor], shard: tuple[tf.Tensor, ...]) -> Any:
        pictures, answers, weights = shard
        with tf.GradientTape() as tape:
            tape.watch(flat)
            outputs, _, penalties = model.stateless_call(
                unflatten(flat, shapes), fixed, pictures, return_losses=True, **in_mode(model, training=False)
            )
            losses = surprises(outputs, answers, from_logits=from_logits)
            value = tf.reduce_sum(weights * losses) + total_of(penalties) / strategy.num_replicas_in_sync
        return tf.concat([value[tf.newaxis], tape.gradient(value, flat)], axis=0)

    @tf.function(autograph=False)
    def objective(flat: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        both = strategy.run(value_and_gradient, args=(flat, fixed, shards))
        total = strategy.reduce(tf.distribute.ReduceOp.SUM, both, axis=None)
        return total[0], total[1:]

    def advance(progress: lbfgs.Progress, until: tf.Tensor) -> lbfgs.Progress:
        return lbfgs.resume(objective, progress, max_iterations=until, tolerance=settings.tolerance)

    # TensorFlow 2.21 orders the collectives of several workers by edges that cannot cross the nested loops of the line search:
    # such a graph hangs. There, Python drives the iterations.
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
    """Gives each replica its rows, with weights that sum to one; rows that fill up the last share weigh nothing."""
    num_images, num_replicas = int(images.shape[0]), strategy.num_replicas_in_sync
    share = -(-num_images // num_replicas)

    def share_of(context: tf.distribute.ValueContext) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        index = context.replica_id_in_sync_group * share + np.arange(share)
        rows = np.minimum(index, num_images - 1)
        weights = (index < num_images).astype(np.float32) / num_images
        return tf.gather(images, rows), tf.gather(labels, rows), tf.constant(weights)

    return strategy.experimental_distribute_values_from_function(share_of)
