"""Objects that wrap a Keras model and classify like it, and objects that are not classifiers."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class WithTraining(keras.Model):
    """A subclass whose `call` takes `training` and computes another result in training."""

    def __init__(self, inner: keras.Model):
        super().__init__()
        self.inner = inner

    def call(self, images, training=False):
        return -self.inner(images) if training else self.inner(images)


class WithoutTraining(keras.Model):
    def __init__(self, inner: keras.Model):
        super().__init__()
        self.inner = inner

    def call(self, images):
        return self.inner(images)


class TrainingWithoutDefault(keras.Model):
    def __init__(self, inner: keras.Model):
        super().__init__()
        self.inner = inner

    def call(self, images, training):
        return -self.inner(images) if training else self.inner(images)


class SoftmaxInside(keras.Model):
    def __init__(self, inner: keras.Model):
        super().__init__()
        self.inner = inner

    def call(self, images):
        return tf.nn.softmax(self.inner(images))


class AttributeOfCall(keras.Model):
    """A model that depends on an attribute that is not a weight."""

    def __init__(self, inner: keras.Model):
        super().__init__()
        self.inner, self.sign = inner, 1.0

    def call(self, images):
        return self.sign * self.inner(images)


class Module(tf.Module):
    """A tf.Module with TensorFlow variables and without Keras."""

    def __init__(self, inner: keras.Model):
        super().__init__()
        self.weights = [tf.Variable(array) for array in inner.get_weights()]

    def __call__(self, images):
        hidden = tf.nn.relu(images @ self.weights[0] + self.weights[1])
        return hidden @ self.weights[2] + self.weights[3]


def saved_model(inner: keras.Model) -> Any:
    """Returns the `serve` endpoint of a reloaded SavedModel."""
    with tempfile.TemporaryDirectory() as folder:
        inner.export(folder, verbose=False)
        loaded = tf.saved_model.load(folder)
    endpoint = loaded.serve
    endpoint.owner = loaded  # the variables are deleted with the model
    return endpoint


def saved_model_layer(inner: keras.Model, *, in_model: bool) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        inner.export(folder, verbose=False)
        layer = keras.layers.TFSMLayer(folder, call_endpoint="serve")
    return keras.Sequential([keras.Input(inner.inputs[0].shape[1:]), layer]) if in_model else layer


def unbuilt_sequential(inner: keras.Model) -> keras.Model:
    """Returns a Sequential without an Input that was called once, as in many tutorials."""
    return keras.Sequential(inner.layers)


def ensemble(inner: keras.Model) -> Callable[[Any], Any]:
    other = keras.models.clone_model(inner)
    other.set_weights([np.roll(weight, 1, axis=-1) for weight in inner.get_weights()[:2]] + inner.get_weights()[2:])
    return lambda images: (tf.nn.softmax(inner(images)) + tf.nn.softmax(other(images))) / 2


def training_not_named(model: keras.Model, images: Any) -> Any:
    return model(images, training=False)


def constant(num_classes: int) -> keras.Model:
    """Returns a network with equal logits for all images, although all layers have weights."""
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6, "relu"), keras.layers.Dense(num_classes)])
    kernel, bias = model.layers[1].get_weights()
    model.layers[1].set_weights([np.zeros_like(kernel), np.arange(len(bias), dtype=np.float32)])
    return model


BUILDERS: dict[str, Callable[[keras.Model], Any]] = {
    "subclass with training": WithTraining,
    "subclass without training": WithoutTraining,
    "training without default": TrainingWithoutDefault,
    "tf.nn.softmax in a subclass": SoftmaxInside,
    "tf.Module": Module,
    "SavedModel": saved_model,
    "TFSMLayer": functools.partial(saved_model_layer, in_model=False),
    "TFSMLayer in a model": functools.partial(saved_model_layer, in_model=True),
    "unbuilt Sequential": unbuilt_sequential,
    "lambda": lambda inner: lambda images: inner(images),
    "lambda softmax": lambda inner: lambda images: tf.nn.softmax(inner(images, training=False)),
    "partial": lambda inner: functools.partial(training_not_named, inner),
    "tf.function": lambda inner: tf.function(lambda images: inner(images, training=False)),
    "ensemble": ensemble,
}
"""From a model of two dense layers to an object that classifies `[batch, 8]`."""


def with_nan(inner: keras.Model, *, everywhere: bool) -> keras.Model:
    kernel, bias = inner.layers[-1].get_weights()
    bias[slice(None) if everywhere else 1] = np.nan
    inner.layers[-1].set_weights([kernel, bias])
    return inner


def two_inputs(inner: keras.Model) -> keras.Model:
    images, other = keras.Input((8,)), keras.Input((8,))
    return keras.Model([images, other], inner(images + other))


def two_outputs(inner: keras.Model) -> keras.Model:
    return keras.Model(inner.inputs, [inner.outputs[0], inner.layers[0].output])


def dict_output(inner: keras.Model) -> keras.Model:
    return keras.Model(inner.inputs, {"logits": inner.outputs[0], "hidden": inner.layers[0].output})


NON_CLASSIFIERS: dict[str, Callable[[keras.Model], Any]] = {
    "NumPy": lambda inner: lambda images: np.asarray(images) @ np.ones((8, 4), np.float32),
    "predict": lambda inner: inner.predict,
    "returns None": lambda inner: lambda images: None,
    "no class": lambda inner: lambda images: inner(images)[:, :0],
    "str": lambda inner: lambda images: "logits",
    "model": lambda inner: lambda images: inner,
    "object": lambda inner: lambda images: object(),
    "softmax of one unit": lambda inner: lambda images: tf.nn.softmax(inner(images)[:, :1]),
    "masked by infinity": lambda inner: lambda images: inner(images) + np.array([-np.inf, 0, 0, 0], np.float32),
    "all NaN": functools.partial(with_nan, everywhere=True),
    "two inputs": two_inputs,
    "two outputs": two_outputs,
    "dictionary of outputs": dict_output,
    "a path": lambda inner: "model.keras",
    "None": lambda inner: None,
    "feature maps": lambda inner: lambda images: tf.reshape(inner(images), [-1, 2, 2]),
    "one row for all": lambda inner: lambda images: tf.reduce_mean(inner(images), axis=0),
}
"""Objects that must be refused with a clear error."""
