"""The cross-entropy of a classifier that returns logits or probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from intriguing.models.layer_graph import ends_in_softmax
from intriguing.models.layer_paths import is_wired

BatchLoss = Callable[[Any, tf.Tensor, tf.Tensor], tf.Tensor]
"""From `(outputs of the model, images, labels)` of a batch to a scalar."""


def returns_probabilities(model: keras.Model) -> bool:
    """Returns True if a functional or Sequential model ends in a recognized softmax."""
    return is_wired(model) and ends_in_softmax(model)


def cross_entropy_for(model: keras.Model) -> BatchLoss:
    """Returns the loss for the outputs of a model: `cross_entropy` for logits, or `cross_entropy_of_probabilities`."""
    return cross_entropy_of_probabilities if returns_probabilities(model) else cross_entropy


def cross_entropy(logits: tf.Tensor, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the mean cross-entropy of the labels, a scalar.

    Example:
        >>> loss = cross_entropy(tf.zeros([4, 10]), tf.zeros([4, 6, 6, 1]), tf.constant([0, 1, 2, 3]))
        >>> bool(tf.abs(loss - np.log(10.0)) < 1e-6)
        True
    """
    del images
    return tf.reduce_mean(cross_entropies(logits, labels, from_logits=True))


def cross_entropy_of_probabilities(probabilities: tf.Tensor, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the mean cross-entropy of the labels, a scalar, for a model that ends in a softmax."""
    del images
    return tf.reduce_mean(cross_entropies(probabilities, labels, from_logits=False))


def cross_entropies(outputs: tf.Tensor, labels: tf.Tensor, *, from_logits: bool) -> tf.Tensor:
    """Returns the cross-entropy of each label, float32 `[batch]`, also for outputs of reduced precision."""
    labels = tf.cast(labels, tf.int32)
    if from_logits:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.cast(outputs, tf.float32))
    # Keras detects the softmax in the graph; a cast in between would hide it.
    return tf.cast(keras.losses.sparse_categorical_crossentropy(labels, outputs), tf.float32)
