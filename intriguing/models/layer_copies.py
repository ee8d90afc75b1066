"""Copies of the layers of a model, with their weights."""

from __future__ import annotations

from typing import Any

import keras

from intriguing.models.keras_internals import run_through


def call_copies(model: keras.Model, images: keras.KerasTensor) -> keras.KerasTensor:
    """Calls copies of the layers of a model on other images."""
    if not getattr(model, "inputs", None):
        return model(images)
    copies: dict[int, tuple[Any, Any]] = {}

    def copy_of(operation: Any) -> Any:
        if id(operation) not in copies:
            copies[id(operation)] = (operation, type(operation).from_config(operation.get_config()))
        return copies[id(operation)][1]

    outputs = run_through(keras.Model(model.inputs[0], model.outputs[0]), images, copy_of)
    for operation, copy in copies.values():
        if getattr(operation, "weights", None):
            copy.set_weights(operation.get_weights())
        if isinstance(copy, keras.layers.Normalization):
            copy.finalize_state()  # the layer computes with copies of its weights
    return outputs
