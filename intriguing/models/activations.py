"""The feature map phi of the paper: a model from images to the output of a named layer."""

from __future__ import annotations

import functools
import warnings
from math import prod
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from intriguing.models.layer_graph import ACTIVATED_LAST
from intriguing.models.layer_paths import Path, chained, find_path, is_wired, model_below, node_of
from intriguing.models.layer_twins import inference_config, without_activation
from intriguing.names import check_name

POOLINGS = ("flatten", "max", "mean")
"""What becomes of the places of an image: every one a feature, or the maximum or mean over them for each channel."""


def activations_at(model: keras.Model, layer_name: str, *, before_activation: bool = False) -> keras.Model:
    """Returns the part of `model` from the images to the output of one layer, sharing its weights.

    Args:
        model: A functional or Sequential Keras model that is built.
        layer_name: Name of one of its layers. A layer of a nested model is named by its path, such as "backbone/conv2", or by
            its name alone where no other nested model has such a layer.
        before_activation: Stop before the layer's activation function; for a layer that is nothing else, before that layer.

    Returns:
        A Keras model from images to the activations of that layer. Later changes of the weights of `model` show in it.

    Raises:
        ValueError: If there is no such layer, the message offering the nearest name; if it is used more than once or has
            several outputs; if it has no activation function to stop before, or cannot be computed without it; or if the model
            is subclassed or not built, so that it is not known how its layers are wired.

    Example:
        >>> activations_at(model, "hidden1")(images).shape
        TensorShape([200, 100])
    """
    path = find_path(model, layer_name)
    return _before_activation(path, layer_name) if before_activation else model_below(path)


def features_at(
    model: keras.Model, layer_name: str, *, before_activation: bool = False, pooling: str | None = None
) -> keras.Model:
    """Returns the part of `model` from the images to one vector of features per image.

    Args:
        model: A functional or Sequential Keras model that is built.
        layer_name: Name of one of its layers, as in `activations_at`.
        before_activation: As in `activations_at`.
        pooling: One of `POOLINGS`; must be named where the layer has spatial axes, and changes nothing elsewhere.

    Returns:
        A Keras model from images to features `[batch, features]`.

    Raises:
        ValueError: As `activations_at`, and if `pooling` is unknown, or not named for a layer with spatial axes.

    Example:
        >>> features_at(convnet(), "conv2", pooling="max")(np.zeros([2, 28, 28, 1], np.float32)).shape
        TensorShape([2, 32])
    """
    if pooling is not None:
        check_name(pooling, POOLINGS, "pooling")
    activations = activations_at(model, layer_name, before_activation=before_activation)
    shape = activations.output_shape
    if len(shape) == 2:
        return activations
    _check_pooling(pooling, shape, layer_name)
    pooled = _pooling_layer(pooling, shape, _channel_axis(find_path(model, layer_name)[-1].node))
    return chained([activations, pooled])


def _check_pooling(pooling: str | None, shape: tuple[int | None, ...], layer_name: str) -> None:
    known_size = None not in shape[1:]
    if pooling is None:
        every = f"all {prod(size for size in shape[1:] if size)}" if known_size else "all of them"
        raise ValueError(
            f"the outputs of the layer {layer_name!r} have shape {list(shape)}, with spatial axes; name what becomes of them: "
            f"pooling='max' or 'mean' gives one feature a channel, 'flatten' gives {every}."
        )
    if pooling == "flatten" and not known_size:
        raise ValueError(
            f"the outputs of the layer {layer_name!r} have shape {list(shape)}, whose size depends on the images, so that its "
            "features cannot be counted. Use pooling='max' or 'mean', or build the model for images of one size."
        )


def _pooling_layer(pooling: str | None, shape: tuple[int | None, ...], channel_axis: int) -> Any:
    if pooling == "flatten":
        return keras.layers.Flatten(data_format="channels_last")  # the order of rows in memory
    places = [axis for axis in range(1, len(shape)) if axis != channel_axis % len(shape)]
    return functools.partial(keras.ops.max if pooling == "max" else keras.ops.mean, axis=places)


