"""Any classifier as a pure function from weights and images to logits.

Weights are passed as tensors for two reasons: networks of one architecture share one compiled program, and the program runs
under every strategy, where compiled functions with variables fail.
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
"""From images `[batch, ...]` to logits `[batch, classes]`, in inference mode, such as a Keras model."""

SCORES = ("logits", "logarithms", "outputs")
_MOST_KEPT = 64  # maximum number of cached architectures; the least recently used is removed first


class Architecture:
    """The computation of a classifier, without its weights. Equal architectures compute equal scores from equal weights.

    Attributes:
        apply: Pure function `(weights, images [batch, ...]) -> scores float32 [batch, classes]`.
        num_classes: The number of scores.
        num_outputs: The number of outputs of the classifier: 1 if a single output separates two classes.
        cuts: True if a final softmax, sigmoid or other saturating function was removed.
        threshold: For a single output, the value above which class 1 is predicted: 0.5 for a probability, 0 for a logit. None
            if its operations do not determine it, as in a SavedModel, and for several outputs; see `is_probability`.
        batch_size: Number of images in each call; None for any number.
        rounding: Unit roundoff of the lowest precision that the classifier computes in: 2**-24, 2**-11 or 2**-8.
        keeps_variables: True if it reads variables that are not among the weights.
        convolves: True if it contains a convolution.
        compiles: True if XLA compiles it and its gradient.
        draws_random_numbers: True if its outputs depend on an operation that may draw random numbers.
        bytes_per_image: Memory of all tensors that depend on one image, which are kept for the gradient.
        is_portable: True if its identity and its graph are valid in another process.
        identity: A text that is equal for equal architectures.
    """

    def __init__(
        self,
        apply: Callable[[Sequence[tf.Tensor], tf.Tensor], tf.Tensor],
        traced: Trace,
        identity: str,
        owned: tuple[list[Any], Any],
        compiles: bool = True,
    ):
        """Stores the properties of a trace."""
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
        self._owned = owned  # kept alive: the identity contains addresses of these variables, which must not be reused

    def __eq__(self, other: object) -> bool:
        """Compares the computations, not the objects."""
        return isinstance(other, Architecture) and self.identity == other.identity

    def __hash__(self) -> int:
        """Returns a hash that is equal for equal architectures."""
        return hash(self.identity)

    @property
    def jit_compile(self) -> bool:
        """Whether to compile loops that evaluate this classifier with XLA, on the devices of the current strategy."""
        return self.compiles and compile_for_loops(self.convolves)

    def is_probability(self, outputs: tf.Tensor) -> bool:
        """Returns True if a single output `[batch, 1]` is a probability, by its operations or, if unknown, by its values.

        Args:
            outputs: The outputs of the classifier itself for all images; rows that are not finite are ignored.
        """
        return in_unit_interval(outputs) if self.threshold is None else self.threshold == OF_PROBABILITY

    def one_part_after_another(self, num_rows: int) -> Architecture:
        """Returns an architecture that processes `num_rows` images at a time: slower on accelerators, with less memory."""
        parts = object.__new__(Architecture)
        parts.__dict__.update(self.__dict__)
        parts.apply = functools.partial(_in_parts, self.apply, num_rows, self.num_classes)
        return parts


def in_unit_interval(outputs: tf.Tensor) -> bool:
    """Returns True if all finite outputs lie in [0, 1]."""
    return bool(tf.reduce_all(((outputs >= 0.0) & (outputs <= 1.0)) | ~tf.math.is_finite(outputs)))


_architectures: OrderedDict[str, Architecture] = OrderedDict()


def split_weights(
    classifier: Classifier, image_shape: Sequence[int], *, scores: str = "logits"
) -> tuple[Architecture, list[tf.Tensor]]:
    """Separates the computation of a classifier from its current weights.

    The classifier is traced at every call, so that changes of layers, activation functions or Python attributes take effect.
    Only the weights of a Keras model are separated. Other variables, such as a `tf.Variable` of a callable, remain part of the
    computation.

    Args:
        classifier: A Keras model, or any callable from images to outputs `[batch, classes]`, or `[batch, 1]` for two classes.
        image_shape: The shape of one image.
        scores: "logits": a final softmax or sigmoid is removed, and a single output becomes the logits 0 and z of two classes;
            a probability whose sigmoid cannot be removed is replaced by its logarithm. "logarithms": the logarithms of outputs
            that are probabilities. "outputs": the outputs themselves, for features.

    Returns:
        The `Architecture`, and the weights in the order that `apply` expects.

    Raises:
        ValueError: If the output is not `[batch, classes]`, or the classifier does not accept images of this shape.
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
    """Applies a function to `num_rows` images at a time; the last part is padded with zeros."""
    num_images = images.shape[0]
    missing = -num_images % num_rows
    filled = tf.pad(images, [[0, missing], *[[0, 0]] * (images.shape.rank - 1)]) if missing else images
    parts = tf.reshape(filled, [-1, num_rows, *images.shape[1:]])
    of_part = functools.partial(apply, weights)
    scores = tf.map_fn(of_part, parts, fn_output_signature=tf.float32, parallel_iterations=1)
    return tf.reshape(scores, [num_images + missing, num_classes])[:num_images]


