"""Passes over images that compute features, and the combination of their results."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from intriguing.distribution.map_rows import run_on_rows
from intriguing.distribution.strategy import num_replicas
from intriguing.models.functional import Architecture, Classifier, split_weights
from intriguing.units.example_batches import Examples, ExampleSource, as_examples, read

# Number of images at a time on a replica, independent of the batches of the data, so that rounding of sums is reproducible.
# It is smaller for large images, which are evaluated in even smaller parts: few of them suffice for all cores, and the
# activations of each take much memory.
_ROWS, _ROWS_OF_LARGE_IMAGES, _LARGE_IMAGE = 1024, 64, 16_384
_LARGE_IMAGES_AT_A_TIME = 16
PILOT = 256  # maximum number of first images that determine centers and bins
_NO_GROUP = -1  # the group of a padding row

Chunk = tuple[tf.Tensor, tf.Tensor, tf.Tensor]
"""Images, groups, and the positions of the examples in the data."""


def opened(
    features: Classifier, examples: ExampleSource, *, num_groups: int | None = None
) -> tuple[Architecture, list[tf.Tensor], Chunk, Iterator[Chunk]]:
    """Returns the architecture and the weights of the features, the first chunk of the images, and an iterator of the others.

    Raises:
        TypeError: If the images are not floating point, or can be iterated only once.
        ValueError: If the images have no fixed shape, or there are none. The iterator raises it if a group is not in `[-1,
            num_groups)`.
    """
    examples = as_examples(examples, features)
    image_shape = examples.image_shape
    architecture, weights = split_weights(features, image_shape, scores="outputs")
    large = image_shape.num_elements() > _LARGE_IMAGE
    if large:
        architecture = architecture.one_part_after_another(_LARGE_IMAGES_AT_A_TIME)
    chunks = _chunks(examples, _ROWS_OF_LARGE_IMAGES if large else _ROWS, num_groups)
    first = next(chunks, None)
    if first is None:
        raise ValueError("examples must hold at least one image; received none.")
    return architecture, weights, first, chunks


def _chunks(examples: Examples, rows_of_replica: int, num_groups: int | None) -> Iterator[Chunk]:
    """Yields the images in chunks of one shape; the last one is padded."""
    rows = num_replicas() * rows_of_replica
    place = 0
    for images, groups in read(examples, rows, num_groups=num_groups):
        missing = rows - images.shape[0]
        if missing:
            images = tf.pad(images, [[0, missing], *([[0, 0]] * (images.shape.rank - 1))])
            groups = tf.pad(groups, [[0, missing]], constant_values=_NO_GROUP)
        yield images, groups, tf.range(place, place + rows)
        place += rows


def kept_features(features: Classifier, examples: ExampleSource, units: tf.Tensor) -> tf.data.Dataset:
    """Computes some features of all images in one pass, and stores them in memory for several passes.

    Args:
        features: As in `record_directions`.
        examples: As in `record_directions`.
        units: Int32 `[units]`, the indices of the features.

    Returns:
        A data set of batches `(features [batch, units], groups [batch])`, in the order of the examples.
    """
    architecture, weights, first, chunks = opened(features, examples)
    program = _compiled_features(architecture, architecture.jit_compile)
    kept = [(run_on_rows(program, (weights, units), images), groups) for images, groups, _ in itertools.chain([first], chunks)]
    every = tuple(tf.concat(parts, axis=0) for parts in zip(*kept, strict=True))
    return tf.data.Dataset.from_tensor_slices(every).batch(_ROWS)


@functools.lru_cache(maxsize=32)
def _compiled_features(architecture: Architecture, jit_compile: bool) -> Any:
    return tf.function(functools.partial(_features_of_rows, architecture), jit_compile=jit_compile, autograph=False)


def _features_of_rows(architecture: Architecture, shared: tuple[list[tf.Tensor], tf.Tensor], images: tf.Tensor) -> tf.Tensor:
    weights, units = shared
    return tf.gather(architecture.apply(weights, images), units, axis=1)


def with_parts(total: Any, parts: Any) -> Any:
    """Prepends a total to further parts, `[parts, ...]`."""
    return tf.nest.map_structure(lambda one, more: tf.concat([one[tf.newaxis], more], axis=0), total, parts)


def check_finite(sums: tf.Tensor) -> None:
    """Raises a `ValueError` if sums of the features, `[features]`, are not finite."""
    finite = tf.math.is_finite(sums)
    if not bool(tf.reduce_all(finite)):
        raise ValueError(
            f"features must be finite; {int(tf.math.count_nonzero(~finite))} of {finite.shape[0]} are not for some image. "
            "Check that the training has converged, and that the images are scaled as the network expects."
        )
