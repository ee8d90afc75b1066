"""Any classifier as a pure function from weights and images to logits.

Weights that travel as tensors serve twice: networks of one architecture share one compiled program, and that program runs
under every strategy, where variables inside a compiled function would not.
"""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from intriguing.distribution.compilation import compile_for_loops
from intriguing.models.graph_digest import digest
from intriguing.models.single_output import OF_PROBABILITY
from intriguing.models.traced_classifier import Trace, inference_call, inference_mode, trace
from intriguing.models.xla_support import compiles

Classifier = Callable[[tf.Tensor], tf.Tensor]
"""From images `[batch, ...]` to logits `[batch, classes]`, in inference mode; a Keras model is one."""

SCORES = ("logits", "logarithms", "outputs")
_MOST_KEPT = 64  # architectures whose function is kept, the oldest forgotten first


class Architecture:
    """What a classifier computes, apart from its weights. Two are equal if they compute the same from the same weights.

    Attributes:
        apply: Pure function `(weights, images [batch, ...]) -> scores float32 [batch, classes]`.
        num_classes: The number of scores.
        num_outputs: The number of outputs of the classifier: 1 where one output decides between two classes.
        cuts: True if a softmax, sigmoid or another function that flattens was left out at the end.
        threshold: Of one output, the value above which class 1 is predicted: 0.5 for a probability, 0 for a logit. None if its
            operations do not tell, as those of a SavedModel, and for several outputs; see `is_probability`.
        batch_size: Images that it takes at once; None for any number.
        rounding: Unit roundoff of the lowest precision that the classifier computes in: 2**-24, 2**-11 or 2**-8.
        keeps_variables: True if it reads variables that are not among the weights.
        convolves: True if there is a convolution in it.
        compiles: True if XLA compiles it and its gradient.
        draws_random_numbers: True if its outputs depend on an operation that may draw random numbers.
        bytes_per_image: What all its tensors take that depend on one image, and stay in memory until its gradient is known.
        is_portable: True if its identity and its graph mean the same in another process.
        identity: A text that equal architectures have in common.
    """

    def __init__(
        self,
        apply: Callable[[Sequence[tf.Tensor], tf.Tensor], tf.Tensor],
        traced: Trace,
        identity: str,
        owned: tuple[list[Any], Any],
        compiles: bool = True,
    ):
        """Stores what a trace found."""
        self.apply = apply
        self.num_outputs = traced.num_outputs
        self.num_classes = int(traced.function.structured_outputs.shape[1])
        self.cuts = traced.cuts
        self.threshold = traced.threshold
        self.batch_size = traced.batch_size
        self.rounding = traced.rounding
        self.convolves = traced.convolves
        self.compiles = compiles
        self.draws_random_numbers = traced.draws_random_numbers
        self.bytes_per_image = traced.bytes_per_image
        self.keeps_variables = bool(owned[0])
        self.is_portable = not self.keeps_variables and not traced.calls_python
        self.identity = identity
        self._owned = owned  # variables that the identity names by their address, which must not be given to others

    def __eq__(self, other: object) -> bool:
        """Compares the computations, not the objects."""
        return isinstance(other, Architecture) and self.identity == other.identity

    def __hash__(self) -> int:
        """Agrees with `==`."""
        return hash(self.identity)

    @property
    def jit_compile(self) -> bool:
        """Whether a program whose loops evaluate this classifier is to be compiled with XLA, on the devices of the strategy."""
        return self.compiles and compile_for_loops(self.convolves)

    def is_probability(self, outputs: tf.Tensor) -> bool:
        """Whether one output `[batch, 1]` is a probability; where its operations do not tell, it is if all lie in [0, 1].

        Args:
            outputs: What the classifier itself returns for all images; rows that are not finite do not count.
        """
        return in_unit_interval(outputs) if self.threshold is None else self.threshold == OF_PROBABILITY

    def one_part_after_another(self, num_rows: int) -> Architecture:
        """Returns what computes the same, on parts of `num_rows` images in turn: slower on an accelerator, in less memory."""
        parts = object.__new__(Architecture)
        parts.__dict__.update(self.__dict__)
        parts.apply = functools.partial(_in_parts, self.apply, num_rows, self.num_classes)
        return parts


