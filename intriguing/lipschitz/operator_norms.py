"""The L2 operator norm of a layer, bounded from both sides.

Each class of layers has a rule. This file has the registry of rules; the rules for Keras's layers are in `linear_norms`,
`pooling_norms`, `scale_norms`, `normalization_norms` and `wrapper_norms`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any, NamedTuple

import keras

from intriguing.lipschitz.layer_checks import adds_behavior, check_is_built, check_is_layer, check_weights, checked_shape
from intriguing.models.layer_graph import described

ROUNDING = 1e-6  # allowance for sums in single precision in both bounds


class OperatorNorm(NamedTuple):
    """Bounds of the L2 operator norm of a layer, output per input: `lower <= norm <= upper`."""

    lower: float
    upper: float


Rule = Callable[[Any, tuple[int, ...]], OperatorNorm]
"""A function from a layer and the shape of one input, without the batch axis, to the norm of the layer."""

Check = Callable[[Any, tuple[int, ...]], Any]
"""A function of the arguments of a rule that raises the errors of the rule, without computing the norm."""

_RULES: dict[type, Rule] = {}
_CHECKS: dict[type, Check] = {}
_REFUSED: dict[type, str] = {}


def register_norm(*kinds: type, check: Check | None = None) -> Callable[[Rule], Rule]:
    """Registers a rule for layers of some classes, and of classes derived from them that compute the same.

    A rule takes the layer and the shape of one input, and returns the norm of the layer without its activation function. A
    derived class has the rule of its parent if it defines no method except `__init__`, `get_config` and `from_config`. Any
    other derived class may compute something else, and needs its own rule.

    Args:
        *kinds: The classes.
        check: Raises the `ValueError` of the rule without computing a norm; called by `check_bounded`.

    Example:
        >>> class Scaling(keras.Layer):
        ...     def __init__(self, factor):
        ...         super().__init__()
        ...         self.factor = factor
        ...     def call(self, inputs):
        ...         return self.factor * inputs
        >>> @register_norm(Scaling)
        ... def norm_of_scaling(layer, input_shape):
        ...     return OperatorNorm(abs(layer.factor), abs(layer.factor))
        >>> operator_norm(Scaling(-3.0), input_shape=(8,))
        OperatorNorm(lower=3.0, upper=3.0)
    """

    def register(rule: Rule) -> Rule:
        _RULES.update({kind: rule for kind in kinds})
        _CHECKS.update({kind: check for kind in kinds if check is not None})
        return rule

    return register


def refuse_norm(*kinds: type, reason: str) -> None:
    """Registers the reason why layers of some classes have no norm: a predicate whose subject is the layer."""
    _REFUSED.update({kind: reason for kind in kinds})


def operator_norm(layer: keras.Layer, input_shape: Sequence[int]) -> OperatorNorm:
    """Bounds the L2 operator norm of a layer in inference, without its activation function.

    For a layer that is not affine, such as max pooling or layer normalization, it is the least Lipschitz constant.

    Args:
        layer: A built Keras layer. If it computes in half precision, the norm is that of exact arithmetic with the stored
            weights, and does not cover rounding errors.
        input_shape: Shape of one input, without the batch axis.

    Returns:
        An `OperatorNorm`. The lower bound is attained by a change of the input; the upper one is proved in double precision.

    Raises:
        TypeError: If the layer is a model, or not a layer; or if its rule does not return an `OperatorNorm`.
        ValueError: If there is no rule for layers of this class (the message describes how to register one); if the layer is
            not built, or built for another shape; if a weight is NaN or infinite; or if layers of this class have no bound.

    Example:
        >>> norm = operator_norm(model.layers[-1], (100,))
        >>> exact = float(np.linalg.norm(model.layers[-1].kernel, 2))
        >>> norm.lower <= exact * (1 + 1e-5) and exact <= norm.upper * (1 + 1e-5)
        True

    References:
        Szegedy et al., Intriguing properties of neural networks, 2014, section 4.3; its equation (1) has the wrong exponent and
        power of the stride, and samples too few frequencies. Sedghi, Gupta, Long, The singular values of convolutional layers,
        2019.
    """
    if not has_norm_rule(layer):
        check_is_layer(layer)
    shape = checked_shape(input_shape)
    rule, _ = _checked(layer, shape)
    norm = rule(layer, shape)
    if not isinstance(norm, OperatorNorm):
        raise TypeError(
            f"the rule {getattr(rule, '__name__', rule)!r} for the norm of {type(layer).__name__} must return an OperatorNorm; "
            f"received {type(norm).__name__}. Return OperatorNorm(lower, upper), twice the same number if the norm is known."
        )
    if not isfinite(norm.upper):
        raise ValueError(f"{described(layer)}, has the norm {norm.upper}: its weights are too large, or cancel a variance.")
    return norm


def check_has_norm(layer: Any, input_shape: Sequence[int]) -> None:
    """Raises the errors of `operator_norm`, without computing large norms."""
    shape = checked_shape(input_shape)
    _, check = _checked(layer, shape)
    if check is not None:
        check(layer, shape)


def check_not_refused(layer: Any) -> None:
    """Raises the reason why layers of this class have no bound, if there is one."""
    refused = _kind_of(layer, _REFUSED)
    if refused is not None:
        raise ValueError(f"{described(layer)}, {_REFUSED[refused]}")


def has_norm_rule(layer: Any) -> bool:
    """Returns whether there is a rule for layers of this class."""
    return _kind_of(layer, _RULES) is not None


def exactly(norm: float) -> OperatorNorm:
    """Returns bounds of a norm that is known up to rounding."""
    return OperatorNorm(norm * (1.0 - ROUNDING), norm * (1.0 + ROUNDING))


def _checked(layer: Any, shape: tuple[int, ...]) -> tuple[Rule, Check | None]:
    """Checks a layer, and returns its rule, and the check of the rule if it has one."""
    check_not_refused(layer)
    kind = _kind_of(layer, _RULES)
    if kind is None:
        raise ValueError(_no_rule(layer))
    check_is_built(layer, shape)
    check_weights(layer)
    return _RULES[kind], _CHECKS.get(kind)


def _kind_of(layer: Any, table: dict[type, Any]) -> Any:
    """Returns the class of a layer in a table, or the class that it is derived from without a change of its outputs."""
    for kind in type(layer).__mro__:
        if kind in table:
            return kind
        if adds_behavior(kind):
            return None
    return None


def _no_rule(layer: Any) -> str:
    name = type(layer).__name__
    if isinstance(layer, keras.Model):
        return (
            f"{described(layer)}, is subclassed or not built, so that its graph of layers is not known. Write it as a "
            f"functional model, or register its norm with @register_norm({name})."
        )
    if type(layer) is keras.layers.Lambda:
        return (
            f"no rule for the operator norm of {described(layer)}: it may compute anything. Write it as a keras.layers.Layer "
            "of your own, and register its norm with @register_norm."
        )
    return (
        f"no rule for the operator norm of {described(layer)}. Register one with @register_norm({name}), a function from the "
        "layer and the shape of one input to an OperatorNorm."
    )
