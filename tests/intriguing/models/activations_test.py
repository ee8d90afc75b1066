"""Claims about the feature map phi."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.models.activations import activations_at
from intriguing.models.zoo import build


@pytest.fixture
def images():
    return tf.random.stateless_uniform([3, 28, 28, 1], seed=[0, 0])


def test_agrees_with_the_layers_applied_by_hand(images):
    model = build("FC100-100-10")
    kernel, bias = model.get_layer("hidden1").get_weights()
    expected = 1 / (1 + np.exp(-(images.numpy().reshape(3, -1) @ kernel + bias)))
    np.testing.assert_allclose(activations_at(model, "hidden1")(images), expected, rtol=1e-4)  # float32 sums of 784 terms


def test_shares_the_weights_so_that_training_shows(images):
    model = build("FC10(1)")
    logits = activations_at(model, "logits")
    model.get_layer("logits").bias.assign_add(tf.ones(10))
    np.testing.assert_array_equal(logits(images), model(images))


def test_offers_the_nearest_layer():
    with pytest.raises(
        ValueError, match="unknown layer 'hiden2'. Did you mean 'hidden2'\\? Known: pixels, hidden1, hidden2, logits."
    ):
        activations_at(build("FC100-100-10"), "hiden2")


def test_cuts_functional_models_too(images):
    inputs = keras.Input((28, 28, 1))
    hidden = keras.layers.Flatten(name="flat")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    np.testing.assert_array_equal(activations_at(model, "flat")(images), tf.reshape(images, [3, 784]))
