"""Starts of an accepted class that are found with little or no use of gradients, for images whose search failed.

A network is not robust only because its gradient vanishes or leads into a local minimum. The straight line from an image to any
image of an accepted class crosses the decision boundary, and bisection finds the crossing with forward passes alone. A second
search begins there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from intriguing.models.functional import Architecture
from intriguing.optimize.rows import replace_rows
from intriguing.pixels import PixelBox

_NUM_NEIGHBORS = 4  # images of the batch at the ends of the lines, the nearest first
_NUM_NOISES = 3
_NUM_HALVINGS = 12  # of a line: the crossing is then known within 1 / 4096 of the length of the line
_OVERSHOOT = 1.02  # distance of the start relative to that of the crossing, so that rounding does not undo success
_NUM_GRADIENT_STEPS, _GRADIENT_STEP = 40, 0.015  # steps; RMS length of each relative to the width of the box
COST = (_NUM_NEIGHBORS + _NUM_NOISES + 6 + _NUM_HALVINGS) // 2 + _NUM_GRADIENT_STEPS  # evaluations per image at most

Margin = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""From flat images `[rows, n]` and accepted classes `[rows, classes]` to the margin of the accepted classes, `[rows]`."""


class FarStart(NamedTuple):
    """The start of a second search, one row per image."""

    position: tf.Tensor  # [rows, n]; classified as an accepted class where `found` is True
    found: tf.Tensor  # [rows] bool


