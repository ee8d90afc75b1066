"""The last layers of a network as matrices and activation functions, if they are small enough."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from intriguing.lipschitz.activation_lipschitz import (
    ACTIVATION_LAYERS,
    canonical,
    lipschitz_of_activation,
    lipschitz_of_operation,
)
from intriguing.lipschitz.scale_norms import AUGMENTATIONS, IDENTITIES, MOVERS
from intriguing.models.layer_graph import LayerGraph, Step, logits_of, operation_kind
from intriguing.models.layer_twins import inference_config

_MATRIX_ENTRIES = 2**22
_MOST_UNITS = 1024  # of a hidden layer

_layers = keras.layers
_AFFINE = (
    _layers.Dense, _layers.EinsumDense, _layers.Conv1D, _layers.Conv2D, _layers.Conv3D, _layers.DepthwiseConv1D,
    _layers.DepthwiseConv2D, _layers.SeparableConv1D, _layers.SeparableConv2D, _layers.Conv1DTranspose,
    _layers.Conv2DTranspose, _layers.AveragePooling1D, _layers.AveragePooling2D, _layers.GlobalAveragePooling1D,
    _layers.GlobalAveragePooling2D, _layers.BatchNormalization, _layers.Normalization, _layers.Rescaling, *MOVERS,
)  # fmt: skip
# AveragePooling3D is omitted: TensorFlow does not compute it in double precision on a CPU.
_AFFINE_OPERATIONS = (
    "Add", "Subtract", "Multiply", "TrueDivide", "Divide", "Negative", "Reshape", "Transpose", "Squeeze", "ExpandDims",
    "GetItem", "Mean", "Sum",
)  # fmt: skip
_UNCHANGED_OPERATIONS = ("Cast", "StopGradient", "Identity")
_ELEMENTWISE_OPERATIONS = {
    "Relu": keras.activations.relu, "Relu6": keras.activations.relu6, "Sigmoid": keras.activations.sigmoid,
    "Tanh": keras.activations.tanh, "Softplus": keras.activations.softplus, "Selu": keras.activations.selu,
    "Silu": keras.activations.silu,
}  # fmt: skip


class Stage(NamedTuple):
    """Computes `activation(values @ matrix + offset)` of flat values."""

    matrix: tf.Tensor  # float64 [inputs, outputs]
    offset: tf.Tensor  # float64 [outputs]
    activation: Callable[..., Any]
    constant: float  # the Lipschitz constant of the activation function


class DenseTail(NamedTuple):
    """A network in two parts: a graph of layers, and stages of matrices."""

    head: LayerGraph | None  # from images to the input of the first stage; None if that input is the images
    trunk: LayerGraph | None  # from images to the input of the last stage; None if that input is the images
    stages: tuple[Stage, ...]  # from the output of the head to the logits; the last one has no activation function


def dense_tail(model: keras.Model) -> DenseTail:
    """Returns the longest chain of small affine layers and activation functions at the end of a network.

    Args:
        model: A functional or sequential Keras model with one input and one output. A softmax at its end is removed, as by
            `logits_of`. Layers of nested models are included.

    Returns:
        A `DenseTail`. If no layer can be written as a matrix, its only stage is the identity of the logits.
    """
    return tail_of(logits_of(model).graph)


def tail_of(graph: LayerGraph) -> DenseTail:
    """Returns the `DenseTail` of a graph whose output is the logits."""
    groups = [_Group(graph, graph.output)]
    value = graph.output
    while (step := graph.producer(value)) is not None and len(step.inputs) == 1 and _is_added(groups, step):
        value = step.inputs[0]
    starts = [group.source for group in groups]
    head, trunk = (graph.up_to(start) if start else None for start in (starts[0], starts[-1]))
    return DenseTail(head, trunk, tuple(group.stage() for group in groups))


class _Group:
    """Consecutive affine layers, and the activation function after the last of them."""

    def __init__(
        self, graph: LayerGraph, output: int, activation: Callable[..., Any] = keras.activations.linear, constant: float = 1.0
    ) -> None:
        self.graph, self.source, self.num_outputs = graph, output, prod(graph.shapes[output])
        self.steps: list[Step] = []
        self._activation, self._constant = activation, constant

    def add(self, step: Step) -> bool:
        if prod(self.graph.shapes[step.inputs[0]]) * self.num_outputs > _MATRIX_ENTRIES:
            return False
        self.steps.insert(0, step)
        self.source = step.inputs[0]
        return True

    def stage(self) -> Stage:
        shape = self.graph.shapes[self.source]
        basis = tf.reshape(tf.eye(prod(shape), dtype=tf.float64), [-1, *shape])
        calls = [_in_double_precision(step, self.graph.shapes[step.inputs[0]]) for step in self.steps]
        offset = _through(calls, tf.zeros([1, *shape], tf.float64))
        return Stage(_through(calls, basis) - offset, offset[0], self._activation, self._constant)


def _is_added(groups: list[_Group], step: Step) -> bool:
    """Adds a step in front of the groups, and returns True; returns False if it cannot be written as a matrix."""
    operation = _unwrapped(step.operation)
    step, kind = step._replace(operation=operation), operation_kind(operation)
    affine = type(operation) in _AFFINE or kind in _AFFINE_OPERATIONS  # a derived class may compute something else
    unchanged = type(operation) in (*IDENTITIES, *AUGMENTATIONS) or kind in _UNCHANGED_OPERATIONS
    activation = keras.activations.linear if (affine and kind) or unchanged else _activation_of(operation)
    known = affine or unchanged or type(operation) in ACTIVATION_LAYERS or kind in (*_ELEMENTWISE_OPERATIONS, "ReLU")
    if activation is None or activation is keras.activations.softmax or not known:
        return False
    if activation is keras.activations.linear:
        return groups[0].add(step) if affine else _skipped(groups[0], step)
    constant = lipschitz_of_operation(operation) if kind else lipschitz_of_activation(operation)
    group = _Group(groups[0].graph, groups[0].source, activation, float(constant or 1.0))
    if group.num_outputs > _MOST_UNITS or not (group.add(step) if affine else _skipped(group, step)):
        return False
    groups.insert(0, group)
    return True


def _skipped(group: _Group, step: Step) -> bool:
    """Moves the start of a group in front of a step that is the identity."""
    group.source = step.inputs[0]
    return True


def _unwrapped(operation: Any) -> Any:
    """Returns the layer that a spectral normalization calls in inference."""
    while type(operation) is _layers.SpectralNormalization:
        operation = operation.layer
    return operation


def _activation_of(operation: Any) -> Callable[..., Any] | None:
    """Returns the activation function of a layer; None if it is not elementwise, or has parameters of its own."""
    if isinstance(operation, _layers.PReLU):
        return None
    if isinstance(operation, _layers.ReLU) or operation_kind(operation) == "ReLU":
        plain = operation.max_value is None and not operation.threshold and not operation.negative_slope
        return keras.activations.relu if plain else None
    if isinstance(operation, _layers.LeakyReLU):
        return _with(keras.activations.leaky_relu, negative_slope=float(operation.negative_slope))
    if isinstance(operation, _layers.ELU):
        return _with(keras.activations.elu, alpha=float(operation.alpha))
    if isinstance(operation, _layers.Softmax):
        return keras.activations.softmax
    if operation_kind(operation):
        return _ELEMENTWISE_OPERATIONS.get(type(operation).__name__)
    activation = getattr(operation, "activation", keras.activations.linear) or keras.activations.linear
    return _activation_of(activation) if isinstance(activation, keras.Layer) else canonical(activation)


@functools.cache
def _with(activation: Callable[..., Any], **parameters: float) -> Callable[..., Any]:
    """Returns an activation function with parameters; the same object for equal parameters, so that programs are reused."""
    return functools.partial(activation, **parameters)


def _in_double_precision(step: Step, shape: tuple[int, ...]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function that computes a step without its activation function in float64, with a copy of the layer."""
    operation = step.operation
    if operation_kind(operation):
        args, kwargs = step.node.arguments.args, step.node.arguments.kwargs
        doubled = keras.tree.map_structure(_doubled, (args, kwargs))
        return lambda values: operation.call(*_placed(doubled[0], values), **_placed(doubled[1], values))
    layer = type(operation).from_config({**inference_config(operation), "dtype": "float64"})
    layer.build((None, *shape))
    layer.set_weights(operation.get_weights())
    if isinstance(layer, _layers.Normalization):
        layer.finalize_state()  # copies the weights to the attributes that the layer computes with
    return functools.partial(layer, training=False) if isinstance(layer, _layers.BatchNormalization) else layer


def _doubled(value: Any) -> Any:
    """Returns floating-point constants of an operation in double precision, and any other value unchanged."""
    if isinstance(value, keras.KerasTensor | str | bool | int | slice) or value is None or value is Ellipsis:
        return value
    array = np.asarray(value)
    return tf.constant(array, tf.float64) if np.issubdtype(array.dtype, np.floating) else value


def _placed(arguments: Any, values: tf.Tensor) -> Any:
    """Returns arguments with values in place of the symbolic tensor."""
    return keras.tree.map_structure(lambda leaf: values if isinstance(leaf, keras.KerasTensor) else leaf, arguments)


def _through(calls: Sequence[Callable[[tf.Tensor], tf.Tensor]], values: tf.Tensor) -> tf.Tensor:
    for call in calls:
        values = call(values)
    return tf.reshape(values, [tf.shape(values)[0], -1])
