"""Local response normalization as explicit loops, and its Jacobian."""

from __future__ import annotations

import numpy as np


def normalize(values: np.ndarray, depth: int, bias: float, alpha: float, beta: float) -> np.ndarray:
    """Returns the normalized channels `[channels]` of one position."""
    side, normalized = depth // 2, np.empty_like(values)
    for channel, value in enumerate(values):
        around = values[max(channel - side, 0) : channel + side + 1]
        normalized[channel] = value / (bias + alpha * np.sum(around**2)) ** beta
    return normalized


def jacobian(values: np.ndarray, depth: int, bias: float, alpha: float, beta: float) -> np.ndarray:
    """Returns the derivatives `[outputs, inputs]` with respect to all channels of one position."""
    places = np.arange(len(values))
    window = np.abs(places[:, np.newaxis] - places) <= depth // 2
    energy = bias + alpha * window @ values**2
    coupling = 2 * alpha * beta * np.outer(values, values) * window
    return np.diag(energy**-beta) - coupling * energy[:, np.newaxis] ** (-beta - 1)
