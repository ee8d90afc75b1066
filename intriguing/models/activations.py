"""The feature map phi of the paper: a model from images to the output of a named layer."""

from __future__ import annotations

import functools
import warnings
from math import prod
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from intriguing.models.keras_internals import node_of
from intriguing.models.layer_graph import ACTIVATED_LAST
from intriguing.models.layer_paths import Path, chained, find_path, is_wired, model_below
from intriguing.models.layer_twins import inference_config, without_activation
from intriguing.names import check_name

POOLINGS = ("flatten", "max", "mean")
"""How spatial positions become features: each value is a feature, or each channel's maximum or mean over all positions."""


def activations_at(model: keras.Model, layer_name: str, *, before_activation: bool = False) -> keras.Model:
    """Returns the part of `model` from the images to the output of one layer. It shares the weights of `model`.

    Args:
        model: A functional or Sequential Keras model that is built.
        layer_name: Name of one of its layers. For a layer of a nested model, its path, such as "backbone/conv2", or its name
            alone if no other nested model has a layer of that name.
        before_activation: Whether to stop before the activation function of the layer; before the layer itself if it is an
            activation layer, such as `keras.layers.ReLU`.

    Returns:
        A Keras model from images to the activations of that layer. Later changes of the weights of `model` change its outputs.

    Raises:
        TypeError: If the name is not a string.
        ValueError: If there is no such layer; the message suggests the nearest name. If the layer is used more than once or has
            several outputs. If `before_activation` is True, but the layer has no activation function, or cannot be computed
            without it. If the model is subclassed or not built, so that its graph is not known.

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
        pooling: One of `POOLINGS`. Required if the output of the layer has spatial axes; ignored otherwise.

    Returns:
        A Keras model from images to features `[batch, features]`.

    Raises:
        TypeError: As in `activations_at`.
        ValueError: As in `activations_at`, and if `pooling` is unknown, or missing for a layer with spatial axes.

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
            f"pooling is required, since the outputs of the layer {layer_name!r} have shape {list(shape)}, with spatial axes. "
            f"Pass pooling='max' or 'mean' for one feature per channel, or 'flatten' for {every}."
        )
    if pooling == "flatten" and not known_size:
        raise ValueError(
            f"pooling='flatten' requires outputs of known size; those of the layer {layer_name!r} have shape {list(shape)}, "
            "which depends on the images. Use pooling='max' or 'mean', or build the model for images of one size."
        )


def _pooling_layer(pooling: str | None, shape: tuple[int | None, ...], channel_axis: int) -> Any:
    if pooling == "flatten":
        return keras.layers.Flatten(data_format="channels_last")  # the order of rows in memory
    places = [axis for axis in range(1, len(shape)) if axis != channel_axis % len(shape)]
    return functools.partial(keras.ops.max if pooling == "max" else keras.ops.mean, axis=places)


def _channel_axis(node: Any) -> int:
    """Returns the channel axis, from the nearest layer below with a `data_format`; layers in between keep the order of axes."""
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
            f"before_activation requires a layer with an activation function; the layer {layer_name!r} has none. Omit "
            "before_activation."
        )
    return chained([below, _WithoutActivation(call.layer, call.inputs[0].shape, name=f"before_{call.layer.name}")])


_PROBE_SIZE = 64  # size of the probe along axes of unknown size
_RTOL, _ATOL = 1e-2, 1e-3  # layers may compute in half precision


class _WithoutActivation(keras.Layer):
    """Computes the output of a layer before its activation function, with the weights of that layer."""

    def __init__(self, layer: keras.Layer, input_shape: tuple[int | None, ...], **kwargs: str):
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.layer = layer
        self._linear = _Untracked(_linear_copy(layer, input_shape))
        self.built = True
        self._check(input_shape)

    def _check(self, input_shape: tuple[int | None, ...]) -> None:
        """Raises a `ValueError` unless the activation function, applied to this layer's outputs, returns those of `layer`."""
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
    """Holds a layer whose weights Keras does not track."""

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
            warnings.simplefilter("ignore")  # about lambdas, which are a problem only in files
            config = inference_config(layer)
        copy = type(layer).from_config({**config, "activation": "linear"})
        copy.build(input_shape)
    except Exception as error:  # a custom layer may raise any error
        raise ValueError(_refusal(layer)) from error
    if [tuple(own.shape) for own in copy.variables] != [tuple(shared.shape) for shared in layer.variables]:
        raise ValueError(_refusal(layer))
    return copy


def _refusal(layer: keras.Layer) -> str:
    return (
        f"the layer {layer.name!r}, a {type(layer).__name__}, cannot be computed without its activation function. Omit "
        "before_activation, or use a separate layer for the activation in the model."
    )
