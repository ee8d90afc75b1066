"""What a classifier answers, in fixed batches, under any strategy."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from intriguing.accelerators import run_on_rows
from intriguing.models.logits import Architecture, Classifier, split_weights


def predict(classifier: Classifier, images: tf.Tensor, *, batch_size: int = 1000) -> tf.Tensor:
    """Returns the class with the largest logit for every image.

    Args:
        classifier: A Keras model, or a callable from images to logits.
        images: Float32 `[n, ...]`; any number of them, in memory.
        batch_size: Images evaluated at once; the last batch is filled up, so that one program serves all.

    Returns:
        Int32 `[n]`.
    """
    num_images = int(images.shape[0])
    if not num_images:
        return tf.zeros([0], tf.int32)
    batch_size = min(batch_size, num_images)
    architecture, weights = split_weights(classifier, images.shape[1:])
    program = _compiled_answers(architecture)
    answers = []
    for begin in range(0, num_images, batch_size):
        rows = tf.minimum(tf.range(begin, begin + batch_size), num_images - 1)
        answers.append(run_on_rows(program, weights, tf.gather(images, rows), bytes_per_row=architecture.bytes_per_image))
    return tf.concat(answers, axis=0)[:num_images]


@functools.lru_cache(maxsize=64)
def _compiled_answers(architecture: Architecture) -> Any:
    return tf.function(functools.partial(_answers, architecture), jit_compile=True, autograph=False)


def _answers(architecture: Architecture, weights: list[tf.Tensor], images: tf.Tensor) -> tf.Tensor:
    return tf.argmax(architecture.apply(weights, images), axis=1, output_type=tf.int32)
