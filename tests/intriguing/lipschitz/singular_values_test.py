"""Lower and upper bounds of the largest singular value of stacks of matrices, compared with NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from intriguing.lipschitz import singular_values
from intriguing.lipschitz.singular_values import proved_bound, top_vector

RTOL_MARGIN = 1.1e-4  # excess over the largest value if the first bound is proved


def drawn(shape, *, real, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) if real else rng.normal(size=shape) + 1j * rng.normal(size=shape)


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("shape", [(1, 40, 40), (1, 30, 50), (1, 50, 30), (20, 6, 9), (20, 9, 6), (3, 1, 1)])
def test_proved_bound_is_just_above_the_largest_singular_value(shape, real):
    matrices = drawn(shape, real=real)
    largest = np.linalg.svd(matrices, compute_uv=False).max()
    assert largest < proved_bound(matrices, 0.0) <= largest * (1 + RTOL_MARGIN)
    assert proved_bound(matrices, 2.0 * largest) == pytest.approx(2.0 * largest, rel=RTOL_MARGIN)


def test_low_bound_is_raised_until_it_is_proved(monkeypatch):
    matrices = drawn((4, 5, 6), real=False)
    largest = np.linalg.svd(matrices, compute_uv=False).max()
    monkeypatch.setattr(singular_values, "_estimate", lambda squares: 0.9 * largest)
    assert largest < proved_bound(matrices, 0.0) <= largest * singular_values._GROWTH


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 40), (7, 5, 9), (2, 60, 70)])
@pytest.mark.parametrize("below", [0.5, 0.99, 1 - 1e-6, 1 - 1e-9])
def test_values_below_the_largest_singular_value_are_never_proved(shape, real, below):
    """Holds for every Cholesky result of a matrix that is not positive definite. Some versions of TensorFlow return zeros."""
    matrices = drawn(shape, real=real)
    largest = np.linalg.svd(matrices, compute_uv=False).max()
    squares = singular_values._squares(matrices)
    assert not singular_values._is_proved(squares, largest * below)
    assert singular_values._is_proved(squares, largest * (1 + 1e-9))


@pytest.mark.parametrize("wrong", [np.nan, 0.0, 1.0])
def test_invalid_factor_proves_no_bound(wrong, monkeypatch):
    monkeypatch.setattr(singular_values.tf.linalg, "cholesky", lambda matrices: wrong * matrices)
    assert not singular_values._is_proved(singular_values._squares(drawn((2, 4, 4), real=False)), 100.0)


def test_failed_factorization_proves_no_bound(monkeypatch):
    def fails(matrices):
        raise tf.errors.InvalidArgumentError(None, None, "Cholesky decomposition was not successful.")

    monkeypatch.setattr(singular_values.tf.linalg, "cholesky", fails)
    assert not singular_values._is_proved(singular_values._squares(drawn((2, 4, 4), real=True)), 100.0)


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("size", [1, 5, 100])
def test_top_vector_nearly_attains_the_norm(size, real):
    factor = drawn((size, size), real=real)
    square = factor @ factor.conj().T
    vector = top_vector(lambda change: square @ change, size, 40)
    np.testing.assert_allclose(np.linalg.norm(vector), 1.0, rtol=1e-9)
    assert np.linalg.norm(square @ vector) >= np.linalg.eigvalsh(square)[-1] * (1 - 1e-3)


def test_the_top_vector_of_a_multiple_of_the_identity_is_found_in_one_step():
    np.testing.assert_allclose(np.linalg.norm(top_vector(lambda change: 3.0 * change, 7, 40)), 1.0, rtol=1e-12)


def test_the_bound_of_a_zero_matrix_is_zero():
    assert proved_bound(np.zeros([1, 3, 2]), 0.0) == 0.0
