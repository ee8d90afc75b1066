"""The largest singular value, bounded from both sides: by a vector that attains the lower bound, and by a proof.

In double precision, because it is a proof. TensorFlow factorizes and multiplies stacks of matrices, since it shares them out
among the cores. NumPy shares out each matrix, and on a busy machine that was measured to take a hundred times as long.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

_POWER_STEPS = 20  # enough to find the matrix with about the largest value
_REFINING_STEPS = 64  # enough for the largest value of 4096 random rows to seven digits; a failed proof costs more
_FACTOR_ROUNDING = 1e-10  # of a bound's square; a row of some thousand numbers in double precision
_FIRST_MARGIN, _GROWTH = 1e-4, 1.002  # of a bound that is to be proved


def top_vector(symmetric: Callable[[np.ndarray], np.ndarray], size: int, steps: int) -> np.ndarray:
    """Returns a unit vector whose image under a linear map is nearly as long as that of any unit vector.

    The method is that of Lanczos, with full reorthogonalization, from one random vector. `scipy.sparse.linalg.eigsh` with the
    same accuracy (0.001) takes 3 times as long for 784 numbers and 1.3 times for 4096, and its number of products is not fixed.

    Args:
        symmetric: A positive semidefinite Hermitian map of float64 or complex128 vectors `[size]`.
        size: The length of the vectors.
        steps: The number of times that the map is applied, at most.

    Returns:
        Floats `[size]`, of the dtype that `symmetric` returns.
    """
    start = np.random.default_rng(0).normal(size=size)
    image = symmetric(start / np.linalg.norm(start))
    steps = min(steps, size)
    basis, images = (np.empty((steps, size), image.dtype) for _ in range(2))
    basis[0], images[0] = start / np.linalg.norm(start), image
    used = 1
    while used < steps:
        rest = images[used - 1]
        for _ in range(2):  # the conjugate of the long array would be a copy of it, even of real numbers
            rest = rest - (basis[:used] @ rest.conj()).conj() @ basis[:used]
        length = np.linalg.norm(rest)
        if length <= 1e-6 * np.linalg.norm(images[used - 1]):
            break
        basis[used] = rest / length
        images[used] = symmetric(basis[used])
        used += 1
    _, vectors = np.linalg.eigh(basis[:used].conj() @ images[:used].T)
    return vectors[:, -1] @ basis[:used]


def proved_bound(matrices: np.ndarray, bound: float) -> float:
    """Returns a bound of the singular values of some matrices, at least `bound` and not far above the largest.

    It holds if a Cholesky factorization finds `bound**2 - A A^H` positive definite for each matrix A.

    Args:
        matrices: Float64 or complex128 `[matrices, rows, columns]`.
        bound: The least that may be returned.

    Raises:
        ValueError: If the squares of some entries are not finite: no bound would ever be proved.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        squares = _squares(matrices)
    if not bool(tf.reduce_all(tf.math.is_finite(tf.abs(squares)))):
        raise ValueError("the singular values of matrices with NaN, infinite or too large entries have no bound.")
    if not np.any(squares):
        return bound  # what is zero would never be proved by growing it
    bound = max(bound, _estimate(squares)) * (1.0 + _FIRST_MARGIN)
    while not _is_proved(squares, bound):
        bound *= _GROWTH
    return bound


def _squares(matrices: np.ndarray) -> tf.Tensor:
    """Returns `A A^H` or `A^H A`, whichever is smaller, for each matrix A."""
    wide = matrices.shape[1] <= matrices.shape[2]
    if len(matrices) == 1 and np.isrealobj(matrices):
        matrix = matrices[0] if wide else matrices[0].T
        return tf.constant((matrix @ matrix.T)[np.newaxis])  # NumPy sees the symmetry, and computes a half
    stack = tf.constant(matrices)
    return tf.linalg.matmul(stack, stack, adjoint_a=not wide, adjoint_b=wide)


def _estimate(squares: tf.Tensor) -> float:
    """Returns about the largest singular value; a proof follows, so that it may be too low."""
    vectors = tf.constant(np.random.default_rng(0).normal(size=(*squares.shape[:2], 1)), squares.dtype)
    for _ in range(_POWER_STEPS):
        vectors, _ = tf.linalg.normalize(vectors, axis=1)
        vectors = tf.linalg.matmul(squares, vectors)
    largest = np.asarray(squares[int(np.argmax(np.linalg.norm(vectors, axis=(1, 2))))])
    top = top_vector(lambda vector: largest @ vector, len(largest), _REFINING_STEPS)
    return float(np.sqrt(np.linalg.norm(largest @ top) / np.linalg.norm(top)))


def _is_proved(squares: tf.Tensor, bound: float) -> bool:
    """Whether `bound**2 - square` has a Cholesky factorization, for every square.

    What TensorFlow makes of a matrix that has none depends on its version, the type and the device: an error, NaN, or zeros.
    So the factors are looked at: their diagonals are positive, and the squares of their rows add up to the diagonal.
    """
    differences = bound**2 * tf.eye(squares.shape[1], dtype=squares.dtype) - squares
    try:
        factors = tf.linalg.cholesky(differences)
    except tf.errors.InvalidArgumentError:
        return False
    rows = np.asarray(tf.reduce_sum(tf.abs(factors) ** 2, axis=-1))
    agrees = np.abs(rows - np.real(tf.linalg.diag_part(differences))) <= _FACTOR_ROUNDING * bound**2
    return bool(np.all(agrees) and np.all(np.real(tf.linalg.diag_part(factors)) > 0.0))
