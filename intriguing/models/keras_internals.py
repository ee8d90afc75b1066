"""State of Keras that no public function returns: this file reads it from private names, and its test fails if they move."""

from __future__ import annotations

import keras


def all_layers(model: keras.Model) -> list[keras.Layer]:
    """Returns a model, its layers, and all layers inside these: of nested models, of wrappers, and in attributes of layers.

    `model.layers` lists the outermost layers only, and a layer has no public list of the layers inside it.
    `tf.train.TrackableView` omits layers in nested lists.
    """
    return list(model._flatten_layers())