def far_starts(
    architecture: Architecture,
    weights: list[tf.Tensor],
    images: tf.Tensor,
    *,
    accepted: tf.Tensor,
    missed: tf.Tensor,
    pixel_box: PixelBox,
    quantization_levels: int | None = None,
    seed: int = 0,
) -> FarStart:
    """Finds, for each missed image, a near point of an accepted class by forward passes and normalized gradient steps.

    The candidates are other images of the batch, constant images, the negative of the image, noise, and the end of normalized
    gradient steps on the margin. The start lies on the straight line from the image to the nearest candidate of an accepted
    class, just beyond the decision boundary.

    Args:
        architecture: The network.
        weights: The weights of the network.
        images: Float32 `[batch, ...]`.
        accepted: Bool `[batch, classes]`, the classes that count as success.
        missed: Bool `[batch]`, the images whose search failed; the other images are skipped.
        pixel_box: The bounds of every pixel, finite.
        quantization_levels: As in `DistortionSearch`: the pixel values of the starts are levels.
        seed: Seed of the noise.

    Returns:
        A `FarStart` for the whole batch; `found` is False for images that were not missed.
    """
    shape = images.shape[1:]
    margin = _compiled_margin(architecture, tuple(shape))
    flat = tf.reshape(images, [images.shape[0], -1])
    rows = tf.where(missed)[:, 0]
    # The number of rows is padded to a power of two, so that few programs are compiled.
    size = 1 << max(0, int(rows.shape[0]) - 1).bit_length()
    filled = tf.gather(rows, tf.minimum(tf.range(size), rows.shape[0] - 1))
    clean, wanted = tf.gather(flat, filled), tf.gather(accepted, filled)
    legal = functools.partial(pixel_box.legal, quantization_levels=quantization_levels)

    def margin_at(points: tf.Tensor, accepted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return margin(weights, legal(points), accepted)

    step = functools.partial(_compiled_step(architecture, tuple(shape)), weights)
    ends = [
        *_neighbors(margin_at, flat, clean, wanted),
        *_synthetic_images(clean, pixel_box, seed),
        _ascended(step, clean, wanted, pixel_box),
    ]
    best = FarStart(clean, tf.zeros([size], tf.bool))
    distance = tf.fill([size], float("inf"))
    for end in ends:
        succeeded = margin_at(end, wanted)[0] > 0.0
        length = tf.norm(end - clean, axis=1)
        nearer = succeeded & (length < distance)
        best = FarStart(replace_rows(nearer, end, best.position), best.found | succeeded)
        distance = tf.where(nearer, length, distance)
    position = legal(_crossing(margin_at, clean, best.position, wanted))
    target = rows[:, tf.newaxis]
    return FarStart(
        tf.tensor_scatter_nd_update(flat, target, position[: rows.shape[0]]),
        tf.tensor_scatter_nd_update(tf.zeros_like(missed), target, best.found[: rows.shape[0]]),
    )


@functools.lru_cache(maxsize=32)
def _compiled_margin(architecture: Architecture, shape: tuple[int, ...]) -> Any:
    """Returns a function that computes the margin `[rows]` and the logits `[rows, classes]`."""

    @tf.function(autograph=False)
    def margin(weights: list[tf.Tensor], flat: tf.Tensor, accepted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = architecture.apply(weights, tf.reshape(flat, [-1, *shape]))
        return _margin(logits, accepted), logits

    return margin


def _margin(logits: tf.Tensor, accepted: tf.Tensor) -> tf.Tensor:
    lowest = logits.dtype.min
    ahead = tf.reduce_max(tf.where(accepted, logits, lowest), axis=1)
    return ahead - tf.reduce_max(tf.where(accepted, lowest, logits), axis=1)


@functools.lru_cache(maxsize=32)
def _compiled_step(architecture: Architecture, shape: tuple[int, ...]) -> Any:
    """Returns a function that computes the margin `[rows]` and its gradient `[rows, n]`, normalized to an RMS of 1."""

    @tf.function(autograph=False)
    def step(weights: list[tf.Tensor], flat: tf.Tensor, accepted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(flat)
            margin = _margin(architecture.apply(weights, tf.reshape(flat, [-1, *shape])), accepted)
        gradient = tape.gradient(margin, flat, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        length = tf.sqrt(tf.reduce_mean(gradient**2, axis=1, keepdims=True))
        return margin, tf.math.divide_no_nan(gradient, length)

    return step


def _neighbors(margin_at: Any, flat: tf.Tensor, clean: tf.Tensor, accepted: tf.Tensor) -> list[tf.Tensor]:
    """Returns, for each image, the nearest images of the batch that are classified as an accepted class."""
    classes = tf.argmax(margin_at(flat, tf.repeat(accepted[:1], flat.shape[0], axis=0))[1], axis=1)
    squares = tf.reduce_sum(flat**2, axis=1)
    distances = tf.reduce_sum(clean**2, axis=1)[:, tf.newaxis] + squares - 2.0 * tf.matmul(clean, flat, transpose_b=True)
    suitable = tf.gather(accepted, classes, axis=1)
    number = min(_NUM_NEIGHBORS, int(flat.shape[0]))
    nearest = tf.math.top_k(tf.where(suitable, -distances, -float("inf")), number).indices
    return [tf.gather(flat, nearest[:, place]) for place in range(number)]


def _synthetic_images(clean: tf.Tensor, pixel_box: PixelBox, seed: int) -> list[tf.Tensor]:
    """Returns images that require no data set: constant images, the negative, and noise."""
    lower, upper = pixel_box
    constant = [tf.fill(clean.shape, value) for value in (lower, 0.5 * (lower + upper), upper)]
    noise = [
        tf.repeat(tf.random.stateless_uniform([1, clean.shape[1]], seed_of_image, lower, upper), clean.shape[0], axis=0)
        for seed_of_image in tf.constant([[number, 1 + seed] for number in range(_NUM_NOISES)], tf.int64)
    ]
    return [*constant, lower + upper - clean, *noise]


def _ascended(step: Any, clean: tf.Tensor, accepted: tf.Tensor, pixel_box: PixelBox) -> tf.Tensor:
    """Takes normalized gradient steps on the margin until an accepted class is predicted; returns the last points."""
    width = _GRADIENT_STEP * (pixel_box.upper - pixel_box.lower)
    point = clean
    for _ in range(_NUM_GRADIENT_STEPS):
        margin, direction = step(point, accepted)
        if bool(tf.reduce_all(margin > 0.0)):
            break
        point = replace_rows(margin > 0.0, point, pixel_box.clip(point + width * direction))
    return point


def _crossing(margin_at: Any, clean: tf.Tensor, end: tf.Tensor, accepted: tf.Tensor) -> tf.Tensor:
    """Bisects the lines from clean images to ends of an accepted class; returns points of that class near the boundary."""
    too_short, enough = tf.zeros_like(clean[:, :1]), tf.ones_like(clean[:, :1])
    for _ in range(_NUM_HALVINGS):
        middle = 0.5 * (too_short + enough)
        succeeded = (margin_at(clean + middle * (end - clean), accepted)[0] > 0.0)[:, tf.newaxis]
        too_short, enough = tf.where(succeeded, too_short, middle), tf.where(succeeded, middle, enough)
    return clean + tf.minimum(1.0, _OVERSHOOT * enough) * (end - clean)
