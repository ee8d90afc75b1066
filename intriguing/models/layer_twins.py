"""Copies of layers without their activation function, and configurations without the settings of training.

Initializers, regularizers, constraints and activation functions may be arbitrary callables, which Keras cannot write into a
configuration or cannot restore from one. Therefore, they are removed before a configuration is written.
"""

from __future__ import annotations

from typing import Any

import keras


def without_activation(layer: Any) -> Any:
    """Returns a layer that computes the output of a built Keras layer before its activation function, with its variables.

    For layers that apply `layer.activation` last. The given layer is not changed.
    """
    own: dict[str, Any] = {"_losses": [], "_loss_ids": set()}
    return _twin(layer, {"activation": keras.activations.linear, "activity_regularizer": None, **own})


def inference_config(layer: Any) -> dict[str, Any]:
    """Returns the configuration of a layer with zeros as initial weights, and without regularizers, constraints and activation.

    A layer with this configuration and the same weights computes the output of `layer` before its activation function.
    """
    return _twin(layer, {name: _neutral(name) for name in vars(layer) if _is_replaced(name)}).get_config()


def _is_replaced(name: str) -> bool:
    return name == "activation" or name.endswith(("_initializer", "_regularizer", "_constraint"))


def _neutral(name: str) -> Any:
    if name == "activation":
        return keras.activations.linear
    return keras.initializers.Zeros() if name.endswith("_initializer") else None


def _twin(layer: Any, replaced: dict[str, Any]) -> Any:
    """Returns a copy of a layer with some attributes replaced; Keras does not track the copy."""
    twin = object.__new__(type(layer))
    vars(twin).update({**vars(layer), **replaced})
    return twin
