"""Lipschitz bound of a network: the norms of its layers, multiplied along its graph.

The bound is loose, as the paper states. It holds for every image, so that a small bound is a guarantee.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras

from intriguing.lipschitz.activation_lipschitz import (
    ACTIVATION_LAYERS,
    lipschitz_of_activation,
    lipschitz_of_operation,
    register_activation,
)
from intriguing.lipschitz.layer_checks import check_weights
from intriguing.lipschitz.operation_bounds import merged_bound, operation_norm
from intriguing.lipschitz.operator_norms import OperatorNorm, check_has_norm, check_not_refused, operator_norm
from intriguing.models.layer_graph import LayerGraph, Step, described, layer_graph

__all__ = [
    "ACTIVATION_LAYERS", "LayerBound", "SpectralBound", "bounds_at", "check_bounded", "lipschitz_bound",
    "lipschitz_of_activation", "register_activation",
]  # fmt: skip


class LayerBound(NamedTuple):
    """The norm of one layer, and the bound from the input of the network to the output of the layer."""

    name: str
    kind: str  # the name of the class of the layer
    input_shape: tuple[int, ...]  # without the batch axis
    norm: OperatorNorm  # before the activation function
    activation_lipschitz: float  # the Lipschitz constant of the activation function
    cumulative: float  # the Lipschitz bound from the input of the network to the output of the layer


class SpectralBound(NamedTuple):
    """An upper bound of the Lipschitz constant of a network, and the bounds of its layers; `print(bound)` summarizes them."""

    upper: float  # change of the output per change of the input, in L2
    layers: tuple[LayerBound, ...]  # in the order of the computation, without merges of branches

    def __str__(self) -> str:
        lines = [f"Lipschitz bound (L2): {self.upper:.4g}, from {len(self.layers)} layers."]
        if self.layers:
            largest = max(self.layers, key=lambda layer: layer.norm.upper)
            lines.append(f"Largest norm of a layer: {largest.norm.upper:.4g}, of {largest.name!r} ({largest.kind}).")
        return "\n".join(lines)


def lipschitz_bound(model: keras.Model, *, report: Callable[[int, int], None] = lambda done, total: None) -> SpectralBound:
    """Computes an upper bound of the Lipschitz constant of a network, in the L2 norm of its input and output.

    Along a chain, the norms of the layers and the Lipschitz constants of their activation functions are multiplied. Where
    branches are merged, the bound of a sum is the sum of the bounds of the branches, and the bound of a concatenation or a
    maximum is the square root of the sum of their squares. A softmax at the end counts as any activation function, with its
    Lipschitz constant 0.5: the bound is then that of the probabilities. For the bound of the logits, pass the model without it.

    Args:
        model: A functional or sequential Keras model with one input and one output, in inference. If it computes in half
            precision, the bound is that of exact arithmetic with the same weights, and does not cover rounding errors.
        report: Called as `report(done, total)` after every layer.

    Returns:
        A `SpectralBound`.

    Raises:
        TypeError: If the model is not a Keras model.
        ValueError: If the model is subclassed, or has several inputs or outputs; if there is no rule for a layer or an
            activation function (the message names it and describes how to register one); if a layer has no bound; or if a
            weight is NaN or infinite.

    Example:
        >>> bound = lipschitz_bound(model)
        >>> [layer.name for layer in bound.layers if layer.norm.upper != 1.0]
        ['hidden1', 'hidden2', 'logits']

    References:
        Szegedy et al., Intriguing properties of neural networks, 2014, section 4.3.
    """
    graph = layer_graph(model)
    check_bounded(graph)
    total, layers = sum(_is_bounded_alone(step) for step in graph.steps), []

    def add(layer: LayerBound) -> None:
        layers.append(layer)
        report(len(layers), total)

    (upper,) = bounds_at(graph, [graph.output], report=add)
    return SpectralBound(upper, tuple(layers))


def check_bounded(model: keras.Model | LayerGraph) -> None:
    """Raises the errors of `lipschitz_bound`, without computing the norms of large layers.

    Call it before an attack whose results are to be compared with a bound or a certificate.

    Args:
        model: As for `lipschitz_bound`, or its `LayerGraph`.

    Raises:
        TypeError: As `lipschitz_bound`.
        ValueError: As `lipschitz_bound`.

    Example:
        >>> check_bounded(model)
    """
    graph = model if isinstance(model, LayerGraph) else layer_graph(model)
    if None in graph.shapes[0]:
        raise ValueError(
            f"the model {graph.name!r} takes images of any size, {(None, *graph.shapes[0])}, and norms depend on the size. "
            "Build it with a keras.Input of one size."
        )
    if "float" not in graph.dtypes[0]:
        raise ValueError(
            f"the model {graph.name!r} takes images of type {graph.dtypes[0]}, and rounds its inputs to that type, so that no "
            "bound holds. Build it with a keras.Input of type float32."
        )
    for step in graph.steps:
        _bound_of(step, graph, [1.0] * len(step.inputs), check_only=True)


def bounds_at(
    graph: LayerGraph, values: Iterable[int], *, report: Callable[[LayerBound], None] = lambda layer: None
) -> list[float]:
    """Returns the Lipschitz bounds from the input of a graph to some of its values; shared layers are bounded once."""
    wanted, known = list(values), {0: 1.0}
    needed = {number for value in wanted for step in graph.up_to(value).steps for number in step.outputs}
    for step in graph.steps:
        if needed.intersection(step.outputs):
            bound, layer = _bound_of(step, graph, [known[number] for number in step.inputs])
            known.update((number, bound) for number in step.outputs)
            if layer is not None:
                report(layer)
    return [known[value] for value in wanted]


def _is_bounded_alone(step: Step) -> bool:
    """Returns whether a step has a norm: it is no merge of branches, and no input of a nested model."""
    return len(step.inputs) == 1 and not isinstance(step.operation, keras.layers.InputLayer)


def _bound_of(
    step: Step, graph: LayerGraph, bounds: list[float], *, check_only: bool = False
) -> tuple[float, LayerBound | None]:
    """Returns the bound up to the output of a step, and its `LayerBound`; with `check_only`, large norms are not computed."""
    operation, shapes = step.operation, [graph.shapes[number] for number in step.inputs]
    output = graph.shapes[step.outputs[0]]
    if any("float" not in graph.dtypes[number] for number in step.outputs):
        raise ValueError(
            f"{described(operation)}, returns {graph.dtypes[step.outputs[0]]}: it rounds values, so that no bound holds."
        )
    if isinstance(operation, keras.layers.InputLayer):
        return bounds[0], None
    if len(step.outputs) != 1 or None in (*output, *(size for shape in shapes for size in shape)):
        raise ValueError(
            f"{described(operation)}, returns several values, or values of unknown shape: there is no rule for it."
        )
    if len(bounds) != 1:
        check_not_refused(operation)
        return merged_bound(step, shapes, output, bounds), None
    norm, constant = _norm_and_activation(step, shapes[0], output, check_only=check_only)
    bound = bounds[0] * norm.upper * constant
    return bound, LayerBound(operation.name, type(operation).__name__, shapes[0], norm, constant, bound)


def _norm_and_activation(step: Step, shape: Any, output: Any, *, check_only: bool) -> tuple[OperatorNorm, float]:
    """Returns the norm of a step before its activation function, and the Lipschitz constant of that function."""
    operation, identity = step.operation, OperatorNorm(1.0, 1.0)
    if not isinstance(operation, keras.Layer):
        constant = lipschitz_of_operation(operation)
        return (operation_norm(step, shape, output), 1.0) if constant is None else (identity, constant)
    constant = lipschitz_of_activation(operation)
    if type(operation) in ACTIVATION_LAYERS:
        check_weights(operation)
        return identity, constant
    if check_only:
        check_has_norm(operation, shape)
        return identity, constant
    return operator_norm(operation, shape), constant
