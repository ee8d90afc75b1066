"""Tests of features_at, the feature map phi of the paper."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.models.activations import activations_at, features_at
from intriguing.models.networks.zoo import build


@pytest.fixture
def images():
    return tf.random.stateless_uniform([3, 28, 28, 1], seed=[0, 0])


def test_features_equal_the_outputs_of_the_layers(images):
    model = build("FC100-100-10")
    kernel, bias = model.get_layer("hidden1").get_weights()
    expected = 1 / (1 + np.exp(-(images.numpy().reshape(3, -1) @ kernel + bias)))
    np.testing.assert_allclose(activations_at(model, "hidden1")(images), expected, rtol=1e-4)  # float32 sums of 784 terms


def test_feature_model_shares_weights_with_the_model(images):
    model = build("FC10(1)")
    logits = activations_at(model, "logits")
    model.get_layer("logits").bias.assign_add(tf.ones(10))
    np.testing.assert_array_equal(logits(images), model(images))


def test_unknown_layer_error_names_the_nearest_layer():
    with pytest.raises(
        ValueError, match="unknown layer 'hiden2'. Did you mean 'hidden2'\\? Known: pixels, hidden1, hidden2, logits."
    ):
        activations_at(build("FC100-100-10"), "hiden2")


@pytest.mark.parametrize("part", [activations_at, features_at])
def test_layer_given_by_its_number_is_refused(part):
    with pytest.raises(TypeError, match="by its name, a string; received 1. Pass one of 'pixels', 'hidden1', 'hidden2'"):
        part(build("FC100-100-10"), 1)


def test_functional_models_are_supported(images):
    inputs = keras.Input((28, 28, 1))
    hidden = keras.layers.Flatten(name="flat")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    np.testing.assert_array_equal(activations_at(model, "flat")(images), tf.reshape(images, [3, 784]))


def test_features_before_activation_are_linear_and_share_weights(images):
    model = build("FC100-100-10")
    before = activations_at(model, "hidden1", before_activation=True)
    after = activations_at(model, "hidden1")
    np.testing.assert_allclose(tf.sigmoid(before(images)), after(images), rtol=1e-5)
    model.get_layer("hidden1").bias.assign_add(tf.ones(100))
    np.testing.assert_allclose(tf.sigmoid(before(images)), after(images), rtol=1e-5)
    assert model.get_layer("hidden1").activation is keras.activations.sigmoid


def test_features_before_an_activation_layer_are_its_input(images):
    inputs = keras.Input((28, 28, 1))
    linear = keras.layers.Conv2D(2, 3, name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.ReLU(name="rectified")(linear))
    before = activations_at(model, "rectified", before_activation=True)
    np.testing.assert_array_equal(before(images), activations_at(model, "conv")(images))
    assert np.min(before(images)) < 0.0


def test_linear_layer_has_no_features_before_activation():
    with pytest.raises(ValueError, match="layer 'logits' has none. Omit before_activation"):
        activations_at(build("FC10(1)"), "logits", before_activation=True)


def test_subclassed_model_is_not_supported():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(
        ValueError,
        match="must be functional or Sequential, so that its graph is known; received a subclassed model. Pass a functional",
    ):
        activations_at(Subclassed(name="mine"), "hidden1")


@pytest.mark.parametrize(("pooling", "reduce"), [("max", np.max), ("mean", np.mean)])
def test_pooling_gives_one_feature_per_channel(images, pooling, reduce):
    model = build("ConvNet")
    maps = activations_at(model, "conv1")(images).numpy()
    features = features_at(model, "conv1", pooling=pooling)(images)
    np.testing.assert_allclose(features, reduce(maps, axis=(1, 2)), rtol=1e-5)


def test_flattening_keeps_all_positions(images):
    model = build("ConvNet")
    maps = activations_at(model, "pool1")(images).numpy()
    np.testing.assert_array_equal(features_at(model, "pool1", pooling="flatten")(images), maps.reshape(3, -1))


@pytest.mark.parametrize("layer_name", ["padded", "rectified"])
def test_channels_first_is_supported(layer_name):
    inputs = keras.Input((2, 5, 5))
    padded = keras.layers.ZeroPadding2D(data_format="channels_first", name="padded")(inputs)
    model = keras.Model(inputs, keras.layers.ReLU(name="rectified")(padded))
    images = tf.random.stateless_uniform([3, 2, 5, 5], seed=[0, 0])
    features = features_at(model, layer_name, pooling="max")
    np.testing.assert_array_equal(features(images), np.max(images, axis=(2, 3)))


def test_layer_without_spatial_axes_needs_no_pooling(images):
    model = build("FC100-100-10")
    for pooling in (None, "flatten", "max"):
        np.testing.assert_array_equal(
            features_at(model, "hidden2", pooling=pooling)(images), activations_at(model, "hidden2")(images)
        )


def test_spatial_axes_without_a_pooling_are_refused():
    with pytest.raises(ValueError, match=r"layer 'conv1' have shape \[None, 24, 24, 16\], with spatial axes.*all 9216"):
        features_at(build("ConvNet"), "conv1")


def test_unknown_pooling_error_names_the_nearest_pooling():
    with pytest.raises(ValueError, match="unknown pooling 'maxx'. Did you mean 'max'"):
        features_at(build("ConvNet"), "conv1", pooling="maxx")


def backbone(name="backbone"):
    return keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu", name="conv1"),
         keras.layers.Conv2D(5, 3, activation="sigmoid", name="conv2")],
        name=name,
    )  # fmt: skip


@pytest.fixture
def colors():
    return tf.random.stateless_uniform([3, 8, 8, 3], seed=[0, 0])


@pytest.mark.parametrize("layer_name", ["backbone/conv2", "conv2"])
def test_features_of_a_nested_layer_equal_those_of_the_nested_model(layer_name, colors):
    inner = backbone()
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Rescaling(2.0), inner, keras.layers.Flatten()])
    expected = np.max(inner(2.0 * colors), axis=(1, 2))
    features = features_at(model, layer_name, pooling="max")
    np.testing.assert_allclose(features(colors), expected, rtol=1e-6)
    np.testing.assert_allclose(features_at(model, "backbone", pooling="max")(colors), expected, rtol=1e-6)
    inner.get_layer("conv2").kernel.assign_add(tf.ones([3, 3, 4, 5]))
    np.testing.assert_allclose(features(colors), np.max(inner(2.0 * colors), axis=(1, 2)), rtol=1e-6)


def test_features_before_activation_of_a_nested_layer_are_linear(colors):
    model = keras.Sequential([keras.Input((8, 8, 3)), backbone(), keras.layers.Flatten()])
    before = activations_at(model, "backbone/conv2", before_activation=True)
    np.testing.assert_allclose(tf.sigmoid(before(colors)), activations_at(model, "conv2")(colors), rtol=1e-5)


def test_reused_layer_has_the_features_of_this_model(colors):
    inner = backbone()
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Rescaling(2.0), *inner.layers])
    for before_activation in (False, True):
        expected = activations_at(inner, "conv2", before_activation=before_activation)(2.0 * colors)
        found = activations_at(model, "conv2", before_activation=before_activation)(colors)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert np.max(np.abs(found - activations_at(inner, "conv2", before_activation=before_activation)(colors))) > 0.01


def test_changed_sequential_model_uses_its_current_layers(colors):
    model = backbone()
    model.pop()
    model.add(keras.layers.Conv2D(2, 3, name="other"))
    np.testing.assert_array_equal(activations_at(model, "other")(colors), model(colors))


def test_layer_that_is_used_twice_is_refused():
    inputs = keras.Input((4,))
    layer = keras.layers.Dense(4, activation="relu", name="hidden")
    with pytest.raises(ValueError, match="the layer 'hidden' returns 2 tensors; expected one. Name a layer that is used once"):
        activations_at(keras.Model(inputs, layer(layer(inputs))), "hidden")


def test_model_that_is_not_built_is_refused(colors):
    model = keras.Sequential([keras.layers.Conv2D(2, 3, name="conv"), keras.layers.Flatten()], name="mine")
    with pytest.raises(
        ValueError, match="the model 'mine' must be built, .* Begin it with a keras.Input, or call it on a batch"
    ):
        activations_at(model, "conv")
    model(colors)
    more = tf.concat([colors, colors], axis=0)  # batch sizes other than the one that built the model
    np.testing.assert_array_equal(activations_at(model, "conv")(more), model.layers[0](more))


def test_single_unit_has_one_feature(images):
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(1, name="unit")])
    np.testing.assert_array_equal(features_at(model, "unit")(images), model(images))


@pytest.mark.parametrize(
    "layer",
    [
        lambda: keras.layers.Dense(3, activation="relu", name="cut"),
        lambda: keras.layers.Conv2D(3, 3, activation="tanh", use_bias=False, name="cut"),
        lambda: keras.layers.SeparableConv2D(3, 3, activation="gelu", name="cut"),
        lambda: keras.layers.EinsumDense("abcd,de->abce", (None, None, 2), activation="relu", name="cut"),
        lambda: keras.layers.Dense(3, activation="relu", dtype="mixed_float16", name="cut"),
        lambda: keras.layers.Dense(3, activation=lambda x: keras.ops.relu(x) - 1.0, trainable=False, name="cut"),
    ],
    ids=["dense", "conv", "separable", "einsum", "half", "frozen"],
)
def test_features_before_activation_do_not_modify_the_layer(layer, colors):
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Rescaling(3.0, -1.0), layer(), keras.layers.Flatten()])
    own = model.get_layer("cut")
    plain, assigned = own.activation, []

    class Watching(type(own)):
        def __setattr__(self, name, value):
            assigned.append(name)
            super().__setattr__(name, value)

    before = activations_at(model, "cut", before_activation=True)
    own.__class__ = Watching
    for seed in range(2):  # the second set of weights is assigned later
        own.set_weights([np.random.default_rng(seed).normal(size=weight.shape) for weight in own.get_weights()])
        found, expected = plain(before(colors)), activations_at(model, "cut")(colors)
        np.testing.assert_allclose(*(tf.cast(values, tf.float32) for values in (found, expected)), rtol=1e-2, atol=1e-3)
    assert "activation" not in assigned
    assert {id(variable) for variable in before.variables} == {id(variable) for variable in own.variables}


class Residual(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.relu

    def call(self, inputs):
        return inputs - self.activation(inputs)


@pytest.mark.parametrize("layer", [Residual, lambda name: keras.layers.GRU(3, name=name)], ids=["own", "gate"])
def test_layer_with_an_intermediate_activation_is_refused(layer):
    model = keras.Sequential([keras.Input((5, 2)), layer(name="cut"), keras.layers.Flatten()])
    with pytest.raises(
        ValueError, match="the layer 'cut', a (Residual|GRU), cannot be computed without its activation function"
    ):
        activations_at(model, "cut", before_activation=True)


def test_maps_of_unknown_size_can_be_pooled_but_not_flattened(colors):
    model = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.Conv2D(2, 3, name="conv"), keras.layers.GlobalMaxPooling2D()]
    )
    np.testing.assert_allclose(features_at(model, "conv", pooling="max")(colors), model(colors), rtol=1e-6)
    with pytest.raises(ValueError, match="those of the layer 'conv' have shape .* which depends on the images"):
        features_at(model, "conv", pooling="flatten")
    with pytest.raises(ValueError, match="with spatial axes.*'flatten' for all of them"):
        features_at(model, "conv")