def _channel_axis(node: Any) -> int:
    """Follows layers that keep the order of axes, such as activations, down to one that names it."""
    while True:
        layer = node.operation
        if is_wired(layer):
            node = node_of(layer.outputs[0])
        elif hasattr(layer, "data_format"):
            return 1 if layer.data_format == "channels_first" else -1
        elif not node.input_tensors or isinstance(layer, (keras.layers.Permute, keras.layers.Reshape)):
            return -1
        else:
            node = node_of(node.input_tensors[0])


_ACTIVATION_LAYERS = (
    keras.layers.Activation, keras.layers.ELU, keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ReLU,
    keras.layers.Softmax,
)  # fmt: skip


def _before_activation(path: Path, layer_name: str) -> keras.Model:
    call = path[-1]
    below = model_below(path, call.inputs)
    if isinstance(call.layer, _ACTIVATION_LAYERS):
        return below
    if getattr(call.layer, "activation", keras.activations.linear) is keras.activations.linear:
        raise ValueError(
            f"the layer {layer_name!r} has no activation function, so that there is nothing before it. Leave out "
            "before_activation."
        )
    return chained([below, _WithoutActivation(call.layer, call.inputs[0].shape, name=f"before_{call.layer.name}")])


_PROBE_SIZE = 64  # of an axis whose size is not known
_RTOL, _ATOL = 1e-2, 1e-3  # layers may compute in half precision


class _WithoutActivation(keras.Layer):
    """Computes what a layer computes, apart from its activation function, with the weights of that layer."""

    def __init__(self, layer: keras.Layer, input_shape: tuple[int | None, ...], **kwargs: str):
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.layer = layer
        self._linear = _Untracked(_linear_copy(layer, input_shape))
        self.built = True
        self._check(input_shape)

    def _check(self, input_shape: tuple[int | None, ...]) -> None:
        """Raises a `ValueError` unless the activation function of what this layer computes is what `layer` computes."""
        shape = [2, *(size or _PROBE_SIZE for size in input_shape[1:])]
        probe = tf.random.stateless_normal(shape, [0, 0], alg="philox")
        expected, found = self.layer(probe), self.layer.activation(self(probe))
        found, expected = (np.asarray(tf.cast(value, tf.float32)) for value in (found, expected))
        if not np.allclose(found, expected, rtol=_RTOL, atol=_ATOL, equal_nan=True):
            raise ValueError(_refusal(self.layer))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        linear = self._linear.layer
        values = [(own, shared.value) for own, shared in zip(linear.variables, self.layer.variables, strict=True)]
        with keras.StatelessScope(state_mapping=values):
            return linear(inputs)


class _Untracked:
    """Holds a layer where Keras does not look for further weights."""

    def __init__(self, layer: keras.Layer):
        self.layer = layer


def _linear_copy(layer: keras.Layer, input_shape: tuple[int | None, ...]) -> keras.Layer:
    """Returns a layer whose activation function is the identity: one that shares the weights, or a copy with its own variables.

    Raises:
        ValueError: If there is no such layer.
    """
    if type(layer) in ACTIVATED_LAST:
        return without_activation(layer)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about lambdas, which matter when a file is loaded
            config = inference_config(layer)
        copy = type(layer).from_config({**config, "activation": "linear"})
        copy.build(input_shape)
    except Exception as error:  # whatever a layer of others raises
        raise ValueError(_refusal(layer)) from error
    if [tuple(own.shape) for own in copy.variables] != [tuple(shared.shape) for shared in layer.variables]:
        raise ValueError(_refusal(layer))
    return copy


def _refusal(layer: keras.Layer) -> str:
    return (
        f"the layer {layer.name!r}, a {type(layer).__name__}, cannot be computed without its activation function. Leave out "
        "before_activation, or give the model a layer of its own for the activation."
    )
