"""A small problem for many trainings: tiny networks, a replacement of the attack, and one real search."""

import keras
import numpy as np
import tensorflow as tf

from intriguing.attack import COARSE_SEARCH, DistortionResults
from intriguing.models.networks.fully_connected import fully_connected

SHAPE = (2, 2, 1)
# All tests use one batch shape and one search, so that each program is compiled once.
ROWS, SEARCH = 8, COARSE_SEARCH


def network(decay=0.0, seed=0):
    return fully_connected((4, 2), weight_decay=(decay, decay), image_shape=SHAPE, seed=seed)


def examples(number=64, seed=0, num_classes=2):
    images = np.random.default_rng(seed).uniform(size=(number, *SHAPE)).astype(np.float32)
    return images, (images[:, 0, 0, 0] * num_classes).astype(np.int32)


def endless(examples, batch_size):
    return tf.data.Dataset.from_tensor_slices(examples).batch(batch_size, drop_remainder=True).repeat()


def attack_without_search(classifier, images, *, labels, search):
    """Moves all values toward the middle. Two of three rows succeed."""
    middle = 0.5 if np.isfinite(search.pixel_box.upper) else 1.0
    succeeded = tf.range(images.shape[0]) % 3 != 0
    moved = tf.where(tf.reshape(succeeded, [-1, *[1] * (images.shape.rank - 1)]), 0.8 * images + 0.2 * middle, images)
    axes = list(range(1, images.shape.rank))
    distortion = tf.where(succeeded, tf.sqrt(tf.reduce_mean((moved - images) ** 2, axis=axes)), float("nan"))
    nothing = tf.zeros(images.shape[0])
    no_count = tf.cast(nothing, tf.int32)
    return DistortionResults(moved, moved - images, distortion, 2.0 * distortion, succeeded, no_count, no_count, nothing)


def dropping_network(seed=0):
    """Returns a network with state: seeds of dropout and statistics of batch normalization."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(SHAPE), layers.Flatten(), layers.Dense(5, activation="relu", name="hidden1"),
            layers.Dropout(0.3, seed=7), layers.BatchNormalization(), layers.Dense(4, activation="sigmoid", name="hidden2"),
            layers.Dropout(0.2, seed=8), layers.Dense(3, name="logits"),
        ]
    )  # fmt: skip