def in_unit_interval(outputs: tf.Tensor) -> bool:
    """Returns whether all outputs that are finite lie in [0, 1]."""
    return bool(tf.reduce_all(((outputs >= 0.0) & (outputs <= 1.0)) | ~tf.math.is_finite(outputs)))


_architectures: OrderedDict[str, Architecture] = OrderedDict()


def split_weights(
    classifier: Classifier, image_shape: Sequence[int], *, scores: str = "logits"
) -> tuple[Architecture, list[tf.Tensor]]:
    """Separates what a classifier computes from the weights it computes with, at this moment.

    The classifier is traced at every call, so that a replaced layer, activation function or Python attribute counts. Weights of
    a Keras model are separated. Whatever else it reads, such as a `tf.Variable` of a callable, stays inside.

    Args:
        classifier: A Keras model, or any callable from images to outputs `[batch, classes]`, or `[batch, 1]` for two classes.
        image_shape: The shape of one image.
        scores: "logits": a softmax or sigmoid at the end is left out, and one output becomes the logits 0 and z of two classes;
            a probability whose sigmoid cannot be left out is taken by its logarithm.
            "logarithms": of outputs that are probabilities. "outputs": as they are, for features.

    Returns:
        The `Architecture`, and the weights in the order that `apply` expects.

    Raises:
        ValueError: If the output is not `[batch, classes]`, or the classifier does not take such images.
        TypeError: If `classifier` is not callable, or does not compute with TensorFlow.

    Example:
        >>> architecture, weights = split_weights(model, (6, 6, 1))
        >>> architecture.apply(weights, tf.constant(images)).shape
        TensorShape([200, 10])
    """
    if not callable(classifier):
        raise TypeError(
            f"classifier must be a Keras model or a callable from images to logits; received {classifier!r}. Load a file with "
            "intriguing.models.load_model."
        )
    shape = tuple(int(size) for size in image_shape)
    _build(classifier, shape)
    traced = trace(classifier, shape, scores=scores)
    variables = [] if traced.calls_functions else _read_variables(classifier, traced)
    identity, owned = _identify(traced, variables)
    if identity not in _architectures:
        _architectures[identity] = _architecture(classifier, shape, scores, traced, variables, identity, owned)
        if len(_architectures) > _MOST_KEPT:
            _architectures.popitem(last=False)
    _architectures.move_to_end(identity)
    return _architectures[identity], values_of(variables)


def _architecture(
    classifier: Classifier,
    shape: tuple[int, ...],
    scores: str,
    traced: Trace,
    variables: list[Any],
    identity: str,
    owned: tuple[list[Any], Any],
) -> Architecture:
    if variables:
        traced = trace(classifier, shape, scores=scores, variables=variables)
    function, num_classes = traced.function, int(traced.function.structured_outputs.shape[1])

    def apply(weights: Sequence[tf.Tensor], images: tf.Tensor) -> tf.Tensor:
        found = function(list(weights), images) if variables else function(images)
        return tf.ensure_shape(found, [images.shape[0], num_classes])

    if traced.batch_size is not None:
        apply = functools.partial(_in_parts, apply, traced.batch_size, num_classes)
    specifications = [tf.TensorSpec(tuple(variable.shape), variable.dtype) for variable in variables]
    return Architecture(apply, traced, identity, owned, compiles(traced.operations, apply, specifications, shape))


def _in_parts(
    apply: Callable[..., tf.Tensor], num_rows: int, num_classes: int, weights: Sequence[tf.Tensor], images: tf.Tensor
) -> tf.Tensor:
    """Applies a function to `num_rows` images at a time; the last part is filled up with zeros."""
    num_images = images.shape[0]
    missing = -num_images % num_rows
    filled = tf.pad(images, [[0, missing], *[[0, 0]] * (images.shape.rank - 1)]) if missing else images
    parts = tf.reshape(filled, [-1, num_rows, *images.shape[1:]])
    of_part = functools.partial(apply, weights)
    scores = tf.map_fn(of_part, parts, fn_output_signature=tf.float32, parallel_iterations=1)
    return tf.reshape(scores, [num_images + missing, num_classes])[:num_images]


