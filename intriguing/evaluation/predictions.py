"""Predictions of a classifier, in batches of fixed size, under any strategy."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import tensorflow as tf

from intriguing.distribution.map_rows import run_on_rows
from intriguing.models.functional import Architecture, Classifier, split_weights
from intriguing.models.single_output import AMBIGUOUS, OF_LOGIT, OF_PROBABILITY
from intriguing.pixels import PixelBox, as_tensor, checked_images

NO_CLASS = -1  # where the classifier returns NaN


def predict(classifier: Classifier, images: Any, *, batch_size: int = 1000) -> tf.Tensor:
    """Returns the class with the largest logit for every image.

    Args:
        classifier: As in `minimize_distortion`, including classifiers with a single output.
        images: Floating `[n, ...]`, array or tensor; any number of them, in memory.
        batch_size: Number of images evaluated at a time; the last batch is padded, so that one compiled program suffices.

    Returns:
        Int32 `[n]`; `NO_CLASS`, -1, where the classifier returns NaN.

    Raises:
        TypeError: If the images are not floating point, or the classifier does not compute with TensorFlow.
        ValueError: If the classifier does not accept images of this shape, a pixel is NaN or infinite, the classifier returns
            NaN for every image, or `batch_size` is not positive.

    Example:
        >>> bool(tf.reduce_all(predict(model, images) == labels))
        True
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be a positive integer; received {batch_size!r}.")
    images = as_tensor(images)
    if images.shape.rank and images.shape[0] == 0:
        return tf.zeros([0], tf.int32)
    images = checked_images(images, PixelBox(float("-inf"), float("inf")))
    batch_size = min(batch_size, images.shape[0])
    architecture, weights = split_weights(classifier, images.shape[1:])
    if architecture.num_outputs == 1 and architecture.threshold is None:
        outputs, weights = split_weights(classifier, images.shape[1:], scores="outputs")
        predictions = _by_values(architecture, _on_batches(outputs, weights, images, batch_size, _values)[:, 0])
    else:
        predictions = _on_batches(architecture, weights, images, batch_size, _predicted_classes)
    if bool(tf.reduce_all(predictions == NO_CLASS)):
        raise ValueError(
            "the classifier returns NaN for every image. Check its weights, for example with [weight.path for weight in "
            "model.weights if not np.isfinite(weight).all()], and the scale of the images."
        )
    return predictions


def _by_values(architecture: Architecture, outputs: tf.Tensor) -> tf.Tensor:
    threshold = OF_LOGIT
    if architecture.is_probability(outputs):
        warnings.warn(AMBIGUOUS, stacklevel=3)
        threshold = OF_PROBABILITY
    return tf.where(tf.math.is_nan(outputs), NO_CLASS, tf.cast(outputs > threshold, tf.int32))


def _on_batches(
    architecture: Architecture, weights: list[tf.Tensor], images: tf.Tensor, batch_size: int, function: Any
) -> tf.Tensor:
    program = _compiled(architecture, function)
    num_images = images.shape[0]
    parts = []
    for begin in range(0, num_images, batch_size):
        rows = tf.minimum(tf.range(begin, begin + batch_size), num_images - 1)
        parts.append(run_on_rows(program, weights, tf.gather(images, rows), bytes_per_row=architecture.bytes_per_image))
    return tf.concat(parts, axis=0)[:num_images]


@functools.lru_cache(maxsize=64)
def _compiled(architecture: Architecture, function: Any) -> Any:
    return tf.function(functools.partial(function, architecture), jit_compile=architecture.compiles, autograph=False)


def _predicted_classes(architecture: Architecture, weights: list[tf.Tensor], images: tf.Tensor) -> tf.Tensor:
    logits = architecture.apply(weights, images)
    known = ~tf.reduce_any(tf.math.is_nan(logits), axis=1)
    return tf.where(known, tf.argmax(logits, axis=1, output_type=tf.int32), NO_CLASS)


def _values(architecture: Architecture, weights: list[tf.Tensor], images: tf.Tensor) -> tf.Tensor:
    return architecture.apply(weights, images)