def _build(classifier: Classifier, shape: tuple[int, ...]) -> None:
    """Creates the weights of a model that is not built, as its first call would, without fixing its batch size."""
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
    """Returns a text that identifies a computation, and the resources whose addresses the text contains.

    Graphs are compared by their operations, separated weights by their position, constants by their values, and other variables
    by their address.
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
    """Returns the values of Keras variables as plain tensors."""
    return [tf.convert_to_tensor(variable.value) for variable in variables]


def in_mode(model: keras.Model, *, training: bool) -> dict[str, bool]:
    """Returns the `training` argument for `stateless_call`; no argument if the `call` of the model does not take it."""
    return {"training": training} if inference_mode(model.call) else {}


def checked_classes(classes: Any, name: str, *, num_images: int, num_classes: int) -> tf.Tensor:
    """Returns one class for each image as int32 `[num_images]`.

    Args:
        classes: Integers `[num_images]`, one integer for all images, or one-hot rows `[num_images, num_classes]`.
        name: The name of the argument in messages.
        num_images: The number of images.
        num_classes: The number of classes.

    Raises:
        TypeError: If they are not integers.
        ValueError: If there is not one class for each image, or if the classifier does not have a class.
    """
    numbers, num_columns = integer_classes(classes, name, num_images=num_images)
    if num_columns not in (None, num_classes):
        raise ValueError(
            f"one-hot {name} must have {num_classes} columns, one for each class of the classifier; received {num_columns}."
        )
    if numbers.min() < 0 or numbers.max() >= num_classes:
        raise ValueError(
            f"{name} must lie in 0..{num_classes - 1}, the classes of the classifier; received values from {numbers.min()} to "
            f"{numbers.max()}."
        )
    return tf.constant(numbers, tf.int32)


def integer_classes(classes: Any, name: str, *, num_images: int) -> tuple[np.ndarray, int | None]:
    """Returns one integer for each image, `[num_images]`, and the number of columns of one-hot rows, otherwise None.

    The arguments and the errors are those of `checked_classes`, except that any number of classes is accepted.
    """
    classes, num_columns = _as_array(classes, name), None
    if _are_one_hot(classes):
        classes, num_columns = classes.argmax(axis=1), classes.shape[1]
    if not np.issubdtype(classes.dtype, np.integer):
        raise TypeError(f"{name} must be integers; received {classes.dtype}.")
    if classes.shape in ((), (num_images, 1)):
        classes = np.broadcast_to(classes.reshape(-1), (num_images,))
    if classes.shape != (num_images,):
        raise ValueError(f"{name} must have one class for each of the {num_images} images; received shape {classes.shape}.")
    return classes, num_columns


def _as_array(classes: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(classes)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be integers, one for each image; received a {type(classes).__name__}.") from error
    if array.dtype == object or array.dtype.kind in "USO":
        raise TypeError(f"{name} must be integers, one for each image; received {array.dtype} values.")
    return array


def _are_one_hot(rows: np.ndarray) -> bool:
    if rows.ndim != 2 or rows.shape[1] < 2:
        return False
    return bool(np.all((rows == 0) | (rows == 1)) and np.all(rows.sum(axis=1) == 1))
