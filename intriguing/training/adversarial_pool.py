"""Pools of adversarial activations, one for each layer; a part of each pool is renewed in every round."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from intriguing.attack import DistortionSearch, minimize_distortion
from intriguing.distortion import amplify
from intriguing.models.layer_split import IMAGES, LayerCut
from intriguing.pixels import checked_images
from intriguing.training.checked_examples import check_finite_weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerPool:
    """Settings of the pool of one layer.

    Attributes:
        layer: Name of the layer whose outputs are distorted; "images" for the images themselves.
        size: Maximum number of examples.
        replaced: Fraction of `size` that is renewed in every round. New examples fill the pool first; then they replace random
            examples.
        share: Fraction of every minibatch, and of its loss, that comes from this pool.
        to_distortion: Distortion to which every example is amplified along its perturbation, as in the paper: examples whose
            minimum distortion is larger are then classified correctly. If None, the minimum distortion, just beyond the
            decision boundary.
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
        """Number of examples that are generated in a round."""
        return max(1, round(self.replaced * self.size))


def check_pools(pools: Sequence[LayerPool]) -> None:
    """Raises an error unless the pools belong to different layers and their shares sum to less than 1.

    Raises:
        TypeError: If `pools` is not a sequence of `LayerPool`.
        ValueError: If a layer has two pools, or the shares are too large.
    """
    if not isinstance(pools, Sequence) or not all(isinstance(pool, LayerPool) for pool in pools):
        raise TypeError(
            f"pools must be a sequence of LayerPool, one for each layer; received {pools!r}. Pass "
            "pools=(LayerPool(layer=...),)."
        )
    layers, shares = [pool.layer for pool in pools], [pool.share for pool in pools]
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(f"pools must name at least one layer, and each only once; received {layers}.")
    if sum(shares) >= 1.0:
        raise ValueError(
            f"the shares of the pools must sum to less than 1, so that minibatches include clean images; received {shares}, "
            f"whose sum is {sum(shares):g}. Lower them."
        )


class Pool(NamedTuple):
    """The examples of one layer in the first `count` rows; the other rows are empty."""

    activations: tf.Tensor  # [size, ...] float32, in the range of the layer
    labels: tf.Tensor  # [size] int32, the true classes
    count: tf.Tensor  # scalar int32


NO_CALLBACK = (
    "the pools must hold examples, or a callback must fill them; received empty pools and no RenewPools. Pass "
    "callbacks=[RenewPools(images, labels)] to fit, or load weights that were saved with filled pools."
)
ONE_ROUND = (
    "epochs * rounds_per_epoch must be at least 2, because the pools are empty in the first round; received 1, so that no "
    "adversarial example would be used. Pass a larger rounds_per_epoch to RenewPools, or more epochs to fit."
)


def check_filled(pools: Iterable[Pool], message: str) -> None:
    """Raises a `ValueError` with the message `NO_CALLBACK` or `ONE_ROUND` if all pools are empty."""
    if not any(int(pool.count) for pool in pools):
        raise ValueError(message)


class AdversarialActivations(NamedTuple):
    """The results of an attack on the layers above from the activations of some images, one row per image."""

    activations: tf.Tensor  # [n, ...] float32; the clean activations if not succeeded
    labels: tf.Tensor  # [n] int32
    least_distortion: tf.Tensor  # [n], RMS change of the nearest misclassified activations; NaN if not succeeded
    succeeded: tf.Tensor  # [n] bool


def check_trainable_above(cut: LayerCut, settings: LayerPool, model: keras.Model) -> None:
    """Raises a `ValueError` unless a layer above the pool has weights that the training of the model changes."""
    trained = {id(variable) for variable in model.trainable_variables}
    if not any(id(variable) in trained for variable in cut.above.variables):
        raise ValueError(
            f"a layer above the pool at {settings.layer!r} must have trainable weights; received none. Name a layer below one "
            "with trainable weights, or set `trainable` of a layer above to True."
        )


def empty_pool(cut: LayerCut, settings: LayerPool) -> Pool:
    """Returns a pool without examples, whose shapes are those of a filled pool."""
    shape = [settings.size, *cut.above.input_shape[1:]]
    return Pool(tf.zeros(shape), tf.zeros([settings.size], tf.int32), tf.constant(0))


def legal_images(images: Any, search: DistortionSearch) -> tf.Tensor:
    """Returns images as `checked_images` does; its messages name the argument that changes the pixel box of the search."""
    argument = "search=dataclasses.replace(search_named('training'), pixel_box=PixelBox({}))"
    return checked_images(images, search.pixel_box, argument)


def distort_activations(
    cut: LayerCut, images: tf.Tensor, labels: tf.Tensor, *, search: DistortionSearch, to_distortion: float | None = None
) -> AdversarialActivations:
    """Finds the nearest activations that the layers above misclassify, and amplifies them if `to_distortion` is given.

    Args:
        cut: The network at the layer.
        images: Float32 `[n, ...]`.
        labels: Int32 `[n]`, the true classes.
        search: Budgets and tolerances; its pixel box is replaced by the range of the layer.
        to_distortion: As in `LayerPool`; the distortion before clipping to that range.

    Returns:
        An `AdversarialActivations`. Initially misclassified activations count as succeeded, and are not changed.

    Raises:
        ValueError: If a pixel lies outside the box, or if a weight or an activation is not a finite number.
    """
    check_finite_weights(cut.below, cut.above)
    # Activations outside the range of a layer are due to rounding, and clipped; images outside theirs raise an error.
    activations = tf.cast(cut.below(legal_images(images, search), training=False), tf.float32)
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
            f"the activations at a pool must be finite numbers; received {num_bad} NaN or infinite values of "
            f"{tf.size(activations)}, although images and weights are finite: the layers below overflow. Load other weights, "
            "and train with a lower learning rate or with clipnorm."
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
    """Generates the examples of one round for a pool, in calls of `distort_activations` with batches of one shape.

    Args:
        cut: The network at the layer of the pool.
        pool: Settings; `num_replaced` and `to_distortion` are used.
        images: Float32 `[n, ...]`, n at least `pool.num_replaced`; the first `pool.num_replaced` are used.
        labels: Int32 `[n]`, the true classes.
        search: As in `distort_activations`.
        attack_batch_size: Number of images in one call.
        report: Called after every call with the number of finished examples.

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
    """Yields row numbers `[size]` and how many of them are new; the last chunk is padded to `size`."""
    for begin in range(0, num_rows, size):
        yield tf.minimum(tf.range(begin, begin + size), num_rows - 1), min(size, num_rows - begin)


def renew(pool: Pool, made: AdversarialActivations, *, seed: tuple[int, int]) -> Pool:
    """Adds the examples that succeeded to a pool: they fill empty rows first, then replace random rows.

    Args:
        pool: The pool before.
        made: New examples; those that did not succeed are ignored.
        seed: Two integers, the seed of the random rows.

    Returns:
        The pool with the new examples.
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
    """Returns the average minimum distortion of the examples that succeeded, a scalar; NaN if there are none."""
    return tf.reduce_mean(tf.boolean_mask(made.least_distortion, made.succeeded))
