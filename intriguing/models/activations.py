"""The feature map phi of the paper: what a named layer makes of an image."""

from __future__ import annotations

from math import prod

import keras

from intriguing.names import check_name

POOLINGS = ("flatten", "max", "mean")
"""What becomes of the places of an image: every one a feature, or the maximum or mean over them for each channel."""


def activations_at(model: keras.Model, layer_name: str, *, before_activation: bool = False) -> keras.Model:
    """Returns the part of `model` from the images to the output of one layer, sharing its weights.

    Args:
        model: A functional or sequential Keras model.
        layer_name: Name of one of its layers.
        before_activation: Stop before the layer's activation function; for a layer that is nothing else, before that layer.

    Returns:
        A Keras model from images to the activations of that layer.

    Raises:
        ValueError: If there is no such layer, the message offering the nearest name; if it has no activation function to stop
            before; or if the model is subclassed, so that nobody knows how its layers are wired.
    """
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"the model {model.name!r} is subclassed, so that its layers cannot be cut apart. Pass a functional or sequential "
            "Keras model."
        )
    check_name(layer_name, [layer.name for layer in model.layers], "layer")
    layer = model.get_layer(layer_name)
    if not before_activation:
        return keras.Model(model.inputs, layer.output)
    if isinstance(layer, _ACTIVATION_LAYERS):
        return keras.Model(model.inputs, layer.input)
    if getattr(layer, "activation", keras.activations.linear) is keras.activations.linear:
        raise ValueError(
            f"the layer {layer_name!r} has no activation function, so that there is nothing before it. Leave out "
            "before_activation."
        )
    return keras.Model(model.inputs, _BeforeActivation(layer, name=f"before_{layer_name}")(layer.input))


def features_at(
    model: keras.Model, layer_name: str, *, before_activation: bool = False, pooling: str | None = None
) -> keras.Model:
    """Returns the part of `model` from the images to one vector of features per image.

    Args:
        model: A functional or sequential Keras model.
        layer_name: Name of one of its layers.
        before_activation: As in `activations_at`.
        pooling: One of `POOLINGS`; must be named where the layer has spatial axes, and changes nothing elsewhere.

    Returns:
        A Keras model from images to features `[batch, features]`.

    Raises:
        ValueError: As `activations_at`, and if `pooling` is unknown, or not named for a layer with spatial axes.
    """
    if pooling is not None:
        check_name(pooling, POOLINGS, "pooling")
    activations = activations_at(model, layer_name, before_activation=before_activation)
    shape = activations.output_shape
    if len(shape) == 2:
        return activations
    if pooling is None:
        raise ValueError(
            f"the layer {layer_name!r} answers {list(shape)}, with spatial axes; name what becomes of them: pooling='max' or "
            f"'mean' gives one feature a channel, 'flatten' gives all {prod(shape[1:])}."
        )
    return keras.Model(activations.inputs, _pooled(activations.output, pooling, _channel_axis(model.get_layer(layer_name))))


def _pooled(activations: keras.KerasTensor, pooling: str, channel_axis: int) -> keras.KerasTensor:
    if pooling == "flatten":
        return keras.ops.reshape(activations, (-1, prod(activations.shape[1:])))
    rank = len(activations.shape)
    places = [axis for axis in range(1, rank) if axis != channel_axis % rank]
    return keras.ops.max(activations, axis=places) if pooling == "max" else keras.ops.mean(activations, axis=places)


def _channel_axis(layer: keras.Layer) -> int:
    return 1 if getattr(layer, "data_format", "channels_last") == "channels_first" else -1


_ACTIVATION_LAYERS = (
    keras.layers.Activation, keras.layers.ELU, keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ReLU,
    keras.layers.Softmax,
)  # fmt: skip


class _BeforeActivation(keras.Layer):
    """Calls a layer with its activation function put aside; the weights stay the layer's."""

    def __init__(self, layer: keras.Layer, **kwargs: str):
        super().__init__(**kwargs)
        self.layer = layer

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        activation, self.layer.activation = self.layer.activation, keras.activations.linear
        try:
            return self.layer(inputs)
        finally:
            self.layer.activation = activation
