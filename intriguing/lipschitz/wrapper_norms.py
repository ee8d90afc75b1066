"""Norms of layers that wrap another layer, and of layers without weights."""

from __future__ import annotations

from typing import Any

import keras

from intriguing.lipschitz.activation_lipschitz import ACTIVATION_LAYERS
from intriguing.lipschitz.network_bound import check_bounded, lipschitz_bound
from intriguing.lipschitz.operator_norms import OperatorNorm, check_has_norm, operator_norm, refuse_norm, register_norm
from intriguing.models.layer_graph import is_followed

refuse_norm(
    keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention, keras.layers.Attention, keras.layers.AdditiveAttention,
    reason="multiplies functions of its inputs with one another, so that its Lipschitz constant is infinite: no bound holds "
    "for all images. Attack the network instead of certifying it.",
)  # fmt: skip


def _check_time_steps(layer: Any, input_shape: tuple[int, ...]) -> None:
    _check_within(layer.layer, input_shape[1:])


@register_norm(keras.layers.TimeDistributed, check=_check_time_steps)
def _norm_of_time_distributed(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    """Returns the norm of the wrapped layer, which is applied to each step in time independently."""
    return _norm_within(layer.layer, input_shape[1:])


def _check_normalized(layer: Any, input_shape: tuple[int, ...]) -> None:
    _check_within(layer.layer, input_shape)


@register_norm(keras.layers.SpectralNormalization, check=_check_normalized)
def _norm_of_spectral_normalization(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    """Returns the norm of the wrapped layer, which is called in inference.

    Its kernel was divided by the norm of the kernel as a matrix, which is not the norm of the convolution.
    """
    return _norm_within(layer.layer, input_shape)


def _norm_within(inner: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    if is_followed(inner):
        return OperatorNorm(0.0, lipschitz_bound(inner).upper)
    return OperatorNorm(1.0, 1.0) if type(inner) in ACTIVATION_LAYERS else operator_norm(inner, input_shape)


def _check_within(inner: Any, input_shape: tuple[int, ...]) -> None:
    if is_followed(inner):
        check_bounded(inner)
    elif type(inner) not in ACTIVATION_LAYERS:
        check_has_norm(inner, input_shape)
