"""Records the top images of every direction, and its statistics for each group, in one pass over the images.

The memory grows with the number of directions, not with the number of images.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import tensorflow as tf

from intriguing.distribution.map_rows import run_on_rows
from intriguing.distribution.strategy import num_replicas
from intriguing.models.functional import Architecture, Classifier
from intriguing.units.example_batches import ExampleSource, as_examples, check_grouped
from intriguing.units.feature_passes import PILOT, check_finite, opened, with_parts

NUM_BINS = 128
_PILOT_SPREAD = 4.0  # the bins cover the mean of the first images plus and minus so many standard deviations
_MOST_TOP_IMAGES = 256


class Projections(NamedTuple):
    """Projections of some features on directions: `features[:, units] @ kernel + offset`."""

    units: tf.Tensor  # [units] int32, the features that span the space
    kernel: tf.Tensor  # [units, directions]
    offset: tf.Tensor  # [directions]


class DirectionRecord(NamedTuple):
    """The statistics of every direction over all images."""

    top_values: tf.Tensor  # [directions, k], the largest projections, in decreasing order
    top_examples: tf.Tensor  # [directions, k] int32, their positions in the data; ties are in the order of the data
    top_groups: tf.Tensor  # [directions, k] int32, the groups of those examples
    minimum: tf.Tensor  # [directions], the smallest projection
    sums: tf.Tensor  # [directions, groups], the sums of the projections
    counts: tf.Tensor  # [directions, groups, NUM_BINS] int32, histograms of the projections
    group_sizes: tf.Tensor  # [groups] int32, numbers of examples


def record_directions(
    features: Classifier, examples: ExampleSource, projections: Projections | None, *, num_groups: int, num_top: int = 10
) -> DirectionRecord:
    """Projects the features of all images on directions and records the statistics of each direction.

    The rows are divided among the replicas of the current `tf.distribute` strategy. The record does not depend on the number of
    replicas or on the batches of the data.

    Args:
        features: A Keras model, or any callable, from images to features `[batch, features]`.
        examples: A `tf.data.Dataset` of batches of any size or of single images, or arrays: `(images, groups)` in the order of
            the example ids. Images are floating point `[batch, ...]`. Groups are integers `[batch]` in `[0, num_groups)`, or -1
            for a padding row; or one-hot rows `[batch, num_groups]`.
        projections: The directions; None for the features themselves, the natural basis.
        num_groups: Number of groups of examples, such as classes.
        num_top: Number of top images of each direction.

    Returns:
        A `DirectionRecord`.

    Raises:
        ValueError: If `num_top` is not from 1 to 256, or exceeds the number of images, if a feature is not finite, if a group
            is out of range or missing, or if the histograms would have 2**31 bins.
        TypeError: If images are not floating point, or groups are not integers.

    Example:
        >>> features = features_at(model, "hidden1")
        >>> examples = tf.data.Dataset.from_tensor_slices((images, labels)).batch(100)
        >>> record = record_directions(features, examples, None, num_groups=10)
        >>> record.top_examples.shape
        TensorShape([100, 10])
    """
    if not 1 <= num_top <= _MOST_TOP_IMAGES:
        raise ValueError(f"num_top must be from 1 to {_MOST_TOP_IMAGES}; received {num_top}.")
    examples = as_examples(examples, features)
    check_grouped(examples, num_groups)
    architecture, weights, first, chunks = opened(features, examples, num_groups=num_groups)
    _check_cells(architecture.num_classes if projections is None else projections.offset.shape[0], num_groups)
    shared = (weights, projections, _pilot(architecture, weights, projections, first))
    program = _compiled_chunk(architecture, num_groups, num_top, architecture.jit_compile)
    parts = run_on_rows(program, shared, first)
    join = _compiled_join(tuple(parts.counts.shape))
    record = tf.nest.map_structure(lambda part: part[0], parts) if num_replicas() == 1 else _merged(parts)
    for chunk in chunks:
        record = join(record, run_on_rows(program, shared, chunk))
    _check_record(record, num_top)
    return record


class _Binning(NamedTuple):
    lowest: tf.Tensor  # [directions]
    per_unit: tf.Tensor  # [directions], bins per unit of the projection


def _pilot(
    architecture: Architecture, weights: list[tf.Tensor], projections: Projections | None, chunk: tuple[tf.Tensor, ...]
) -> _Binning:
    """Determines the bins of every direction from the projections of the first images."""
    images, groups, _ = (tensor[:PILOT] for tensor in chunk)
    projected = _projected(architecture.apply(weights, images), projections)
    weight = tf.cast(groups >= 0, tf.float32) / tf.cast(tf.math.count_nonzero(groups >= 0), tf.float32)
    mean = tf.linalg.matvec(projected, weight)
    variance = tf.linalg.matvec((projected - mean[:, tf.newaxis]) ** 2, weight)
    reach = _PILOT_SPREAD * tf.sqrt(variance)
    return _Binning(mean - reach, tf.math.divide_no_nan(NUM_BINS / 2.0, reach))


def _projected(features: tf.Tensor, projections: Projections | None) -> tf.Tensor:
    """Returns the projections, `[directions, rows]`."""
    if projections is None:
        return tf.transpose(features)
    features = tf.gather(features, projections.units, axis=1)
    products = tf.matmul(projections.kernel, features, transpose_a=True, transpose_b=True)
    return products + projections.offset[:, tf.newaxis]


# Programs are partials: TensorFlow counts closures of the same code as one function, and would warn of frequent retracing.
@functools.lru_cache(maxsize=32)
def _compiled_chunk(architecture: Architecture, num_groups: int, num_top: int, jit_compile: bool) -> Any:
    features = tf.function(architecture.apply, jit_compile=jit_compile, autograph=False)
    record = functools.partial(_record_features, num_groups=num_groups, num_top=num_top)
    compiled = tf.function(record, jit_compile=True, autograph=False)
    return tf.function(functools.partial(_record_rows, features, compiled), autograph=False)


def _record_rows(features: Any, record: Any, shared: Any, rows: tuple[tf.Tensor, ...]) -> DirectionRecord:
    weights, projections, binning = shared
    images, groups, places = rows
    return record(features(weights, images), groups, places, projections, binning)


def _record_features(
    features: tf.Tensor,
    groups: tf.Tensor,
    places: tf.Tensor,
    projections: Projections | None,
    binning: _Binning,
    *,
    num_groups: int,
    num_top: int,
) -> DirectionRecord:
    """Returns the record of a chunk with a leading axis of length one, so that records of replicas can be concatenated."""
    projected = _projected(features, projections)
    valid = groups >= 0
    too_few = max(0, num_top - groups.shape[0])  # if `num_top` exceeds the size of a chunk
    candidates = tf.pad(tf.where(valid, projected, -float("inf")), [[0, 0], [0, too_few]], constant_values=-float("inf"))
    # For ties, top_k returns the first row, and the rows are in the order of the examples.
    values, rows = tf.math.top_k(candidates, num_top)
    record = DirectionRecord(
        top_values=values,
        top_examples=tf.gather(tf.pad(places, [[0, too_few]]), rows),
        top_groups=tf.gather(tf.pad(groups, [[0, too_few]], constant_values=-1), rows),
        minimum=tf.reduce_min(tf.where(valid, projected, float("inf")), axis=1),
        sums=tf.matmul(tf.where(valid, projected, 0.0), tf.one_hot(groups, num_groups)),
        counts=_histograms(projected, groups, binning, num_groups),
        group_sizes=tf.reduce_sum(tf.one_hot(groups, num_groups, dtype=tf.int32), axis=0),
    )
    return tf.nest.map_structure(lambda tensor: tensor[tf.newaxis], record)


def _histograms(projected: tf.Tensor, groups: tf.Tensor, binning: _Binning, num_groups: int) -> tf.Tensor:
    directions = projected.shape[0]
    place = (projected - binning.lowest[:, tf.newaxis]) * binning.per_unit[:, tf.newaxis]
    bins = tf.cast(tf.clip_by_value(place, 0.0, NUM_BINS - 1.0), tf.int32)
    cells = (tf.range(directions)[:, tf.newaxis] * num_groups + groups) * NUM_BINS + bins
    size = directions * num_groups * NUM_BINS
    cells = tf.where(groups >= 0, cells, size)  # padding rows are out of range, and not counted
    # tf.math.bincount determines its size from the data, which XLA does not support.
    counts = tf.raw_ops.DenseBincount(input=tf.reshape(cells, [-1]), size=size, weights=tf.constant([], tf.int32))
    return tf.reshape(counts, [directions, num_groups, NUM_BINS])


def _merged(parts: DirectionRecord) -> DirectionRecord:
    """Merges several records, `[parts, ...]`, of consecutive examples."""
    num_parts, directions, num_top = parts.top_values.shape

    def side_by_side(tensor: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.transpose(tensor, [1, 0, 2]), [directions, num_parts * num_top])

    values, columns = tf.math.top_k(side_by_side(parts.top_values), num_top)
    return DirectionRecord(
        top_values=values,
        top_examples=tf.gather(side_by_side(parts.top_examples), columns, batch_dims=1),
        top_groups=tf.gather(side_by_side(parts.top_groups), columns, batch_dims=1),
        minimum=tf.reduce_min(parts.minimum, axis=0),
        sums=tf.reduce_sum(parts.sums, axis=0),
        counts=tf.reduce_sum(parts.counts, axis=0),
        group_sizes=tf.reduce_sum(parts.group_sizes, axis=0),
    )


@functools.lru_cache(maxsize=32)
def _compiled_join(shape: tuple[int, ...]) -> Any:
    """Compiles `_joined` for records whose counts have this shape."""
    del shape
    return tf.function(functools.partial(_joined), autograph=False, jit_compile=True)


def _joined(record: DirectionRecord, parts: DirectionRecord) -> DirectionRecord:
    return _merged(with_parts(record, parts))


def _check_cells(num_directions: int, num_groups: int) -> None:
    if num_directions * num_groups * NUM_BINS > tf.int32.max:
        raise ValueError(
            f"directions times groups times {NUM_BINS} bins must be below 2**31; received {num_directions} directions and "
            f"{num_groups} groups. Record the directions in several passes."
        )


def _check_record(record: DirectionRecord, num_top: int) -> None:
    num_examples = int(tf.reduce_sum(record.group_sizes))
    if num_examples < num_top:
        raise ValueError(
            f"num_top must be at most {num_examples}, the number of images; received {num_top}. Pass a smaller number."
        )
    check_finite(tf.reduce_sum(record.sums, axis=1))
