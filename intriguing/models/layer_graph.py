"""Placeholder until the bounds branch is merged."""

from typing import Any

import keras


def ends_in_softmax(model: keras.Model) -> bool:
    """True if a functional or sequential model returns probabilities."""
    last: Any = model.outputs[0]._keras_history.operation
    if isinstance(last, keras.Model):
        return ends_in_softmax(last)
    return isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) is keras.activations.softmax
