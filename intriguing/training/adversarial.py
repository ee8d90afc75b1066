"""Adversarial training with pools of examples at chosen layers; training and attacks alternate."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from intriguing.attack import COARSE_SEARCH, DistortionSearch
from intriguing.distribution.strategy import writes_files
from intriguing.models.layer_split import IMAGES, LayerCut, cut_at
from intriguing.training.adversarial_pool import (
    AdversarialActivations,
    LayerPool,
    Pool,
    check_pools,
    check_trainable_above,
    empty_pool,
    legal_images,
    make_examples,
    mean_distortion,
    renew,
)
from intriguing.training.checked_examples import checked_batches, raising_label_errors
from intriguing.training.checkpoint import load_checkpoint, save_checkpoint
from intriguing.training.pool_loss import draw, loss_with_pools
from intriguing.training.replicated_step import ReplicatedState, check_divides, training_step
from intriguing.training.supervised import MinibatchTraining, learning_rate


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdversarialTraining:
    """Training by minibatches that include adversarial examples from pools, which are renewed between rounds of training.

    Attributes:
        minibatches: Settings of the training. `batch_size` is the number of clean images; the examples of the pools are added.
        pools: One pool for each layer. The examples of a layer train the layers above it.
        rounds_per_epoch: Renewals of the pools in one pass over the training set. If examples are seldom renewed, the trained
            network soon classifies them correctly.
        search: The attack. Its `pixel_box` applies to images; at a layer, the range of the activations is used instead.
        attack_batch_size: Number of images in one call of the attack.
    """

    minibatches: MinibatchTraining = MinibatchTraining()
    pools: tuple[LayerPool, ...] = (LayerPool(layer=IMAGES),)
    rounds_per_epoch: int = 10
    search: DistortionSearch = COARSE_SEARCH
    attack_batch_size: int = 1000

    def __post_init__(self) -> None:
        for name in ("rounds_per_epoch", "attack_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive; received {getattr(self, name)}.")
        check_pools(self.pools)

    @property
    def share_of_pools(self) -> float:
        """Fraction of every minibatch that comes from all pools together."""
        return sum(pool.share for pool in self.pools)

    @property
    def num_rounds(self) -> int:
        """Number of rounds of the whole training."""
        return self.minibatches.num_epochs * self.rounds_per_epoch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Round:
    """The results of one round; the keys of the mappings are names of layers.

    Attributes:
        num_steps: Cumulative number of minibatches.
        num_epochs: Cumulative number of passes over the training set.
        clean_loss: Mean cross-entropy of the clean images in the round.
        pool_losses: Mean cross-entropy of the examples of each pool; 0 for an empty pool.
        least_distortions: Average minimum distortion of the examples found before the round; None if there are none.
        num_found: Number of attacks that succeeded.
        num_tried: Number of attacked images.
    """

    num_steps: int
    num_epochs: float
    clean_loss: float
    pool_losses: Mapping[str, float]
    least_distortions: Mapping[str, float | None]
    num_found: Mapping[str, int]
    num_tried: Mapping[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdversarialRecord:
    """The results of training: the mean loss of each round, and the records of all rounds."""

    losses: tuple[float, ...]
    rounds: tuple[Round, ...]


RoundReport = Callable[[int, int, str], None]
"""Called as `report(finished rounds, all rounds, message)` during training."""


def fit_adversarially(
    model: keras.Model,
    batches: tf.data.Dataset,
    *,
    steps_per_epoch: int,
    settings: AdversarialTraining,
    seed: int = 0,
    checkpoint: Path | None = None,
    report: RoundReport = lambda done, total, remark: None,
    on_round: Callable[[Round], None] = lambda round: None,
) -> AdversarialRecord:
    """Trains `model` in place, under the current strategy, on clean images and on pools of adversarial examples.

    The pools are empty in the first round. Before every other round, a part of each pool is renewed: the next images of
    `batches` are evaluated up to that layer, and the attack moves their activations, within their range, to the nearest ones
    that the layers above misclassify. Their labels do not change. An example keeps its activations, although the layers below
    change, until it is replaced.

    Args:
        model: Functional or sequential, built inside the scope of the strategy, from images to logits or probabilities of
            classes. Its regularizers are added to the loss.
        batches: An infinite data set of batches `(images, labels)` in fixed shapes, `settings.minibatches.batch_size` images
            each. Every iteration must yield the same order.
        steps_per_epoch: Number of batches in one epoch.
        settings: The pools, the attack and the training.
        seed: Seed for the examples drawn from the pools, and for the examples that are replaced.
        checkpoint: File to which the complete state is saved after each round. If it exists, training resumes from it, with the
            same pools, and ends with the same weights.
        report: Called after every round and every part of an attack.
        on_round: Called after every round.

    Returns:
        An `AdversarialRecord` of the whole training, including rounds before it was resumed.

    Raises:
        ValueError: If a layer is unknown or another path leads around it, if a batch cannot be divided among the replicas, if
            an epoch has fewer batches than rounds, if the checkpoint belongs to another training, or if the model, the images
            and the labels do not match. Labels are checked in every batch.
        TypeError: If the labels are not integers, or the weights of the model are not float32.

    Example:
        >>> batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(50).repeat()
        >>> minibatches = MinibatchTraining(num_epochs=1)
        >>> settings = AdversarialTraining(minibatches=minibatches, pools=(LayerPool(size=16),), rounds_per_epoch=1)
        >>> record = fit_adversarially(build("FC10(1)", image_shape=(6, 6, 1)), batches, steps_per_epoch=4, settings=settings)
        >>> len(record.rounds)
        1

    References:
        Szegedy et al., Intriguing properties of neural networks, 2014, section 4. https://arxiv.org/abs/1312.6199
    """
    training = _Training(model, batches, steps_per_epoch, settings, seed)
    done = training.restore(checkpoint)
    for record in done:
        on_round(record)
    for number in range(len(done), settings.num_rounds):
        training.state.check_unchanged(model)
        with raising_label_errors():
            training.run_round(number, report)
        training.save(checkpoint)
        on_round(training.rounds[-1])
    training.state.copy_to_model()
    return AdversarialRecord(losses=tuple(training.losses), rounds=tuple(training.rounds))


class _Training:
    """The state of a training: the weights with their moments, the pools, and the records."""

    def __init__(
        self, model: keras.Model, batches: tf.data.Dataset, steps_per_epoch: int, settings: AdversarialTraining, seed: int
    ):
        check_divides(settings.minibatches.batch_size)
        batches, images = checked_batches(model, batches)
        legal_images(images, settings.search)
        if steps_per_epoch < settings.rounds_per_epoch:
            raise ValueError(
                f"steps_per_epoch must be at least rounds_per_epoch, {settings.rounds_per_epoch}; received {steps_per_epoch}. "
                "Lower rounds_per_epoch or the batch size."
            )
        self.model, self.batches, self.steps_per_epoch = model, batches, steps_per_epoch
        self.settings, self.seed = settings, seed
        self.cuts = [cut_at(model, pool.layer, pixel_box=settings.search.pixel_box) for pool in settings.pools]
        for cut, pool in zip(self.cuts, settings.pools, strict=True):
            check_trainable_above(cut, pool, model)
        self.pools = [empty_pool(cut, pool) for cut, pool in zip(self.cuts, settings.pools, strict=True)]
        self.losses: list[float] = []
        self.rounds: list[Round] = []

    def restore(self, checkpoint: Path | None) -> list[Round]:
        """Loads the checkpoint if there is one, or initializes the state; returns the finished rounds."""
        saved = load_checkpoint(checkpoint, identity=self._identity()) if checkpoint else None
        averaging = self.settings.minibatches.averaging
        if saved is None:
            self.state = ReplicatedState(self.model, averaging=averaging)
        else:
            values = [tf.constant(saved[f"state_{index}"]) for index in range(sum(name.startswith("state_") for name in saved))]
            self.state = ReplicatedState(self.model, averaging=averaging, saved=values)
            self.pools = [
                Pool(*(tf.constant(saved[f"pool_{index}_{name}"]) for name in Pool._fields)) for index in range(len(self.pools))
            ]
            self.losses = saved["losses"].tolist()
            self.rounds = [Round(**record) for record in json.loads(str(saved["rounds"]))]
        self._start_streams()
        return self.rounds

    def save(self, checkpoint: Path | None) -> None:
        if checkpoint is None or not writes_files():
            return
        tensors = {f"state_{index}": value for index, value in enumerate(self.state.values())}
        for index, pool in enumerate(self.pools):
            tensors |= {f"pool_{index}_{name}": value for name, value in pool._asdict().items()}
        rounds = np.array(json.dumps([dataclasses.asdict(record) for record in self.rounds]))
        save_checkpoint(checkpoint, {**tensors, "losses": np.array(self.losses), "rounds": rounds}, identity=self._identity())

    def _identity(self) -> str:
        """Returns a text that is equal for trainings that may resume each other's checkpoints."""
        # Names instead of paths: Keras numbers unnamed layers, and continues to count when a model is built again.
        trained = {id(variable) for variable in self.model.trainable_variables}
        shapes = [(variable.name, tuple(variable.shape), id(variable) in trained) for variable in self.model.variables]
        return repr((self.settings, self.steps_per_epoch, self.seed, shapes))

    def _start_streams(self) -> None:
        """Skips the batches that training and the attacks have used, and compiles the training."""
        strategy = tf.distribute.get_strategy()
        trained = self.batches.skip(self._steps_before(len(self.rounds)))
        self._trained_on = iter(strategy.experimental_distribute_dataset(trained))
        per_round = -(-max(pool.num_replaced for pool in self.settings.pools) // self.settings.minibatches.batch_size)
        self._attacked = iter(self.batches.skip(per_round * max(0, len(self.rounds) - 1)))
        self._batches_per_attack = per_round
        self._train = _training_round(self.model, self.cuts, self.settings, self.steps_per_epoch, self.seed, self.state)

    def _steps_before(self, number: int) -> int:
        return number * self.steps_per_epoch // self.settings.rounds_per_epoch

    def run_round(self, number: int, report: RoundReport) -> None:
        made = self._attack(number, report) if number else {}
        num_steps = self._steps_before(number + 1)
        means = self._train(self._trained_on, self.pools, tf.constant(num_steps - self._steps_before(number)))
        losses = [float(value) for value in means]
        self.losses.append(losses[0])
        report(number + 1, self.settings.num_rounds, f"epoch {num_steps / self.steps_per_epoch:.1f}, loss {losses[0]:.4g}")
        layers = [pool.layer for pool in self.settings.pools]
        self.rounds.append(
            Round(
                num_steps=num_steps,
                num_epochs=num_steps / self.steps_per_epoch,
                clean_loss=losses[1],
                pool_losses=dict(zip(layers, losses[2:], strict=True)),
                least_distortions={layer: _number(mean_distortion(found)) for layer, found in made.items()},
                num_found={layer: int(tf.math.count_nonzero(found.succeeded)) for layer, found in made.items()},
                num_tried={layer: int(found.succeeded.shape[0]) for layer, found in made.items()},
            )
        )

    def _attack(self, number: int, report: RoundReport) -> dict[str, AdversarialActivations]:
        """Attacks the current weights, not their average, on the same images for every pool, and renews the pools."""
        self.state.copy_to_model(averaged=False)
        batches = [next(self._attacked) for _ in range(self._batches_per_attack)]
        images, labels = (tf.concat(parts, axis=0) for parts in zip(*batches, strict=True))
        made = {}
        for index, (cut, pool) in enumerate(zip(self.cuts, self.settings.pools, strict=True)):
            made[pool.layer] = make_examples(
                cut, pool, images, labels, search=self.settings.search, attack_batch_size=self.settings.attack_batch_size,
                report=functools.partial(self._report_attack, report, pool),
            )  # fmt: skip
            self.pools[index] = renew(self.pools[index], made[pool.layer], seed=(self.seed, number * len(self.cuts) + index))
        return made

    def _report_attack(self, report: RoundReport, pool: LayerPool, done: int) -> None:
        report(len(self.rounds), self.settings.num_rounds, f"attacking {pool.layer}, {done} of {pool.num_replaced}")


def _training_round(
    model: keras.Model,
    cuts: Sequence[LayerCut],
    settings: AdversarialTraining,
    steps_per_epoch: int,
    seed: int,
    state: ReplicatedState,
) -> Callable[[Any, list[Pool], tf.Tensor], tf.Tensor]:
    """Returns a function that trains for some steps: from batches, pools and the number of steps to the mean losses."""
    strategy = tf.distribute.get_strategy()
    minibatches = settings.minibatches
    losses = loss_with_pools(model, cuts, settings.pools, minibatches)
    step = training_step(losses, learning_rate(minibatches, steps_per_epoch), state)
    clean_rows = minibatches.batch_size // strategy.num_replicas_in_sync
    clean_share = 1.0 - settings.share_of_pools
    rows_of_pools = [max(1, round(clean_rows * pool.share / clean_share)) for pool in settings.pools]

    def mixed_step(batch: Any, pools: list[Pool]) -> tf.Tensor:
        number = tf.cast(state.moments[0].read_value(), tf.int32)
        drawn = [
            draw(pool, num_rows, [seed, number * len(pools) + index])
            for index, (pool, num_rows) in enumerate(zip(pools, rows_of_pools, strict=True))
        ]
        return step((batch, drawn))

    @tf.function
    def train(iterator: Any, pools: list[Pool], num_steps: tf.Tensor) -> tf.Tensor:
        total = tf.zeros([2 + len(pools)])
        for _ in tf.range(num_steps):
            values = strategy.run(mixed_step, args=(next(iterator), pools))
            total += strategy.experimental_local_results(values)[0]
        return total / tf.cast(num_steps, tf.float32)

    return train


def _number(value: tf.Tensor) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None
