"""Lipschitz bound of a network: the norms of its layers, multiplied along its graph.

The bound is loose, and the paper says so; but it holds for every image, and a small one is a guarantee.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras

from intriguing.lipschitz.activation_slopes import ACTIVATION_LAYERS, register_activation, slope_of, slope_of_operation
from intriguing.lipschitz.layer_checks import check_weights
from intriguing.lipschitz.operation_bounds import merged_bound, operation_norm
from intriguing.lipschitz.operator_norms import OperatorNorm, check_has_norm, check_not_refused, operator_norm
from intriguing.models.layer_graph import LayerGraph, Step, described, layer_graph

__all__ = [
    "ACTIVATION_LAYERS", "LayerBound", "SpectralBound", "bounds_at", "check_bounded", "lipschitz_bound", "register_activation",
    "slope_of",
]  # fmt: skip


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


def lipschitz_bound(model: keras.Model, *, report: Callable[[int, int], None] = lambda done, total: None) -> SpectralBound:
    """Computes an upper bound of the Lipschitz constant of a network, in the L2 norm of its input and output.

    Along a chain the norms of the layers and the slopes of their activation functions are multiplied. Where branches meet, the
    bounds of the branches are added for a sum, and joined by their squares for a concatenation or a maximum.

    Args:
        model: A functional or sequential Keras model with one input and one output, in inference. If it computes in half
            precision, the bound is that of its weights in exact arithmetic: rounding may move its output by more.
        report: Called as `report(done, total)` after every layer.

    Returns:
        A `SpectralBound`.

    Raises:
        TypeError: If it is not a Keras model.
        ValueError: If the model is subclassed, or has several inputs or outputs; if there is no rule for a layer or an
            activation function, and the message names it and says how to register one; if a layer has no bound; or if a weight
            is NaN or infinite.

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
    """Raises what `lipschitz_bound` would raise, without computing the norms of large layers.

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
            f"the model {graph.name!r} takes images of type {graph.dtypes[0]}, to which it rounds what it receives, so that no "
            "bound holds. Build it with a keras.Input of type float32."
        )
    for step in graph.steps:
        _bound_of(step, graph, [1.0] * len(step.inputs), check_only=True)


def bounds_at(
    graph: LayerGraph, values: Iterable[int], *, report: Callable[[LayerBound], None] = lambda layer: None
) -> list[float]:
    """Returns the bounds of values of a graph, each per change of its input; what they share is bounded once."""
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
    """True for a step that has a norm of its own; not for a merge of branches, or the input of a model inside the model."""
    return len(step.inputs) == 1 and not isinstance(step.operation, keras.layers.InputLayer)


def _bound_of(
    step: Step, graph: LayerGraph, bounds: list[float], *, check_only: bool = False
) -> tuple[float, LayerBound | None]:
    """Returns the bound of what a step puts out, and what its layer adds to it; with `check_only` without large norms."""
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
    norm, slope = _norm_and_slope(step, shapes[0], output, check_only=check_only)
    bound = bounds[0] * norm.upper * slope
    return bound, LayerBound(operation.name, type(operation).__name__, shapes[0], norm, slope, bound)


def _norm_and_slope(step: Step, shape: Any, output: Any, *, check_only: bool) -> tuple[OperatorNorm, float]:
    operation, nothing = step.operation, OperatorNorm(1.0, 1.0)
    if not isinstance(operation, keras.Layer):
        slope = slope_of_operation(operation)
        return (operation_norm(step, shape, output), 1.0) if slope is None else (nothing, slope)
    slope = slope_of(operation)
    if type(operation) in ACTIVATION_LAYERS:
        check_weights(operation)
        return nothing, slope
    if check_only:
        check_has_norm(operation, shape)
        return nothing, slope
    return operator_norm(operation, shape), slope
