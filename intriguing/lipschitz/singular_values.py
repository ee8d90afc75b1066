"""The largest singular value, bounded from both sides: by a vector that attains the lower bound, and by a proof.

The proof is computed in double precision. TensorFlow factorizes and multiplies stacks of matrices, since it distributes the
matrices of a stack over the cores. NumPy distributes the rows of each matrix, which took a hundred times as long on a machine
with other processes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

_POWER_STEPS = 20  # suffice to find a matrix whose largest value is about that of the stack
_REFINING_STEPS = 64  # give the largest value of 4096 random rows to seven digits; a failed proof costs more
_FACTOR_ROUNDING = 1e-10  # relative to the square of a bound, for rows of some thousand numbers in double precision
_FIRST_MARGIN, _GROWTH = 1e-4, 1.002  # relative excess of the first bound over the estimate, and growth after a failed proof


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
        for _ in range(2):  # conjugates of vectors: the conjugate of the basis would be a copy of it, even if it is real
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
    """Returns an upper bound of the singular values of some matrices, at least `bound` and little above the largest value.

    It is proved by a Cholesky factorization of `bound**2 - A A^H` for each matrix A.

    Args:
        matrices: Float64 or complex128 `[matrices, rows, columns]`.
        bound: A lower bound of the result.

    Raises:
        ValueError: If the squares of some entries are not finite, so that there is no bound.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        squares = _squares(matrices)
    if not bool(tf.reduce_all(tf.math.is_finite(tf.abs(squares)))):
        raise ValueError("the singular values of matrices with NaN, infinite or too large entries have no bound.")
    if not np.any(squares):
        return bound  # of zero matrices; multiplying a bound of zero would not increase it
    bound = max(bound, _estimate(squares)) * (1.0 + _FIRST_MARGIN)
    while not _is_proved(squares, bound):
        bound *= _GROWTH
    return bound


def _squares(matrices: np.ndarray) -> tf.Tensor:
    """Returns `A A^H` or `A^H A`, whichever is smaller, for each matrix A."""
    wide = matrices.shape[1] <= matrices.shape[2]
    if len(matrices) == 1 and np.isrealobj(matrices):
        matrix = matrices[0] if wide else matrices[0].T
        return tf.constant((matrix @ matrix.T)[np.newaxis])  # NumPy uses the symmetry, and computes half of it
    stack = tf.constant(matrices)
    return tf.linalg.matmul(stack, stack, adjoint_a=not wide, adjoint_b=wide)


def _estimate(squares: tf.Tensor) -> float:
    """Returns an estimate of the largest singular value, which may be too low, because a proof follows."""
    vectors = tf.constant(np.random.default_rng(0).normal(size=(*squares.shape[:2], 1)), squares.dtype)
    for _ in range(_POWER_STEPS):
        vectors, _ = tf.linalg.normalize(vectors, axis=1)
        vectors = tf.linalg.matmul(squares, vectors)
    largest = np.asarray(squares[int(np.argmax(np.linalg.norm(vectors, axis=(1, 2))))])
    top = top_vector(lambda vector: largest @ vector, len(largest), _REFINING_STEPS)
    return float(np.sqrt(np.linalg.norm(largest @ top) / np.linalg.norm(top)))


def _is_proved(squares: tf.Tensor, bound: float) -> bool:
    """Returns whether `bound**2 - square` has a Cholesky factorization, for every square.

    For a matrix without factorization, TensorFlow raises an error, or returns NaN or zeros, depending on its version, the dtype
    and the device. So the factors are checked: their diagonals must be positive, and the sums of the squares of their rows must
    equal the diagonal of the matrix.
    """
    differences = bound**2 * tf.eye(squares.shape[1], dtype=squares.dtype) - squares
    try:
        factors = tf.linalg.cholesky(differences)
    except tf.errors.InvalidArgumentError:
        return False
    rows = np.asarray(tf.reduce_sum(tf.abs(factors) ** 2, axis=-1))
    agrees = np.abs(rows - np.real(tf.linalg.diag_part(differences))) <= _FACTOR_ROUNDING * bound**2
    return bool(np.all(agrees) and np.all(np.real(tf.linalg.diag_part(factors)) > 0.0))
