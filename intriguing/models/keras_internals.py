"""State of Keras that no public function returns. This file reads private attributes; its test fails if they change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


def all_layers(model: keras.Model) -> list[keras.Layer]:
    """Returns a model, its layers, and all layers inside these: in nested models, in wrappers, and in attributes of layers.

    `model.layers` lists the outermost layers only, and a layer has no public list of the layers inside it.
    `tf.train.TrackableView` omits layers in nested lists.
    """
    return list(model._flatten_layers())


def node_of(tensor: keras.KerasTensor) -> Any:
    """Returns the call that returned a tensor, with `operation`, `arguments`, `input_tensors` and `output_tensors`.

    The public `layer.input` and `layer.output` are those of the first call only, and are wrong for a layer of two models.
    """
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


def run_through(
    model: keras.Model, inputs: keras.KerasTensor, operation_fn: Callable[[Any], Callable[..., Any]]
) -> keras.KerasTensor:
    """Calls other operations on other inputs, in the order of a functional model.

    `keras.models.clone_model` also replaces the operations, but requires a new `keras.Input`.

    Args:
        model: The functional model.
        inputs: Symbolic inputs.
        operation_fn: From an operation of the model to what is called instead.
    """
    return model._run_through_graph(inputs, operation_fn=operation_fn)
