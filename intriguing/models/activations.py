"""The feature map phi of the paper: what a named layer makes of an image."""

from __future__ import annotations

import keras

from intriguing.names import check_name


def activations_at(model: keras.Model, layer_name: str) -> keras.Model:
    """Returns the part of `model` from the images to the output of one layer, sharing its weights.

    Args:
        model: A functional or sequential Keras model.
        layer_name: Name of one of its layers.

    Returns:
        A Keras model from images to the activations of that layer.

    Raises:
        ValueError: If there is no such layer; the message offers the nearest name.
    """
    check_name(layer_name, [layer.name for layer in model.layers], "layer")
    return keras.Model(model.inputs, model.get_layer(layer_name).output)
