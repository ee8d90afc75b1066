"""A table of small classifiers of every kind; images have at most 108 values.

Each builder returns a new classifier. Classes are balanced: the mean of each logit over uniform images is zero, so that other
classes are close. `Case.scores` and `Case.classes` compute reference results without the library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.oracles import any_objects

layers, ops = keras.layers, keras.ops
NUM_CLASSES = 4


@dataclass(frozen=True)
class Case:
    """One classifier of the table.

    Attributes:
        name: The name of the test case.
        build: Returns the classifier.
        shape: The shape of an image.
        bounds: Legal pixel values.
        threshold: The threshold of a single output, above which class 1 is predicted.
        features: A hidden layer.
        bounded: True if there is a Lipschitz bound.
        blocked: True if it has no gradient.
        compiled: True if the attack is compiled and may round differently from the classifier. Others run op by op.
    """

    name: str
    build: Callable[[], Any]
    shape: tuple[int, ...] = (8,)
    bounds: tuple[float, float] = (0.0, 1.0)
    threshold: float | None = None
    features: str | None = None
    bounded: bool = False
    blocked: bool = False
    compiled: bool = False

    def images(self, number: int = 4, seed: int = 0) -> np.ndarray:
        low, high = self.bounds
        return np.random.default_rng(seed).uniform(low, high, size=(number, *self.shape)).astype(np.float32)

    def scores(self, classifier: Any, images: Any) -> np.ndarray:
        """Returns the outputs of the classifier in inference as float64 `[batch, classes]`."""
        given = tf.convert_to_tensor(images)
        scores = classifier(given, training=False) if isinstance(classifier, keras.Model) else classifier(given)
        scores = np.asarray(tf.cast(scores, tf.float64))
        return scores if self.threshold is None else np.concatenate([np.full_like(scores, self.threshold), scores], axis=1)

    def classes(self, classifier: Any, images: Any) -> np.ndarray:
        return np.argmax(self.scores(classifier, images), axis=1).astype(np.int32)


def dense(*after: Any, before: tuple = (), scale: float = 2.0, seed: int = 0, **last: Any) -> keras.Model:
    """Returns two dense layers. `last` are options of the second; `before` and `after` are additional layers."""
    hidden, end = layers.Dense(12, "relu", name="hidden"), layers.Dense(NUM_CLASSES, name="logits", **last)
    return balanced([*before, hidden, end, *after], (8,), seed=seed, scale=scale)


def balanced(
    chain: list, shape: tuple[int, ...], *, seed: int = 0, scale: float = 2.0, factor: float = 1.0, brightest: float = 1.0
) -> keras.Model:
    """Returns a Sequential with random weights. The logits of the last Dense layer are balanced before its activation."""
    model = keras.Sequential([keras.Input(shape), *chain])
    end = [layer for layer in chain if isinstance(layer, layers.Dense)][-1]
    activation, end.activation = end.activation, keras.activations.linear
    rng = np.random.default_rng(seed)
    values = rng.uniform(high=brightest, size=(50, *shape)).astype(np.float32)
    for layer in chain[: chain.index(end) + 1]:
        if not isinstance(layer, layers.Normalization):  # Normalization layers are adapted
            layer.set_weights([random_weight(weight, rng, scale) for weight in layer.weights])
        values = layer(values)
    kernel, bias = end.get_weights()
    end.set_weights([factor * kernel, factor * (bias - np.mean(values, axis=0))])
    end.activation = activation
    return model


def random_weight(weight: Any, rng: np.random.Generator, scale: float) -> np.ndarray:
    """Draws a weight of variance `scale**2` over the number of inputs. Statistics and factors are positive; seeds are kept."""
    if "int" in weight.dtype:
        return np.asarray(weight)
    if weight.name in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 2.0, size=weight.shape)
    return rng.normal(size=weight.shape, scale=scale / np.sqrt(np.prod(weight.shape[:-1])) if len(weight.shape) > 1 else 0.3)


def under(function: Callable[[Any], Any], *, model: Callable[[], keras.Model] = dense) -> Callable[[], keras.Model]:
    """Returns a builder of a functional model that applies `function` to the logits of a model."""

    def build() -> keras.Model:
        inner = model()
        return keras.Model(inner.inputs, function(inner.outputs[0]))

    return build


def with_policy(policy: str, *after: str) -> Callable[[], keras.Model]:
    """Returns two dense layers with a dtype policy. `after` are the dtypes of final softmax layers."""

    def build() -> keras.Model:
        options = {"dtype": policy}
        chain = [layers.Dense(12, "relu", **options), layers.Dense(NUM_CLASSES, **options)]
        ends = [layers.Activation("softmax", dtype=dtype) for dtype in after]
        model = keras.Sequential([keras.Input((8,)), *chain, *ends])
        model.set_weights(dense().get_weights())
        return model

    return build


def with_batch_normalization() -> keras.Model:
    return balanced([layers.Dense(12), layers.BatchNormalization(), layers.ReLU(), layers.Dense(NUM_CLASSES)], (8,))


def with_normalization() -> keras.Model:
    normalize = layers.Normalization()
    normalize.adapt(np.random.default_rng(2).uniform(-1.0, 3.0, size=(64, 8)).astype(np.float32))
    return dense(before=(normalize,))


def of_bytes() -> keras.Model:
    chain = [layers.Rescaling(1 / 255), layers.Dense(12, "relu", name="hidden"), layers.Dense(NUM_CLASSES)]
    return balanced(chain, (8,), brightest=255.0)


def convolutional(*chain: Any, shape: tuple[int, ...] = (6, 6, 1)) -> Callable[[], keras.Model]:
    """Returns a builder that copies the layers for each model."""

    def build() -> keras.Model:
        copies = [type(layer).from_config(layer.get_config()) for layer in chain]
        return balanced([*copies, layers.Flatten(), layers.Dense(NUM_CLASSES)], shape)

    return build


def residual(add: Callable[[Any, Any], Any]) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        images = keras.Input((8,))
        first = layers.Dense(8, "relu", name="first")
        hidden = first(images)
        model = keras.Model(images, layers.Dense(NUM_CLASSES)(add(images, layers.Dense(8, "relu")(hidden))))
        return drawn(model)

    return build


def drawn(model: keras.Model, seed: int = 0) -> keras.Model:
    """Draws the weights of a functional model whose last layer is Dense, and balances it."""
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        fan_in = np.prod(weight.shape[:-1]) if len(weight.shape) > 1 else 9.0
        weight.assign(rng.normal(size=weight.shape, scale=2.0 / np.sqrt(fan_in)).astype(np.float32))
    uniform = rng.uniform(size=(50, *model.inputs[0].shape[1:])).astype(np.float32)
    last = next(layer for layer in reversed(model.layers) if isinstance(layer, layers.Dense))
    last.bias.assign_sub(np.mean(model(uniform, training=False), axis=0))
    return model


def functional(body: Callable[[Any], Any], shape: tuple[int, ...]) -> Callable[[], keras.Model]:
    """Returns a builder of a model with a body of layers and a dense layer at the end."""

    def build() -> keras.Model:
        images = keras.Input(shape)
        return drawn(keras.Model(images, layers.Dense(NUM_CLASSES)(layers.Flatten()(body(images)))))

    return build


def shared_layers() -> keras.Model:
    """Returns a model of a new preprocessing layer and the layers of another model with a softmax."""
    other = dense(activation="softmax")
    return keras.Sequential([keras.Input((8,)), layers.Rescaling(2.0, -0.5), *other.layers])


def one_softmax_twice() -> keras.Model:
    softmax, images = layers.Softmax(), keras.Input((8,))
    hidden = softmax(layers.Dense(12)(images))
    return drawn_before_softmax(images, layers.Dense(NUM_CLASSES)(hidden), softmax)


def one_dense_softmax_twice() -> keras.Model:
    images, head = keras.Input((4,)), layers.Dense(4, activation="softmax")
    model = keras.Model(images, head(head(images)))
    model.set_weights([4.0 * np.random.default_rng(0).normal(size=(4, 4)), np.zeros(4)])
    uniform = np.random.default_rng(1).uniform(size=(50, 4)).astype(np.float32)
    for _ in range(30):
        head.bias.assign_sub(2.0 * (np.mean(model(uniform), axis=0) - 0.25))
    return model


def drawn_before_softmax(images: Any, logits: Any, softmax: Any) -> keras.Model:
    drawn(keras.Model(images, logits))
    return keras.Model(images, softmax(logits))


def average_of_probabilities() -> keras.Model:
    images = keras.Input((8,))
    members = [dense(layers.Softmax(), seed=seed) for seed in range(2)]
    return keras.Model(images, layers.Average()([member(images) for member in members]))


def one_output(activation: str | None) -> Callable[[], keras.Model]:
    return lambda: balanced([layers.Dense(12, "relu"), layers.Dense(1, activation=activation)], (8,))


def average_of_sigmoids() -> keras.Model:
    images = keras.Input((8,))
    members = [one_output("sigmoid")() for _ in range(2)]
    members[1].layers[0].kernel.assign(np.roll(members[0].layers[0].kernel, 1, axis=0))
    return keras.Model(images, layers.Average()([member(images) for member in members]))


def rounded(function: Callable[[Any], Any]) -> Callable[[], keras.Model]:
    return lambda: dense(before=(layers.Lambda(function),))


def in_python(images: Any) -> Any:
    return tf.ensure_shape(tf.numpy_function(lambda pixels: pixels[:, ::-1].copy(), [images], tf.float32), images.shape)


def by_strings(images: Any) -> Any:
    return tf.strings.to_number(tf.strings.as_string(images))


def nested(*, outer: str, **last: Any) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        inner, images = dense(**last), keras.Input((8,))
        if outer == "sequential":
            return keras.Sequential([images, layers.Rescaling(1.5, -0.2), keras.Model(inner.inputs, inner.outputs)])
        return keras.Model(images, inner(layers.Rescaling(1.5, -0.2)(images)))

    return build


def scaled(factor: float, *after: Any, **last: Any) -> Callable[[], keras.Model]:
    hidden = {"name": "hidden", "activation": "relu"}
    end = {"name": "logits", **last}
    return lambda: balanced([layers.Dense(12, **hidden), layers.Dense(NUM_CLASSES, **end), *after], (8,), factor=factor)


def saturated() -> keras.Model:
    """Returns a network of sigmoids that are saturated except near a hyperplane."""
    model = balanced([layers.Dense(12, "sigmoid"), layers.Dense(NUM_CLASSES)], (8,))
    kernel, _ = model.layers[0].get_weights()
    model.layers[0].set_weights([100.0 * kernel, -50.0 * kernel.sum(axis=0)])
    return model


def attention(images: Any) -> Any:
    tokens = layers.Dense(6)(images)
    return layers.LayerNormalization()(tokens + layers.MultiHeadAttention(2, 3)(tokens, tokens))


_PLAIN = (
    Case("dense", dense, features="hidden", bounded=True),
    Case("convolution", convolutional(layers.Conv2D(4, 3, activation="relu")), (6, 6, 1), bounded=True),
    Case("flat image", convolutional(layers.Flatten(), layers.Dense(8, "relu", name="first"), shape=(8, 8)), (8, 8), features="first", bounded=True),
    Case("color convolution", convolutional(layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(), shape=(6, 6, 3)),
         (6, 6, 3), bounded=True),
    Case("separable convolution", convolutional(layers.SeparableConv2D(4, 3, activation="relu")), (6, 6, 1), bounded=True),
    Case("depthwise convolution", convolutional(layers.DepthwiseConv2D(3, depth_multiplier=4, activation="relu")), (6, 6, 1), bounded=True),
    Case("upsampling", convolutional(layers.UpSampling2D(), layers.Conv2D(6, 3, activation="relu"), shape=(4, 4, 1)), (4, 4, 1),
         bounded=True),
    Case("batch normalization", with_batch_normalization, bounded=True),
    Case("adapted normalization", with_normalization, features="hidden", bounded=True),
    Case("lambda layer", lambda: dense(before=(layers.Lambda(lambda images: 2.0 * images - 1.0),)), features="hidden"),
    Case("bytes", of_bytes, bounds=(0.0, 255.0), features="hidden", bounded=True),
    Case("wide bounds", dense, bounds=(-0.4242129623889923, 2.821486711502075), bounded=True),
    Case("layer normalization", functional(lambda x: layers.LayerNormalization()(layers.Dense(12)(x)), (8,))),
    Case("group normalization", functional(lambda x: layers.GroupNormalization(2)(layers.Conv2D(4, 3)(x)), (6, 6, 1))
         , (6, 6, 1)),
    Case("dropout and noise", lambda: dense(before=(layers.Dropout(0.5), layers.GaussianNoise(0.5))), features="hidden", bounded=True),
    Case("augmentation", convolutional(layers.RandomFlip(seed=1), layers.Conv2D(4, 3, activation="relu"), shape=(6, 6, 3)), (6, 6, 3),
         bounded=True),
    Case("prelu", functional(lambda x: layers.PReLU()(layers.Dense(12)(x)), (8,)), bounded=True),
    Case("residual, operators", residual(lambda a, b: a + b), features="first", bounded=True),
    Case("residual, Add layer", residual(lambda a, b: layers.Add()([a, b])), features="first", bounded=True),
    Case("residual, keras.ops", residual(lambda a, b: ops.add(a, 2.0 * b) - 0.5), features="first", bounded=True),
    Case("LSTM over rows", functional(layers.LSTM(6), (5, 4)), (5, 4), compiled=True),  # XLA takes no TensorList of unknown length
    Case("attention", functional(attention, (5, 4)), (5, 4)),
    Case("einsum over rows", functional(layers.EinsumDense("abc,cd->abd", (5, 6), activation="relu"), (5, 4)), (5, 4), bounded=True),
    Case("time distributed", functional(layers.TimeDistributed(layers.Dense(6, "relu")), (5, 4)), (5, 4), bounded=True),
    Case("spectral normalization", functional(layers.SpectralNormalization(layers.Dense(12, "relu")), (8,)), bounded=True),
)  # fmt: skip

_SOFTMAX = (
    Case("Dense softmax", lambda: dense(activation="softmax"), features="hidden"),
    Case("Softmax layer", lambda: dense(layers.Softmax()), features="hidden"),
    Case("Activation softmax", lambda: dense(layers.Activation("softmax")), features="hidden"),
    Case("Dense tf.nn.softmax", lambda: dense(activation=tf.nn.softmax), features="hidden"),
    Case("keras.ops.softmax", under(ops.softmax)),
    Case("Lambda softmax", lambda: dense(layers.Lambda(tf.nn.softmax))),
    Case("softmax, Rescaling", lambda: dense(layers.Rescaling(0.5), activation="softmax")),
    Case("softmax, Dropout", lambda: dense(layers.Dropout(0.5), activation="softmax")),
    Case("softmax, Reshape", lambda: dense(layers.Reshape((NUM_CLASSES,)), activation="softmax")),
    Case("softmax, linear", lambda: dense(layers.Activation("linear"), activation="softmax")),
    Case("log_softmax", lambda: dense(activation="log_softmax")),
    Case("softmax model in Sequential", nested(outer="sequential", activation="softmax")),
    Case("softmax model in Functional", nested(outer="functional", activation="softmax")),
    Case("layers of another model", shared_layers, features="hidden"),
    Case("one Softmax twice", one_softmax_twice),
    Case("one Dense softmax twice", one_dense_softmax_twice, (4,)),
    Case("confident tf.nn.softmax", scaled(20.0, activation=tf.nn.softmax)),
    Case("temperature", lambda: dense(layers.Rescaling(0.05), layers.Softmax())),
    Case("average of probabilities", average_of_probabilities),
)  # fmt: skip

_HEADS_AND_PRECISION = (
    Case("one sigmoid", one_output("sigmoid"), threshold=0.5),
    Case("one logit", one_output(None), threshold=0.0),
    Case("average of sigmoids", average_of_sigmoids, threshold=0.5),
    Case("one minus a sigmoid", under(lambda p: 1.0 - p, model=one_output("sigmoid")), threshold=0.5),
    Case("clipped sigmoid", under(lambda p: ops.clip(p, 1e-7, 1 - 1e-7), model=one_output("sigmoid")), threshold=0.5),
    Case("hard sigmoid", one_output("hard_sigmoid"), threshold=0.5),
    Case("rescaled sigmoid", under(lambda p: 2.0 * p - 1.0, model=one_output("sigmoid")), threshold=0.0),
    Case("offset sigmoid", under(lambda p: 0.5 * p + 0.2, model=one_output("sigmoid")), threshold=0.5),
    Case("masked class", under(lambda z: z + np.array([-1e9, 0, 0, 0], np.float32)), bounded=True),
    Case("sigmoid for each class", lambda: dense(activation="sigmoid"), features="hidden"),
    Case("mixed_bfloat16", with_policy("mixed_bfloat16"), compiled=True),
    Case("mixed_float16", with_policy("mixed_float16"), compiled=True),
    Case("bfloat16", with_policy("bfloat16"), compiled=True),
    Case("float16", with_policy("float16"), compiled=True),
    Case("float64", with_policy("float64")),
    Case("half head, float32 softmax", with_policy("mixed_bfloat16", "float32"), compiled=True),
    Case("logits x 1e6", scaled(1e6)),
    Case("logits x 1e-3", scaled(1e-3)),
    Case("logits x 1e-6", scaled(1e-6)),
    Case("saturated sigmoids", saturated),
)  # fmt: skip

_OBJECTS = tuple(
    Case(name, lambda build=build: build(dense())) for name, build in any_objects.BUILDERS.items()
)  # fmt: skip

_BLOCKED = tuple(
    replace(case, blocked=True)
    for case in (
        Case("rounds its input", rounded(lambda images: tf.round(images * 255.0) / 255.0)),
        Case("floors its input", rounded(lambda images: tf.floor(images * 15.0) / 15.0)),
        Case("casts its input", rounded(lambda images: tf.cast(tf.cast(images * 255.0, tf.uint8), tf.float32) / 255.0)),
        Case("stops the gradient", rounded(tf.stop_gradient)),
        Case(
            "one-hot of argmax", lambda: dense(layers.Lambda(lambda logits: tf.one_hot(tf.argmax(logits, axis=1), NUM_CLASSES)))
        ),
        Case("numpy_function", rounded(in_python), compiled=True),  # without XLA, like strings
        Case("strings", rounded(by_strings), compiled=True),
        Case("constant", lambda: any_objects.constant(NUM_CLASSES)),
    )
)

CASES = (*_PLAIN, *_SOFTMAX, *_HEADS_AND_PRECISION, *_OBJECTS, *_BLOCKED)
