"""The private names of Keras exist and behave as the library expects."""

import keras
import numpy as np

from intriguing.models.keras_internals import all_layers, node_of, run_through

layers = keras.layers


class Block(layers.Layer):
    """A layer with layers in an attribute, and in a list inside a dictionary."""

    def __init__(self):
        super().__init__()
        self.first = layers.Dense(3, name="attribute")
        self.others = {"list": [layers.Dense(3, name="in_a_list")]}

    def call(self, inputs):
        return self.others["list"][0](self.first(inputs))


def test_nested_layers_are_found():
    inner = keras.Sequential([keras.Input((5, 3)), layers.TimeDistributed(layers.Dense(3, name="wrapped"))], name="inner")
    model = keras.Sequential([keras.Input((5, 3)), layers.Dense(3, name="outermost"), Block(), inner], name="model")
    names = {layer.name for layer in all_layers(model)}
    assert {"model", "outermost", "attribute", "in_a_list", "inner", "wrapped"} <= names


def test_layer_that_is_called_twice_is_found_once():
    inputs, shared = keras.Input((3,)), layers.Dense(3)
    found = all_layers(keras.Model(inputs, shared(shared(inputs))))
    assert found.count(shared) == 1


def test_a_tensor_has_the_call_that_returned_it_also_if_its_layer_is_called_twice():
    inputs, shared = keras.Input((3,)), layers.Dense(3)
    first = shared(inputs)
    second = shared(first)
    for tensor, source in ((first, inputs), (second, first)):
        node = node_of(tensor)
        assert node.operation is shared
        assert [id(each) for each in node.input_tensors] == [id(source)]
        assert [id(each) for each in node.output_tensors] == [id(tensor)]


def test_other_operations_run_in_the_order_of_a_model():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.ReLU(name="second")(layers.Dense(3, name="first")(inputs)))
    called = []

    def instead_of(operation):
        called.append(operation.name)
        return lambda value: value + 1.0

    images = keras.Input((3,))
    shifted = keras.Model(images, run_through(model, images, instead_of))
    assert called[-2:] == ["first", "second"]
    np.testing.assert_array_equal(shifted(np.zeros((1, 3), np.float32)), np.full((1, 3), 2.0))
