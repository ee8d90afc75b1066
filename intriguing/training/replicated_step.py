"""One training step on every replica: gradients, their mean, Adam, and an average of the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from intriguing.distribution.compilation import compile_with_chance
from intriguing.models.functional import values_of
from intriguing.optimize.adam import adam_step, initial_moments
from intriguing.training.checked_examples import listed

WeightLoss = Callable[[list[tf.Tensor], list[tf.Tensor], Any], tuple[tf.Tensor, list[tf.Tensor]]]
"""From `(trainable weights, other weights, batch)` to losses, of which the first is minimized, and updated other weights."""

_WARMUP_STEPS = 10.0  # the average of the weights keeps at most t / (t + _WARMUP_STEPS) after t steps


def check_divides(batch_size: int) -> None:
    """Raises a `ValueError` if a batch cannot be divided among the replicas of the current strategy."""
    num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if batch_size % num_replicas:
        raise ValueError(f"batch_size must be a multiple of the number of replicas, {num_replicas}; received {batch_size}.")


def check_float32(model: keras.Model) -> None:
    """Raises a `TypeError` if a trainable weight of a model is not float32."""
    others = [variable for variable in model.trainable_variables if variable.dtype != "float32"]
    if others:
        raise TypeError(
            f"the trainable weights must be float32; the weight {others[0].path!r} of the model {model.name!r} is "
            f"{others[0].dtype}. Build the model with the dtype policy 'float32', 'mixed_bfloat16' or 'mixed_float16'."
        )


def check_trains_the_same(model: keras.Model, trained: Sequence[Any]) -> None:
    """Raises a `ValueError` unless the trainable weights of a model are those at the beginning of its training."""
    now, before = ({id(variable): variable.path for variable in part} for part in (model.trainable_variables, trained))
    changed = [path for key, path in {**before, **now}.items() if key not in before or key not in now]
    if changed:
        raise ValueError(
            f"the trainable weights of the model {model.name!r} must stay the same during its training; `trainable` changed "
            f"for {listed(changed)}. Set `trainable` before training, and train each stage in a separate call."
        )


class ReplicatedState:
    """Weights and moments as variables with one copy per replica; equal gradients keep the copies equal."""

    def __init__(self, model: keras.Model, *, averaging: float = 0.0, saved: Sequence[tf.Tensor] | None = None):
        """Creates the variables on every replica of the current strategy.

        Args:
            model: A built model, whose weights are the initial ones unless `saved` is given.
            averaging: As in `MinibatchTraining`.
            saved: The result of `values` of another state for such a model.
        """
        check_float32(model)
        # Stored, because the order of the lists changes with `trainable`.
        self._trained, self._others = list(model.trainable_variables), list(model.non_trainable_variables)
        trainable = values_of(self._trained)
        parts = [
            trainable,
            values_of(self._others),
            initial_moments(trainable),
            trainable if averaging else [],
        ]
        remaining = iter([value for part in parts for value in part] if saved is None else saved)
        self.trainable, self.fixed, self.moments, self.averages = (
            _replicated([next(remaining) for _ in part]) for part in parts
        )
        self.averaging = averaging

    def values(self) -> list[tf.Tensor]:
        """Returns the values of all variables."""
        return _read([*self.trainable, *self.fixed, *self.moments, *self.averages])

    def check_unchanged(self, model: keras.Model) -> None:
        """Raises a `ValueError` if other weights of the model are trainable than at the creation of this state."""
        check_trains_the_same(model, self._trained)

    def copy_to_model(self, *, averaged: bool = True) -> None:
        """Assigns the weights to the model; their averages if there are any and `averaged` is True."""
        trained = self.averages if self.averages and averaged else self.trainable
        for variable, value in zip([*self._trained, *self._others], [*trained, *self.fixed], strict=True):
            variable.assign(value.read_value())


def _replicated(values: Iterable[tf.Tensor]) -> list[tf.Variable]:
    on_read, first = tf.VariableSynchronization.ON_READ, tf.VariableAggregation.ONLY_FIRST_REPLICA
    return [tf.Variable(value, trainable=False, synchronization=on_read, aggregation=first) for value in values]


def _read(variables: Iterable[tf.Variable]) -> list[tf.Tensor]:
    return [variable.read_value() for variable in variables]


def training_step(
    losses: WeightLoss, schedule: Callable[[tf.Tensor], tf.Tensor], state: ReplicatedState
) -> Callable[[Any], tf.Tensor]:
    """Returns one step of Adam for `strategy.run`: from a batch of a replica to the losses, averaged over the replicas."""

    draws = any(not value.dtype.is_floating for value in state.fixed)  # the seeds of layers such as dropout are integers

    @tf.function(jit_compile=compile_with_chance(draws), autograph=False)
    def gradients(trainable: list[tf.Tensor], fixed: list[tf.Tensor], batch: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(trainable)
            values, updated = losses(trainable, fixed, batch)
            minimized = values[0]
        return values, tape.gradient(minimized, trainable), updated

    @tf.function(jit_compile=True, autograph=False)
    def update(
        trainable: list[tf.Tensor], gradient: list[tf.Tensor], moments: list[tf.Tensor], averages: list[tf.Tensor]
    ) -> Any:
        moved, moments = adam_step(trainable, gradient, moments, schedule(moments[0]))
        kept = tf.minimum(state.averaging, moments[0] / (moments[0] + _WARMUP_STEPS))
        return moved, moments, [kept * mean + (1.0 - kept) * new for mean, new in zip(averages, moved, strict=False)]

    def step(batch: Any) -> tf.Tensor:
        trainable = _read(state.trainable)
        values, gradient, fixed = _mean_over_replicas(gradients(trainable, _read(state.fixed), batch))
        updated = [*update(trainable, gradient, _read(state.moments), _read(state.averages)), fixed]
        kept = [*state.trainable, *state.moments, *state.averages, *state.fixed]
        for variable, new in zip(kept, [value for part in updated for value in part], strict=True):
            variable.assign(new)
        return values

    return step


def _mean_over_replicas(structure: Any) -> Any:
    """Averages every floating-point tensor of a structure, all in one collective, because each collective has a latency."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return structure
    tensors = tf.nest.flatten(structure)
    floating = [tensor for tensor in tensors if tensor.dtype.is_floating]
    flat = tf.concat([tf.reshape(tensor, [-1]) for tensor in floating], axis=0)
    means = iter(unflatten(context.all_reduce(tf.distribute.ReduceOp.MEAN, flat), [tensor.shape for tensor in floating]))
    return tf.nest.pack_sequence_as(structure, [next(means) if tensor.dtype.is_floating else tensor for tensor in tensors])


def unflatten(flat: tf.Tensor, shapes: Sequence[Sequence[int]]) -> list[tf.Tensor]:
    """Splits a vector into tensors of the given shapes."""
    parts = tf.split(flat, [int(np.prod(shape)) for shape in shapes])
    return [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]
