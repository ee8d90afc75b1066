"""Computes the matrix of an affine layer from its outputs for all unit vectors."""

from __future__ import annotations

from math import prod

import keras
import numpy as np


def unroll(layer: keras.Layer, input_shape: tuple[int, ...]) -> np.ndarray:
    """Returns the float64 matrix `[outputs, inputs]` of an affine layer without its offset."""
    basis = np.eye(prod(input_shape), dtype=np.float32).reshape(-1, *input_shape)
    at_zero = np.asarray(layer(np.zeros((1, *input_shape), np.float32), training=False), np.float64)
    columns = np.asarray(layer(basis, training=False), np.float64) - at_zero
    return columns.reshape(len(basis), -1).T


def largest_singular_value(matrix: np.ndarray) -> float:
    """Returns the operator norm of a matrix."""
    return float(np.linalg.svd(matrix, compute_uv=False)[0])
