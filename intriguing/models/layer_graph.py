"""The graph of a functional or sequential Keras model as a list of steps, with nested models flattened.

Keras stores the graph in private attributes: `_keras_history` of a tensor refers to the call that returned it, and
`_inbound_nodes` of an operation lists its calls. `layer.input` and `layer.output` belong to the first of these calls, which may
be part of another model. Therefore, this file always starts from the tensors of the model itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from intriguing.models.keras_internals import node_of
from intriguing.models.layer_twins import without_activation


class Step(NamedTuple):
    """One call of a layer, or of an operation such as `keras.ops.add`."""

    operation: Any  # never a model whose graph is known
    inputs: tuple[int, ...]  # the numbers of its input values
    outputs: tuple[int, ...]  # the numbers of its output values
    node: Any  # Keras's record of the call


class LayerGraph:
    """A model as a list of steps; each step computes numbered values from others. The input of the model is value 0.

    Attributes:
        name: The name of the model.
        steps: Tuple of `Step`, in an order in which they can be computed.
        output: The number of the value that the model returns.
        shapes: For each value, its shape without the batch axis.
        dtypes: For each value, the name of its type.
    """

    def __init__(self, name: str, steps: Iterable[Step], output: int, shapes: Sequence[Any], dtypes: Sequence[str]) -> None:
        """Stores the steps on which the output depends."""
        self.name, self.output, self.shapes, self.dtypes = name, output, tuple(shapes), tuple(dtypes)
        self.steps = _ancestors(tuple(steps), output)
        self._producers = {value: step for step in self.steps for value in step.outputs}

    def producer(self, value: int) -> Step | None:
        """Returns the step that computes a value; None for the input."""
        return self._producers.get(value)

    def up_to(self, value: int) -> LayerGraph:
        """Returns the part of the graph that computes one of its values."""
        return LayerGraph(self.name, self.steps, value, self.shapes, self.dtypes)

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Computes the output in inference, with the caller's own layers."""
        return self.values(images)[self.output]

    def values(self, images: tf.Tensor) -> dict[int, tf.Tensor]:
        """Computes all values in inference, by their numbers, with the caller's own layers."""
        values: dict[int, tf.Tensor] = {0: tf.cast(images, self.dtypes[0])}
        for step in self.steps:
            values.update(zip(step.outputs, self._computed(step, values), strict=True))
        return values

    def _computed(self, step: Step, values: dict[int, tf.Tensor]) -> list[tf.Tensor]:
        if isinstance(step.operation, keras.layers.InputLayer):
            (source,), (output,) = step.inputs, step.outputs
            return [tf.cast(tf.reshape(values[source], [-1, *self.shapes[output]]), self.dtypes[output])]
        args, kwargs = _filled(step.node, [values[number] for number in step.inputs])
        if "training" in inspect.signature(step.operation.call).parameters:
            kwargs = {**kwargs, "training": False}
        return keras.tree.flatten(step.operation(*args, **kwargs))


