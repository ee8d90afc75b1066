"""Pools of adversarial examples, one for a layer: activations that the layers above get wrong, of which a part is renewed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from math import inf
from typing import NamedTuple

import tensorflow as tf

from intriguing.attack import DistortionSearch, minimize_distortion
from intriguing.distortion import amplify
from intriguing.models.layer_cut import IMAGES, LayerCut


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
    size: int = 20_000
    replaced: float = 0.25
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
    """
    clean = cut.values.clip(
        tf.convert_to_tensor(cut.below(images, training=False))
    )  # a rounding beyond the range costs nothing
    found = minimize_distortion(cut.above, clean, labels=labels, search=dataclasses.replace(search, pixel_box=cut.values))
    moved = found.distorted
    if to_distortion is not None:
        moved = amplify(clean, found.distorted, to_distortion=to_distortion, pixel_box=cut.values).images
    return AdversarialActivations(moved, tf.cast(labels, tf.int32), found.distortion, found.succeeded)


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
