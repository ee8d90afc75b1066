"""One pass over images, and what it leaves of every direction of a feature space: its top images and its answer to each group.

What is kept grows with the number of directions, not with the number of images.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from intriguing.accelerators import compile_for_loops, num_replicas, run_on_rows
from intriguing.models.logits import Architecture, Classifier, split_weights

NUM_BINS = 128
_PILOT_SPREAD = 4.0  # standard deviations of the first images on either side of their mean; beyond, the outermost bins
# Images at once on a replica, the same for every caller, so that no sum depends on how the data was batched: enough to make
# the work around them small, fewer where they are large.
_ROWS, _ROWS_OF_LARGE_IMAGES, _LARGE_IMAGE = 1024, 256, 16_384
_MOST_TOP_IMAGES = 256
_PILOT = 256  # images whose projections place the bins
_NO_GROUP = -1  # the group of a row that fills a batch up


class Projections(NamedTuple):
    """Directions as an affine map of some features: `features[:, units] @ kernel + offset`."""

    units: tf.Tensor  # [units] int32, the features that span the space
    kernel: tf.Tensor  # [units, directions]
    offset: tf.Tensor  # [directions]


class DirectionRecord(NamedTuple):
    """What a pass over the images leaves of every direction."""

    top_values: tf.Tensor  # [directions, k], the largest projections, in falling order
    top_examples: tf.Tensor  # [directions, k] int32, their places in the data; of equal projections the earlier comes first
    top_groups: tf.Tensor  # [directions, k] int32, the groups of those examples
    least: tf.Tensor  # [directions], the smallest projection
    sums: tf.Tensor  # [directions, groups], of the projections
    counts: tf.Tensor  # [directions, groups, NUM_BINS] int32, projections in bins of rising value
    group_sizes: tf.Tensor  # [groups] int32, examples


def record_directions(
    features: Classifier, examples: tf.data.Dataset, projections: Projections | None, *, num_groups: int, num_top: int = 10
) -> DirectionRecord:
    """Projects the features of all images on directions and keeps, of each direction, what its coherence is told by.

    The rows are divided among the replicas of the `tf.distribute` strategy in whose scope it is called; the record does not
    depend on their number, nor on the batches of the data.

    Args:
        features: A Keras model, or any callable, from images to features `[batch, features]`.
        examples: Of `(images, groups)` in batches of any size, in the order of the example ids: float32 `[batch, ...]`, and
            integers `[batch]` in `[0, num_groups)`, or -1 for a row that is none.
        projections: The directions; None for the features themselves, the natural basis.
        num_groups: Number of groups of examples, such as classes.
        num_top: How many images to keep of each direction.

    Returns:
        A `DirectionRecord`.

    Raises:
        ValueError: If `num_top` is not from 1 to 256, or exceeds the number of images, or if a feature is not finite.
    """
    if not 1 <= num_top <= _MOST_TOP_IMAGES:
        raise ValueError(f"num_top must be from 1 to {_MOST_TOP_IMAGES}; received {num_top}.")
    architecture, weights, first, chunks = _opened(features, examples)
    shared = (weights, projections, _pilot(architecture, weights, projections, first))
    program = _compiled_chunk(architecture, num_groups, num_top, compile_for_loops(architecture.convolves))
    parts = run_on_rows(program, shared, first)
    join = _compiled_join(tuple(parts.counts.shape))
    record = tf.nest.map_structure(lambda part: part[0], parts) if num_replicas() == 1 else _merged(parts)
    for chunk in chunks:
        record = join(record, run_on_rows(program, shared, chunk))
    _check_record(record, num_top)
    return record


class FeatureMoments(NamedTuple):
    """The first two moments of features over all images."""

    mean: tf.Tensor  # [features]
    variance: tf.Tensor  # [features]
    least: tf.Tensor  # [features]
    greatest: tf.Tensor  # [features]
    num_examples: tf.Tensor  # int32


def feature_moments(features: Classifier, examples: tf.data.Dataset) -> FeatureMoments:
    """Measures the mean, variance and range of features in one pass; arguments as in `record_directions`.

    Raises:
        ValueError: If there is no image, or a feature is not finite.
    """
    architecture, weights, first, chunks = _opened(features, examples)
    # Moments about a typical image: about zero, a large mean would drown a small variance in single precision.
    center = tf.reduce_mean(architecture.apply(weights, first[0][:_PILOT]), axis=0)
    program = _compiled_moments(architecture, compile_for_loops(architecture.convolves))
    total = _summed(run_on_rows(program, (weights, center), first))
    for chunk in chunks:
        total = _summed(_with_parts(total, run_on_rows(program, (weights, center), chunk)))
    count = tf.cast(total.num_examples, tf.float32)
    shift = total.sums / count
    variance = total.squares / count - shift**2
    _check_finite(center + variance)
    return FeatureMoments(center + shift, variance, total.least, total.greatest, total.num_examples)


def feature_covariance(features: Classifier, examples: tf.data.Dataset, units: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
    """Measures the covariance of some features in one pass.

    Args:
        features: As in `record_directions`.
        examples: As in `record_directions`.
        units: Int32 `[units]`, which features.
        mean: Float32 `[features]`, as `feature_moments` measured it.

    Returns:
        Float32 `[units, units]`.
    """
    architecture, weights, first, chunks = _opened(features, examples)
    program = _compiled_products(architecture, compile_for_loops(architecture.convolves))
    total, num_examples = 0.0, 0
    for chunk in itertools.chain([first], chunks):
        total += tf.reduce_sum(run_on_rows(program, (weights, units, mean), chunk), axis=0)
        num_examples += int(tf.math.count_nonzero(chunk[1] >= 0))
    return total / num_examples


_Chunk = tuple[tf.Tensor, tf.Tensor, tf.Tensor]
"""Images, groups, and the places of the examples in the data."""


def _opened(features: Classifier, examples: tf.data.Dataset) -> tuple[Architecture, list[tf.Tensor], _Chunk, Iterator[_Chunk]]:
    """Returns what the features compute and with which weights, the first chunk of the images, and the others."""
    image_shape = examples.element_spec[0].shape[1:]
    if not image_shape.is_fully_defined():
        raise ValueError(
            f"images must have one fixed shape; received {image_shape}. Resize them, or set it with tf.ensure_shape."
        )
    architecture, weights = split_weights(features, image_shape, cut_softmax=False)
    chunks = _chunks(examples, _ROWS if image_shape.num_elements() <= _LARGE_IMAGE else _ROWS_OF_LARGE_IMAGES)
    first = next(chunks, None)
    if first is None:
        raise ValueError("examples must hold at least one image; received none.")
    return architecture, weights, first, chunks


def _chunks(examples: tf.data.Dataset, rows_of_replica: int) -> Iterator[_Chunk]:
    """Yields the images in chunks of one shape, the last one filled up."""
    rows = num_replicas() * rows_of_replica
    place = 0
    for images, groups in examples.rebatch(rows).prefetch(1):
        groups = tf.cast(groups, tf.int32)
        missing = rows - images.shape[0]
        if missing:
            images = tf.pad(images, [[0, missing], *([[0, 0]] * (images.shape.rank - 1))])
            groups = tf.pad(groups, [[0, missing]], constant_values=_NO_GROUP)
        yield images, groups, tf.range(place, place + rows)
        place += rows


class _Binning(NamedTuple):
    lowest: tf.Tensor  # [directions]
    per_unit: tf.Tensor  # [directions], bins


def _pilot(
    architecture: Architecture, weights: list[tf.Tensor], projections: Projections | None, chunk: tuple[tf.Tensor, ...]
) -> _Binning:
    """Places the bins of every direction by its projections of the first images."""
    images, groups, _ = (tensor[:_PILOT] for tensor in chunk)
    projected = _projected(architecture.apply(weights, images), projections)
    weight = tf.cast(groups >= 0, tf.float32) / tf.cast(tf.math.count_nonzero(groups >= 0), tf.float32)
    mean = tf.linalg.matvec(projected, weight)
    variance = tf.linalg.matvec((projected - mean[:, tf.newaxis]) ** 2, weight)
    reach = _PILOT_SPREAD * tf.sqrt(variance)
    return _Binning(mean - reach, tf.math.divide_no_nan(NUM_BINS / 2.0, reach))


def _projected(features: tf.Tensor, projections: Projections | None) -> tf.Tensor:
    """Returns `[directions, rows]`."""
    if projections is None:
        return tf.transpose(features)
    features = tf.gather(features, projections.units, axis=1)
    products = tf.matmul(projections.kernel, features, transpose_a=True, transpose_b=True)
    return products + projections.offset[:, tf.newaxis]


@functools.lru_cache(maxsize=32)
def _compiled_chunk(architecture: Architecture, num_groups: int, num_top: int, jit_compile: bool) -> Any:
    features = tf.function(architecture.apply, jit_compile=jit_compile, autograph=False)
    record = tf.function(
        functools.partial(_record_features, num_groups=num_groups, num_top=num_top), jit_compile=True, autograph=False
    )

    @tf.function(autograph=False)
    def program(shared: Any, rows: tuple[tf.Tensor, ...]) -> DirectionRecord:
        weights, projections, binning = shared
        images, groups, places = rows
        return record(features(weights, images), groups, places, projections, binning)

    return program


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
    """Returns the record of a chunk, with an axis of length one in front, so that those of replicas can be gathered."""
    projected = _projected(features, projections)
    valid = groups >= 0
    # Of equal values top_k takes the first, and the rows are in the order of the examples.
    values, rows = tf.math.top_k(tf.where(valid, projected, -float("inf")), num_top)
    record = DirectionRecord(
        top_values=values,
        top_examples=tf.gather(places, rows),
        top_groups=tf.gather(groups, rows),
        least=tf.reduce_min(tf.where(valid, projected, float("inf")), axis=1),
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
    cells = tf.where(groups >= 0, cells, size)  # counted nowhere
    # tf.math.bincount looks its size up in the data, which XLA refuses.
    counts = tf.raw_ops.DenseBincount(input=tf.reshape(cells, [-1]), size=size, weights=tf.constant([], tf.int32))
    return tf.reshape(counts, [directions, num_groups, NUM_BINS])


def _merged(parts: DirectionRecord) -> DirectionRecord:
    """Makes one record of several, `[parts, ...]`, whose examples come one after another."""
    num_parts, directions, num_top = parts.top_values.shape

    def side_by_side(tensor: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.transpose(tensor, [1, 0, 2]), [directions, num_parts * num_top])

    values, columns = tf.math.top_k(side_by_side(parts.top_values), num_top)
    return DirectionRecord(
        top_values=values,
        top_examples=tf.gather(side_by_side(parts.top_examples), columns, batch_dims=1),
        top_groups=tf.gather(side_by_side(parts.top_groups), columns, batch_dims=1),
        least=tf.reduce_min(parts.least, axis=0),
        sums=tf.reduce_sum(parts.sums, axis=0),
        counts=tf.reduce_sum(parts.counts, axis=0),
        group_sizes=tf.reduce_sum(parts.group_sizes, axis=0),
    )


@functools.lru_cache(maxsize=32)
def _compiled_join(shape: tuple[int, ...]) -> Any:
    """Compiles `_joined` for records whose counts have this shape: one function for all shapes would be warned of."""
    del shape
    return tf.function(_joined, autograph=False, jit_compile=True)


def _joined(record: DirectionRecord, parts: DirectionRecord) -> DirectionRecord:
    return _merged(_with_parts(record, parts))


def _with_parts(total: Any, parts: Any) -> Any:
    """Puts a total in front of further parts, `[parts, ...]`."""
    return tf.nest.map_structure(lambda one, more: tf.concat([one[tf.newaxis], more], axis=0), total, parts)


class _Sums(NamedTuple):
    sums: tf.Tensor  # [features], of the deviations from the center
    squares: tf.Tensor  # [features], of the same
    least: tf.Tensor  # [features]
    greatest: tf.Tensor  # [features]
    num_examples: tf.Tensor


@functools.lru_cache(maxsize=32)
def _compiled_moments(architecture: Architecture, jit_compile: bool) -> Any:
    @tf.function(jit_compile=jit_compile, autograph=False)
    def program(shared: Any, rows: tuple[tf.Tensor, ...]) -> _Sums:
        (weights, center), (images, groups, _) = shared, rows
        features = architecture.apply(weights, images)
        valid = (groups >= 0)[:, tf.newaxis]
        deviations = tf.where(valid, features - center, 0.0)
        sums = _Sums(
            sums=tf.reduce_sum(deviations, axis=0),
            squares=tf.reduce_sum(deviations**2, axis=0),
            least=tf.reduce_min(tf.where(valid, features, float("inf")), axis=0),
            greatest=tf.reduce_max(tf.where(valid, features, -float("inf")), axis=0),
            num_examples=tf.math.count_nonzero(valid, dtype=tf.int32),
        )
        return tf.nest.map_structure(lambda tensor: tensor[tf.newaxis], sums)

    return program


@functools.lru_cache(maxsize=32)
def _compiled_products(architecture: Architecture, jit_compile: bool) -> Any:
    @tf.function(jit_compile=jit_compile, autograph=False)
    def program(shared: Any, rows: tuple[tf.Tensor, ...]) -> tf.Tensor:
        (weights, units, mean), (images, groups, _) = shared, rows
        deviations = tf.gather(architecture.apply(weights, images) - mean, units, axis=1)
        deviations = tf.where((groups >= 0)[:, tf.newaxis], deviations, 0.0)
        return tf.matmul(deviations, deviations, transpose_a=True)[tf.newaxis]

    return program


def _summed(parts: _Sums) -> _Sums:
    return _Sums(
        sums=tf.reduce_sum(parts.sums, axis=0),
        squares=tf.reduce_sum(parts.squares, axis=0),
        least=tf.reduce_min(parts.least, axis=0),
        greatest=tf.reduce_max(parts.greatest, axis=0),
        num_examples=tf.reduce_sum(parts.num_examples, axis=0),
    )


def _check_record(record: DirectionRecord, num_top: int) -> None:
    num_examples = int(tf.reduce_sum(record.group_sizes))
    if num_examples < num_top:
        raise ValueError(f"num_top must be at most {num_examples}, the number of images; received {num_top}. Ask for fewer.")
    _check_finite(tf.reduce_sum(record.sums, axis=1))


def _check_finite(sums: tf.Tensor) -> None:
    finite = tf.math.is_finite(sums)
    if not bool(tf.reduce_all(finite)):
        raise ValueError(
            f"features must be finite; {int(tf.math.count_nonzero(~finite))} of {finite.shape[0]} are not on some image. Was "
            "the network trained to the end, and are the images scaled as it expects them?"
        )
