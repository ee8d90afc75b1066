"""Checks of images, labels and outputs of the model before training begins."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from intriguing.models.functional import checked_classes, in_mode
from intriguing.training.losses import returns_probabilities

_NUM_PROBED = 32  # images whose outputs are checked
_FLAT_OUTPUTS = "End the model in a layer that returns one row of scores for each image, such as keras.layers.Dense."
_NUM_NAMED = 4  # maximum number of weights in one message
_ATOL_SUM = 1e-2  # for the sum of probabilities in half precision


def checked_labels(labels: Any, *, num_images: int, num_classes: int) -> tf.Tensor:
    """Returns one class for each image as int32 `[num_images]`.

    Raises:
        TypeError: If the labels are not integers.
        ValueError: If they are one-hot rows or a column, if there is not one for each image, or if a label is not a class.
    """
    labels = np.asarray(labels)
    check_labels_spec(labels.shape, labels.dtype, num_classes=num_classes)
    return checked_classes(labels, "labels", num_images=num_images, num_classes=num_classes)


def check_one_label_each(images: Any, labels: Any) -> None:
    """Raises a `ValueError` if labels in an array, or their rows, are not as many as the images."""
    shape = tuple(getattr(labels, "shape", ()))
    if shape and shape[0] != images.shape[0]:
        raise ValueError(
            f"labels must have one class for each of the {images.shape[0]} images; received shape {shape}. Pass the labels of "
            "these images."
        )


def check_labels_spec(shape: Sequence[int | None], dtype: Any, *, num_classes: int) -> None:
    """Checks the shape and dtype of labels, as `checked_labels` does."""
    if len(shape) == 2 and shape[1] == num_classes:
        raise ValueError(
            f"labels must be one class for each image, integers [images]; received shape {tuple(shape)}, as of one-hot rows. "
            "Pass labels.argmax(axis=-1)."
        )
    if len(shape) == 2 and shape[1] == 1:
        raise ValueError(
            f"labels must be one class for each image, integers [images]; received shape {tuple(shape)}. Pass labels[:, 0]."
        )
    if not tf.as_dtype(dtype).is_integer:
        raise TypeError(
            f"labels must be integers, the numbers of classes; received {tf.as_dtype(dtype).name}. Pass labels.astype('int32')."
        )


def check_images_shape(model: keras.Model, shape: Sequence[int | None]) -> None:
    """Raises a `ValueError` if images `[batch, ...]` have another shape than a model expects; unknown sizes match all."""
    expected = getattr(model, "input_shape", None)
    if not isinstance(expected, tuple):  # a subclassed model, or several inputs
        return
    fits = len(shape) == len(expected) and all(
        size is None or wanted is None or size == wanted for size, wanted in zip(shape[1:], expected[1:], strict=True)
    )
    if not fits:
        raise ValueError(
            f"images must have the shape {list(expected[1:])} that the model {model.name!r} expects, in batches; received "
            f"{list(shape)}."
        )


def check_classifier(model: keras.Model, images: Any) -> int:
    """Returns the number of classes of a model, and checks its outputs for some images.

    Args:
        model: A Keras model.
        images: `[n, ...]`; the first 32 are used.

    Raises:
        ValueError: If the outputs are not one score for each of at least two classes, if they are probabilities without a
            recognized softmax, so that the loss would treat them as logits, if the model is not built, or if a weight is not
            finite.
    """
    if not model.built:  # a call would fix the batch size of a Sequential model
        raise ValueError(f"the model {model.name!r} must be built before it is trained. Begin it with a keras.Input.")
    check_finite_weights(model)
    outputs = model(images[:_NUM_PROBED], **in_mode(model, training=False))
    num_classes = check_outputs(model, outputs)
    if not returns_probabilities(model) and _look_like_probabilities(outputs):
        raise ValueError(
            f"the model {model.name!r} must return logits or end in a softmax; received rows in [0, 1] that sum to 1, without "
            "a recognized softmax, so that the loss would treat them as logits. End the model in keras.layers.Softmax, or "
            "return logits."
        )
    return num_classes


def check_outputs(model: keras.Model, outputs: Any) -> int:
    """Returns the number of classes of a model from its outputs, which may be symbolic tensors.

    Raises:
        ValueError: If the outputs are not one score for each of at least two classes.
    """
    shape = getattr(outputs, "shape", None)
    if shape is None or len(shape) != 2 or shape[1] is None or shape[1] < 2:
        received = type(outputs).__name__ if shape is None else f"shape {[None, *shape[1:]]}"
        advice = "For two classes, use two outputs." if shape is not None and shape[1:] == (1,) else _FLAT_OUTPUTS
        raise ValueError(
            f"the model {model.name!r} must return one score for each of at least two classes, [batch, classes]; received "
            f"{received}. {advice}"
        )
    return int(shape[1])


def check_finite_weights(*models: keras.Model) -> None:
    """Raises a `ValueError` that lists the weights with NaN or infinite values, if there are any."""
    bad = dict.fromkeys(variable.path for model in models for variable in model.variables if not _is_finite(variable))
    if bad:
        raise ValueError(
            f"the weights of the model must be finite numbers; received NaN or infinite values in {listed(list(bad))}. "
            "Training has diverged, or the weights were invalid before. Load other weights, and train with a lower learning "
            "rate or with clipnorm."
        )


def _is_finite(variable: Any) -> bool:
    value = tf.convert_to_tensor(variable.value)
    return not value.dtype.is_floating or bool(tf.reduce_all(tf.math.is_finite(value)))


def listed(names: Sequence[str]) -> str:
    """Returns quoted names for a message; a long list is truncated."""
    quoted = [repr(name) for name in names[:_NUM_NAMED]]
    return ", ".join(quoted) + (f" and {len(names) - _NUM_NAMED} more" if len(names) > _NUM_NAMED else "")


def with_checked_labels(batches: tf.data.Dataset, *, num_classes: int) -> tf.data.Dataset:
    """Returns the same batches with a check: reading a batch raises an error if a label is not a class.

    The check runs in the input pipeline on the host, because accelerators and XLA do not check labels, and return a loss of
    NaN. Read the batches inside `raising_label_errors`. Batches that are not `(images, integer labels, ...)` are returned
    unchanged.
    """
    spec = batches.element_spec
    labeled = isinstance(spec, tuple) and len(spec) > 1 and isinstance(spec[1], tf.TensorSpec) and spec[1].dtype.is_integer

    def check(images: Any, labels: tf.Tensor, *rest: Any) -> tuple[Any, ...]:
        message = tf.strings.format(
            f"labels must lie in 0..{num_classes - 1}, the classes of the classifier; received values from {{}} to {{}} in a "
            "batch. Correct them, or build the classifier with an output for each class.",
            (tf.reduce_min(labels), tf.reduce_max(labels)),
        )
        with tf.control_dependencies([tf.Assert(tf.reduce_all((labels >= 0) & (labels < num_classes)), [message])]):
            return (images, tf.identity(labels), *rest)

    return batches.map(check) if labeled else batches


@contextlib.contextmanager
def raising_label_errors() -> Iterator[None]:
    """Raises the error of `with_checked_labels`, which TensorFlow wraps, as a `ValueError`."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found = re.search(r"labels must lie in .*? for each class\.", str(error), re.DOTALL)
        if found is None:
            raise
        raise ValueError(found[0]) from error


def _look_like_probabilities(outputs: Any) -> bool:
    """Returns True if all rows `[batch, classes]` lie in [0, 1] and sum to 1."""
    rows = np.asarray(tf.cast(outputs, tf.float32), np.float64)
    return bool(np.all((rows >= 0.0) & (rows <= 1.0)) and np.all(np.abs(rows.sum(axis=1) - 1.0) < _ATOL_SUM))


def checked_batches(model: keras.Model, batches: tf.data.Dataset) -> tuple[tf.data.Dataset, tf.Tensor]:
    """Checks the first batch `(images, labels)`; returns the batches with checked labels, and the images of the first."""
    spec = batches.element_spec
    if not (isinstance(spec, tuple) and len(spec) == 2 and all(isinstance(part, tf.TensorSpec) for part in spec)):
        raise ValueError(f"batches must be pairs (images, labels); received {spec}. Map them to pairs.")
    check_images_shape(model, spec[0].shape)
    images, labels = next(iter(batches.take(1)))
    num_classes = check_classifier(model, images)
    checked_labels(labels, num_images=len(images), num_classes=num_classes)
    return with_checked_labels(batches, num_classes=num_classes), images
