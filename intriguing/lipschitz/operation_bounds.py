"""Bounds of operations of `keras.ops` and of layers with several inputs: sums, products by constants, reshapes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt
from typing import Any

import keras
import numpy as np

from intriguing.lipschitz.layer_checks import check_finite
from intriguing.lipschitz.operator_norms import OperatorNorm, exactly
from intriguing.models.layer_graph import Step, constants_of, described, operation_kind, positional_arguments

Shape = tuple[int, ...]

_MERGING_LAYERS: dict[type, str] = {
    keras.layers.Add: "Add", keras.layers.Subtract: "Subtract", keras.layers.Average: "Average",
    keras.layers.Concatenate: "Concatenate", keras.layers.Maximum: "Maximum", keras.layers.Minimum: "Minimum",
    keras.layers.Multiply: "Multiply", keras.layers.Dot: "Dot",
}  # fmt: skip
_PRODUCTS = ("Multiply", "Dot", "Matmul", "Einsum", "Tensordot", "TrueDivide", "Divide", "Power", "Outer", "Inner")
_SUMS = ("Add", "Subtract", "Maximum", "Minimum")
_MOVES = ("Reshape", "Transpose", "Squeeze", "ExpandDims", "GetItem", "StopGradient", "Negative", "Identity")
_REDUCTIONS = ("Mean", "Sum", "Max", "Min")


def merge_kind(operation: Any) -> str | None:
    """Returns the name of the operation with which a layer or an operation merges several inputs, or None."""
    kind = _MERGING_LAYERS.get(type(operation), operation_kind(operation))
    return kind if kind in (*_SUMS, *_PRODUCTS, "Average", "Concatenate") else None


def merged_bound(step: Step, shapes: Sequence[Shape], output: Shape, bounds: Sequence[float]) -> float:
    """Returns the bound of the output of a step with several inputs, given the bounds of the inputs.

    The bound of a sum is the sum of the bounds. The bound of a concatenation or a maximum is the square root of the sum of
    their squares. The bound of an input that is broadcast is multiplied by the square root of the number of its copies.

    Args:
        step: A call of a layer or operation with several inputs.
        shapes: The shapes of the inputs, without the batch axis.
        output: The shape of the output, without the batch axis.
        bounds: The bounds of the inputs.

    Raises:
        ValueError: If no bound exists, as for a product, or there is no rule.
    """
    kind = merge_kind(step.operation)
    if kind in _PRODUCTS:
        raise ValueError(
            f"{described(step.operation)}, multiplies or divides {len(bounds)} branches that depend on the image: no bound "
            "holds for all images, since its derivatives are unbounded."
        )
    if kind is None or any(len(shape) != len(output) for shape in shapes):
        raise ValueError(
            f"{described(step.operation)} takes {len(bounds)} inputs, and there is no rule to merge their bounds. Write the "
            "part around it as a layer of your own, and register its norm with register_norm."
        )
    if kind == "Concatenate":
        if prod(output) != sum(map(prod, shapes)):
            raise ValueError(f"{described(step.operation)}, concatenates along the batch: no bound of one image exists.")
        return sqrt(sum(bound**2 for bound in bounds))
    copied = [bound * sqrt(prod(output) / prod(shape)) for bound, shape in zip(bounds, shapes, strict=True)]
    if kind in ("Add", "Subtract", "Average"):
        return sum(copied) / (len(copied) if kind == "Average" else 1)
    return sqrt(sum(bound**2 for bound in copied))


def operation_norm(step: Step, shape: Shape, output: Shape) -> OperatorNorm:
    """Bounds the norm of an operation of `keras.ops`, one input of which depends on the image; `operator_norm` is for layers.

    Raises:
        ValueError: If no bound exists, or there is no rule.
    """
    kind = operation_kind(step.operation)
    if kind in _SUMS:
        _checked_constant(step, len(shape))
        return exactly(sqrt(prod(output) / prod(shape)))
    if kind in ("Multiply", "TrueDivide", "Divide"):
        return exactly(_norm_of_scale(step, shape, output))
    if kind in _REDUCTIONS and _keeps_batch(step.operation.axis, len(shape) + 1):
        number = prod(shape) / prod(output)
        return exactly({"Mean": number**-0.5, "Sum": number**0.5}.get(kind, 1.0))
    if kind in _MOVES and _moves_within_images(step, shape, output):
        return OperatorNorm(1.0, 1.0)
    if kind == "Cast" and "float" in str(step.operation.dtype):
        return OperatorNorm(1.0, 1.0)
    raise ValueError(
        f"no rule for the norm of {described(step.operation)}, on inputs of shape {shape}. Write it as a keras.layers.Layer of "
        "your own, and register its norm with register_norm."
    )


def _norm_of_scale(step: Step, shape: Shape, output: Shape) -> float:
    """Returns the norm of a product with a constant: of a diagonal matrix, or of several if the input is broadcast."""
    factor = _checked_constant(step, len(shape))
    if operation_kind(step.operation) != "Multiply":
        if not isinstance(positional_arguments(step)[0], keras.KerasTensor) or not np.all(factor):
            raise ValueError(
                f"{described(step.operation)}, divides by the values of a branch or by zero: no bound holds for all images."
            )
        factor = 1.0 / factor
    squares = np.broadcast_to(factor**2, output)
    repeated = tuple(axis for axis, (one, other) in enumerate(zip(shape, output, strict=True)) if one != other)
    return sqrt(float(np.max(squares.sum(axis=repeated))))


def _checked_constant(step: Step, rank: int) -> np.ndarray:
    """Returns the constant that an operation combines its input with, without the batch axis."""
    constants = constants_of(step)
    values = np.asarray(constants[0], np.float64) if len(constants) == 1 else None
    if values is None or values.ndim > rank + 1 or (values.ndim == rank + 1 and values.shape[0] != 1):
        raise ValueError(
            f"no rule for the norm of {described(step.operation)}: its constants differ between the images of a batch."
        )
    check_finite(step.operation, "its constant", values)
    return values[0] if values.ndim == rank + 1 else values


def _keeps_batch(axis: Any, rank: int) -> bool:
    """Returns whether axes are given for a tensor of some rank, and the batch axis is not one of them."""
    axes = axis if isinstance(axis, list | tuple) else [axis]
    return all(isinstance(one, int) and one % rank > 0 for one in axes)


def _moves_within_images(step: Step, shape: Shape, output: Shape) -> bool:
    """Returns whether each value of an image stays in that image, and occurs there at most once."""
    operation, kind = step.operation, operation_kind(step.operation)
    if kind == "Transpose":
        return operation.axes is not None and operation.axes[0] == 0
    if kind in ("Squeeze", "ExpandDims"):
        return _keeps_batch(operation.axis, max(len(shape), len(output)) + 1)
    if kind == "GetItem":
        return _keeps_whole_batch(positional_arguments(step)[1], len(shape))
    return prod(output) == prod(shape)


def _keeps_whole_batch(key: Any, rank: int) -> bool:
    """Returns whether an index keeps the batch axis, and consists of integers and slices, which repeat no value."""
    parts = key if isinstance(key, tuple) else (key,)
    basic = all(isinstance(part, slice | int) or part is None or part is Ellipsis for part in parts)
    if parts[0] is Ellipsis:
        return basic and sum(isinstance(part, slice | int) for part in parts) <= rank
    return basic and isinstance(parts[0], slice) and parts[0] == slice(None)
