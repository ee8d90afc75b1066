"""State of Keras that no public function returns. This file reads private attributes; its test fails if they change."""

from __future__ import annotations

import keras


def all_layers(model: keras.Model) -> list[keras.Layer]:
    """Returns a model, its layers, and all layers inside these: in nested models, in wrappers, and in attributes of layers.

    `model.layers` lists the outermost layers only, and a layer has no public list of the layers inside it.
    `tf.train.TrackableView` omits layers in nested lists.
    """
    return list(model._flatten_layers())
