"""Images of the wanted class that are found without gradients, for images that the gradient search did not find.

A network is no safer where its gradient vanishes or leads into a local minimum. On the straight line from an image to any
image of an accepted class there is a boundary, which bisection finds with forward passes alone. A search goes on from there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from intriguing.models.functional import Architecture
from intriguing.optimize.rows import replace_rows
from intriguing.pixels import PixelBox

_NUM_NEIGHBORS = 4  # images of the batch that a line is drawn to, the nearest first
_NUM_NOISES = 3
_NUM_HALVINGS = 12  # of a line, until its boundary is known within a four-thousandth of it
_BEYOND = 1.02  # of the crossing: success must exceed rounding
_NUM_GRADIENT_STEPS, _GRADIENT_STEP = 40, 0.015  # plain steps up the margin, each a share of the width of the box, RMS
COST = (_NUM_NEIGHBORS + _NUM_NOISES + 6 + _NUM_HALVINGS) // 2 + _NUM_GRADIENT_STEPS  # evaluations per image at most

Margin = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""From flat images `[rows, n]` and accepted classes `[rows, classes]` to how far the best accepted logit is ahead, `[rows]`."""


class FarStart(NamedTuple):
    """Where a search may begin again, one row per image."""

    position: tf.Tensor  # [rows, n], of an accepted class where `found`
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
    """Finds, for each missed image, a near point of an accepted class, with forward passes and plain gradient steps.

    Tried are straight lines to other images of the batch, to constant images, to the negative and to noise, and normalized
    gradient steps on the margin. The nearest crossing of the boundary counts.

    Args:
        architecture: The network.
        weights: Its weights.
        images: Float32 `[batch, ...]`.
        accepted: Bool `[batch, classes]`.
        missed: Bool `[batch]`, the images in question; for the others nothing is computed.
        pixel_box: The bounds of every pixel, finite.
        quantization_levels: As in `DistortionSearch`: the starts are images of levels.
        seed: Of the noise.

    Returns:
        A `FarStart` for the whole batch; `found` is False for what was not missed.
    """
    shape = images.shape[1:]
    margin = _compiled_margin(architecture, tuple(shape))
    flat = tf.reshape(images, [images.shape[0], -1])
    rows = tf.where(missed)[:, 0]
    # The number of rows is filled up to a power of two: few programs serve all numbers.
    size = 1 << max(0, int(rows.shape[0]) - 1).bit_length()
    filled = tf.gather(rows, tf.minimum(tf.range(size), rows.shape[0] - 1))
    clean, wanted = tf.gather(flat, filled), tf.gather(accepted, filled)
    legal = functools.partial(pixel_box.legal, quantization_levels=quantization_levels)

    def of(points: tf.Tensor, accepted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return margin(weights, legal(points), accepted)

    step = functools.partial(_compiled_step(architecture, tuple(shape)), weights)
    ends = [*_neighbors(of, flat, clean, wanted), *_made_up(clean, pixel_box, seed), _climbed(step, clean, wanted, pixel_box)]
    best = FarStart(clean, tf.zeros([size], tf.bool))
    distance = tf.fill([size], float("inf"))
    for end in ends:
        reached = of(end, wanted)[0] > 0.0
        length = tf.norm(end - clean, axis=1)
        nearer = reached & (length < distance)
        best = FarStart(replace_rows(nearer, end, best.position), best.found | reached)
        distance = tf.where(nearer, length, distance)
    position = legal(_crossing(of, clean, best.position, wanted))
    target = rows[:, tf.newaxis]
    return FarStart(
        tf.tensor_scatter_nd_update(flat, target, position[: rows.shape[0]]),
        tf.tensor_scatter_nd_update(tf.zeros_like(missed), target, best.found[: rows.shape[0]]),
    )


@functools.lru_cache(maxsize=32)
def _compiled_margin(architecture: Architecture, shape: tuple[int, ...]) -> Any:
    """Returns a function to the margin `[rows]` and to the logits `[rows, classes]`."""

    @tf.function(autograph=False)
    def margin(weights: list[tf.Tensor], flat: tf.Tensor, accepted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = architecture.apply(weights, tf.reshape(flat, [-1, *shape]))
        return _margin(logits, accepted), logits

    return margin


def _margin(logits: tf.Tensor, accepted: tf.Tensor) -> tf.Tensor:
    lowest = logits.dtype.min
    ours = tf.reduce_max(tf.where(accepted, logits, lowest), axis=1)
    return ours - tf.reduce_max(tf.where(accepted, lowest, logits), axis=1)


@functools.lru_cache(maxsize=32)
def _compiled_step(architecture: Architecture, shape: tuple[int, ...]) -> Any:
    """Returns a function to the margin `[rows]` and its unit gradient `[rows, n]`, in RMS."""

    @tf.function(autograph=False)
    def step(weights: list[tf.Tensor], flat: tf.Tensor, accepted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(flat)
            margin = _margin(architecture.apply(weights, tf.reshape(flat, [-1, *shape])), accepted)
        gradient = tape.gradient(margin, flat, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        length = tf.sqrt(tf.reduce_mean(gradient**2, axis=1, keepdims=True))
        return margin, tf.math.divide_no_nan(gradient, length)

    return step


def _neighbors(of: Any, flat: tf.Tensor, clean: tf.Tensor, accepted: tf.Tensor) -> list[tf.Tensor]:
    """Returns the images of the batch that are nearest to each image among those of an accepted class."""
    classes = tf.argmax(of(flat, tf.repeat(accepted[:1], flat.shape[0], axis=0))[1], axis=1)
    squares = tf.reduce_sum(flat**2, axis=1)
    distances = tf.reduce_sum(clean**2, axis=1)[:, tf.newaxis] + squares - 2.0 * tf.matmul(clean, flat, transpose_b=True)
    suitable = tf.gather(accepted, classes, axis=1)
    number = min(_NUM_NEIGHBORS, int(flat.shape[0]))
    nearest = tf.math.top_k(tf.where(suitable, -distances, -float("inf")), number).indices
    return [tf.gather(flat, nearest[:, place]) for place in range(number)]


def _made_up(clean: tf.Tensor, pixel_box: PixelBox, seed: int) -> list[tf.Tensor]:
    """Returns images that no data set is needed for: constant, negative, and noise."""
    lower, upper = pixel_box
    constant = [tf.fill(clean.shape, value) for value in (lower, 0.5 * (lower + upper), upper)]
    noise = [
        tf.repeat(tf.random.stateless_uniform([1, clean.shape[1]], seed_of_image, lower, upper), clean.shape[0], axis=0)
        for seed_of_image in tf.constant([[number, 1 + seed] for number in range(_NUM_NOISES)], tf.int64)
    ]
    return [*constant, lower + upper - clean, *noise]


def _climbed(step: Any, clean: tf.Tensor, accepted: tf.Tensor, pixel_box: PixelBox) -> tf.Tensor:
    """Returns where normalized gradient steps on the margin first reach an accepted class, or end."""
    width = _GRADIENT_STEP * (pixel_box.upper - pixel_box.lower)
    point = clean
    for _ in range(_NUM_GRADIENT_STEPS):
        margin, direction = step(point, accepted)
        if bool(tf.reduce_all(margin > 0.0)):
            break
        point = replace_rows(margin > 0.0, point, pixel_box.clip(point + width * direction))
    return point


def _crossing(of: Any, clean: tf.Tensor, end: tf.Tensor, accepted: tf.Tensor) -> tf.Tensor:
    """Bisects the lines from clean images to ends of an accepted class, and returns points of that class near the boundary."""
    too_short, enough = tf.zeros_like(clean[:, :1]), tf.ones_like(clean[:, :1])
    for _ in range(_NUM_HALVINGS):
        middle = 0.5 * (too_short + enough)
        reached = (of(clean + middle * (end - clean), accepted)[0] > 0.0)[:, tf.newaxis]
        too_short, enough = tf.where(reached, too_short, middle), tf.where(reached, middle, enough)
    return clean + tf.minimum(1.0, _BEYOND * enough) * (end - clean)
