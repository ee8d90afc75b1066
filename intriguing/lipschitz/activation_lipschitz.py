"""Lipschitz constants of activation functions, which may be an argument of a layer, a layer, or an operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from intriguing.lipschitz.layer_checks import check_weights
from intriguing.models.layer_graph import described, operation_kind

_SELU_LIPSCHITZ = 1.0507009873554805 * 1.6732632423543772
_GELU_LIPSCHITZ = 1.129  # 1.12890 at sqrt(2); 1.12899 of the approximation with tanh
_activations = keras.activations
_ACTIVATIONS: dict[Callable[..., Any], float] = {
    _activations.linear: 1.0,
    _activations.relu: 1.0,
    _activations.relu6: 1.0,
    _activations.sigmoid: 0.25,
    _activations.hard_sigmoid: 1.0 / 6.0,
    _activations.log_sigmoid: 1.0,
    _activations.tanh: 1.0,
    _activations.hard_tanh: 1.0,
    _activations.softplus: 1.0,
    _activations.softsign: 1.0,
    _activations.elu: 1.0,
    _activations.selu: _SELU_LIPSCHITZ,
    _activations.gelu: _GELU_LIPSCHITZ,
    _activations.silu: 1.0999,  # 1.09984 at 2.3994
    _activations.hard_silu: 1.5,  # x / 6 * (x + 3), below 3
    _activations.mish: 1.089,  # 1.08850 at 1.4906
    _activations.leaky_relu: 1.0,
    _activations.softmax: 0.5,  # the largest eigenvalue of diag(p) - p p^T
}
_SAME: dict[Callable[..., Any], Callable[..., Any]] = {
    tf.identity: _activations.linear,
    tf.nn.relu: _activations.relu, keras.ops.relu: _activations.relu,
    tf.nn.relu6: _activations.relu6, keras.ops.relu6: _activations.relu6,
    tf.nn.sigmoid: _activations.sigmoid, keras.ops.sigmoid: _activations.sigmoid,
    tf.nn.tanh: _activations.tanh, keras.ops.tanh: _activations.tanh,
    tf.nn.softplus: _activations.softplus, keras.ops.softplus: _activations.softplus,
    tf.nn.softsign: _activations.softsign, keras.ops.softsign: _activations.softsign,
    tf.nn.elu: _activations.elu, keras.ops.elu: _activations.elu,
    tf.nn.selu: _activations.selu, keras.ops.selu: _activations.selu,
    tf.nn.gelu: _activations.gelu, keras.ops.hard_sigmoid: _activations.hard_sigmoid,
    tf.nn.silu: _activations.silu, keras.ops.silu: _activations.silu,
    tf.nn.leaky_relu: _activations.leaky_relu, keras.ops.leaky_relu: _activations.leaky_relu,
    tf.nn.softmax: _activations.softmax, keras.ops.softmax: _activations.softmax,
}  # fmt: skip
"""Functions of TensorFlow and `keras.ops` with the functions of `keras.activations` that equal them by default."""

ACTIVATION_LAYERS = (
    keras.layers.Activation, keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ELU,
    keras.layers.Softmax,
)  # fmt: skip

_OPERATIONS = {
    "Relu": 1.0, "Relu6": 1.0, "Sigmoid": 0.25, "HardSigmoid": 1.0 / 6.0, "LogSigmoid": 1.0, "Tanh": 1.0, "HardTanh": 1.0,
    "Softplus": 1.0, "Softsign": 1.0, "Selu": _SELU_LIPSCHITZ, "Gelu": _GELU_LIPSCHITZ, "Silu": 1.0999, "HardSilu": 1.5,
    "Mish": 1.089, "Absolute": 1.0, "Clip": 1.0,
}  # fmt: skip


def register_activation(activation: Callable[..., Any], constant: float) -> None:
    """Registers the Lipschitz constant of an elementwise activation function.

    Example:
        >>> def steep(values):
        ...     return 1.5 * keras.ops.tanh(values)
        >>> register_activation(steep, 1.5)
    """
    _ACTIVATIONS[activation] = float(constant)


def canonical(activation: Any) -> Any:
    """Returns the function of `keras.activations` that equals a function such as `tf.nn.relu`; any other value unchanged."""
    try:
        return _SAME.get(activation, activation)
    except TypeError:  # the value cannot be hashed
        return activation


def lipschitz_of_activation(operation: Any) -> float:
    """Returns the Lipschitz constant of the activation function of a layer; 1 for a layer without activation function.

    Raises:
        ValueError: If the function is discontinuous, combines images of a batch, or has no registered constant.
    """
    if isinstance(operation, keras.layers.TimeDistributed | keras.layers.SpectralNormalization):
        return 1.0 if isinstance(operation.layer, keras.Model) else lipschitz_of_activation(operation.layer)
    if isinstance(operation, ACTIVATION_LAYERS[1:]):
        return _lipschitz_of_activation_layer(operation)
    activation = getattr(operation, "activation", None)
    if activation is None:
        return 1.0
    if type(activation) in ACTIVATION_LAYERS:  # a layer is the activation function of another layer
        return lipschitz_of_activation(activation)
    known = canonical(activation)
    try:
        return _ACTIVATIONS[known]
    except (KeyError, TypeError):
        raise ValueError(
            f"no Lipschitz constant is registered for {getattr(activation, '__name__', activation)!r}, the activation function "
            f"of {described(operation)}. Register it with register_activation(function, constant)."
        ) from None


def _lipschitz_of_activation_layer(layer: Any) -> float:
    if isinstance(layer, keras.layers.PReLU):
        check_weights(layer)
        return float(np.max(np.abs(np.asarray(layer.alpha, np.float64)), initial=1.0))
    if isinstance(layer, keras.layers.ELU):
        return max(1.0, abs(float(layer.alpha)))
    if isinstance(layer, keras.layers.Softmax):
        _check_axis(layer)
        return _ACTIVATIONS[_activations.softmax]
    return _lipschitz_of_rectifier(layer)


def _lipschitz_of_rectifier(operation: Any) -> float:
    if getattr(operation, "threshold", 0.0):
        raise ValueError(
            f"{described(operation)}, is discontinuous at its threshold of {float(operation.threshold)}: no bound holds. Use "
            "threshold=0."
        )
    return max(1.0, abs(float(operation.negative_slope)))


def lipschitz_of_operation(operation: Any) -> float | None:
    """Returns the Lipschitz constant of an operation that is an activation function; None for any other operation."""
    kind = operation_kind(operation)
    if kind in ("ReLU", "LeakyRelu"):
        return _lipschitz_of_rectifier(operation)
    if kind == "Elu":
        return max(1.0, abs(float(operation.alpha)))
    if kind == "Softmax":
        _check_axis(operation)
        return _ACTIVATIONS[_activations.softmax]
    return _OPERATIONS.get(kind or "")


def _check_axis(operation: Any) -> None:
    axes = operation.axis if isinstance(operation.axis, list | tuple) else [operation.axis]
    if None in axes or 0 in axes:
        raise ValueError(
            f"{described(operation)}, combines images of a batch (axis={operation.axis}): no bound of one image exists."
        )
