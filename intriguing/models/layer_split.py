"""A network split at one layer: the lower part, the upper part, and the values between them."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import keras

from intriguing.models.keras_internals import node_of
from intriguing.models.layer_paths import Path, check_wired, find_path, is_wired, model_above, model_below
from intriguing.pixels import PixelBox

IMAGES = "images"
"""The name for the input of a model, independent of the name of its input layer."""


class LayerCut(NamedTuple):
    """The two parts of a model that is cut at a layer. They share the weights of the model."""

    below: keras.Model  # from images to the activations of the layer
    above: keras.Model  # from those activations to the outputs of the whole model
    values: PixelBox  # the range of the activations, which is the pixel box of the part above


def cut_at(model: keras.Model, layer_name: str, *, pixel_box: PixelBox = PixelBox()) -> LayerCut:
    """Cuts a network at the output of a layer, so that attacks can be applied to activations instead of images.

    Args:
        model: A functional or sequential Keras model with one input and one output.
        layer_name: Name of one of its layers, or `IMAGES` for a cut below all of them. A layer of a nested model is named by
            its path, such as "backbone/conv2".
        pixel_box: The legal pixel values.

    Returns:
        A `LayerCut`. The range is that of the activation function of the layer; unbounded if that is not known.

    Raises:
        ValueError: If there is no such layer, if it is the last one or used more than once, or if another path leads around
            it, so that the part above depends on more than its activations; if there are several inputs or outputs; or if the
            model is subclassed or not built.
    """
    check_wired(model)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"the model {model.name!r} must have one input and one output; received {len(model.inputs)} and "
            f"{len(model.outputs)}."
        )
    if layer_name == IMAGES:
        return LayerCut(keras.Model(model.inputs[0], model.inputs[0]), model, pixel_box)
    path = find_path(model, layer_name, others=[IMAGES])
    try:
        above = model_above(path, name=f"{model.name}_above_{layer_name.replace('/', '_')}")
    except ValueError as error:
        raise ValueError(
            f"the model {model.name!r} cannot be cut at {layer_name!r}: another path leads around that layer to the outputs. "
            "Name a layer on which all paths lie."
        ) from error
    if above is None:
        raise ValueError(f"{layer_name!r} is the last layer of the model {model.name!r}. Name a layer below it.")
    return LayerCut(model_below(path), above, _range_at(path, pixel_box))


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


def _range_at(path: Path, pixel_box: PixelBox) -> PixelBox:
    values = pixel_box
    for call in path[:-1]:
        values = _range_of(call.inputs[0], values) if len(call.inputs) == 1 else PixelBox(-inf, inf)
    return _range_of(path[-1].output, values)


def _range_of(activations: keras.KerasTensor, entering: PixelBox) -> PixelBox:
    """Returns the range of a tensor: that of the last activation function, or of the input, before layers that keep ranges."""
    node = node_of(activations)
    layer = node.operation
    if isinstance(layer, keras.layers.InputLayer):
        return entering
    if isinstance(layer, _VALUES_STAY):
        return _range_of(node.input_tensors[0], entering)
    if is_wired(layer) and len(node.input_tensors) == len(layer.outputs) == 1:
        return _range_of(layer.outputs[0], _range_of(node.input_tensors[0], entering))
    if isinstance(layer, keras.layers.ReLU):
        bounded = layer.max_value is not None
        plain = not layer.negative_slope and not layer.threshold
        return PixelBox(0.0, float(layer.max_value) if bounded else inf) if plain else PixelBox(-inf, inf)
    activation = getattr(layer, "activation", None)
    name = getattr(activation, "__name__", "")
    known = name in _RANGES and activation is getattr(keras.activations, name) and _ends_in_activation(layer)
    return _RANGES[name] if known else PixelBox(-inf, inf)


def _ends_in_activation(layer: keras.Layer) -> bool:
    """Returns True for Keras layers that apply `activation` last; False for gated and custom layers."""
    return type(layer).__module__.startswith("keras.") and not hasattr(layer, "recurrent_activation")
