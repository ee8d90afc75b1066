"""A network cut in two at one layer: what lies below, what lies above, and the values that pass between the two."""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

import keras

from intriguing.names import check_name
from intriguing.pixels import PixelBox

IMAGES = "images"
"""Names what comes into a model, whatever its input layer is called."""


class LayerCut(NamedTuple):
    """Two models that share their weights with the one that was cut."""

    below: keras.Model  # from images to the activations of the layer
    above: keras.Model  # from those activations to the outputs of the whole
    values: PixelBox  # the range of the activations: the pixel box of the part above


def cut_at(model: keras.Model, layer_name: str, *, pixel_box: PixelBox = PixelBox()) -> LayerCut:
    """Cuts a network at the output of a layer, so that whatever works on images works on activations.

    Args:
        model: A functional or sequential Keras model with one input and one output.
        layer_name: Name of one of its layers, or `IMAGES` for a cut below all of them.
        pixel_box: The legal pixel values.

    Returns:
        A `LayerCut`. The range is that of the layer's activation function; where it is not known, there are no bounds.

    Raises:
        ValueError: If there is no such layer, if it is the last one or used more than once, or if another path leads around
            it, so that the part above depends on more than its activations; if there are several inputs or outputs; or if the
            model is subclassed.
    """
    _check_wiring(model)
    if layer_name == IMAGES:
        return LayerCut(keras.Model(model.inputs[0], model.inputs[0]), model, pixel_box)
    check_name(layer_name, [IMAGES, *(layer.name for layer in model.layers)], "layer")
    activations = _answer_of(model, layer_name)
    if activations is model.outputs[0]:
        raise ValueError(f"nothing lies above {layer_name!r}, the last layer of the model {model.name!r}. Name one below it.")
    try:
        above = keras.Model(activations, model.outputs[0], name=f"{model.name}_above_{layer_name}")
    except ValueError as error:
        raise ValueError(
            f"the model {model.name!r} cannot be cut at {layer_name!r}: another path leads around that layer to the outputs. "
            "Name a layer through which everything passes."
        ) from error
    return LayerCut(keras.Model(model.inputs[0], activations), above, _range_of(activations, pixel_box))


def _check_wiring(model: keras.Model) -> None:
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"the model {model.name!r} is subclassed or not built, so that its layers cannot be cut apart. Pass a functional "
            "or sequential Keras model that begins with a keras.Input."
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"the model {model.name!r} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; expected one of each."
        )


def _answer_of(model: keras.Model, layer_name: str) -> keras.KerasTensor:
    """Returns what a layer answers in this model; other models, of which `layer.output` may be, can share it."""
    layer = model.get_layer(layer_name)
    answers: list[keras.KerasTensor] = []
    waiting, seen = list(model.outputs), set()
    while waiting:
        node = _node_of(waiting.pop())
        if id(node) not in seen:
            seen.add(id(node))
            answers += node.output_tensors if node.operation is layer else []
            waiting += node.input_tensors
    if len(answers) != 1:
        raise ValueError(
            f"the model {model.name!r} cannot be cut at {layer_name!r}: that layer gives {len(answers)} tensors; expected one. "
            "Name a layer that is used once and has one output."
        )
    return answers[0]


def _node_of(tensor: keras.KerasTensor) -> Any:
    """Returns the call that made a tensor: an operation, and what went in and out."""
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


_RANGES = {
    "sigmoid": PixelBox(0.0, 1.0), "hard_sigmoid": PixelBox(0.0, 1.0), "softmax": PixelBox(0.0, 1.0),
    "tanh": PixelBox(-1.0, 1.0), "softsign": PixelBox(-1.0, 1.0), "hard_tanh": PixelBox(-1.0, 1.0),
    "relu": PixelBox(0.0, inf), "relu6": PixelBox(0.0, 6.0), "softplus": PixelBox(0.0, inf), "exponential": PixelBox(0.0, inf),
}  # fmt: skip

_VALUES_STAY = (
    keras.layers.Flatten, keras.layers.Reshape, keras.layers.Permute, keras.layers.Dropout, keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D, keras.layers.SpatialDropout3D, keras.layers.MaxPooling1D, keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D, keras.layers.AveragePooling1D, keras.layers.AveragePooling2D, keras.layers.AveragePooling3D,
    keras.layers.GlobalMaxPooling1D, keras.layers.GlobalMaxPooling2D, keras.layers.GlobalMaxPooling3D,
    keras.layers.GlobalAveragePooling1D, keras.layers.GlobalAveragePooling2D, keras.layers.GlobalAveragePooling3D,
)  # fmt: skip


def _range_of(activations: keras.KerasTensor, pixel_box: PixelBox) -> PixelBox:
    """Follows layers that only move, drop or average values down to the one that made them."""
    node = _node_of(activations)
    layer = node.operation
    if isinstance(layer, keras.layers.InputLayer):
        return pixel_box
    if isinstance(layer, _VALUES_STAY):
        return _range_of(node.input_tensors[0], pixel_box)
    if isinstance(layer, keras.layers.ReLU):
        bounded = layer.max_value is not None
        plain = not layer.negative_slope and not layer.threshold
        return PixelBox(0.0, float(layer.max_value) if bounded else inf) if plain else PixelBox(-inf, inf)
    activation = getattr(layer, "activation", None)
    name = getattr(activation, "__name__", "")
    known = name in _RANGES and activation is getattr(keras.activations, name) and _ends_in_activation(layer)
    return _RANGES[name] if known else PixelBox(-inf, inf)


def _ends_in_activation(layer: keras.Layer) -> bool:
    """True of the layers of Keras that have an activation, except gates, which multiply it; of others nobody knows."""
    return type(layer).__module__.startswith("keras.") and not hasattr(layer, "recurrent_activation")
