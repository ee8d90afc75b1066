"""Tests of the oracle in simple cases, and of its Jacobian against finite differences."""

import numpy as np

from tests.oracles.response_normalization import jacobian, normalize


def test_window_is_truncated_at_the_ends():
    values = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(normalize(values, 3, 2.0, 1.0, 1.0), [1 / (2 + 5), 2 / (2 + 14), 3 / (2 + 13)])


def test_jacobian_equals_finite_differences():
    values, settings = np.random.default_rng(0).normal(size=7), (5, 1.5, 0.4, 0.75)
    step = 1e-6
    differences = [
        (normalize(values + step * unit, *settings) - normalize(values - step * unit, *settings)) / (2 * step)
        for unit in np.eye(7)
    ]
    np.testing.assert_allclose(jacobian(values, *settings), np.transpose(differences), atol=1e-9)
