"""Copies of layers without their activation function, and configurations without what only training needs.

Initializers, regularizers, constraints and activation functions may be any callables of the caller, which Keras cannot write
into a configuration or cannot read back from one. So they are left out before a configuration is written.
"""

from __future__ import annotations

from typing import Any

import keras


def without_activation(layer: Any) -> Any:
    """Returns a layer that computes what a built layer of Keras computes before its activation function, with its variables.

    For layers that apply the function `layer.activation` last. The layer itself is not changed.
    """
    own: dict[str, Any] = {"_losses": [], "_loss_ids": set()}
    return _twin(layer, {"activation": keras.activations.linear, "activity_regularizer": None, **own})


def inference_config(layer: Any) -> dict[str, Any]:
    """Returns the configuration of a layer with zeros as initial weights, and without regularizers, constraints and activation.

    A layer that is made from it computes what `layer` computes before its activation function, once it has its weights.
    """
    return _twin(layer, {name: _neutral(name) for name in vars(layer) if _is_replaced(name)}).get_config()


def _is_replaced(name: str) -> bool:
    return name == "activation" or name.endswith(("_initializer", "_regularizer", "_constraint"))


def _neutral(name: str) -> Any:
    if name == "activation":
        return keras.activations.linear
    return keras.initializers.Zeros() if name.endswith("_initializer") else None


def _twin(layer: Any, replaced: dict[str, Any]) -> Any:
    """Returns an object with the attributes of a layer, some of them replaced; Keras tracks neither."""
    twin = object.__new__(type(layer))
    vars(twin).update({**vars(layer), **replaced})
    return twin
