"""The private names of Keras exist and behave as the library expects."""

import keras

from intriguing.models.keras_internals import all_layers

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
