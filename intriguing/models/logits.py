"""Any classifier as a pure function from weights and images to logits.

Weights that travel as tensors serve twice: networks of one architecture share one compiled program, and that program runs
under every strategy, where variables inside a compiled function would not.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Classifier = Callable[[tf.Tensor], tf.Tensor]
"""From images `[batch, ...]` to logits `[batch, classes]`, in inference mode; a Keras model is one."""


class Architecture:
    """What a classifier computes, apart from its weights. Two are equal if they compute the same from the same weights.

    Attributes:
        apply: Pure function `(weights, images [batch, ...]) -> logits [batch, classes]`.
        num_classes: The number of logits.
        convolves: True if there is a convolution in it.
        bytes_per_image: What all its tensors take that depend on one image, and stay in memory until its gradient is known.
    """

    def __init__(
        self,
        apply: Callable[[Sequence[tf.Tensor], tf.Tensor], tf.Tensor],
        num_classes: int,
        identity: str,
        *,
        convolves: bool = False,
        bytes_per_image: int = 0,
    ):
        """Stores what `split_weights` found out."""
        self.apply = apply
        self.num_classes = num_classes
        self.convolves = convolves
        self.bytes_per_image = bytes_per_image
        self._identity = identity

    def __eq__(self, other: object) -> bool:
        """Compares the computations, not the objects."""
        return isinstance(other, Architecture) and self._identity == other._identity

    def __hash__(self) -> int:
        """Agrees with `==`."""
        return hash(self._identity)

    def one_part_after_another(self, num_rows: int) -> Architecture:
        """Returns what computes the same, on parts of `num_rows` images in turn: slower on an accelerator, in less memory."""

        def apply(weights: Sequence[tf.Tensor], images: tf.Tensor) -> tf.Tensor:
            parts = tf.reshape(images, [-1, num_rows, *images.shape[1:]])
            of_part = functools.partial(self.apply, weights)
            logits = tf.map_fn(of_part, parts, fn_output_signature=tf.float32, parallel_iterations=1)
            return tf.reshape(logits, [images.shape[0], self.num_classes])

        return Architecture(
            apply, self.num_classes, self._identity, convolves=self.convolves, bytes_per_image=self.bytes_per_image
        )


def split_weights(
    classifier: Classifier, image_shape: Sequence[int], *, cut_softmax: bool = True
) -> tuple[Architecture, list[tf.Tensor]]:
    """Separates what a classifier computes from the weights it computes with.

    A Keras model that ends in a softmax is cut before it, so that its logits are used. Any other callable keeps its weights
    inside.

    Args:
        classifier: A built Keras model, or any callable from images to logits.
        image_shape: The shape of one image.
        cut_softmax: False to take the outputs as they are, when they are features and not scores.

    Returns:
        The `Architecture`, and the weights as float tensors in the order that `apply` expects.

    Raises:
        ValueError: If the output is not `[batch, classes]` with at least two classes.
        TypeError: If `classifier` is not callable.
    """
    shape = tuple(int(size) for size in image_shape)
    if not isinstance(classifier, keras.Model):
        if not callable(classifier):
            raise TypeError(f"classifier must be a Keras model or a callable from images to logits; received {classifier!r}.")
        return _architecture(lambda weights, images: tf.convert_to_tensor(classifier(images)), [], shape, owner=classifier), []
    architecture, variables = _inspect_model(classifier, shape, cut_softmax)
    return architecture, values_of(variables)


def values_of(variables: Iterable[Any]) -> list[tf.Tensor]:
    """Returns what Keras variables hold, as plain tensors."""
    return [tf.convert_to_tensor(variable.value) for variable in variables]


def in_mode(model: keras.Model, *, training: bool) -> dict[str, bool]:
    """Returns the argument that puts `stateless_call` into a mode: none for a model whose `call` knows no `training`."""
    return {"training": training} if "training" in inspect.signature(model.call).parameters else {}


@functools.lru_cache(maxsize=32)  # by identity; inspecting traces the model, which takes longer than many an attack
def _inspect_model(model: keras.Model, image_shape: tuple[int, ...], cut_softmax: bool) -> tuple[Architecture, list[Any]]:
    if not model.built:
        model(tf.zeros((1, *image_shape)))
    template, replaced = _without_softmax(model) if cut_softmax else (model, {})
    trainable, fixed = template.trainable_variables, template.non_trainable_variables

    def apply(weights: Sequence[tf.Tensor], images: tf.Tensor) -> tf.Tensor:
        trainables, others = weights[: len(trainable)], weights[len(trainable) :]
        outputs, _ = template.stateless_call(trainables, others, images, **in_mode(template, training=False))
        return outputs

    variables = [replaced.get(id(variable), variable) for variable in [*trainable, *fixed]]
    return _architecture(apply, variables, image_shape, owner=model), variables


def _without_softmax(model: keras.Model) -> tuple[keras.Model, dict[int, Any]]:
    """Returns a model of logits, and for each of its new variables (by id) the variable of `model` that holds the value."""
    if not getattr(model, "outputs", None):
        _refuse_softmax_in_subclass(model)
        return model, {}
    last = model.outputs[0]._keras_history.operation
    if isinstance(last, keras.Model):
        inner, replaced = _without_softmax(last)
        return (model, {}) if inner is last else (keras.Model(model.inputs, inner(last.input)), replaced)
    if not _is_softmax(last):
        return model, {}
    if not last.weights:
        return keras.Model(model.inputs, last.input), {}
    linear = type(last).from_config({**last.get_config(), "activation": "linear"})
    logits = keras.Model(model.inputs, linear(last.input))
    return logits, {id(new): old for new, old in zip(linear.variables, last.variables, strict=True)}


def ends_in_softmax(model: keras.Model) -> bool:
    """True if a functional or sequential model answers probabilities, so that its logits lie before its last operation."""
    last = model.outputs[0]._keras_history.operation
    return ends_in_softmax(last) if isinstance(last, keras.Model) else _is_softmax(last)


def _refuse_softmax_in_subclass(model: keras.Model) -> None:
    if model.layers and _is_softmax(model.layers[-1]):
        raise ValueError(
            f"the model {model.name!r} ends in the softmax layer {model.layers[-1].name!r}, but logits are needed and a "
            "subclassed model cannot be cut. Pass a model, or a callable, that returns the scores before the softmax."
        )


def _is_softmax(layer: Any) -> bool:
    return isinstance(layer, keras.layers.Softmax) or getattr(layer, "activation", None) is keras.activations.softmax


def _architecture(
    apply: Callable[..., Any], variables: Sequence[Any], image_shape: tuple[int, ...], owner: Any
) -> Architecture:
    weights = [tf.TensorSpec(tuple(variable.shape), variable.dtype) for variable in variables]
    images = tf.TensorSpec((2, *image_shape), tf.float32)
    traced = tf.function(apply, autograph=False).get_concrete_function(weights, images)
    logits = traced.structured_outputs
    if not isinstance(logits, tf.Tensor) or logits.shape.rank != 2 or logits.shape[0] != 2 or (logits.shape[1] or 0) < 2:
        received = logits.shape.as_list() if isinstance(logits, tf.Tensor) else type(logits).__name__
        raise ValueError(
            f"classifier must map images [2, {', '.join(map(str, image_shape))}] to logits [2, classes] with at least two "
            f"classes; received {received}."
        )
    identity = _digest(traced)
    if traced.captured_inputs:
        # Weights hidden inside: equal graphs may then hold different numbers.
        identity += f"/{id(owner)}"
    return Architecture(
        apply, int(logits.shape[1]), identity, convolves=_convolves(traced), bytes_per_image=_bytes_of_rows(traced) // 2
    )


def _convolves(traced: Any) -> bool:
    definition = traced.graph.as_graph_def()
    nodes = [definition.node, *(function.node_def for function in definition.library.function)]
    return any("Conv" in node.op for part in nodes for node in part)


def _bytes_of_rows(traced: Any) -> int:
    """Adds up the tensors of a graph that was traced for a batch of two, apart from constants and weights."""
    outputs = [
        tensor
        for operation in traced.graph.get_operations()
        if operation.type not in ("Const", "Placeholder", "ReadVariableOp")
        for tensor in operation.outputs
    ]
    return sum(tensor.shape.num_elements() * tensor.dtype.size for tensor in outputs if tensor.shape.num_elements())


def _digest(traced: Any) -> str:
    """Hashes a traced function by its operations and wiring, so that the names of layers do not matter."""
    definition = traced.graph.as_graph_def()
    position = {node.name: str(index) for index, node in enumerate(definition.node)}
    digest = hashlib.sha256(definition.library.SerializeToString(deterministic=True))
    for node in definition.node:
        renamed = type(node)()
        renamed.CopyFrom(node)
        renamed.name = position[node.name]
        for index, source in enumerate(node.input):
            name, colon, port = source.lstrip("^").partition(":")
            renamed.input[index] = position[name] + colon + port
        for private in [key for key in renamed.attr if key.startswith("_")]:
            del renamed.attr[private]
        digest.update(renamed.SerializeToString(deterministic=True))
    digest.update(",".join(position[tensor.op.name] for tensor in traced.outputs).encode())
    return digest.hexdigest()


def checked_classes(classes: Any, name: str, *, num_images: int, num_classes: int) -> tf.Tensor:
    """Returns one class for each image as int32 `[num_images]`, or tells what is wrong with them.

    Raises:
        TypeError: If they are not integers.
        ValueError: If there is not one for each image, or one that the classifier does not have.
    """
    classes = np.asarray(classes)
    if not np.issubdtype(classes.dtype, np.integer):
        raise TypeError(f"{name} must be integers; received {classes.dtype}.")
    if classes.shape != (num_images,):
        raise ValueError(f"{name} must have one class for each of the {num_images} images; received shape {classes.shape}.")
    if classes.min() < 0 or classes.max() >= num_classes:
        raise ValueError(
            f"{name} must lie in 0..{num_classes - 1}, the classes of the classifier; received values from {classes.min()} to "
            f"{classes.max()}."
        )
    return tf.constant(classes, tf.int32)
