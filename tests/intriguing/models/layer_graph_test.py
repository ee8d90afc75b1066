"""The layer graph computes the outputs of the model, recognizes a softmax in every form, and does not modify the model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.models.layer_graph import ends_in_softmax, layer_graph, logits_of, operation_kind
from tests.oracles.softmax_forms import FORMS, NUM_PIXELS, logits_model, with_equal_weights

RTOL = 1e-5  # the same sums in single precision
layers = keras.layers
IMAGES = np.random.default_rng(0).uniform(size=(3, NUM_PIXELS)).astype(np.float32)


@pytest.mark.parametrize("form", FORMS)
def test_logits_of_every_softmax_form_equal_those_of_the_network_without_softmax(form):
    model = with_equal_weights(FORMS[form]())
    assert ends_in_softmax(model)
    logits = logits_of(model)
    assert logits.ending == "softmax"
    expected = with_equal_weights(logits_model())(IMAGES)
    np.testing.assert_allclose(np.reshape(logits.graph(IMAGES), expected.shape), expected, rtol=RTOL, atol=RTOL)
    np.testing.assert_allclose(layer_graph(model)(IMAGES), model(IMAGES), rtol=RTOL)


class Halving(keras.Layer):
    def call(self, inputs):
        return inputs / 2.0


class OwnSoftmax(keras.layers.Dense):
    """A layer that computes more after its activation function."""

    def call(self, inputs):
        return -super().call(inputs)


def with_two_units(ending):
    inputs = keras.Input((3,))
    return keras.Model(inputs, ending(layers.Dense(2)(inputs)))


WITHOUT_FINAL_SOFTMAX = {
    "logits": lambda: with_two_units(lambda logits: logits),
    "a sigmoid": lambda: with_two_units(layers.Activation("sigmoid")),
    "an own layer": lambda: with_two_units(OwnSoftmax(2, activation="softmax")),
    "followed by an own layer": lambda: with_two_units(lambda logits: Halving()(layers.Softmax()(logits))),
    "followed by a Dense": lambda: with_two_units(lambda logits: layers.Dense(2)(layers.Softmax()(logits))),
    "negated": lambda: with_two_units(lambda logits: layers.Rescaling(-1.0)(layers.Softmax()(logits))),
    "divided by": lambda: with_two_units(lambda logits: 1.0 / layers.Softmax()(logits)),
    "with an offset": lambda: with_two_units(lambda logits: layers.Rescaling(1.0, 5.0)(layers.Softmax()(logits))),
    "of places": lambda: with_two_units(lambda logits: layers.Flatten()(layers.Softmax()(layers.Reshape((2, 1))(logits)))),
    "of the batch": lambda: with_two_units(lambda logits: keras.ops.softmax(logits, axis=0)),
    "the logarithm": lambda: with_two_units(lambda logits: keras.ops.log_softmax(logits)),
}


@pytest.mark.parametrize("form", WITHOUT_FINAL_SOFTMAX)
def test_models_without_a_final_softmax_over_classes_are_recognized(form):
    assert not ends_in_softmax(WITHOUT_FINAL_SOFTMAX[form]())


def test_models_without_a_layer_graph_do_not_end_in_a_softmax():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return tf.nn.softmax(inputs)

    two = [keras.Input((3,)), keras.Input((3,))]
    for model in (
        Subclassed(),
        keras.Sequential([layers.Dense(3, "softmax")]),
        keras.Model(two, layers.Softmax()(layers.Add()(two))),
        len,
    ):
        assert not ends_in_softmax(model)


def test_final_log_softmax_is_removed_from_the_logits():
    model = with_two_units(keras.ops.log_softmax)
    logits = logits_of(model)
    assert logits.ending == "log_softmax"
    np.testing.assert_allclose(logits.graph(np.ones((1, 3))), model.layers[1](np.ones((1, 3))), rtol=RTOL)


def test_model_with_its_own_call_is_one_operation():
    class Negated(keras.Model):
        def call(self, inputs):
            return -super().call(inputs)

    inputs = keras.Input((3,))
    model = Negated(inputs, layers.Dense(2)(inputs))
    with pytest.raises(ValueError, match="must be functional or sequential"):
        layer_graph(model)
    outer = keras.Sequential([keras.Input((3,)), model])
    assert [step.operation for step in layer_graph(outer).steps] == [model]


def every_kind():
    """Returns a network with a shared backbone of open input size, constants, and a merge."""
    backbone = keras.Sequential(
        [keras.Input((None, None, 2)), layers.Conv2D(3, 3, activation="relu"), layers.BatchNormalization()]
    )
    inputs = keras.Input((6, 5, 2))
    one, other = backbone(inputs / 2.0, training=True), backbone(layers.Rescaling(2.0, 0.1)(inputs))
    merged = layers.Concatenate()([layers.Dropout(0.5)(one, training=True), other - np.ones(3, np.float32)])
    return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(merged)))


def test_graph_computes_the_outputs_of_the_model_in_inference():
    model = every_kind()
    images = np.random.default_rng(1).normal(size=(2, 6, 5, 2)).astype(np.float32)
    graph = layer_graph(model)
    np.testing.assert_allclose(graph(images), model(images, training=False), rtol=RTOL, atol=RTOL)
    assert all(None not in shape for shape in graph.shapes)
    assert sum(type(step.operation) is layers.Conv2D for step in graph.steps) == 2


def test_building_the_graph_does_not_modify_the_model_or_layer_names():
    model = with_equal_weights(FORMS["one Dense twice"]())
    keras.backend.clear_session()
    calls = [len(layer._inbound_nodes) for layer in model.layers]
    logits_of(model).graph(IMAGES)
    assert [len(layer._inbound_nodes) for layer in model.layers] == calls
    assert layers.Dense(1).name == "dense" and layers.Add().name == "add" and keras.Input((1,)).name.startswith("keras_tensor")


def test_deep_network_has_a_layer_graph():
    inputs = keras.Input((2,))
    values = inputs
    for _ in range(700):
        values = keras.ops.negative(values)
    assert len(layer_graph(keras.Model(inputs, values)).steps) == 700


def test_keras_operations_have_the_expected_names():
    """Keras does not export these classes. If a name changes, this test fails and the library refuses the operation."""
    inputs = keras.Input((3,))
    made = {
        "Add": inputs + 1.0, "Subtract": inputs - 1.0, "Multiply": inputs * 2.0, "TrueDivide": inputs / 2.0,
        "Negative": -inputs, "Softmax": keras.ops.softmax(inputs), "LogSoftmax": keras.ops.log_softmax(inputs),
        "Sigmoid": keras.ops.sigmoid(inputs), "Reshape": keras.ops.reshape(inputs, (-1, 3)), "GetItem": inputs[:, 1:],
        "Relu": keras.ops.relu(inputs), "ReLU": keras.activations.relu(inputs), "Mean": keras.ops.mean(inputs, axis=1),
        "Concatenate": keras.ops.concatenate([inputs, inputs]), "Maximum": keras.ops.maximum(inputs, 0.0),
    }  # fmt: skip
    for kind, tensor in made.items():
        assert operation_kind(tensor._keras_history.operation) == kind
    assert operation_kind(layers.Add()) is None


def test_model_without_a_layer_graph_raises():
    inputs = [keras.Input((3,)), keras.Input((3,))]
    with pytest.raises(ValueError, match="received a model whose graph has 2 inputs and 1 outputs"):
        layer_graph(keras.Model(inputs, layers.Add()(inputs)))
    with pytest.raises(ValueError, match=r"graph has 0 inputs and 0 outputs.*begin a sequential model with a keras.Input"):
        layer_graph(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(TypeError, match="must be a functional or sequential Keras model.*received the function 'len'"):
        layer_graph(len)
