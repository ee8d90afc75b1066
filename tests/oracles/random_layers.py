"""Random layers, one for each seed, small enough to compute the singular values of their matrices.

Windows, strides, dilations, groups, padding and the order of the axes are random. Grids are odd or even, and strides need not
divide them. Convolutions are drawn twice as often as other layers. Layers that TensorFlow cannot compute on a CPU are excluded.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import keras
import numpy as np

from tests.oracles.unrolled_operator import largest_singular_value, unroll

_CONVOLUTIONS = (
    "Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose",
)  # fmt: skip
_POOLINGS = tuple(f"{kind}Pooling{dimensions}D" for kind in ("Average", "Max") for dimensions in (1, 2, 3))
KINDS = (*_CONVOLUTIONS, *_CONVOLUTIONS, *_POOLINGS, "Dense", "BatchNormalization", "Normalization")
_GRIDS = {1: (5, 41), 2: (5, 21), 3: (3, 7)}  # the shortest and the longest axis plus one
_CHANNELS_FIRST = ("DepthwiseConv2D", "Conv3D", *_POOLINGS)


class RandomLayer(NamedTuple):
    """A built layer with random weights, offset and activation function."""

    layer: Any
    input_shape: tuple[int, ...]

    @property
    def kind(self) -> str:
        return type(self.layer).__name__

    @property
    def convolves(self) -> bool:
        return self.kind in _CONVOLUTIONS

    @property
    def dilated(self) -> bool:
        return self.convolves and max(self.layer.dilation_rate) > 1

    @property
    def shortest_axis(self) -> int:
        """The shortest axis of the finer of the input and output grids."""
        shapes = [self.input_shape, tuple(self.layer.compute_output_shape((1, *self.input_shape)))[1:]]
        return max(min(shape[1:] if self.layer.data_format == "channels_first" else shape[:-1]) for shape in shapes)


def random_layer(seed: int) -> RandomLayer:
    """Draws a layer; its kind is `KINDS[seed % len(KINDS)]`."""
    kind, rng = KINDS[seed % len(KINDS)], np.random.default_rng(seed)
    if kind == "Dense":
        layer, shape = keras.layers.Dense(int(rng.integers(1, 300)), activation="tanh"), (int(rng.integers(1, 300)),)
    elif "Normalization" in kind:
        layer, shape = getattr(keras.layers, kind)(), tuple(int(size) for size in rng.integers(2, 6, size=3))
    else:
        layer, shape = _with_a_window(kind, rng)
    layer.build((None, *shape))
    layer.set_weights([_drawn(weight, rng) for weight in layer.weights])
    if kind == "Normalization":
        layer.finalize_state()
    return RandomLayer(layer, shape)


def true_norm(drawn: RandomLayer) -> float:
    """Returns the operator norm, computed from the singular values of the matrix, or from single pixels for max pooling."""
    layer, shape = drawn
    if drawn.kind.startswith("Max"):  # a pixel can determine all windows that contain it, which is the largest possible change
        pixels = np.eye(prod(shape), dtype=np.float32).reshape(-1, *shape)
        return max(float(np.linalg.norm(layer(pixel[np.newaxis]))) for pixel in pixels)
    activation, layer.activation = getattr(layer, "activation", None), keras.activations.linear
    norm = largest_singular_value(unroll(layer, shape))
    layer.activation = activation
    return norm


def _with_a_window(kind: str, rng: np.random.Generator) -> tuple[Any, tuple[int, ...]]:
    dimensions = int(kind.removesuffix("Transpose")[-2])
    grid = rng.integers(*_GRIDS[dimensions], size=dimensions)
    window = rng.integers(1, np.minimum(grid, 5) + 1)
    strides = rng.integers(1, 5, size=1 if kind.startswith("Depthwise") else dimensions) * np.ones(dimensions, int)
    options: dict[str, Any] = {"padding": str(rng.choice(["same", "valid"]))}
    channels = int(rng.integers(1, 4))
    if kind in _POOLINGS:
        options["pool_size"] = tuple(map(int, window))
    else:
        dilation = int(rng.integers(2, 4))
        if "Transpose" not in kind and rng.random() < 0.3 and np.all(dilation * (window - 1) < grid):
            strides, options["dilation_rate"] = np.ones(dimensions, int), (dilation,) * dimensions
        channels, more = _channels(kind, channels, rng)
        options |= {"kernel_size": tuple(map(int, window)), "activation": "tanh"} | more
    if "Transpose" in kind:
        grid = -(-grid // strides)  # the statistics were drawn for outputs
    shape = (*map(int, grid), channels)
    if kind in _CHANNELS_FIRST and rng.random() < 0.3:
        options["data_format"], shape = "channels_first", (channels, *map(int, grid))
    return getattr(keras.layers, kind)(strides=tuple(map(int, strides)), **options), shape


def _channels(kind: str, channels: int, rng: np.random.Generator) -> tuple[int, dict[str, int]]:
    """Returns the number of input channels, and the options of a layer that set the number of output channels."""
    if kind.startswith("Depthwise"):
        return channels, {"depth_multiplier": int(rng.integers(1, 3))}
    groups = int(rng.integers(1, 4)) if "Transpose" not in kind else 1
    options = {"filters": groups * int(rng.integers(1, 4 if groups == 1 else 3))}
    return groups * min(channels, 4 - groups), options | ({"groups": groups} if groups > 1 else {})


def _drawn(weight: Any, rng: np.random.Generator) -> np.ndarray:
    """Draws a weight. Variances are positive, and counts are kept."""
    if weight.name == "count":
        return np.asarray(weight)
    values = rng.normal(size=weight.shape).astype(np.float32)
    return np.square(values) + np.float32(0.01) if "variance" in weight.name else values
