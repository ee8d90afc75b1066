"""The point of a polytope nearest to the origin, in float64, and a certified lower bound on its length.

Minimizing `|d|**2` subject to `normals @ d >= offsets` and `lower <= d <= upper` is a least distance problem, which Lawson and
Hanson reduce to nonnegative least squares. Every nonnegative dual vector `y` proves `|d| >= offsets @ y / |normals.T @ y|`, so the
bound holds even if the solver stops early.

References:
    Lawson, Hanson, Solving least squares problems, 1974, chapter 23.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.optimize

_SMALLEST = 1e-12  # residuals and norms of normals below this count as zero


class Projection(NamedTuple):
    point: np.ndarray  # [n]; NaN if the polytope is empty
    floor: float  # a certified lower bound on its length; infinite if the polytope is empty


def project_origin(normals: np.ndarray, offsets: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> Projection:
    """Returns the shortest `d` in the polytope.

    Args:
        normals: `[m, n]`.
        offsets: `[m]`.
        lower: `[n]`, at most 0.
        upper: `[n]`, at least 0.
    """
    n = len(lower)
    identity = np.eye(n)
    rows, sides = np.concatenate([normals, identity, -identity]), np.concatenate([offsets, lower, -upper])
    sizes = np.linalg.norm(rows, axis=1)
    if np.any((sizes <= _SMALLEST) & (sides > _SMALLEST)):
        return _empty(n)
    sizes = np.maximum(sizes, _SMALLEST)
    unit = max(float(np.max(sides / sizes)), 0.0)  # the distance to the farthest half-space is a lower bound
    if unit <= 0.0:
        return Projection(np.zeros(n), 0.0)
    system = np.concatenate([(rows / sizes[:, np.newaxis]).T, (sides / sizes / unit)[np.newaxis]])
    dual, _ = scipy.optimize.nnls(system, np.eye(n + 1)[n], maxiter=100 * (n + 1))
    *direction, value = system @ dual
    left = 1.0 - value
    floor = unit * value / max(float(np.linalg.norm(direction)), _SMALLEST)
    farthest = float(np.linalg.norm(np.maximum(-lower, upper)))
    if left <= _SMALLEST or floor > 1.000001 * farthest:
        return _empty(n)
    return Projection(np.clip(unit * np.array(direction) / left, lower, upper), max(floor, 0.0))


def _empty(n: int) -> Projection:
    return Projection(np.full(n, np.nan), np.inf)
