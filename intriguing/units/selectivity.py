"""Measures of the selectivity of directions for attributes of images."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import tensorflow as tf

from intriguing.units.direction_records import DirectionRecord

_DIRECTIONS_AT_ONCE = 4096  # limits the memory for copies of the histograms


class Selectivity(NamedTuple):
    """Four measures of every direction. A larger value is more selective, except for the entropy."""

    purity: tf.Tensor  # [directions], fraction of the top images with the most frequent attribute among them, in [0, 1]
    label_entropy: tf.Tensor  # [directions], entropy of the attributes of the top images, in bits
    class_selectivity: tf.Tensor  # [directions], relative difference of the largest mean of an attribute, in [0, 1]
    best_auc: tf.Tensor  # [directions], largest area under the ROC curve of an attribute, in [0, 1]


class Measured(NamedTuple):
    """The selectivity of directions, and the attributes for which they are selective."""

    selectivity: Selectivity
    top_attribute: tf.Tensor  # [directions] int32, the most frequent attribute among the top images
    best_attribute: tf.Tensor  # [directions] int32, the attribute of `best_auc`


def measure_selectivity(record: DirectionRecord, group_attributes: tf.Tensor) -> Measured:
    """Computes the selectivity of directions.

    Class selectivity follows Morcos et al., `(m - m_rest) / (m + m_rest)`, where m is the largest mean projection of the images
    with an attribute, and m_rest is the mean of all other images. Since it requires nonnegative values, the smallest projection
    of the direction is subtracted first. For a rectified unit that is zero for some image, this is the published measure.

    The area under the curve is computed from histograms: values in one bin count as ties.

    Args:
        record: The result of `record_directions`.
        group_attributes: Bool `[groups, attributes]`, the attributes of the images of each group.

    Returns:
        A `Measured` without NaN: a constant direction has class selectivity 0 and area 0.5.

    Example:
        >>> examples = tf.data.Dataset.from_tensor_slices((images, labels)).batch(100)
        >>> record = record_directions(features_at(model, "hidden1"), examples, None, num_groups=10)
        >>> measured = measure_selectivity(record, tf.eye(10, dtype=tf.bool))
        >>> measured.selectivity.purity.shape
        TensorShape([100])

    References:
        Morcos et al., On the importance of single directions for generalization, 2018, appendix A.1.
    """
    has = tf.cast(group_attributes, tf.float32)
    purity, top_attribute, entropy = _of_the_top(tf.gather(has, record.top_groups))
    areas = tf.concat([_compiled_areas(tuple(counts.shape))(counts, has) for counts in _pieces(record.counts)], axis=0)
    selectivity = Selectivity(
        purity=purity,
        label_entropy=entropy,
        class_selectivity=_class_selectivity(record, has),
        best_auc=tf.reduce_max(areas, axis=1),
    )
    return Measured(selectivity, top_attribute, tf.argmax(areas, axis=1, output_type=tf.int32))


def _pieces(counts: tf.Tensor) -> list[tf.Tensor]:
    return [counts[start : start + _DIRECTIONS_AT_ONCE] for start in range(0, counts.shape[0], _DIRECTIONS_AT_ONCE)]


def _of_the_top(attributes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns purity, top attribute and entropy, `[directions]`, from `[directions, k, attributes]`."""
    shares = tf.reduce_mean(attributes, axis=1)
    distribution = tf.math.divide_no_nan(shares, tf.reduce_sum(shares, axis=1, keepdims=True))
    entropy = -tf.reduce_sum(tf.math.xlogy(distribution, distribution), axis=1) / tf.math.log(2.0)
    return tf.reduce_max(shares, axis=1), tf.argmax(shares, axis=1, output_type=tf.int32), entropy


def _class_selectivity(record: DirectionRecord, has: tf.Tensor) -> tf.Tensor:
    sizes = tf.cast(record.group_sizes, tf.float32)
    above_minimum = record.sums - record.minimum[:, tf.newaxis] * sizes
    members, total = tf.linalg.matvec(has, sizes, transpose_a=True), tf.reduce_sum(sizes)
    of_members = tf.matmul(above_minimum, has)
    of_others = tf.reduce_sum(above_minimum, axis=1, keepdims=True) - of_members
    # An attribute of all images, or of none, has no other images to compare with.
    splits = (members > 0.0) & (members < total)
    means = tf.where(splits, tf.math.divide_no_nan(of_members, members), -1.0)
    rest = tf.math.divide_no_nan(of_others, total - members)
    best = tf.argmax(means, axis=1, output_type=tf.int32)
    mean, rest = (tf.maximum(tf.gather(values, best, batch_dims=1), 0.0) for values in (means, rest))
    return tf.math.divide_no_nan(mean - rest, mean + rest)


@functools.lru_cache(maxsize=32)
def _compiled_areas(shape: tuple[int, ...]) -> Any:
    """Compiles `_areas` for counts of this shape; for one function of all shapes, TensorFlow would warn of retracing."""
    del shape
    return tf.function(functools.partial(_areas), autograph=False, jit_compile=True)


def _areas(counts: tf.Tensor, has: tf.Tensor) -> tf.Tensor:
    """Returns the area under the ROC curve of every attribute, `[directions, attributes]`."""
    by_group = tf.cast(counts, tf.float32)
    with_attribute = tf.einsum("dgb,ga->dab", by_group, has)
    without = tf.reduce_sum(by_group, axis=1, keepdims=True) - with_attribute
    below = tf.cumsum(without, axis=2, exclusive=True) + 0.5 * without
    won = tf.reduce_sum(with_attribute * below, axis=2)
    pairs = tf.reduce_sum(with_attribute, axis=2) * tf.reduce_sum(without, axis=2)
    return tf.where(pairs > 0.0, tf.math.divide_no_nan(won, pairs), 0.5)
