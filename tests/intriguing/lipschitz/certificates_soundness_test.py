"""No random, optimized or attacked point within the certified distortion has another prediction."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack._minimize_distortion import minimize_distortion
from intriguing.attack.presets import QUICK_SEARCH
from intriguing.lipschitz.certificates import certified_distortion
from intriguing.pixels import PixelBox
from tests.oracles.random_networks import chain_of, images_for, lengths, network, predictions

OUTWARD = 1e-5  # relative error of the distance in single precision
NUM_RANDOM, NUM_STARTS, NUM_STEPS = 100, 4, 12
layers = keras.layers


def on_the_sphere(changes, radii, images, box):
    """Returns images at the distance of the radii, clipped to the box."""
    flat = tf.reshape(changes, [len(radii), -1])
    flat *= tf.cast(radii[:, np.newaxis] * (1.0 - OUTWARD), tf.float32) / tf.norm(flat, axis=1, keepdims=True)
    moved = images + tf.reshape(flat, images.shape)
    return moved if box is None else box.clip(moved)


def assert_no_prediction_changes(model, images, labels, certified, box=None):
    """Checks random points on the sphere, and points on it that gradient ascent moves toward another class."""
    rng = np.random.default_rng(0)
    for repeats, steps in ((NUM_RANDOM, 0), (NUM_STARTS, NUM_STEPS)):
        centers, wanted = tf.repeat(images, repeats, axis=0), tf.repeat(labels, repeats)
        radii = np.repeat(lengths(model, certified.distortion), repeats)
        moved = on_the_sphere(tf.constant(rng.normal(size=centers.shape), tf.float32), radii, centers, box)
        for _ in range(steps):
            with tf.GradientTape() as tape:
                tape.watch(moved)
                logits = model(moved)
                others = tf.reduce_max(logits - 1e9 * tf.one_hot(wanted, logits.shape[1]), axis=1)
                ahead = others - tf.gather(logits, wanted, batch_dims=1)
            gradients = tf.reshape(tape.gradient(ahead, moved), [len(radii), -1])
            gradients = tf.reshape(tf.math.l2_normalize(gradients, axis=1), centers.shape)
            step = tf.reshape(tf.constant(radii, tf.float32), [-1, *[1] * (len(centers.shape) - 1)])
            moved = on_the_sphere(moved - centers + 0.5 * step * gradients + 1e-12, radii, centers, box)
        np.testing.assert_array_equal(predictions(model, moved), wanted)


def with_a_merge():
    inputs = keras.Input((10,))
    merged = layers.Add()([inputs, layers.Dense(10, "tanh")(inputs)])
    return keras.Model(inputs, layers.Dense(4)(layers.Dense(8, "sigmoid")(merged)))


def with_a_pooling():
    chain = [layers.Conv2D(3, 3, activation="softplus"), layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(8, "sigmoid")]
    return network((6, 6, 1), *chain, layers.Dense(4, "softmax"))


@pytest.mark.parametrize(
    ("activation", "depth"),
    [("sigmoid", 2), ("sigmoid", 3), ("tanh", 2), ("softplus", 3), ("relu", 2), ("relu", 3), ("gelu", 2), ("leaky layer", 3)],
)
def test_no_prediction_changes_within_the_certified_distortion(activation, depth):
    model = network((10,), *chain_of(activation, depth), seed=depth)
    for box, images in ((None, images_for(model)), (PixelBox(), np.round(images_for(model)))):
        labels = predictions(model, images)
        certified = certified_distortion(model, images, labels, bounds=box)
        assert_no_prediction_changes(model, images, labels, certified, box)
        assert np.all(certified.by_product > 0) and np.all(certified.distortion >= certified.by_product)


@pytest.mark.parametrize("make", [with_a_merge, with_a_pooling])
def test_no_prediction_changes_with_nonlinear_first_layers(make):
    model = make()
    images = images_for(model)
    labels = predictions(model, images)
    certified = certified_distortion(model, images, labels)
    assert_no_prediction_changes(model, images, labels, certified)
    assert np.all(certified.distortion > certified.by_product)


def test_attacks_end_between_the_certificate_and_a_small_multiple():
    model = network((12,), layers.Dense(10, "sigmoid"), layers.Dense(4), seed=1, scale=1.5)
    images = images_for(model)
    labels = predictions(model, images)
    certified = certified_distortion(model, images, labels, bounds=PixelBox())
    attacked = minimize_distortion(model, images, labels=labels, search=QUICK_SEARCH)
    assert np.any(attacked.succeeded)
    found = np.asarray(attacked.distortion)[attacked.succeeded] / np.asarray(certified.distortion)[attacked.succeeded]
    assert np.all(found >= 1.0) and np.all(found < 2.0)
