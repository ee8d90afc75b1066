"""Pools of adversarial activations, one for each layer, of which a part is renewed at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import NamedTuple

import keras
import tensorflow as tf

from intriguing.attack import DistortionSearch, minimize_distortion
from intriguing.distortion import amplify
from intriguing.models.layer_split import IMAGES, LayerCut
from intriguing.pixels import checked_images
from intriguing.training.checked_examples import check_finite_weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerPool:
    """What the pool of one layer holds, and how it is used.

    Attributes:
        layer: Name of the layer whose outputs are distorted; "images" for the images themselves.
        size: Examples at most.
        replaced: Share of the size that is newly made in every round. The pool fills up first; then new ones take the place of
            old ones at random.
        share: Of every minibatch, and of its loss, that comes from this pool.
        to_distortion: Distortion that every example is moved to along its perturbation, as the paper amplifies its images: the
            answers of images near the boundary are then wrong, those of others are not. None for the least distortion, which
            puts each example just beyond the boundary.
    """

    layer: str = IMAGES
    size: int = 2000
    replaced: float = 0.5
    share: float = 0.25
    to_distortion: float | None = None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be positive; received {self.size}.")
        for name in ("replaced", "share"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie in (0, 1]; received {getattr(self, name)}.")
        if self.to_distortion is not None and not 0.0 < self.to_distortion < inf:
            raise ValueError(f"to_distortion must be positive and finite; received {self.to_distortion}.")

    @property
    def num_replaced(self) -> int:
        """Examples that are made in a round."""
        return max(1, round(self.replaced * self.size))


def check_pools(pools: Sequence[LayerPool]) -> None:
    """Raises a `ValueError` unless the pools belong to different layers and leave room for clean images."""
    layers, shares = [pool.layer for pool in pools], [pool.share for pool in pools]
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(f"pools must name at least one layer, and each only once; received {layers}.")
    if sum(shares) >= 1.0:
        raise ValueError(
            f"the shares of the pools must leave room for clean images; received {shares}, together {sum(shares):g}. Make them "
            "sum up to less than 1."
        )


class Pool(NamedTuple):
    """The examples of one layer: the first `count` rows; what follows is not filled yet."""

    activations: tf.Tensor  # [size, ...] float32, in the range of the layer
    labels: tf.Tensor  # [size] int32, the true classes
    count: tf.Tensor  # scalar int32


class AdversarialActivations(NamedTuple):
    """What an attack on the layers above made of the activations of some images, one row per image."""

    activations: tf.Tensor  # [n, ...] float32; as they were where not succeeded
    labels: tf.Tensor  # [n] int32
    least_distortion: tf.Tensor  # [n], root-mean-square change of an activation that changes the answer; NaN for none found
    succeeded: tf.Tensor  # [n] bool


def check_teaches(cut: LayerCut, settings: LayerPool, model: keras.Model) -> None:
    """Raises a `ValueError` unless a layer above the pool has weights that the training of the model changes."""
    trained = {id(variable) for variable in model.trainable_variables}
    if not any(id(variable) in trained for variable in cut.above.variables):
        raise ValueError(
            f"nothing above the layer {settings.layer!r} is trained, so that its pool teaches nothing. Name a layer below one "
            "that has trainable weights, or set `trainable` of such a layer to True."
        )


def empty_pool(cut: LayerCut, settings: LayerPool) -> Pool:
    """Returns a pool without examples, of the shapes that it keeps."""
    shape = [settings.size, *cut.above.input_shape[1:]]
    return Pool(tf.zeros(shape), tf.zeros([settings.size], tf.int32), tf.constant(0))


def distort_activations(
    cut: LayerCut, images: tf.Tensor, labels: tf.Tensor, *, search: DistortionSearch, to_distortion: float | None = None
) -> AdversarialActivations:
    """Finds the nearest activations that the layers above get wrong, or goes as far as asked in their direction.

    Args:
        cut: The network at the layer.
        images: Float32 `[n, ...]`.
        labels: Int32 `[n]`, the true classes, any other of which is an error.
        search: Budgets and tolerances; its pixel box is replaced by the range of the layer.
        to_distortion: As in `LayerPool`; reached before clipping to that range.

    Returns:
        An `AdversarialActivations`. Activations that are misclassified to begin with are succeeded, and stay where they are.

    Raises:
        ValueError: If a pixel lies outside the box, or if a weight or an activation is not a finite number.
    """
    check_finite_weights(cut.below, cut.above)
    # A rounding beyond the range of a layer costs nothing; images beyond theirs are a mistake, and told.
    activations = tf.cast(cut.below(checked_images(images, search.pixel_box), training=False), tf.float32)
    _check_finite_activations(activations)
    clean = cut.values.clip(activations)
    found = minimize_distortion(cut.above, clean, labels=labels, search=dataclasses.replace(search, pixel_box=cut.values))
    moved = found.distorted
    if to_distortion is not None:
        moved = amplify(clean, found.distorted, to_distortion=to_distortion, pixel_box=cut.values).images
    return AdversarialActivations(moved, tf.cast(labels, tf.int32), found.distortion, found.succeeded)


def _check_finite_activations(activations: tf.Tensor) -> None:
    num_bad = int(tf.math.count_nonzero(~tf.math.is_finite(activations)))
    if num_bad:
        raise ValueError(
            f"the activations that a pool takes its examples from must be finite numbers; received {num_bad} NaN or infinite "
            f"values of {tf.size(activations)}, although images and weights are finite: the layers below overflow. Load other "
            "weights, and train with a lower learning rate or with clipnorm."
        )


def make_examples(
    cut: LayerCut,
    pool: LayerPool,
    images: tf.Tensor,
    labels: tf.Tensor,
    *,
    search: DistortionSearch,
    attack_batch_size: int,
    report: Callable[[int], None] = lambda done: None,
) -> AdversarialActivations:
    """Makes what a pool wants in one round, in calls of `distort_activations` that all have one shape.

    Args:
        cut: The network at the layer of the pool.
        pool: Tells how many examples, and how far they are moved.
        images: Float32 `[n, ...]`, at least `pool.num_replaced`, of which the first are used.
        labels: Int32 `[n]`, the true classes.
        search: As in `distort_activations`.
        attack_batch_size: Images of one call.
        report: Called after every call with the number that is done.

    Returns:
        An `AdversarialActivations` of `pool.num_replaced` rows.
    """
    parts, done = [], 0
    for rows, num_new in in_chunks(pool.num_replaced, min(attack_batch_size, pool.num_replaced)):
        found = distort_activations(
            cut, tf.gather(images, rows), tf.gather(labels, rows), search=search, to_distortion=pool.to_distortion
        )
        parts.append(tf.nest.map_structure(lambda value, kept=num_new: value[:kept], found))
        done += num_new
        report(done)
    return tf.nest.map_structure(lambda *values: tf.concat(values, axis=0), *parts)


def in_chunks(num_rows: int, size: int) -> Iterator[tuple[tf.Tensor, int]]:
    """Yields row numbers `[size]` and how many of them are new; the last chunk is filled up, so that all have one shape."""
    for begin in range(0, num_rows, size):
        yield tf.minimum(tf.range(begin, begin + size), num_rows - 1), min(size, num_rows - begin)


def renew(pool: Pool, made: AdversarialActivations, *, seed: tuple[int, int]) -> Pool:
    """Puts the examples that succeeded into a pool: into free places first, then into random ones.

    Args:
        pool: As it was.
        made: New examples; those that did not succeed are left out.
        seed: Of the places, two integers.

    Returns:
        The pool as it is now.
    """
    size = pool.labels.shape[0]
    activations, labels = (tf.boolean_mask(part, made.succeeded)[:size] for part in (made.activations, made.labels))
    num_new, free = tf.shape(labels)[0], size - pool.count
    num_filling = tf.minimum(num_new, free)
    taken = tf.random.experimental.stateless_shuffle(tf.range(pool.count), seed, alg="philox")[: num_new - num_filling]
    places = tf.concat([pool.count + tf.range(num_filling), taken], axis=0)[:, tf.newaxis]
    return Pool(
        tf.tensor_scatter_nd_update(pool.activations, places, activations),
        tf.tensor_scatter_nd_update(pool.labels, places, labels),
        pool.count + num_filling,
    )


def mean_distortion(made: AdversarialActivations) -> tf.Tensor:
    """Returns the average least distortion of the examples that were found, a scalar; NaN if there is none."""
    return tf.reduce_mean(tf.boolean_mask(made.least_distortion, made.succeeded))