def layer_graph(model: Any) -> LayerGraph:
    """Returns the graph of a model, in which nested models are replaced by their layers.

    Args:
        model: A functional or sequential Keras model with one input and one output.

    Raises:
        TypeError: If it is not a Keras model.
        ValueError: If it is subclassed or not built, or has several inputs or outputs.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"the model must be a functional or sequential Keras model, whose graph is known; received {described(model)}."
        )
    inputs, outputs = (model.inputs, model.outputs) if is_followed(model) else ([], [])
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(
            f"the model {model.name!r} must be functional or sequential, with one input and one output; received a model whose "
            f"graph has {len(inputs)} inputs and {len(outputs)} outputs. Write a subclassed model as a functional one, and "
            "begin a sequential model with a keras.Input."
        )
    builder = _Builder()
    source = builder.value(inputs[0].shape[1:], inputs[0].dtype)
    (output,) = builder.follow(model, [source])
    return LayerGraph(model.name, builder.steps, output, builder.shapes, builder.dtypes)


def is_followed(model: Any) -> bool:
    """Returns True if the graph of a model is its computation: functional or sequential and built, without a custom `call`."""
    caller: Any = next((kind for kind in type(model).__mro__ if "call" in vars(kind)), object)
    computes_its_graph = _is_of_keras(caller) and caller.__name__ in ("Functional", "Sequential")
    return computes_its_graph and bool(getattr(model, "inputs", None)) and bool(getattr(model, "outputs", None))


def described(thing: Any) -> str:
    """Describes an object for an error message."""
    for kind, noun in ((keras.Model, "model"), (keras.Layer, "layer"), (keras.Operation, "operation")):
        if isinstance(thing, kind):
            return f"the {noun} {thing.name!r}, a {type(thing).__name__}"
    return f"the function {thing.__name__!r}" if inspect.isroutine(thing) else repr(thing)


def operation_kind(operation: Any) -> str | None:
    """Returns the class name of an operation of `keras.ops`, such as `"Add"`; None for a layer and for custom operations.

    Keras does not export these classes, and to create operations would change the default names of the caller's next layers.
    """
    known = _is_of_keras(type(operation)) and not isinstance(operation, keras.Layer)
    return type(operation).__name__ if known else None


def _is_of_keras(kind: type) -> bool:
    return kind.__module__.split(".")[0] == "keras"


def positional_arguments(step: Step) -> tuple[Any, ...]:
    """Returns the positional arguments of the call; tensors of the graph are symbolic."""
    return tuple(step.node.arguments.args)


def constants_of(step: Step) -> list[Any]:
    """Returns the arguments of an operation that are not tensors of the graph."""
    leaves = keras.tree.flatten((step.node.arguments.args, step.node.arguments.kwargs))
    return [leaf for leaf in leaves if leaf is not None and not isinstance(leaf, keras.KerasTensor)]


class _Builder:
    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.shapes: list[tuple[int | None, ...]] = []
        self.dtypes: list[str] = []

    def value(self, shape: Iterable[int | None], dtype: str) -> int:
        self.shapes.append(tuple(shape))
        self.dtypes.append(dtype)
        return len(self.shapes) - 1

    def follow(self, model: Any, sources: Sequence[int]) -> list[int]:
        """Adds the steps of a model with the given input values, and returns its output values."""
        known = {id(tensor): number for tensor, number in zip(model.inputs, sources, strict=True)}
        for node in _calls(model):
            inputs = [known[id(tensor)] for tensor in node.input_tensors]
            within = isinstance(node.operation, keras.Model) and is_followed(node.operation)
            if within and len(node.operation.inputs) == len(inputs):
                outputs = self.follow(node.operation, self._entered(node.operation, inputs))
            else:
                outputs = self._step(node, inputs)
            known.update((id(tensor), number) for tensor, number in zip(node.output_tensors, outputs, strict=True))
        return [known[id(tensor)] for tensor in model.outputs]

    def _entered(self, model: Any, inputs: Sequence[int]) -> list[int]:
        """Adds the input layers of a nested model, which may change the dtype and a last axis of size one."""
        entered = []
        for tensor, number in zip(model.inputs, inputs, strict=True):
            shape = tuple(tensor.shape[1:])
            entered.append(self.value(self.shapes[number] if None in shape else shape, tensor.dtype))
            node = node_of(tensor)
            self.steps.append(Step(node.operation, (number,), (entered[-1],), node))
        return entered

    def _step(self, node: Any, inputs: Sequence[int]) -> list[int]:
        specs = node.output_tensors
        if any(None in tuple(tensor.shape)[1:] for tensor in specs):
            specs = self._specified(node, inputs)
        outputs = [self.value(tuple(spec.shape)[1:], spec.dtype) for spec in specs]
        self.steps.append(Step(node.operation, tuple(inputs), tuple(outputs), node))
        return outputs

    def _specified(self, node: Any, inputs: Sequence[int]) -> list[Any]:
        """Returns the outputs for the known input sizes, which may be fixed although a nested model accepts any size."""
        given = [keras.KerasTensor((None, *self.shapes[i]), self.dtypes[i], name="known") for i in inputs]
        args, kwargs = _filled(node, given)
        return keras.tree.flatten(node.operation.compute_output_spec(*args, **kwargs))


def _filled(node: Any, values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the arguments of a call, with its symbolic tensors replaced by these values."""
    filled = {id(tensor): value for tensor, value in zip(node.input_tensors, values, strict=True)}
    args, kwargs = node.arguments.fill_in(filled)
    return tuple(args), dict(kwargs)


def _calls(model: Any) -> list[Any]:
    """Returns the calls from the inputs to the outputs in topological order, without recursion."""
    ends = {id(tensor) for tensor in model.inputs}
    waiting = [(node_of(tensor), False) for tensor in reversed(model.outputs) if id(tensor) not in ends]
    order, seen = [], set()
    while waiting:
        node, ready = waiting.pop()
        if ready:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            waiting.append((node, True))
            waiting += [(node_of(tensor), False) for tensor in reversed(node.input_tensors) if id(tensor) not in ends]
    return order


def _ancestors(steps: Sequence[Step], output: int) -> tuple[Step, ...]:
    needed, kept = {output}, []
    for step in reversed(steps):
        if needed.intersection(step.outputs):
            kept.append(step)
            needed.update(step.inputs)
    return tuple(reversed(kept))


_layers = keras.layers
_ENDINGS = {
    "softmax": (keras.activations.softmax, keras.ops.softmax, tf.nn.softmax, tf.compat.v1.nn.softmax),
    "log_softmax": (keras.activations.log_softmax, keras.ops.log_softmax, tf.nn.log_softmax, tf.compat.v1.nn.log_softmax),
    "sigmoid": (keras.activations.sigmoid, keras.ops.sigmoid, tf.nn.sigmoid),
}
_ENDING_OPERATIONS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}
ACTIVATED_LAST = (
    _layers.Activation, _layers.Dense, _layers.EinsumDense, _layers.Conv1D, _layers.Conv2D, _layers.Conv3D,
    _layers.SeparableConv1D, _layers.SeparableConv2D, _layers.DepthwiseConv1D, _layers.DepthwiseConv2D,
    _layers.Conv1DTranspose, _layers.Conv2DTranspose, _layers.Conv3DTranspose,
)  # fmt: skip
_UNCHANGED = (
    _layers.InputLayer, _layers.Identity, _layers.Dropout, _layers.SpatialDropout1D, _layers.SpatialDropout2D,
    _layers.SpatialDropout3D, _layers.AlphaDropout, _layers.GaussianDropout, _layers.GaussianNoise,
    _layers.ActivityRegularization, _layers.Reshape, _layers.Flatten,
)  # fmt: skip
_UNCHANGED_OPERATIONS = ("Reshape", "Squeeze", "ExpandDims", "StopGradient", "Identity", "Cast")


