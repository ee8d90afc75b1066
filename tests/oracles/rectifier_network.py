"""Dense networks with rectifiers, and linear bounds of their layers, in float64.

References:
    Ehlers, Formal verification of piece-wise linear feed-forward neural networks, 2017, for the bounds of a unit. Zhang et al.,
    Efficient neural network robustness certification with general activation functions, 2018, for their propagation.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import sqrt
from typing import Any, NamedTuple

import numpy as np


class RectifierNetwork(NamedTuple):
    kernels: tuple[np.ndarray, ...]  # [inputs, units] each
    biases: tuple[np.ndarray, ...]  # [units] each

    @classmethod
    def of_model(cls, model: Any) -> RectifierNetwork:
        """Copies the weights of a Keras model of dense layers, where all layers except the last have a rectifier."""
        weights = [np.asarray(weight, np.float64) for weight in model.get_weights()]
        return cls(tuple(weights[0::2]), tuple(weights[1::2]))

    @property
    def num_classes(self) -> int:
        return len(self.biases[-1])

    def layers(self, images: np.ndarray) -> list[np.ndarray]:
        """Returns the outputs of each layer before its rectifier. The last entry holds the logits."""
        outputs, values = [], np.asarray(images, np.float64)
        for kernel, bias in zip(self.kernels, self.biases, strict=True):
            outputs.append(values @ kernel + bias)
            values = np.maximum(outputs[-1], 0.0)
        return outputs

    def logits(self, images: np.ndarray) -> np.ndarray:
        return self.layers(images)[-1]


class UnitRanges(NamedTuple):
    """The smallest and the largest value of each unit of each hidden layer before the rectifier."""

    lows: tuple[np.ndarray, ...]
    highs: tuple[np.ndarray, ...]

    def unstable(self, layer: int) -> np.ndarray:
        """Returns for each unit of the layer whether it can be on both sides of its kink."""
        return (self.lows[layer] < 0.0) & (self.highs[layer] > 0.0)


class LinearBounds(NamedTuple):
    """Linear upper bounds `normals @ image + constants`."""

    normals: np.ndarray  # [rows, n]
    constants: np.ndarray  # [rows]
    gaps: dict[int, np.ndarray]  # for each hidden layer `[rows, units]`: the excess of the bound of a unit at `near`


def random_network(sizes: Sequence[int], seed: int = 0, scale: float = 2.0) -> RectifierNetwork:
    """Draws kernels of variance `scale**2` over the number of inputs. Logits have mean zero over uniform images."""
    rng = np.random.default_rng(seed)
    kernels = [rng.normal(size=pair, scale=scale / sqrt(pair[0])) for pair in itertools.pairwise(sizes)]
    biases = [rng.normal(size=size, scale=0.3) for size in sizes[1:]]
    logits = RectifierNetwork(tuple(kernels), tuple(biases)).logits(rng.uniform(size=(1000, sizes[0])))
    biases[-1] = biases[-1] - logits.mean(axis=0)
    return RectifierNetwork(tuple(kernels), tuple(biases))


def linear_upper_bounds(
    network: RectifierNetwork, rows: np.ndarray, layer: int, ranges: UnitRanges, near: Sequence[np.ndarray] | None = None
) -> LinearBounds:
    """Bounds `rows @ layers[layer]` from above, wherever the units are within their ranges.

    An unstable unit is at most the chord of its rectifier, and at least zero and at least itself; of these two the larger is
    chosen at `near`, what the layers compute somewhere, or the one that encloses less area if that is None.
    """
    constants, gaps = np.zeros(len(rows)), {}
    for index in range(layer, 0, -1):
        constants = constants + rows @ network.biases[index]
        rows = rows @ network.kernels[index].T
        low, high, unstable = ranges.lows[index - 1], ranges.highs[index - 1], ranges.unstable(index - 1)
        slope = np.where(unstable, high / np.where(unstable, high - low, 1.0), low >= 0.0)
        height = np.where(unstable, -slope * low, 0.0)
        above, below = np.maximum(rows, 0.0), np.minimum(rows, 0.0)
        if near is None:
            slope_below = np.where(unstable, high > -low, slope)
        else:
            value = near[index - 1]
            slope_below = np.where(unstable, value > 0.0, slope)
            gaps[index - 1] = above * unstable * (slope * value + height - np.maximum(value, 0.0))
        constants = constants + above @ height
        rows = above * slope + below * slope_below
    return LinearBounds(rows @ network.kernels[0].T, constants + rows @ network.biases[0], gaps)


def upper_bounds_in_box(bounds: LinearBounds, image: np.ndarray, lower: float, upper: float, radius: float) -> np.ndarray:
    """Returns the maximum of each function in the box, or an upper bound in the ball of the given radius around the image."""
    normals = bounds.normals
    there = normals @ image + bounds.constants
    in_box = np.maximum(normals * (upper - image), normals * (lower - image)).sum(axis=1)
    if not np.isfinite(radius):
        return there + in_box
    free = np.where(normals > 0.0, image < upper, image > lower)
    return there + np.minimum(in_box, radius * np.linalg.norm(normals * free, axis=1))