def _build(classifier: Classifier, shape: tuple[int, ...]) -> None:
    """Creates the weights of a model that has none yet, as its first call would, without fixing its batch size."""
    if not isinstance(classifier, keras.Model) or classifier.built:
        return
    if isinstance(classifier, keras.Sequential):
        classifier.build((None, *shape))
    else:
        inference_call(classifier)(tf.zeros((1, *shape)))


def _read_variables(classifier: Classifier, traced: Trace) -> list[Any]:
    """Returns the Keras variables of a model that the trace reads."""
    if not isinstance(classifier, keras.Layer):
        return []
    captured = {id(handle) for handle, _ in traced.function.graph.captures}
    return [variable for variable in classifier.variables if any(id(handle) in captured for handle in _handles_of(variable))]


def _handles_of(variable: Any) -> list[Any]:
    """Returns the resources of a Keras variable, one for each replica under a strategy."""
    value = variable.value
    return [getattr(part, "handle", None) for part in getattr(value, "values", (value,))]


def _identify(traced: Trace, variables: Iterable[Any]) -> tuple[str, tuple[list[Any], Any]]:
    """Returns what tells a computation from others, and the resources it names by their address.

    Graphs are equal by their operations, separated weights by their place, constants by their content, and variables that stay
    inside by being the same.
    """
    place = {
        id(handle): f"weight {index} {variable.dtype} {tuple(variable.shape)}"
        for index, variable in enumerate(variables)
        for handle in _handles_of(variable)
    }
    owned, parts = [], [digest(traced.function)]
    for value, _ in traced.function.graph.captures:
        if id(value) in place:
            parts.append(place[id(value)])
        elif value.dtype in (tf.resource, tf.variant):
            owned.append(value)
            parts.append(f"variable {id(value)}")
        else:
            content = hashlib.sha256(np.ascontiguousarray(np.asarray(value)).tobytes())
            parts.append(f"constant {value.dtype.name} {value.shape} {content.hexdigest()}")
    return "/".join(parts), (owned, traced.function)


def values_of(variables: Iterable[Any]) -> list[tf.Tensor]:
    """Returns what Keras variables hold, as plain tensors."""
    return [tf.convert_to_tensor(variable.value) for variable in variables]


def in_mode(model: keras.Model, *, training: bool) -> dict[str, bool]:
    """Returns the argument that puts `stateless_call` into a mode: none for a model whose `call` knows no `training`."""
    return {"training": training} if inference_mode(model.call) else {}


def checked_classes(classes: Any, name: str, *, num_images: int, num_classes: int) -> tf.Tensor:
    """Returns one class for each image as int32 `[num_images]`.

    Args:
        classes: Integers `[num_images]`, one integer for all images, or one-hot rows `[num_images, num_classes]`.
        name: What the messages call them.
        num_images: The number of images.
        num_classes: The number of classes.

    Raises:
        TypeError: If they are not integers.
        ValueError: If there is not one for each image, or one that the classifier does not have.
    """
    classes = _as_array(classes, name)
    if classes.shape == (num_images, num_classes) and _are_one_hot(classes):
        classes = classes.argmax(axis=1)
    if not np.issubdtype(classes.dtype, np.integer):
        raise TypeError(f"{name} must be integers; received {classes.dtype}.")
    if classes.shape in ((), (num_images, 1)):
        classes = np.broadcast_to(classes.reshape(-1), (num_images,))
    if classes.shape != (num_images,):
        raise ValueError(f"{name} must have one class for each of the {num_images} images; received shape {classes.shape}.")
    if classes.min() < 0 or classes.max() >= num_classes:
        raise ValueError(
            f"{name} must lie in 0..{num_classes - 1}, the classes of the classifier; received values from {classes.min()} to "
            f"{classes.max()}."
        )
    return tf.constant(classes, tf.int32)


def _as_array(classes: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(classes)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be integers, one for each image; received a {type(classes).__name__}.") from error
    if array.dtype == object or array.dtype.kind in "USO":
        raise TypeError(f"{name} must be integers, one for each image; received {array.dtype} values.")
    return array


def _are_one_hot(rows: np.ndarray) -> bool:
    return bool(np.all((rows == 0) | (rows == 1)) and np.all(rows.sum(axis=1) == 1))
