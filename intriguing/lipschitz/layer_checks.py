"""Checks of a layer before its norm is computed."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from intriguing.models.layer_graph import described
from intriguing.models.layer_twins import inference_config


def checked_shape(input_shape: Any) -> tuple[int, ...]:
    """Returns the shape of one input as integers.

    Raises:
        ValueError: If a size is unknown or not positive, as in a shape with the batch axis.
    """
    sizes = tuple(input_shape) if isinstance(input_shape, Iterable) else (input_shape,)
    if not all(isinstance(size, int | np.integer) and size > 0 for size in sizes):
        known = tuple(size for size in sizes if size is not None)
        raise ValueError(
            f"input_shape must be the shape of one input, without the batch axis and with positive sizes; received {sizes}. "
            f"{f'Pass {known}.' if known != sizes else 'Pass the sizes as integers.'}"
        )
    return tuple(int(size) for size in sizes)


def check_is_layer(layer: Any) -> None:
    """Raises a `TypeError` if the value is not a layer, or is a model."""
    if isinstance(layer, keras.Model):
        raise TypeError(
            f"operator_norm must be given one layer; received {described(layer)}. Call lipschitz_bound(model) for a network."
        )
    if not isinstance(layer, keras.Operation):
        raise TypeError(
            f"operator_norm must be given a built Keras layer; received {described(layer)}. Write the function as a "
            "keras.layers.Layer, and register its norm with register_norm."
        )


def check_weights(layer: Any) -> None:
    """Raises a `ValueError` if a weight of a layer is NaN or infinite, or if the layer is quantized."""
    for weight in getattr(layer, "weights", ()):
        check_finite(layer, str(weight.name), weight)
    if getattr(layer, "quantization_mode", None):
        raise ValueError(
            f"{described(layer)}, is quantized to {layer.quantization_mode!r}: it rounds its inputs, so that no bound holds. "
            "Pass the network before quantization."
        )


def check_finite(layer: Any, name: str, values: Any) -> None:
    """Raises a `ValueError` that names the layer and the values, if some of them are NaN or infinite."""
    array = np.asarray(values)
    if array.dtype.kind in "iub":
        return
    num_bad = int(np.size(array) - np.count_nonzero(np.isfinite(array)))
    if num_bad:
        raise ValueError(
            f"{described(layer)}, has {num_bad} NaN or infinite values among the {np.size(array)} of {name!r}, so that no "
            "bound holds. Train the network again, or load other weights."
        )


def check_is_built(layer: Any, input_shape: Sequence[int]) -> None:
    """Raises a `ValueError` if a layer of Keras is not built, or is built for inputs of another shape."""
    if not isinstance(layer, keras.Layer):
        return
    if not layer.built and type(layer).__module__.split(".")[0] == "keras" and _has_weights(layer, input_shape):
        raise ValueError(
            f"{described(layer)}, is not built, so that it has no weights yet. Call layer.build((None, *input_shape)), or "
            "pass a layer of a model."
        )
    if (expected := _misfit(layer.input_spec, (None, *input_shape))) is not None:
        raise ValueError(f"{described(layer)}, expects inputs with {expected}; received input_shape={tuple(input_shape)}.")


def _has_weights(layer: Any, input_shape: Sequence[int]) -> bool:
    copy = type(layer).from_config(inference_config(layer))
    try:
        copy.build((None, *input_shape))
    except Exception as error:  # Keras raises errors of many types
        raise ValueError(
            f"{described(layer)}, cannot be built for input_shape={tuple(input_shape)}: {str(error).splitlines()[0]}"
        ) from error
    return bool(copy.weights)


def _misfit(spec: Any, shape: Sequence[int | None]) -> str | None:
    """Returns which inputs a layer expects, in words; None if the shape agrees."""
    if not isinstance(spec, keras.layers.InputSpec):
        return None
    for axis, size in (spec.axes or {}).items():
        if size is not None and -len(shape) <= axis < len(shape) and shape[axis] != size:
            return f"{size} values along axis {axis}, counting the batch axis as axis 0"
    if spec.ndim is not None and len(shape) != spec.ndim:
        return f"{spec.ndim} axes, the batch axis included"
    if spec.min_ndim is not None and len(shape) < spec.min_ndim:
        return f"at least {spec.min_ndim} axes, the batch axis included"
    return None


_HARMLESS = ("__init__", "get_config", "from_config")


def adds_behavior(kind: type) -> bool:
    """Returns whether a class defines a method or property that may change the outputs of its instances."""
    defined = {name for name, value in vars(kind).items() if _is_behavior(value)}
    return bool(defined.difference(_HARMLESS))


def _is_behavior(value: Any) -> bool:
    return inspect.isroutine(value) or isinstance(value, property | staticmethod | classmethod)
