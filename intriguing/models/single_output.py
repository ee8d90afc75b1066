"""Determines whether a single output is a logit or a probability, from the operations that compute it.

Class 1 is predicted if a logit is positive, or if a probability exceeds 0.5. The values alone do not distinguish the two: a
logit can lie in [0, 1] by chance. Therefore, the range of the output is computed from the operations before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import atanh, exp, inf, isnan, log
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

OF_LOGIT, OF_PROBABILITY = 0.0, 0.5  # thresholds
AMBIGUOUS = (
    "the classifier returns one output in [0, 1] for every image, and its operations do not determine whether it is a "
    "probability p or a logit z. It is treated as a probability: class 1 is predicted where p > 0.5. Pass a classifier "
    "that returns two outputs: [0, z] for a logit, or [log(1 - p), log(p)] for a probability."
)
_ROUNDING = 1e-6  # the range of a probability may exceed [0, 1] by this: 6 * (1 / 6) is not exactly 1
_LEAST_SHARE = 1e-3  # nearer to 0 or 1, a sigmoid rounds too much

_UNCHANGED = (
    "Identity", "Reshape", "Squeeze", "ExpandDims", "StopGradient", "PreventGradient", "CheckNumerics", "Transpose", "Slice",
    "StridedSlice", "GatherV2", "Tile", "BroadcastTo", "EnsureShape", "Mean", "Max", "Min", "AvgPool", "MaxPool", "LeakyRelu",
)  # fmt: skip
_WEIGHTED_SUMS = (
    "MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "Conv2D", "Conv3D", "DepthwiseConv2dNative",
    "Conv2DBackpropInput", "Conv3DBackpropInputV2", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3",
)  # fmt: skip


class Range(NamedTuple):
    """The interval of the values of a tensor; infinite on both sides for weighted sums, such as logits."""

    low: float
    high: float

    @property
    def is_unbounded(self) -> bool:
        """True if both ends are infinite."""
        return self.low == -inf and self.high == inf


_UNBOUNDED = Range(-inf, inf)
_FIXED = {
    "Sigmoid": Range(0.0, 1.0), "Tanh": Range(-1.0, 1.0), "Softsign": Range(-1.0, 1.0), "Erf": Range(-1.0, 1.0),
    "Erfc": Range(0.0, 2.0), "Sin": Range(-1.0, 1.0), "Cos": Range(-1.0, 1.0), "Softplus": Range(0.0, inf),
    "SquaredDifference": Range(0.0, inf), "LogSoftmax": Range(-inf, 0.0),
}  # fmt: skip
_MONOTONE: dict[str, Callable[[float], float]] = {
    "Relu": lambda value: max(value, 0.0),
    "Relu6": lambda value: min(max(value, 0.0), 6.0),
    "Elu": lambda value: max(value, -1.0),
    "Exp": lambda value: exp(min(value, 700.0)) if value < inf else inf,
    "Round": lambda value: float(np.round(value)),
    "Floor": lambda value: float(np.floor(value)),
}


def threshold_of(output: tf.Tensor, images: tf.Tensor) -> float | None:
    """Returns the value of the output `[batch, 1]` above which class 1 is predicted, as a function of `images`.

    The threshold is 0.5 for values that lie in [0, 1] for all images; 0 for weighted sums, and for other values that can be
    negative. It is None if the operations do not determine it, as in a saved function.

    Raises:
        ValueError: If the output is the same for every image, such as a softmax of one unit.
    """
    found = _range_of(output, images, {})
    if found is None:
        return None
    if found.low == found.high:
        raise ValueError(
            f"classifier must return an output that depends on the image; received one output that is always {found.low:g}. A "
            "softmax of one unit is constant: use activation='sigmoid', or two units."
        )
    if found.low >= -_ROUNDING and found.high <= 1.0 + _ROUNDING:
        return OF_PROBABILITY
    return OF_LOGIT if found.low < -_ROUNDING else None


def logit_before(output: tf.Tensor, images: tf.Tensor, threshold: float) -> tf.Tensor | None:
    """Returns a tensor `[batch, 1]` before a saturating function, which is positive where the output exceeds its threshold.

    The saturating function is a sigmoid, hyperbolic tangent or clipping. Increasing or decreasing functions with known
    inverses, such as a factor and an offset, may follow it. Returns None if there is no such function.
    """
    tensor, sign, saturates = output, 1.0, False
    while _is_one_column(tensor):
        operation = tensor.op
        if operation.type in ("Sigmoid", "Tanh"):
            share = threshold if operation.type == "Sigmoid" else 0.5 * (threshold + 1.0)
            if not _LEAST_SHARE < share < 1.0 - _LEAST_SHARE:
                return None
            offset = log(threshold / (1.0 - threshold)) if operation.type == "Sigmoid" else atanh(threshold)
            return _shifted(operation.inputs[0], offset, sign)
        step = _undone(operation, threshold, images)
        if step is None:
            break
        tensor, threshold, turned, step_saturates = step
        sign, saturates = sign * turned, saturates or step_saturates
    found = _range_of(tensor, images, {}) if saturates and _is_one_column(tensor) else None
    return _shifted(tensor, threshold, sign) if found is not None and found.is_unbounded else None


def _is_one_column(tensor: Any) -> bool:
    return not hasattr(tensor, "numpy") and tensor.shape.rank == 2 and tensor.shape[1] == 1


def _shifted(logits: tf.Tensor, offset: float, sign: float) -> tf.Tensor:
    if offset == 0.0:
        return logits if sign > 0.0 else -logits
    wide = logits if logits.dtype == tf.float64 else tf.cast(logits, tf.float32)
    return sign * (wide - offset)


class _Undone(NamedTuple):
    source: tf.Tensor
    threshold: float  # of the source
    sign: float  # -1 if the operation is decreasing
    saturates: bool


def _undone(operation: Any, threshold: float, images: tf.Tensor) -> _Undone | None:
    """Returns the input of an operation, and its value at which the output equals the threshold; None if that is not known."""
    kind, inputs = operation.type, list(operation.inputs)
    if kind in ("Identity", "Reshape", "Cast", "StopGradient", "PreventGradient", "CheckNumerics"):
        return _Undone(inputs[0], threshold, 1.0, False) if inputs[0].dtype.is_floating else None
    if kind == "Neg":
        return _Undone(inputs[0], -threshold, -1.0, False)
    if kind in ("Relu", "Relu6"):
        inside = 0.0 < threshold < (6.0 if kind == "Relu6" else inf)
        return _Undone(inputs[0], threshold, 1.0, True) if inside else None
    if kind == "ClipByValue":
        low, high = (_number(tensor) for tensor in inputs[1:])
        inside = low is not None and high is not None and low < threshold < high
        return _Undone(inputs[0], threshold, 1.0, True) if inside else None
    return _undone_by_a_number(kind, inputs, threshold, images)


def _undone_by_a_number(kind: str, inputs: Sequence[tf.Tensor], threshold: float, images: tf.Tensor) -> _Undone | None:
    if kind == "Square":
        return _undone_power(inputs[0], 2.0, threshold, images)
    if len(inputs) != 2:
        return None
    first, second = (_number(tensor) for tensor in inputs)
    number, source = (first, inputs[1]) if second is None else (second, inputs[0])
    if number is None or (first is not None and second is not None):
        return None
    if kind in ("AddV2", "Add"):
        return _Undone(source, threshold - number, 1.0, False)
    if kind == "Sub":
        return (
            _Undone(source, threshold + number, 1.0, False)
            if first is None
            else _Undone(source, number - threshold, -1.0, False)
        )
    if kind == "Mul" or (kind == "RealDiv" and first is None):
        factor = number if kind == "Mul" or not number else 1.0 / number
        return _Undone(source, threshold / factor, 1.0 if factor > 0.0 else -1.0, False) if factor else None
    if kind in ("Minimum", "Maximum"):
        return _Undone(source, threshold, 1.0, True) if (threshold < number) == (kind == "Minimum") else None
    return _undone_power(source, number, threshold, images) if kind == "Pow" and first is None else None


def _undone_power(source: tf.Tensor, exponent: float, threshold: float, images: tf.Tensor) -> _Undone | None:
    base = _range_of(source, images, {})
    increases = base is not None and base.low >= 0.0 and exponent > 0.0
    return _Undone(source, threshold ** (1.0 / exponent), 1.0, False) if increases and threshold > 0.0 else None


def _number(tensor: tf.Tensor) -> float | None:
    value = tf.get_static_value(tensor)
    return float(value.reshape(())) if value is not None and value.size == 1 else None


def _range_of(tensor: tf.Tensor, images: tf.Tensor, known: dict[int, Range | None]) -> Range | None:
    """Returns the range of a tensor; None if an operation is not known, or the range depends on a variable."""
    if tensor is images:
        return _UNBOUNDED
    if id(tensor) not in known:
        known[id(tensor)] = None
        found = _range_behind(tensor, lambda source: _range_of(source, images, known))
        known[id(tensor)] = None if found is None or isnan(found.low) or isnan(found.high) else found
    return known[id(tensor)]


def _range_behind(tensor: tf.Tensor, of: Callable[[tf.Tensor], Range | None]) -> Range | None:
    value = tf.get_static_value(tensor)
    if value is not None:
        numbers = np.asarray(value)
        return Range(float(numbers.min()), float(numbers.max())) if numbers.size and numbers.dtype.kind in "fiub" else None
    operation = tensor.op
    kind, inputs = operation.type, list(operation.inputs)
    if kind in _WEIGHTED_SUMS:
        return _UNBOUNDED
    if kind == "Softmax":
        return Range(1.0, 1.0) if tensor.shape[-1] == 1 else Range(0.0, 1.0)
    if kind in _FIXED:
        return _FIXED[kind]
    if kind == "Cast" and inputs[0].dtype == tf.bool:
        return Range(0.0, 1.0)
    if kind == "IdentityN":  # the end of a function with a custom gradient
        return of(inputs[tensor.value_index])
    if kind in _UNCHANGED or (kind == "Cast" and inputs[0].dtype.is_floating):
        return of(inputs[0])
    if kind in _MONOTONE:
        found = of(inputs[0])
        return None if found is None else Range(_MONOTONE[kind](found.low), _MONOTONE[kind](found.high))
    return _range_of_several(kind, tensor, inputs, of)


def _range_of_several(
    kind: str, tensor: tf.Tensor, inputs: Sequence[tf.Tensor], of: Callable[[tf.Tensor], Range | None]
) -> Range | None:
    if kind in ("AddV2", "Add", "AddN", "BiasAdd", "Sub", "Mul"):
        ranges = []
        for source in inputs:  # one unbounded term makes the result unbounded
            ranges.append(of(source))
            if ranges[-1] is not None and ranges[-1].is_unbounded and not (kind == "Mul" and len(set(map(id, inputs))) == 1):
                return _UNBOUNDED
        terms = [found for found in ranges if found is not None]
        if len(terms) < len(inputs):
            return None
        if kind == "Mul":
            return _squared(terms[0]) if inputs[0] is inputs[1] else _product(*terms)
        if kind == "Sub":
            return Range(terms[0].low - terms[1].high, terms[0].high - terms[1].low)
        return Range(sum(term.low for term in terms), sum(term.high for term in terms))
    if kind in ("Pack", "ConcatV2", "Select", "SelectV2"):
        sources = {"Pack": inputs, "ConcatV2": inputs[:-1]}.get(kind, inputs[1:])
        terms = [found for source in sources if (found := of(source)) is not None]
        if len(terms) < len(sources):
            return None
        return Range(min(term.low for term in terms), max(term.high for term in terms))
    if not inputs or (first := of(inputs[0])) is None:
        return None
    if kind == "Neg":
        return Range(-first.high, -first.low)
    if kind == "Square":
        return _squared(first)
    if kind == "Abs":
        return Range(max(0.0, first.low, -first.high), max(abs(first.low), abs(first.high)))
    if kind == "Sqrt":
        return Range(max(0.0, first.low) ** 0.5, max(0.0, first.high) ** 0.5)
    if kind in ("Reciprocal", "Inv"):
        return _inverse(first)
    if kind == "Sum":
        return _summed(first, inputs[0], tensor)
    others = [of(source) for source in inputs[1:]]
    if any(other is None for other in others):
        return _UNBOUNDED if kind == "RealDiv" and first.is_unbounded else None
    return _range_with_others(kind, first, [other for other in others if other is not None])


def _range_with_others(kind: str, first: Range, others: Sequence[Range]) -> Range | None:
    if kind == "RealDiv":
        inverse = _inverse(others[0])
        return _UNBOUNDED if first.is_unbounded else None if inverse is None else _product(first, inverse)
    if kind == "ClipByValue":
        low, high = others
        return Range(min(max(first.low, low.low), high.high), min(max(first.high, low.low), high.high))
    if kind == "Minimum":
        return Range(min(first.low, others[0].low), min(first.high, others[0].high))
    if kind == "Maximum":
        return Range(max(first.low, others[0].low), max(first.high, others[0].high))
    if kind == "Pow" and others[0].low == others[0].high > 0.0:
        if first.low >= 0.0:
            return Range(first.low ** others[0].low, first.high ** others[0].low)
        return _squared(first) if others[0].low == 2.0 else None
    return None


def _squared(found: Range) -> Range:
    nearest = max(0.0, found.low, -found.high)
    return Range(nearest**2, max(found.low**2, found.high**2))


def _product(first: Range, second: Range) -> Range:
    corners = [0.0 if isnan(one * other) else one * other for one in first for other in second]
    return Range(min(corners), max(corners))


def _inverse(found: Range) -> Range | None:
    return Range(1.0 / found.high, 1.0 / found.low) if found.low > 0.0 or found.high < 0.0 else None


def _summed(found: Range, source: tf.Tensor, total: tf.Tensor) -> Range | None:
    """Returns the range of a sum over other axes than the batch; None if their size is not known."""
    if found.is_unbounded:
        return found
    if source.shape.rank is None or total.shape.rank is None or None in source.shape[1:] or None in total.shape[1:]:
        return None
    number = np.prod(source.shape[1:], dtype=float) / np.prod(total.shape[1:], dtype=float)
    return Range(number * found.low, number * found.high)
