"""Norms of pooling, upsampling, resizing and cropping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, prod, sqrt
from typing import Any

import keras
import numpy as np

from intriguing.lipschitz.operator_norms import OperatorNorm, exactly, register_norm
from intriguing.models.layer_graph import described
from intriguing.models.layer_twins import inference_config

_RESAMPLING_ROUNDING = 1e-5  # allowance for interpolation in single precision
_SEPARABLE = 1e-4  # allowed difference between an interpolation, and that of the rows followed by that of the columns
_VALUES_AT_ONCE = 2**24


def _grid(layer: Any, shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape[1:] if layer.data_format == "channels_first" else shape[:-1])


@register_norm(keras.layers.MaxPooling1D, keras.layers.MaxPooling2D, keras.layers.MaxPooling3D)
def _norm_of_max_pooling(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    """Returns the square root of the number of windows that contain a pixel: it may be the maximum of all of them."""
    windows = 1
    for size, pool, stride in zip(_grid(layer, input_shape), layer.pool_size, layer.strides, strict=True):
        windows *= _most_windows(size, pool, stride, layer.padding)
    return exactly(sqrt(windows))


@register_norm(keras.layers.AveragePooling1D, keras.layers.AveragePooling2D, keras.layers.AveragePooling3D)
def _norm_of_average_pooling(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    """Uses that the mean over a box is a Kronecker product of means along the axes, whose norm is the product of theirs."""
    norm = 1.0
    for size, pool, stride in zip(_grid(layer, input_shape), layer.pool_size, layer.strides, strict=True):
        rows = [np.isin(np.arange(size), list(window)) for window in _windows(size, pool, stride, layer.padding)]
        # Padding does not enter the mean.
        norm *= np.linalg.norm(np.array([row / row.sum() for row in rows]), 2)
    return exactly(float(norm))


@register_norm(keras.layers.GlobalAveragePooling1D, keras.layers.GlobalAveragePooling2D, keras.layers.GlobalAveragePooling3D)
def _norm_of_global_average_pooling(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    return exactly(1.0 / sqrt(prod(_grid(layer, input_shape))))


@register_norm(keras.layers.GlobalMaxPooling1D, keras.layers.GlobalMaxPooling2D, keras.layers.GlobalMaxPooling3D)
def _norm_of_global_max_pooling(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    return OperatorNorm(1.0, 1.0)


@register_norm(keras.layers.UpSampling1D, keras.layers.UpSampling3D)
def _norm_of_upsampling(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    """Returns the square root of the number of copies of each value."""
    return exactly(sqrt(prod(np.atleast_1d(layer.size))))


@register_norm(keras.layers.UpSampling2D)
def _norm_of_upsampling_with_interpolation(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    if layer.interpolation == "nearest":
        return exactly(sqrt(prod(layer.size)))
    return _norm_of_resampling(layer, input_shape)


@register_norm(keras.layers.Resizing, keras.layers.CenterCrop)
def _norm_of_resampling(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    """Uses that the layer interpolates rows by a matrix A and columns by a matrix B: the norm is ||A|| ||B||.

    An image of rank one, `u v^T`, is mapped to `(A u)(B v)^T`. Let s be the largest absolute value of the output for the image
    of ones, at position (i, j), so that `s = (A 1)[i] (B 1)[j]`. If u is each unit vector in turn and v = 1, column j of the
    outputs is A times (B 1)[j]. In the same way, row i gives B times (A 1)[i].
    """
    resample = _Resampling(layer, _grid(layer, input_shape))
    whole = resample(np.ones((1, *resample.grid)))[0]
    row, column = np.unravel_index(np.argmax(np.abs(whole)), whole.shape)
    rows = resample.basis(0)[:, :, column].T  # A times (B 1)[column]
    columns = resample.basis(1)[:, row].T
    image = np.random.default_rng(0).normal(size=(1, *resample.grid))
    if not np.allclose(rows @ image[0] @ columns.T / whole[row, column], resample(image)[0], atol=_SEPARABLE):
        raise ValueError(f"{described(layer)}, does not resample rows and columns one after the other; no rule for its norm.")
    norm = float(np.linalg.norm(rows, 2) * np.linalg.norm(columns, 2) / abs(whole[row, column]))
    return OperatorNorm(norm * (1.0 - _RESAMPLING_ROUNDING), norm * (1.0 + _RESAMPLING_ROUNDING))


class _Resampling:
    """The linear part of a layer, for images of one channel: its output minus its output for zeros."""

    def __init__(self, layer: Any, grid: tuple[int, ...]) -> None:
        """Copies the layer, because calling it would build it."""
        self.grid = grid
        self._layer = type(layer).from_config({**inference_config(layer), "dtype": "float32"})
        self._axis = 1 if layer.data_format == "channels_first" else -1
        self._offset = np.zeros(())
        self._offset = self(np.zeros((1, *grid)))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        resampled = self._layer(np.expand_dims(images.astype(np.float32), self._axis))
        return np.asarray(resampled, np.float64).squeeze(self._axis) - self._offset

    def basis(self, axis: int) -> np.ndarray:
        """Returns the outputs for images that are one at one index of an axis, and zero elsewhere."""
        size = self.grid[axis]
        images = np.broadcast_to(np.eye(size).reshape(size, *(size if a == axis else 1 for a in (0, 1))), (size, *self.grid))
        at_once = max(1, _VALUES_AT_ONCE // prod(self.grid))
        return np.concatenate([self(images[start : start + at_once]) for start in range(0, size, at_once)])


def _windows(size: int, pool: int, stride: int, padding: str) -> Iterator[range]:
    """Yields the indices of one axis that each window contains."""
    if padding == "same":
        number = ceil(size / stride)
        start = -(max((number - 1) * stride + pool - size, 0) // 2)
    else:
        number, start = (size - pool) // stride + 1, 0
    for index in range(number):
        begin = start + index * stride
        yield range(max(begin, 0), min(begin + pool, size))


def _most_windows(size: int, pool: int, stride: int, padding: str) -> int:
    """Returns the largest number of windows that contain one index."""
    held = np.zeros(size, int)
    for window in _windows(size, pool, stride, padding):
        held[window.start : window.stop] += 1
    return int(held.max())
