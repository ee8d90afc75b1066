"""Tests of layers with initializers, regularizers, constraints or activations that Keras cannot serialize."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.lipschitz.certificates import certified_distortion
from intriguing.lipschitz.operator_norms import operator_norm
from intriguing.models.activations import features_at
from intriguing.models.layer_graph import logits_of
from intriguing.models.layer_twins import inference_config, without_activation

layers = keras.layers
RTOL = 1e-6


class Initializer:
    def __call__(self, shape, dtype=None):
        return 0.3 * tf.random.stateless_normal(shape, [1, 2])


class Regularizer:
    def __call__(self, weight):
        return 0.0


FUNCTIONS = {
    "functions": {
        "regularizer": lambda weight: 0.0, "constraint": lambda weight: weight,
        "initializer": lambda shape, dtype=None: 0.3 * tf.random.stateless_normal(shape, [1, 2]),
    },
    "objects": {"regularizer": Regularizer(), "constraint": None, "initializer": Initializer()},
}  # fmt: skip


def named(functions, weight="kernel"):
    return {f"{weight}_{role}": function for role, function in FUNCTIONS[functions].items()}


def classifier(options, last="softmax"):
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, "tanh", name="hidden", **options)(inputs)
    return keras.Model(inputs, layers.Dense(3, last, **options)(hidden))


def with_weights_of(model, other):
    model.set_weights(other.get_weights())
    return model


@pytest.mark.parametrize("functions", FUNCTIONS)
def test_callables_in_layers_do_not_change_certificates_and_features(functions):
    model = classifier(named(functions))
    plain = with_weights_of(classifier({}), model)
    images = np.random.default_rng(0).uniform(size=(4, 6)).astype(np.float32)
    labels = np.argmax(model(images), axis=1)
    np.testing.assert_allclose(
        certified_distortion(model, images, labels), certified_distortion(plain, images, labels), rtol=RTOL
    )
    found, expected = (features_at(each, "hidden", before_activation=True)(images) for each in (model, plain))
    np.testing.assert_allclose(found, expected, rtol=RTOL)


CONVOLUTIONS = {
    "plain": (layers.Conv2D, "kernel", {"filters": 4, "kernel_size": 3}),
    "groups": (layers.Conv2D, "kernel", {"filters": 4, "kernel_size": 3, "groups": 2}),
    "transposed": (layers.Conv2DTranspose, "kernel", {"filters": 4, "kernel_size": 3}),
    "depthwise": (layers.DepthwiseConv2D, "depthwise", {"kernel_size": 3}),
    "separable": (layers.SeparableConv2D, "pointwise", {"filters": 4, "kernel_size": 3}),
}


@pytest.mark.parametrize("functions", FUNCTIONS)
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_callables_in_layers_do_not_change_norms(kind, functions):
    layer_class, weight, options = CONVOLUTIONS[kind]
    layer, plain = layer_class(**options, **named(functions, weight)), layer_class(**options)
    for each in (layer, plain):
        each.build((None, 5, 5, 2))
    plain.set_weights(layer.get_weights())
    np.testing.assert_allclose(operator_norm(layer, (5, 5, 2)), operator_norm(plain, (5, 5, 2)), rtol=RTOL)


def test_layer_that_is_not_built_is_refused():
    with pytest.raises(ValueError, match="a Dense, is not built"):
        operator_norm(layers.Dense(3, **named("objects")), (6,))


@pytest.mark.parametrize("last", ["softmax", layers.Softmax()], ids=["name", "layer"])
def test_layer_without_activation_shares_weights_and_does_not_modify_the_layer(last):
    model = classifier({"activity_regularizer": lambda outputs: keras.ops.sum(outputs)}, last)
    layer, images = model.layers[-1], np.ones((2, 6), np.float32)
    before = {name: value for name, value in vars(layer).items() if name != "_called"}
    linear = without_activation(layer)
    graph = logits_of(model).graph
    layer.kernel.assign(2.0 * layer.kernel)
    hidden = model.get_layer("hidden")(images)
    expected = hidden @ layer.kernel.value + layer.bias.value
    np.testing.assert_allclose(linear(hidden), expected, rtol=RTOL)
    np.testing.assert_allclose(graph(images), expected, rtol=RTOL)
    assert all(vars(layer)[name] is value for name, value in before.items())
    assert layer.losses == []


def test_inference_config_has_no_training_functions():
    layer = classifier(named("functions")).get_layer("hidden")
    config = inference_config(layer)
    assert config["kernel_regularizer"] is config["kernel_constraint"] is None and config["activation"] == "linear"
    assert config["kernel_initializer"]["class_name"] == "Zeros" and layer.activation is keras.activations.tanh
