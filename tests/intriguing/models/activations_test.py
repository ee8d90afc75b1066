"""Claims about the feature map phi."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.models.activations import activations_at, features_at
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


def test_before_its_activation_a_layer_is_linear_and_shares_its_weights(images):
    model = build("FC100-100-10")
    before = activations_at(model, "hidden1", before_activation=True)
    after = activations_at(model, "hidden1")
    np.testing.assert_allclose(tf.sigmoid(before(images)), after(images), rtol=1e-5)
    model.get_layer("hidden1").bias.assign_add(tf.ones(100))
    np.testing.assert_allclose(tf.sigmoid(before(images)), after(images), rtol=1e-5)
    assert model.get_layer("hidden1").activation is keras.activations.sigmoid


def test_before_a_layer_that_is_an_activation_is_its_input(images):
    inputs = keras.Input((28, 28, 1))
    linear = keras.layers.Conv2D(2, 3, name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.ReLU(name="rectified")(linear))
    before = activations_at(model, "rectified", before_activation=True)
    np.testing.assert_array_equal(before(images), activations_at(model, "conv")(images))
    assert np.min(before(images)) < 0.0


def test_there_is_nothing_before_a_linear_layer():
    with pytest.raises(ValueError, match="layer 'logits' has no activation function.*Leave out before_activation"):
        activations_at(build("FC10(1)"), "logits", before_activation=True)


def test_a_subclassed_model_cannot_be_cut():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="is subclassed, so that its layers cannot be cut apart. Pass a functional"):
        activations_at(Subclassed(name="mine"), "hidden1")


@pytest.mark.parametrize(("pooling", "reduce"), [("max", np.max), ("mean", np.mean)])
def test_pooling_leaves_one_feature_a_channel(images, pooling, reduce):
    model = build("ConvNet")
    maps = activations_at(model, "conv1")(images).numpy()
    features = features_at(model, "conv1", pooling=pooling)(images)
    np.testing.assert_allclose(features, reduce(maps, axis=(1, 2)), rtol=1e-5)


def test_flattening_keeps_every_place(images):
    model = build("ConvNet")
    maps = activations_at(model, "pool1")(images).numpy()
    np.testing.assert_array_equal(features_at(model, "pool1", pooling="flatten")(images), maps.reshape(3, -1))


def test_channels_may_come_first():
    inputs = keras.Input((2, 5, 5))
    padded = keras.layers.ZeroPadding2D(data_format="channels_first", name="padded")(inputs)
    images = tf.random.stateless_uniform([3, 2, 5, 5], seed=[0, 0])
    features = features_at(keras.Model(inputs, padded), "padded", pooling="max")
    np.testing.assert_array_equal(features(images), np.max(images, axis=(2, 3)))


def test_a_layer_of_plain_features_needs_no_pooling(images):
    model = build("FC100-100-10")
    for pooling in (None, "flatten", "max"):
        np.testing.assert_array_equal(
            features_at(model, "hidden2", pooling=pooling)(images), activations_at(model, "hidden2")(images)
        )


def test_spatial_axes_without_a_pooling_are_refused():
    with pytest.raises(ValueError, match=r"layer 'conv1' answers \[None, 24, 24, 16\], with spatial axes.*all 9216"):
        features_at(build("ConvNet"), "conv1")


def test_offers_the_nearest_pooling():
    with pytest.raises(ValueError, match="unknown pooling 'maxx'. Did you mean 'max'"):
        features_at(build("ConvNet"), "conv1", pooling="maxx")
