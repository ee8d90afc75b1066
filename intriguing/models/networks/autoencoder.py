"""The "AE" network of the paper: a softmax layer on the units of a sparse autoencoder that was trained without labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import keras
import tensorflow as tf


def sparse_autoencoder(
    num_units: int, *, weight_decay: float = 0.0, image_shape: Sequence[int] = (28, 28, 1), seed: int = 0
) -> keras.Model:
    """Builds an autoencoder of the layers `encoder` (sigmoid units) and `decoder` (sigmoid pixels).

    Args:
        num_units: Number of units of the encoder.
        weight_decay: Adds `weight_decay / 2 * sum(w**2)` over both kernels to the loss; the units then respond to strokes.
        image_shape: Shape of one image.
        seed: Seed of the initial weights.

    Returns:
        A Keras model from images to the pair (reconstruction `[batch, pixels]`, activations `[batch, num_units]`).

    Example:
        >>> pixels, units = sparse_autoencoder(400)(np.zeros([2, 28, 28, 1], np.float32))
        >>> units.shape
        TensorShape([2, 400])
    """
    images = keras.Input(tuple(image_shape), name="images")
    pixels = keras.layers.Flatten(name="pixels")(images)
    activations = _encoder(num_units, seed, weight_decay)(pixels)
    decoder = keras.layers.Dense(
        prod(image_shape),
        activation="sigmoid",
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed + 2),
        kernel_regularizer=keras.regularizers.L2(weight_decay / 2),
        name="decoder",
    )
    return keras.Model(images, [decoder(activations), activations], name=f"autoencoder{num_units}")


def classifier_on_autoencoder(
    num_units: int,
    *,
    num_classes: int = 10,
    weight_decay: float = 1e-6,
    image_shape: Sequence[int] = (28, 28, 1),
    seed: int = 0,
    name: str | None = None,
) -> keras.Model:
    """Builds a classifier of a frozen `encoder` and a linear layer `logits`; `copy_encoder` copies the trained weights.

    Args:
        num_units: Number of units of the encoder.
        num_classes: Number of logits.
        weight_decay: The lambda of the paper; the penalty is `lambda / 2 * sum(w**2)` over the kernel of `logits`.
        image_shape: Shape of one image.
        seed: Seed of the initial weights.
        name: The name of the model.

    Returns:
        A built Keras model from images to logits `[batch, num_classes]`.

    Example:
        >>> classifier_on_autoencoder(400)(np.zeros([2, 28, 28, 1], np.float32)).shape
        TensorShape([2, 10])
    """
    encoder = _encoder(num_units, seed)
    encoder.trainable = False
    logits = keras.layers.Dense(
        num_classes,
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed + 2),
        kernel_regularizer=keras.regularizers.L2(weight_decay / 2),
        name="logits",
    )
    return keras.Sequential(
        [keras.Input(tuple(image_shape), name="images"), keras.layers.Flatten(name="pixels"), encoder, logits], name=name
    )


def copy_encoder(autoencoder: keras.Model, classifier: keras.Model) -> None:
    """Copies the weights of the `encoder` from the autoencoder to the classifier."""
    classifier.get_layer("encoder").set_weights(autoencoder.get_layer("encoder").get_weights())


def sparse_reconstruction_loss(*, sparsity: float, weight: float) -> Callable[[Any, tf.Tensor, tf.Tensor], tf.Tensor]:
    """Builds the autoencoder's loss: half the squared error of the pixels, plus a sparsity penalty.

    Args:
        sparsity: The target for the mean activation of every unit, in (0, 1).
        weight: Weight of `sum(KL(sparsity, mean activation))`; the mean is over the part of a batch on one replica.

    Returns:
        A function `((reconstruction, activations), images, labels) -> scalar`.

    References:
        Ng, Sparse autoencoder, CS294A lecture notes, 2011.
    """

    def loss(outputs: tuple[tf.Tensor, tf.Tensor], images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        del labels
        reconstruction, activations = outputs
        pixels = tf.reshape(images, tf.shape(reconstruction))
        error = 0.5 * tf.reduce_sum((reconstruction - pixels) ** 2, axis=1)
        mean_activation = tf.clip_by_value(tf.reduce_mean(activations, axis=0), 1e-5, 1.0 - 1e-5)
        divergence = sparsity * tf.math.log(sparsity / mean_activation) + (1.0 - sparsity) * tf.math.log(
            (1.0 - sparsity) / (1.0 - mean_activation)
        )
        return tf.reduce_mean(error) + weight * tf.reduce_sum(divergence)

    return loss


def _encoder(num_units: int, seed: int, weight_decay: float = 0.0) -> keras.layers.Layer:
    return keras.layers.Dense(
        num_units,
        activation="sigmoid",
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed + 1),
        kernel_regularizer=keras.regularizers.L2(weight_decay / 2),
        name="encoder",
    )
