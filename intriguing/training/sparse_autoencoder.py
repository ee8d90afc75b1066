"""Training of the AE network: an autoencoder without labels, then a softmax on its frozen units."""

from __future__ import annotations

import dataclasses

import keras
import tensorflow as tf

from intriguing.models.activations import activations_at
from intriguing.models.networks.autoencoder import copy_encoder, sparse_autoencoder, sparse_reconstruction_loss
from intriguing.training.supervised import (
    FullBatchTraining,
    MinibatchTraining,
    Report,
    TrainingRecord,
    fit_full_batch,
    fit_minibatches,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderTraining:
    """Settings of both training stages of an AE network.

    Attributes:
        features: Training of the autoencoder by minibatches, without labels.
        sparsity: Target for the mean activation of every unit.
        sparsity_weight: Weight of the divergence from this target.
        weight_decay: Weight decay of the kernels of the autoencoder; without it, the units overfit to noise in single images.
        softmax: Training of the softmax layer by full-batch L-BFGS; the problem is convex.
    """

    features: MinibatchTraining = MinibatchTraining(num_epochs=20, batch_size=250, learning_rate=1e-2, warmup=0.05)
    sparsity: float = 0.15
    sparsity_weight: float = 0.3
    weight_decay: float = 3e-3
    softmax: FullBatchTraining = FullBatchTraining()

    def __post_init__(self) -> None:
        if not 0.0 < self.sparsity < 1.0 or self.sparsity_weight < 0.0 or self.weight_decay < 0.0:
            raise ValueError(f"sparsity must lie in (0, 1), the weights must not be negative; received {self}.")


def fit_on_autoencoder(
    classifier: keras.Model,
    batches: tf.data.Dataset,
    images: tf.Tensor,
    labels: tf.Tensor,
    *,
    steps_per_epoch: int,
    settings: AutoencoderTraining,
    seed: int = 0,
    report: Report = lambda done, total, loss: None,
) -> TrainingRecord:
    """Trains an autoencoder, copies its encoder to `classifier`, and fits the softmax layer.

    Args:
        classifier: A model from `classifier_on_autoencoder`, built in the scope of the current strategy.
        batches: An infinite data set of batches `(images, labels)`; the labels are not used.
        images: Float32 `[n, ...]`, the training set for the softmax.
        labels: Int32 `[n]`.
        steps_per_epoch: Number of batches in one epoch of the autoencoder.
        settings: Settings of both stages.
        seed: Seed of the initial weights of the autoencoder.
        report: Called during both stages.

    Returns:
        A `TrainingRecord` with the losses of the autoencoder; `converged` refers to the softmax layer.

    Example:
        >>> batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(50).repeat()
        >>> classifier = classifier_on_autoencoder(8, image_shape=(6, 6, 1))
        >>> settings = AutoencoderTraining(
        ...     features=MinibatchTraining(num_epochs=1), softmax=FullBatchTraining(max_iterations=10)
        ... )
        >>> record = fit_on_autoencoder(classifier, batches, images, labels, steps_per_epoch=4, settings=settings)
    """
    num_units = classifier.get_layer("encoder").units
    autoencoder = sparse_autoencoder(
        num_units, weight_decay=settings.weight_decay, image_shape=classifier.input_shape[1:], seed=seed
    )
    loss = sparse_reconstruction_loss(sparsity=settings.sparsity, weight=settings.sparsity_weight)
    record = fit_minibatches(
        autoencoder, batches, steps_per_epoch=steps_per_epoch, settings=settings.features, loss=loss, report=report
    )
    copy_encoder(autoencoder, classifier)
    units = activations_at(classifier, "encoder")
    activations = tf.concat([units(images[i : i + 5000], training=False) for i in range(0, len(images), 5000)], axis=0)
    top = keras.Sequential([keras.Input((num_units,)), classifier.get_layer("logits")])
    softmax = fit_full_batch(top, activations, labels, settings=settings.softmax, report=report)
    return TrainingRecord(losses=record.losses, converged=softmax.converged)
