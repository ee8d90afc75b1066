"""One classifier with its final softmax written in many forms, and the same network without a softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

layers = keras.layers
NUM_PIXELS, NUM_CLASSES = 6, 4


def _body() -> list[Any]:
    return [layers.Dense(8, "sigmoid"), layers.Dense(NUM_CLASSES)]


def _sequential(*ending: Any, body: Callable[[], list[Any]] = _body) -> Any:
    return keras.Sequential([keras.Input((NUM_PIXELS,)), *body(), *ending])


def _functional(ending: Callable[[Any], Any]) -> Any:
    inputs = keras.Input((NUM_PIXELS,))
    hidden = inputs
    for layer in _body():
        hidden = layer(hidden)
    return keras.Model(inputs, ending(hidden))


def _activated(activation: Any) -> Any:
    return _sequential(body=lambda: [layers.Dense(8, "sigmoid"), layers.Dense(NUM_CLASSES, activation)])


def _nested(*ending: Any) -> Any:
    return keras.Sequential([keras.Input((NUM_PIXELS,)), _activated("softmax"), *ending])


def _functional_in_functional() -> Any:
    inputs = keras.Input((NUM_PIXELS,))
    return keras.Model(inputs, _functional(layers.Softmax())(inputs))


def one_softmax_twice(*, logits_only: bool = False) -> Any:
    """Uses a softmax layer first as a gate whose result is multiplied by zero, so that the logits are those of the body."""
    inputs, softmax = keras.Input((NUM_PIXELS,)), layers.Softmax()
    hidden, last = _body()
    logits = last(hidden(inputs))
    gate = layers.Dense(NUM_CLASSES, kernel_initializer="zeros", trainable=False, name="gate")(softmax(hidden(inputs)))
    merged = layers.Add()([logits, gate])
    return keras.Model(inputs, merged if logits_only else softmax(merged))


def _one_dense_twice() -> Any:
    """Returns a model with a dense softmax layer that another model called first."""
    hidden, last = layers.Dense(8, "sigmoid"), layers.Dense(NUM_CLASSES, "softmax")
    other = keras.Input((8,))
    keras.Model(other, last(other))
    inputs = keras.Input((NUM_PIXELS,))
    last(hidden(inputs))
    return keras.Model(inputs, last(hidden(inputs)))


def _layers_of_another() -> Any:
    other = _activated("softmax")
    return keras.Sequential([keras.Input((NUM_PIXELS,)), *other.layers])


def _backbone_with_head() -> Any:
    backbone = keras.Sequential([keras.Input((NUM_PIXELS,)), layers.Dense(8, "sigmoid")])
    inputs = keras.Input((NUM_PIXELS,))
    return keras.Model(inputs, layers.Dense(NUM_CLASSES, "softmax")(backbone(inputs, training=False)))


FORMS: dict[str, Callable[[], Any]] = {
    "Dense(softmax)": lambda: _activated("softmax"),
    "Dense(tf.nn.softmax)": lambda: _activated(tf.nn.softmax),
    "Dense(keras.ops.softmax)": lambda: _activated(keras.ops.softmax),
    "Dense(Softmax layer)": lambda: _activated(layers.Softmax()),
    "Softmax": lambda: _sequential(layers.Softmax()),
    "Activation(softmax)": lambda: _sequential(layers.Activation("softmax")),
    "Activation(tf.nn.softmax)": lambda: _sequential(layers.Activation(tf.nn.softmax)),
    "Activation(float32)": lambda: _sequential(layers.Activation("softmax", dtype="float32")),
    "keras.ops.softmax": lambda: _functional(keras.ops.softmax),
    "keras.activations.softmax": lambda: _functional(keras.activations.softmax),
    "then Dropout": lambda: _sequential(layers.Softmax(), layers.Dropout(0.5)),
    "then Reshape": lambda: _sequential(layers.Softmax(), layers.Reshape((NUM_CLASSES,)), layers.Flatten()),
    "then Activation(linear)": lambda: _sequential(layers.Softmax(), layers.Activation("linear", dtype="float32")),
    "then Rescaling": lambda: _sequential(layers.Softmax(), layers.Rescaling(100.0)),
    "then a product": lambda: _functional(lambda logits: 2.0 * keras.ops.softmax(logits) / 3.0),
    "Reshape around": lambda: _sequential(layers.Reshape((1, NUM_CLASSES)), layers.Softmax(), layers.Flatten()),
    "nested": _nested,
    "nested, then Dropout": lambda: _nested(layers.Dropout(0.2)),
    "nested twice": lambda: keras.Sequential([keras.Input((NUM_PIXELS,)), _nested()]),
    "functional in functional": _functional_in_functional,
    "functional in sequential": lambda: keras.Sequential([keras.Input((NUM_PIXELS,)), _functional(layers.Softmax())]),
    "one Softmax twice": one_softmax_twice,
    "one Dense twice": _one_dense_twice,
    "layers of another model": _layers_of_another,
    "backbone": _backbone_with_head,
}
"""Each returns a new model."""


def logits_model() -> Any:
    """Returns the same network without a softmax."""
    return _sequential()


def with_equal_weights(model: Any, seed: int = 0) -> Any:
    """Draws the weights of the two dense layers of a form. Weights of equal shape are equal for all forms."""
    rng = np.random.default_rng(seed)
    drawn = {(NUM_PIXELS, 8): rng.normal(size=(NUM_PIXELS, 8)), (8,): rng.normal(size=8) * 0.3}
    drawn |= {(8, NUM_CLASSES): rng.normal(size=(8, NUM_CLASSES)), (NUM_CLASSES,): rng.normal(size=NUM_CLASSES) * 0.1}
    for weight in model.weights:
        weight.assign(drawn[tuple(weight.shape)] if weight.trainable else np.zeros(weight.shape))
    return model
