"""Batches of images with their groups, from arrays or from data sets of batches or single images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from intriguing.units.attributes import class_numbers

_ROWS = 256  # batch size for arrays and single images

ExampleSource = Any
"""A `tf.data.Dataset` or arrays, of `(images, groups)` or of images alone.

The images are floating point `[batch, ...]`, or single images of a data set. The groups are integers `[batch]`, -1 for a
padding row, or one-hot rows.
"""


class Examples(NamedTuple):
    """Images in batches, which can be iterated several times."""

    batches: tf.data.Dataset  # of (images, groups) or of images
    image_shape: tf.TensorShape
    groups: np.ndarray | None  # [images], those of `batches`, padding rows excluded; None if they are not known


def as_examples(examples: ExampleSource, features: Any, *, groups: np.ndarray | None = None) -> Examples:
    """Returns images in batches.

    Args:
        examples: An `ExampleSource`, or `Examples`, which are returned unchanged.
        features: The model that computes features. The input shape of a Keras model distinguishes single images from batches.
        groups: The groups `[images]`: those of `examples` without groups; otherwise, `read` compares them with its groups.

    Raises:
        TypeError: If the images are not floating point, or `examples` can be iterated only once.
        ValueError: If the data set is infinite, or if shapes do not match.
    """
    if isinstance(examples, Examples):
        return examples
    expected = _expected_shape(features)
    if isinstance(examples, tf.data.Dataset):
        batches = _in_batches(examples, expected)
    else:
        batches = _sliced(examples, expected)
    images = _parts_of(batches)[0]
    if not images.dtype.is_floating:
        raise TypeError(
            f"images must be floating point, on the scale that the network expects; received {images.dtype.name}. Scale bytes "
            "for a network of pixels in [0, 1]: images / 255. For one that scales them itself, cast them to float32."
        )
    image_shape = images.shape[1:]
    if not image_shape.is_fully_defined():
        raise ValueError(
            f"images must have one fixed shape; received {image_shape}. Resize them, or set it with tf.ensure_shape."
        )
    return Examples(batches, image_shape, groups)


def read(examples: Examples, rows: int, *, num_groups: int | None = None) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    """Yields images, float32 `[rows, ...]`, and their groups, int32 `[rows]`; the last batch may be smaller.

    Raises:
        TypeError: If groups are not integers.
        ValueError: If a group does not lie in `[-1, num_groups)`, or differs from `examples.groups`, or there is not one group
            for each image.
    """
    alone = not has_groups(examples)
    place = 0
    for element in examples.batches.rebatch(rows).prefetch(1):
        images = element if alone else element[0]
        groups = _groups_at(examples, place, images.shape[0]) if alone else np.asarray(element[1])
        groups = _checked_groups(groups, images.shape[0], num_groups)
        valid = np.asarray(groups)[np.asarray(groups) >= 0]
        if examples.groups is not None:
            _check_same_groups(valid, _groups_at(examples, place, len(valid)), place)
        yield tf.cast(images, tf.float32), groups
        place += len(valid)


def has_groups(examples: Examples) -> bool:
    """Returns True if the batches contain images and groups."""
    return len(_parts_of(examples.batches)) == 2


def check_grouped(examples: Examples, num_groups: int) -> None:
    """Raises a `ValueError` if there are several groups, but the examples contain no groups."""
    if num_groups > 1 and examples.groups is None and not has_groups(examples):
        raise ValueError(
            f"examples must be (images, groups), with one of the {num_groups} groups for each image; received only images."
        )


def _groups_at(examples: Examples, place: int, number: int) -> np.ndarray:
    if examples.groups is None:
        return np.zeros(number, np.int32)
    if place + number > len(examples.groups):
        raise ValueError(
            f"there must be one group for each image; received {len(examples.groups)} groups for more images. Pass the "
            "attributes of these images."
        )
    return examples.groups[place : place + number]


def _check_same_groups(received: np.ndarray, expected: np.ndarray, place: int) -> None:
    different = np.flatnonzero(received != expected)
    if different.size:
        first = different[0]
        raise ValueError(
            f"the groups of the examples must be attributes.groups; received {received[first]} instead of {expected[first]} "
            f"for image {place + first}. Pass the images alone, or the attributes of these images in their order."
        )


def _checked_groups(groups: np.ndarray, num_images: int, num_groups: int | None) -> tf.Tensor:
    numbers = class_numbers(groups, "groups", num_classes=num_groups)
    if numbers.shape != (num_images,):
        raise ValueError(f"groups must be one integer for each of {num_images} images; received shape {numbers.shape}.")
    if numbers.min() < -1 or (num_groups is not None and numbers.max() >= num_groups):
        upper = "" if num_groups is None else f" to {num_groups - 1}, one for each of the {num_groups} groups"
        raise ValueError(
            f"groups must be numbers from 0{upper}, or -1 for padding rows; received values from {numbers.min()} to "
            f"{numbers.max()}."
        )
    return tf.constant(numbers)


def _expected_shape(features: Any) -> tf.TensorShape | None:
    """Returns the shape of one image if a model has an input shape."""
    shape = getattr(features, "input_shape", None) if isinstance(features, keras.Model) else None
    return tf.TensorShape(shape[1:]) if isinstance(shape, tuple) else None


def _parts_of(dataset: tf.data.Dataset) -> tuple[tf.TensorSpec, ...]:
    spec = dataset.element_spec
    parts = spec if isinstance(spec, tuple) else (spec,)
    if len(parts) not in (1, 2) or not all(isinstance(part, tf.TensorSpec) for part in parts):
        raise ValueError(f"examples must be (images, groups), or images alone; received {spec}. Map them to pairs.")
    return parts


def _in_batches(dataset: tf.data.Dataset, expected: tf.TensorShape | None) -> tf.data.Dataset:
    if int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise ValueError("examples must be a finite data set; received an infinite one. Omit repeat(), or use take().")
    images, *groups = _parts_of(dataset)
    if images.shape.rank is None:
        raise ValueError("images must have one fixed shape; received an unknown one. Set it with tf.ensure_shape.")
    if expected is None:
        single = bool(groups) and groups[0].shape.rank == 0
    else:
        single = images.shape.rank == expected.rank
        _check_shape(expected, images.shape if single else images.shape[1:])
    return dataset.batch(_ROWS) if single else dataset


def _sliced(examples: Any, expected: tf.TensorShape | None) -> tf.data.Dataset:
    pair = isinstance(examples, (tuple, list)) and len(examples) == 2
    arrays = tuple(examples) if pair else (examples,)
    if not all(hasattr(array, "shape") for array in arrays):
        raise TypeError(
            f"examples must be a tf.data.Dataset or arrays, of (images, groups) or of images; received "
            f"{type(examples).__name__}. The images are read several times: convert a generator to arrays, or use "
            "tf.data.Dataset.from_generator."
        )
    images = arrays[0]
    if len(images.shape) < 2 or (expected is not None and len(images.shape) == expected.rank):
        raise ValueError(f"images must be a batch [batch, ...]; received shape {list(images.shape)}. Add a batch axis.")
    if expected is not None:
        _check_shape(expected, tf.TensorShape(images.shape[1:]))
    if pair and arrays[1].shape[:1] != images.shape[:1]:
        raise ValueError(
            f"there must be one group for each image; received images of shape {list(images.shape)} and groups of shape "
            f"{list(arrays[1].shape)}."
        )
    return tf.data.Dataset.from_tensor_slices(arrays if pair else images).batch(_ROWS)


def _check_shape(expected: tf.TensorShape, received: tf.TensorShape) -> None:
    if not received.is_compatible_with(expected):
        raise ValueError(
            f"images must have the shape {expected.as_list()} that the network expects; received {received.as_list()}."
        )
