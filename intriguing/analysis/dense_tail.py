"""The last layers of a network as matrices and activation functions, as far back as they are small enough for it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from intriguing.analysis.lipschitz import ACTIVATION_LAYERS, slope_of
from intriguing.analysis.operator_norms import MOVERS

_MATRIX_ENTRIES = 2**22
_MOST_UNITS = 1024  # of a layer in between

_layers = keras.layers
_AFFINE = (
    _layers.Dense, _layers.Conv1D, _layers.Conv2D, _layers.Conv3D, _layers.DepthwiseConv1D, _layers.DepthwiseConv2D,
    _layers.Conv1DTranspose, _layers.Conv2DTranspose, _layers.AveragePooling1D, _layers.AveragePooling2D,
    _layers.GlobalAveragePooling1D, _layers.GlobalAveragePooling2D, _layers.BatchNormalization, _layers.Normalization,
    _layers.Rescaling, *MOVERS,
)  # fmt: skip
# AveragePooling3D is not among them: TensorFlow has none in double precision on a CPU.


class Stage(NamedTuple):
    """`activation(values @ matrix + offset)`, on flat values."""

    matrix: tf.Tensor  # float64 [inputs, outputs]
    offset: tf.Tensor  # float64 [outputs]
    activation: Callable[..., Any]
    constant: float  # the Lipschitz constant of the activation function


class DenseTail(NamedTuple):
    """A network in two parts, the second of which is known as matrices."""

    head: keras.Model | None  # from images to what the first stage takes; None if that is the images
    trunk: keras.Model | None  # from images to what the last stage takes; None if that is the images
    stages: tuple[Stage, ...]  # to the logits; the last one has no activation function


def dense_tail(model: keras.Model) -> DenseTail:
    """Finds the longest end of a network that is a chain of small affine layers and activation functions.

    Args:
        model: A functional or sequential Keras model with one input and one output. A softmax at its end is left out.

    Returns:
        A `DenseTail`. If no layer can be taken as a matrix, its only stage passes the logits on.
    """
    tensor = model.outputs[0]
    groups: list[_Group] = [_Group(tensor)]
    while tensor is not model.inputs[0]:
        operation, node_index, _ = tensor._keras_history
        sources = operation._inbound_nodes[node_index].input_tensors
        if len(sources) != 1 or not _taken(groups, operation, sources[0], ends=tensor is model.outputs[0]):
            break
        tensor = sources[0]
    starts = [group.source for group in groups]
    return DenseTail(_up_to(model, starts[0]), _up_to(model, starts[-1]), tuple(group.stage() for group in groups))


class _Group:
    """Affine layers that follow one another, and the activation function behind the last of them."""

    def __init__(self, output: Any, activation: Callable[..., Any] = keras.activations.linear, constant: float = 1.0) -> None:
        self.source, self.num_outputs = output, _size(output)
        self.operations: list[Any] = []
        self._activation, self._constant = activation, constant

    def add(self, operation: Any, source: Any) -> bool:
        if _size(source) * self.num_outputs > _MATRIX_ENTRIES:
            return False
        self.operations.insert(0, operation)
        self.source = source
        return True

    def stage(self) -> Stage:
        shape = tuple(int(size) for size in self.source.shape[1:])
        basis = tf.reshape(tf.eye(prod(shape), dtype=tf.float64), [-1, *shape])
        layers = _in_double_precision(self.operations, shape)
        offset = _through(layers, tf.zeros([1, *shape], tf.float64))
        return Stage(_through(layers, basis) - offset, offset[0], self._activation, self._constant)


def _taken(groups: list[_Group], operation: Any, source: Any, *, ends: bool) -> bool:
    """Adds an operation in front of the groups, if it can be."""
    activation = _activation_of(operation)
    if ends and activation is keras.activations.softmax:  # the order of the logits is that of the probabilities
        activation = keras.activations.linear
    affine = type(operation) in _AFFINE  # a derived one may compute something else
    known = affine or type(operation) in ACTIVATION_LAYERS
    if activation is None or activation is keras.activations.softmax or not known:
        return False
    if activation is keras.activations.linear:
        return groups[0].add(operation, source) if affine else _moved(groups, source)
    group = _Group(groups[0].source, activation, slope_of(operation))
    if group.num_outputs > _MOST_UNITS:
        return False
    if affine and not group.add(operation, source):
        return False
    group.source = source
    groups.insert(0, group)
    return True


def _moved(groups: list[_Group], source: Any) -> bool:
    groups[0].source = source
    return True


def _activation_of(operation: Any) -> Callable[..., Any] | None:
    """Returns the activation function of a layer; None if it is none of numbers one by one, with Keras's own parameters."""
    if isinstance(operation, _layers.ReLU):
        plain = operation.max_value is None and not operation.threshold and not operation.negative_slope
        return keras.activations.relu if plain else None
    if isinstance(operation, _layers.LeakyReLU):
        return _with(keras.activations.leaky_relu, negative_slope=float(operation.negative_slope))
    if isinstance(operation, _layers.ELU):
        return _with(keras.activations.elu, alpha=float(operation.alpha))
    if isinstance(operation, _layers.Softmax):
        return keras.activations.softmax
    return getattr(operation, "activation", keras.activations.linear)


@functools.cache
def _with(activation: Callable[..., Any], **parameters: float) -> Callable[..., Any]:
    """Returns the same function for the same parameters: what is compiled for it once is found again."""
    return functools.partial(activation, **parameters)


def _in_double_precision(operations: Sequence[Any], shape: tuple[int, ...]) -> list[Any]:
    """Returns copies of layers without their activation functions, for input of a shape."""
    copies = []
    for operation in operations:
        config = {**operation.get_config(), "dtype": "float64"}
        if "activation" in config:
            config["activation"] = None
        layer = type(operation).from_config(config)
        layer.build((None, *shape))
        layer.set_weights(operation.get_weights())
        if isinstance(layer, _layers.Normalization):
            layer.finalize_state()  # it computes with copies of its weights
        shape = tuple(layer.compute_output_shape((None, *shape)))[1:]
        copies.append(layer)
    return copies


def _through(layers: Sequence[Any], values: tf.Tensor) -> tf.Tensor:
    for layer in layers:
        values = layer(values, training=False) if isinstance(layer, _layers.BatchNormalization) else layer(values)
    return tf.reshape(values, [tf.shape(values)[0], -1])


def _size(tensor: Any) -> int:
    return prod(int(size) for size in tensor.shape[1:])


def _up_to(model: keras.Model, tensor: Any) -> keras.Model | None:
    return None if tensor is model.inputs[0] else keras.Model(model.inputs, tensor)
