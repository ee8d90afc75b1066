"""Adjusts the p-values of several tests."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def false_discovery_rates(p_values: npt.ArrayLike) -> np.ndarray:
    """Adjusts p-values by the method of Benjamini and Hochberg.

    Among the tests whose adjusted p-value is at most q, the expected share of false discoveries is at most q.

    Args:
        p_values: Floats in [0, 1] of any shape; the tests are independent or positively dependent.

    Returns:
        Float64 of the shape of `p_values`, never below them.

    Raises:
        ValueError: If a p-value is NaN, or outside [0, 1].

    Example:
        >>> false_discovery_rates([0.01, 0.04, 0.5])
        array([0.03, 0.06, 0.5 ])

    References:
        Benjamini and Hochberg, Controlling the false discovery rate, 1995.
    """
    from scipy import stats  # at the first use: importing it takes most of a second

    p_values = np.asarray(p_values, np.float64)
    num_wrong = int(np.count_nonzero(~((p_values >= 0.0) & (p_values <= 1.0))))
    if num_wrong:
        raise ValueError(
            f"p_values must lie in [0, 1]; received {num_wrong} of {p_values.size} that are NaN or outside. Remove those tests."
        )
    return np.asarray(stats.false_discovery_control(p_values, axis=None)).reshape(p_values.shape)
