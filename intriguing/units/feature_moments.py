"""The mean, variance, range and covariance of features over all images."""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import tensorflow as tf

from intriguing.distribution.map_rows import run_on_rows
from intriguing.models.functional import Architecture, Classifier
from intriguing.units.example_batches import ExampleSource
from intriguing.units.feature_passes import PILOT, check_finite, opened, with_parts


class FeatureMoments(NamedTuple):
    """The first two moments of features over all images."""

    mean: tf.Tensor  # [features]
    variance: tf.Tensor  # [features]
    minimum: tf.Tensor  # [features]
    maximum: tf.Tensor  # [features]
    num_examples: tf.Tensor  # int32


def feature_moments(features: Classifier, examples: ExampleSource) -> FeatureMoments:
    """Computes the mean, variance and range of features in one pass.

    Args:
        features: As in `record_directions`.
        examples: As in `record_directions`; groups are optional.

    Raises:
        ValueError: If there is no image, or a feature is not finite.

    Example:
        >>> examples = tf.data.Dataset.from_tensor_slices((images, labels)).batch(100)
        >>> feature_moments(features_at(model, "hidden1"), examples).mean.shape
        TensorShape([100])
    """
    architecture, weights, first, chunks = opened(features, examples)
    # Moments about a typical value: with moments about zero, a large mean would hide a small variance in single precision.
    center = tf.reduce_mean(architecture.apply(weights, first[0][:PILOT]), axis=0)
    program = _compiled_moments(architecture, architecture.jit_compile)
    total = _summed(run_on_rows(program, (weights, center), first))
    for chunk in chunks:
        total = _summed(with_parts(total, run_on_rows(program, (weights, center), chunk)))
    count = tf.cast(total.num_examples, tf.float32)
    shift = total.sums / count
    variance = total.squares / count - shift**2
    check_finite(center + variance)
    return FeatureMoments(center + shift, variance, total.minimum, total.maximum, total.num_examples)


def feature_covariance(features: Classifier, examples: ExampleSource, units: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
    """Computes the covariance of some features in one pass.

    Args:
        features: As in `record_directions`.
        examples: As in `record_directions`; groups are optional.
        units: Int32 `[units]`, the indices of the features.
        mean: Float32 `[features]`, as from `feature_moments`.

    Returns:
        Float32 `[units, units]`.

    Example:
        >>> features = features_at(model, "hidden1")
        >>> examples = tf.data.Dataset.from_tensor_slices((images, labels)).batch(100)
        >>> moments = feature_moments(features, examples)
        >>> feature_covariance(features, examples, tf.range(20), moments.mean).shape
        TensorShape([20, 20])
    """
    architecture, weights, first, chunks = opened(features, examples)
    program = _compiled_products(architecture, architecture.jit_compile)
    total, num_examples = 0.0, 0
    for chunk in itertools.chain([first], chunks):
        total += tf.reduce_sum(run_on_rows(program, (weights, units, mean), chunk), axis=0)
        num_examples += int(tf.math.count_nonzero(chunk[1] >= 0))
    return total / num_examples


class _Sums(NamedTuple):
    sums: tf.Tensor  # [features], sums of the deviations from the center
    squares: tf.Tensor  # [features], sums of their squares
    minimum: tf.Tensor  # [features]
    maximum: tf.Tensor  # [features]
    num_examples: tf.Tensor


@functools.lru_cache(maxsize=32)
def _compiled_moments(architecture: Architecture, jit_compile: bool) -> Any:
    return tf.function(functools.partial(_moments_of_rows, architecture), jit_compile=jit_compile, autograph=False)


def _moments_of_rows(architecture: Architecture, shared: Any, rows: tuple[tf.Tensor, ...]) -> _Sums:
    (weights, center), (images, groups, _) = shared, rows
    features = architecture.apply(weights, images)
    valid = (groups >= 0)[:, tf.newaxis]
    deviations = tf.where(valid, features - center, 0.0)
    sums = _Sums(
        sums=tf.reduce_sum(deviations, axis=0),
        squares=tf.reduce_sum(deviations**2, axis=0),
        minimum=tf.reduce_min(tf.where(valid, features, float("inf")), axis=0),
        maximum=tf.reduce_max(tf.where(valid, features, -float("inf")), axis=0),
        num_examples=tf.math.count_nonzero(valid, dtype=tf.int32),
    )
    return tf.nest.map_structure(lambda tensor: tensor[tf.newaxis], sums)


@functools.lru_cache(maxsize=32)
def _compiled_products(architecture: Architecture, jit_compile: bool) -> Any:
    return tf.function(functools.partial(_products_of_rows, architecture), jit_compile=jit_compile, autograph=False)


def _products_of_rows(architecture: Architecture, shared: Any, rows: tuple[tf.Tensor, ...]) -> tf.Tensor:
    (weights, units, mean), (images, groups, _) = shared, rows
    deviations = tf.gather(architecture.apply(weights, images) - mean, units, axis=1)
    deviations = tf.where((groups >= 0)[:, tf.newaxis], deviations, 0.0)
    return tf.matmul(deviations, deviations, transpose_a=True)[tf.newaxis]


def _summed(parts: _Sums) -> _Sums:
    return _Sums(
        sums=tf.reduce_sum(parts.sums, axis=0),
        squares=tf.reduce_sum(parts.squares, axis=0),
        minimum=tf.reduce_min(parts.minimum, axis=0),
        maximum=tf.reduce_max(parts.maximum, axis=0),
        num_examples=tf.reduce_sum(parts.num_examples, axis=0),
    )