class Logits(NamedTuple):
    """Scores whose order is that of the outputs of a model."""

    graph: LayerGraph  # from images to the logits, which may have axes of size one
    ending: str  # the function that follows: "softmax", "log_softmax", "sigmoid" (for one unit), or "" for none


def logits_of(model: Any) -> Logits:
    """Returns the graph of a model up to its logits, without a final softmax and the operations after it.

    The softmax may be a layer, an activation function or an operation, also in a nested model. Operations that keep the order
    of the classes may follow it: dropout, a reshape, a linear activation function, a positive factor.

    Args:
        model: As for `layer_graph`.

    Returns:
        A `Logits`. If an activation function is removed, its layer is replaced by one that shares the weights.
    """
    graph = layer_graph(model)
    step, ending = _last_activation(graph)
    if step is None:
        return Logits(graph, "")
    if type(step.operation) is _layers.Activation or type(step.operation) not in ACTIVATED_LAST:
        return Logits(graph.up_to(step.inputs[0]), ending)
    linear = step._replace(operation=without_activation(step.operation))
    steps = [linear if other is step else other for other in graph.steps]
    return Logits(LayerGraph(graph.name, steps, step.outputs[0], graph.shapes, graph.dtypes), ending)


def ends_in_softmax(model: Any) -> bool:
    """Returns True if a functional or sequential model ends in a softmax in any form that `logits_of` recognizes.

    Returns False for a model without a known graph, such as a subclassed model.
    """
    followed = isinstance(model, keras.Model) and is_followed(model) and len(model.inputs) == len(model.outputs) == 1
    return followed and _last_activation(layer_graph(model))[1] == "softmax"


def _last_activation(graph: LayerGraph) -> tuple[Step | None, str]:
    """Finds the last step with a softmax over the classes, or a sigmoid of one unit, before the output."""
    value, scaled = graph.output, False
    while (step := graph.producer(value)) is not None and len(step.inputs) == 1:
        shape = graph.shapes[step.outputs[0]]
        if ending := _ending_of(step, shape):
            single = prod(size or 0 for size in shape) == 1
            return (None, "") if single != (ending == "sigmoid") or (scaled and ending != "softmax") else (step, ending)
        factor = _factor_of(step)
        scaled = scaled or factor != 1.0
        if not (factor > 0.0 if factor != 1.0 else _is_unchanged(step.operation)):
            break
        value = step.inputs[0]
    return None, ""


def _is_unchanged(operation: Any) -> bool:
    if type(operation) is _layers.Activation:
        return operation.activation is keras.activations.linear
    return type(operation) in _UNCHANGED or operation_kind(operation) in _UNCHANGED_OPERATIONS


def _ending_of(step: Step, shape: Sequence[int | None]) -> str:
    operation, axis = step.operation, -1
    if operation_kind(operation) in _ENDING_OPERATIONS:
        ending, axis = _ENDING_OPERATIONS[type(operation).__name__], getattr(operation, "axis", -1)
    elif type(operation) is _layers.Softmax and not constants_of(step):
        ending, axis = "softmax", operation.axis
    elif type(operation) in ACTIVATED_LAST:
        function = operation.activation
        ending = next((name for name, known in _ENDINGS.items() if any(function is one for one in known)), "")
        ending = "softmax" if type(function) is _layers.Softmax and function.axis == -1 else ending
    else:
        return ""
    return ending if ending == "sigmoid" or _covers(axis, shape) else ""


def _covers(axis: Any, shape: Sequence[int | None]) -> bool:
    """Returns True if all values of one image lie along an axis, numbered with the batch axis as 0."""
    rank = len(shape) + 1
    if not isinstance(axis, int) or axis % rank == 0 or None in shape:
        return False
    return shape[axis % rank - 1] == prod(size or 0 for size in shape)


def _factor_of(step: Step) -> float:
    """Returns the factor of a step that only multiplies all values by one number; 1 for other steps."""
    operation, kind = step.operation, operation_kind(step.operation)
    if type(operation) is _layers.Rescaling and np.size(operation.scale) == 1 and not np.any(operation.offset):
        return float(np.reshape(operation.scale, []))
    constants = constants_of(step)
    if kind in ("Multiply", "TrueDivide", "Divide") and len(constants) == 1 and np.size(constants[0]) == 1:
        number = float(np.reshape(np.asarray(constants[0]), []))
        if kind == "Multiply":
            return number
        return 1.0 / number if number and isinstance(positional_arguments(step)[0], keras.KerasTensor) else 0.0
    return 1.0
