"""Training with adversarial pools by `fit`: a model that stores its pools, and a callback that renews them."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from intriguing.attack import DistortionSearch
from intriguing.attack.presets import checked_search, search_named
from intriguing.models.functional import checked_classes, values_of
from intriguing.models.layer_split import LayerCut, cut_at
from intriguing.training.adversarial_pool import (
    NO_CALLBACK,
    ONE_ROUND,
    LayerPool,
    Pool,
    check_filled,
    check_pools,
    check_trainable_above,
    empty_pool,
    legal_images,
    make_examples,
    renew,
)
from intriguing.training.checked_examples import (
    check_classifier,
    check_images_shape,
    check_labels_spec,
    check_one_label_each,
    check_outputs,
    checked_labels,
    raising_label_errors,
    with_checked_labels,
)
from intriguing.training.losses import returns_probabilities
from intriguing.training.pool_loss import Drawn, draw, losses_of_pools
from intriguing.training.replicated_step import check_trains_the_same
from intriguing.training.supervised import total_of


class PooledModel(keras.Model):
    """A classifier whose `fit` adds examples from adversarial pools to every minibatch; `RenewPools` generates the examples.

    The classifier is trained in place: its weights are shared. `predict` and `evaluate` use the classifier alone. The pools are
    non-trainable weights, so that `save_weights` and `keras.callbacks.BackupAndRestore` save them, and an interrupted `fit`
    resumes with them. Keras does not save seeds, so that dropout resumes with other masks. To save the network without the
    pools, save the classifier.

    The `fit` of Keras fails under MultiWorkerMirroredStrategy; use `fit_adversarially` instead. Under MirroredStrategy, compile
    with `jit_compile=False`: XLA programs with variables fail under that strategy.

    Args:
        classifier: A functional or sequential model from images to logits or probabilities of classes. Build it and this model
            inside the scope of the strategy.
        pools: One pool for each layer. The examples of a layer train the layers above it.
        search: The attack, or its name as in `minimize_distortion`. Its `pixel_box` applies to images.
        seed: Seed for the examples drawn from the pools, and for the examples that are replaced.
        name: The name of the model.

    Raises:
        ValueError: If a layer is unknown, another path leads around it, or the shares do not sum to less than 1; if the
            classifier does not return one score for each of at least two classes; if no layer above a pool is trainable.
        TypeError: If `pools` is not a sequence of `LayerPool`.

    Example:
        >>> pooled = PooledModel(model, pools=(LayerPool(layer="images"), LayerPool(layer="hidden1")))
        >>> pooled.compile("adam", metrics=["accuracy"])
        >>> renewal = RenewPools(images, labels, rounds_per_epoch=2)
        >>> history = pooled.fit(images, labels, epochs=2, verbose=0, callbacks=[renewal])

    References:
        Szegedy et al., Intriguing properties of neural networks, 2014, section 4. https://arxiv.org/abs/1312.6199
    """

    def __init__(
        self,
        classifier: keras.Model,
        *,
        pools: Sequence[LayerPool],
        search: DistortionSearch | str = "training",
        seed: int = 0,
        name: str | None = None,
    ):
        super().__init__(name=name)
        search = checked_search(search) or search_named("training")
        check_pools(pools)
        cuts = [cut_at(classifier, pool.layer, pixel_box=search.pixel_box) for pool in pools]
        check_outputs(classifier, classifier.outputs[0])
        for cut, pool in zip(cuts, pools, strict=True):
            check_trainable_above(cut, pool, classifier)
        self.classifier, self.pools, self.search, self.seed = classifier, tuple(pools), search, seed
        # A plain object hides the parts from Keras: they are not additional layers, and share the weights of the classifier.
        self._parts = _Parts(cuts, losses_of_pools(classifier, cuts))
        self._pool_weights = [self._weights_for(cut, pool) for cut, pool in zip(cuts, pools, strict=True)]
        self._pool_losses = [keras.metrics.Mean(name=f"{_label(pool)}_pool_loss") for pool in pools]
        self._has_default_loss = True  # until `compile` is called with a loss
        self.built = True

    def _weights_for(self, cut: LayerCut, settings: LayerPool) -> list[keras.Variable]:
        return [
            self.add_weight(
                shape=tensor.shape,
                dtype=tensor.dtype.name,
                initializer="zeros",
                trainable=False,
                name=f"{_label(settings)}_pool_{name}",
            )
            for name, tensor in empty_pool(cut, settings)._asdict().items()
        ]

    def compile(self, optimizer: Any = "adam", loss: Any = None, **options: Any) -> None:
        """Compiles as in Keras; by default, the loss of clean images is the cross-entropy of their labels.

        After a change of `trainable` of a layer, compile again before further training, as with every Keras model.
        """
        self._parts.trained = None
        self._has_default_loss = loss is None
        loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=not returns_probabilities(self.classifier))
        super().compile(optimizer=optimizer, loss=loss, **options)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        **options: Any,
    ) -> keras.callbacks.History:
        """Trains as in Keras; `callbacks` must include `RenewPools` unless the pools already hold examples.

        With the default loss, labels in arrays are checked before training, and labels of a `tf.data.Dataset` when a batch is
        read. Labels of generators, a `PyDataset` and `validation_data` are not checked: a label that is not a class raises an
        error of TensorFlow, or makes the loss NaN in a step compiled by XLA.

        Raises:
            ValueError: If all pools are empty and no callback fills them, if images or labels do not match the classifier, if
                no layer above a pool is trainable, or if `trainable` of a layer changed after the first training step and the
                model was not compiled again.
            TypeError: If the loss is the default one, and the labels are not integers.
        """
        given = getattr(callbacks, "callbacks", callbacks) or []
        given = given if isinstance(given, (list, tuple)) else [given]
        if not any(isinstance(callback, RenewPools) for callback in given):
            check_filled(map(self.pool, range(len(self.pools))), NO_CALLBACK)
        self._check_trained()
        self._check_arrays(x, y)
        if isinstance(x, tf.data.Dataset) and self._has_default_loss:
            x = with_checked_labels(x, num_classes=self.classifier.output_shape[-1])
        with raising_label_errors():
            return super().fit(x, y, batch_size, epochs, verbose, callbacks, **options)

    def _check_arrays(self, x: Any, y: Any) -> None:
        """Raises an error if images or labels are arrays that do not match the classifier."""
        if hasattr(x, "shape"):
            check_images_shape(self.classifier, x.shape)
        if hasattr(y, "shape") and self._has_default_loss:
            num_images = len(x) if hasattr(x, "shape") else len(y)
            checked_labels(y, num_images=num_images, num_classes=self.classifier.output_shape[-1])

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **options: Any) -> Any:
        """Trains on one batch as in Keras; the pools must hold examples."""
        check_filled(map(self.pool, range(len(self.pools))), NO_CALLBACK)
        self._check_trained()
        self._check_arrays(x, y)
        return super().train_on_batch(x, y, *args, **options)

    def _check_trained(self) -> None:
        """Raises a `ValueError` if no layer above a pool is trainable, or the trainable weights have changed."""
        for cut, pool in zip(self._parts.cuts, self.pools, strict=True):
            check_trainable_above(cut, pool, self.classifier)
        if self._parts.trained is None:
            return
        try:
            check_trains_the_same(self.classifier, self._parts.trained)
        except ValueError as error:
            raise ValueError(
                f"the model {self.name!r} must be compiled again after `trainable` of a layer changed; its training step still "
                "trains the weights that were trainable before. Call compile(...) with a new optimizer, then train."
            ) from error

    def call(self, images: Any, training: bool | None = None) -> Any:
        """Returns the outputs of the classifier."""
        return self.classifier(images, training=training)

    def pool(self, index: int) -> Pool:
        """Returns the examples of one of `pools`."""
        return Pool(*values_of(self._pool_weights[index]))

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool | None = True
    ) -> tf.Tensor:
        """Returns the loss; in training, the weighted sum of the losses of clean images and pools, plus the regularizers."""
        if self._has_default_loss and training and y is not None:
            check_labels_spec(y.shape, y.dtype, num_classes=self.classifier.output_shape[-1])
        regularized = super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
        if not training:
            return regularized
        self._check_trained()
        self._parts.trained = list(self.classifier.trainable_variables)
        regularized = tf.cast(regularized, tf.float32)
        num_replicas = tf.distribute.get_strategy().num_replicas_in_sync  # Keras sums the losses of the replicas
        penalties = total_of(self.losses) / num_replicas
        drawn = self._draw(tf.shape(tf.nest.flatten(x)[0])[0])
        trainable, fixed = values_of(self.classifier.trainable_variables), values_of(self.classifier.non_trainable_variables)
        pool_losses = self._parts.losses(trainable, fixed, drawn)
        for metric, value in zip(self._pool_losses, pool_losses, strict=True):
            metric.update_state(value)
        weighed = [pool.share * value / num_replicas for pool, value in zip(self.pools, pool_losses, strict=True)]
        return penalties + self._clean_share * (regularized - penalties) + tf.add_n(weighed)

    @property
    def _clean_share(self) -> float:
        return 1.0 - sum(pool.share for pool in self.pools)

    def _draw(self, num_clean: tf.Tensor) -> list[Drawn]:
        number = tf.cast(tf.convert_to_tensor(self.optimizer.iterations.value), tf.int32)
        drawn = []
        for index, pool in enumerate(self.pools):
            num_rows = tf.round(tf.cast(num_clean, tf.float32) * (pool.share / self._clean_share))
            seed = [self.seed, number * len(self.pools) + index]
            drawn.append(draw(self.pool(index), tf.maximum(1, tf.cast(num_rows, tf.int32)), seed))
        return drawn

    def test_step(self, data: Any) -> dict[str, Any]:
        """Evaluates the classifier, without the pools."""
        pool_losses = {metric.name for metric in self._pool_losses}
        return {name: value for name, value in super().test_step(data).items() if name not in pool_losses}

    def renew(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        *,
        number: int,
        attack_batch_size: int,
        report: Callable[[LayerPool, int], None],
    ) -> None:
        """Attacks images and renews a part of every pool; `RenewPools` calls this method.

        Args:
            images: Float32 `[n, ...]`, n at least the largest `num_replaced` of the pools.
            labels: Int32 `[n]`, the true classes.
            number: Number of the renewal, which together with the seed determines the examples that are replaced.
            attack_batch_size: Number of images in one call of the attack.
            report: Called as `report(pool, finished examples)` after every call of the attack.
        """
        for index, (cut, pool) in enumerate(zip(self._parts.cuts, self.pools, strict=True)):
            made = make_examples(
                cut, pool, images, labels, search=self.search, attack_batch_size=attack_batch_size,
                report=functools.partial(report, pool),
            )  # fmt: skip
            renewed = renew(self.pool(index), made, seed=(self.seed, number * len(self.pools) + index))
            for variable, value in zip(self._pool_weights[index], renewed, strict=True):
                variable.assign(value)


def _label(pool: LayerPool) -> str:
    """Returns the name of a layer for weights and metrics, in which Keras does not allow slashes."""
    return pool.layer.replace("/", "_")


class _Parts:
    """Parts of a pooled model that are not its layers."""

    def __init__(self, cuts: list[LayerCut], losses: Any):
        self.cuts = cuts
        self.losses = losses
        self.trained: list[Any] | None = None  # the trainable weights that the compiled step was traced for


class RenewPools(keras.callbacks.Callback):
    """Renews the pools of a `PooledModel` several times in an epoch.

    New pools are empty in the first round, `1 / rounds_per_epoch` of the first epoch, which trains on clean images only.
    Every renewal attacks the next images at each layer. The images are in a random order, which repeats after the last image.
    The attacked images and the replaced examples depend only on the epoch and the number of the renewal: a `fit` that
    `keras.callbacks.BackupAndRestore` resumes has the same pools. Reports its progress unless `verbose` is 0.

    Args:
        images: Floating `[n, ...]`, inside the pixel box of the search.
        labels: Integer `[n]`, or one-hot rows `[n, classes]`, the true classes.
        rounds_per_epoch: Renewals in an epoch. If examples are seldom renewed, the trained network soon classifies them
            correctly.
        attack_batch_size: Number of images in one call of the attack.

    Raises:
        ValueError: If there is no image, or not one label for each image; if the number of steps in an epoch is unknown or
            smaller than `rounds_per_epoch`; if the pools are empty, and there is only one round in all epochs.
    """

    def __init__(self, images: Any, labels: Any, *, rounds_per_epoch: int = 10, attack_batch_size: int = 1000):
        super().__init__()
        for name, value in (("rounds_per_epoch", rounds_per_epoch), ("attack_batch_size", attack_batch_size)):
            if value < 1:
                raise ValueError(f"{name} must be positive; received {value}.")
        self.images, self.labels = tf.convert_to_tensor(images), labels
        check_one_label_each(self.images, labels)
        self.rounds_per_epoch, self.attack_batch_size = rounds_per_epoch, attack_batch_size

    def on_train_begin(self, logs: Any = None) -> None:
        """Checks that the model, the images, the labels and the number of steps match."""
        if not isinstance(self.model, PooledModel):
            raise TypeError(f"RenewPools requires a PooledModel; received {type(self.model).__name__}. Wrap the model.")
        images = legal_images(self.images, self.model.search)
        check_images_shape(self.model.classifier, images.shape)
        num_classes = check_classifier(self.model.classifier, images)
        self.labels = checked_classes(self.labels, "labels", num_images=len(images), num_classes=num_classes)
        num_steps = self.params["steps"]
        if self.params["epochs"] * self.rounds_per_epoch < 2:
            check_filled(map(self.model.pool, range(len(self.model.pools))), ONE_ROUND)
        if num_steps is None or num_steps < self.rounds_per_epoch:
            received = "an unknown number of" if num_steps is None else num_steps
            raise ValueError(
                f"an epoch must have at least rounds_per_epoch={self.rounds_per_epoch} steps; received {received} steps. "
                "Pass steps_per_epoch to fit, or lower rounds_per_epoch."
            )
        self._begins = [number * num_steps // self.rounds_per_epoch for number in range(self.rounds_per_epoch)]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Stores the number of rounds before this epoch."""
        self._rounds_before, self._number = epoch * self.rounds_per_epoch, -1

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Renews the pools at the beginning of each round, except the first round of the training."""
        number = self._rounds_before + bisect.bisect_right(self._begins, batch) - 1
        if number > max(self._number, 0):
            self._renew(number)
        self._number = number

    def _renew(self, number: int) -> None:
        num_new = [pool.num_replaced for pool in self.model.pools]
        order = tf.random.experimental.stateless_shuffle(tf.range(len(self.images)), [self.model.seed, 0], alg="philox")
        rows = tf.gather(order, (tf.range(max(num_new)) + (number - 1) * max(num_new)) % len(self.images))
        verbose = 0 if self.params.get("verbose") == 0 else 1
        bars = {
            pool: keras.utils.Progbar(pool.num_replaced, verbose=verbose, unit_name=f"{pool.layer} example")
            for pool in self.model.pools
        }
        with self.model.distribute_strategy.scope():
            self.model.renew(
                tf.gather(self.images, rows), tf.gather(self.labels, rows), number=number,
                attack_batch_size=self.attack_batch_size, report=lambda pool, done: bars[pool].update(done),
            )  # fmt: skip
