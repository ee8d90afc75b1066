"""How much a whole network can stretch a change of its input: the norms of its layers, multiplied along its graph.

The bound is loose, and the paper says so; but it holds for every image, and a small one is a guarantee.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Any, NamedTuple

import keras

from intriguing.analysis.operator_norms import OperatorNorm, operator_norm

_SELU_SLOPE = 1.0507009873554805 * 1.6732632423543772
_ACTIVATIONS: dict[Callable[..., Any], float] = {
    keras.activations.linear: 1.0,
    keras.activations.relu: 1.0,
    keras.activations.relu6: 1.0,
    keras.activations.sigmoid: 0.25,
    keras.activations.hard_sigmoid: 1.0 / 6.0,
    keras.activations.tanh: 1.0,
    keras.activations.softplus: 1.0,
    keras.activations.softsign: 1.0,
    keras.activations.elu: 1.0,
    keras.activations.selu: _SELU_SLOPE,
    keras.activations.gelu: 1.129,  # 1.12890 at sqrt(2)
    keras.activations.silu: 1.0999,  # 1.09984 at 2.3994
    keras.activations.leaky_relu: 1.0,
    keras.activations.softmax: 0.5,  # the largest eigenvalue of diag(p) - p p^T
}


class LayerBound(NamedTuple):
    """What one layer adds to a bound."""

    name: str
    kind: str  # its class
    input_shape: tuple[int, ...]  # without the batch axis
    norm: OperatorNorm  # before the activation function
    slope: float  # the Lipschitz constant of the activation function
    so_far: float  # the bound of what it puts out, per change of the input of the network


class SpectralBound(NamedTuple):
    """A Lipschitz constant of a network, and how it came about."""

    upper: float  # output per input, in L2
    layers: tuple[LayerBound, ...]  # in the order of the computation, without merges of branches


def register_activation(activation: Callable[..., Any], constant: float) -> None:
    """Tells the Lipschitz constant of an activation function that is applied to every number by itself."""
    _ACTIVATIONS[activation] = float(constant)


def lipschitz_bound(model: keras.Model, *, report: Callable[[int, int], None] = lambda done, total: None) -> SpectralBound:
    """Bounds by how much the output of a network changes, per change of its input, both in L2, whatever the input.

    Along a chain the norms of the layers and the slopes of their activation functions are multiplied. Where branches meet, the
    bounds of the branches are added for a sum, and joined by their squares for a concatenation or a maximum.

    Args:
        model: A functional or sequential Keras model with one input and one output, in inference.
        report: Called as `report(done, total)` after every layer.

    Returns:
        A `SpectralBound`.

    Raises:
        ValueError: If the model is subclassed, or has several inputs or outputs, or if there is no rule for a layer or an
            activation function; the message names it and says how to register one.

    References:
        Szegedy et al., Intriguing properties of neural networks, 2014, section 4.3.
    """
    start, end = ends_of(model)
    total = _num_layers(model)
    walk = _Walk(lambda done: report(min(done, total), total))  # a layer may be passed more than once
    upper = walk.bound(end, {id(start): 1.0})
    return SpectralBound(upper, tuple(walk.layers))


def ends_of(model: keras.Model) -> tuple[Any, Any]:
    """Returns the input and the output of a model that can be followed from one to the other, or raises a `ValueError`."""
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(
            f"the model {model.name!r} must be functional or sequential, with one input and one output; it has "
            f"{len(inputs)} and {len(outputs)} that can be followed."
        )
    return inputs[0], outputs[0]


def bounds_at(start: Any, tensors: Sequence[Any]) -> list[float]:
    """Returns the bounds of tensors of one graph, each per change of `start`; what they share is bounded once."""
    walk, known = _Walk(lambda done: None), {id(start): 1.0}
    return [walk.bound(tensor, known) for tensor in tensors]


def _num_layers(model: keras.Model) -> int:
    """Counts the layers that a walk passes, those of models within included."""
    within = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    passed_by = (keras.layers.InputLayer, keras.Model, *(kind for kinds, _ in _MERGES for kind in kinds))
    return sum(not isinstance(layer, passed_by) for layer in model.layers) + sum(_num_layers(layer) for layer in within)


class _Walk:
    def __init__(self, report: Callable[[int], None]) -> None:
        self.layers: list[LayerBound] = []
        self._report = report

    def bound(self, tensor: Any, known: dict[int, float]) -> float:
        """Returns the bound of a tensor of the graph, given those of some; `known` grows."""
        if id(tensor) not in known:
            operation, node_index, _ = tensor._keras_history
            sources = operation._inbound_nodes[node_index].input_tensors
            known[id(tensor)] = self._through(operation, sources, [self.bound(source, known) for source in sources])
        return known[id(tensor)]

    def _through(self, operation: Any, sources: Sequence[Any], bounds: Sequence[float]) -> float:
        if isinstance(operation, keras.Model):
            return self.bound(operation.outputs[0], {id(operation.inputs[0]): bounds[0]})
        for kinds, merged in _MERGES:
            if type(operation) in kinds:
                return merged(bounds)
        if len(sources) != 1:
            raise ValueError(
                f"{_described(operation)} takes {len(sources)} inputs, and there is no rule to merge their bounds."
            )
        layer = _layer_bound(operation, tuple(int(size) for size in sources[0].shape[1:]), bounds[0])
        self.layers.append(layer)
        self._report(len(self.layers))
        return layer.so_far


_MERGES: tuple[tuple[tuple[type, ...], Callable[[Sequence[float]], float]], ...] = (
    ((keras.layers.Add, keras.layers.Subtract), sum),
    ((keras.layers.Average,), lambda bounds: sum(bounds) / len(bounds)),
    (
        (keras.layers.Concatenate, keras.layers.Maximum, keras.layers.Minimum),
        lambda bounds: sqrt(sum(bound**2 for bound in bounds)),
    ),
)


def _layer_bound(operation: Any, shape: tuple[int, ...], before: float) -> LayerBound:
    slope = slope_of(operation)
    norm = OperatorNorm(1.0, 1.0) if type(operation) in ACTIVATION_LAYERS else operator_norm(operation, shape)
    return LayerBound(operation.name, type(operation).__name__, shape, norm, slope, before * norm.upper * slope)


ACTIVATION_LAYERS = (
    keras.layers.Activation, keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU, keras.layers.Softmax,
)  # fmt: skip


def slope_of(operation: Any) -> float:
    """Returns the Lipschitz constant of the activation function of a layer, 1 if it has none."""
    if isinstance(operation, keras.layers.ReLU) and operation.threshold:
        raise ValueError(
            f"{_described(operation)}, jumps at its threshold of {float(operation.threshold)}: no bound holds. Use one without."
        )
    if isinstance(operation, keras.layers.ReLU | keras.layers.LeakyReLU):
        return max(1.0, abs(float(operation.negative_slope)))
    if isinstance(operation, keras.layers.ELU):
        return max(1.0, abs(float(operation.alpha)))
    if isinstance(operation, keras.layers.Softmax):
        return _ACTIVATIONS[keras.activations.softmax]
    activation = getattr(operation, "activation", None)
    if activation is None:
        return 1.0
    if activation not in _ACTIVATIONS:
        raise ValueError(
            f"no Lipschitz constant is known of {getattr(activation, '__name__', activation)!r}, the activation function of "
            f"{_described(operation)}. Tell it with register_activation(function, constant)."
        )
    return _ACTIVATIONS[activation]


def _described(operation: Any) -> str:
    return f"the layer {operation.name!r}, a {type(operation).__name__}"
