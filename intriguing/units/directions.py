"""Random directions, Haar-random bases, and bases between the natural one and a random one."""

from __future__ import annotations

import tensorflow as tf

_TILT = 0.7  # radians; an arbitrary angle that is not a simple fraction of pi


def random_directions(num_directions: int, num_features: int, *, seed: int) -> tf.Tensor:
    """Draws independent directions from the uniform distribution on the sphere.

    Args:
        num_directions: Number of directions.
        num_features: Dimension of the space.
        seed: Seed of the draw; the directions are the same on every machine, up to rounding.

    Returns:
        Float32 `[num_directions, num_features]`, rows of length 1.

    Example:
        >>> directions = random_directions(5, 100, seed=0)
        >>> bool(tf.reduce_all(tf.abs(tf.norm(directions, axis=1) - 1.0) < 1e-5))
        True
    """
    return tf.math.l2_normalize(_normal([num_directions, num_features], seed), axis=1)


def haar_bases(num_bases: int, num_features: int, *, seed: int) -> tf.Tensor:
    """Draws orthonormal bases from the Haar measure of the orthogonal group.

    The matrix Q of a QR factorization of a Gaussian matrix is Haar-distributed only if the diagonal of R is positive, which
    libraries do not guarantee; the signs are corrected here. `scipy.stats.ortho_group` is not used: it takes four to five times
    as long for 100 bases of 100 or 400 features, and its bases differ from those of recorded results.

    Args:
        num_bases: Number of bases.
        num_features: Dimension of the space.
        seed: Seed of the draw.

    Returns:
        Float32 `[num_bases, num_features, num_features]`; the rows of a basis are its directions.

    Example:
        >>> bases = haar_bases(3, 20, seed=0)
        >>> bool(tf.reduce_all(tf.abs(tf.matmul(bases, bases, transpose_a=True) - tf.eye(20)) < 1e-5))
        True

    References:
        Mezzadri, How to generate random matrices from the classical compact groups, Notices of the AMS 54, 2007.
    """
    orthogonal, triangular = tf.linalg.qr(_normal([num_bases, num_features, num_features], seed))
    signs = tf.where(tf.linalg.diag_part(triangular) < 0.0, -1.0, 1.0)
    # The transpose of a Haar-distributed matrix is also Haar-distributed.
    return tf.linalg.matrix_transpose(orthogonal * signs[:, tf.newaxis, :])


def fractional_rotations(bases: tf.Tensor, alphas: tf.Tensor) -> tf.Tensor:
    """Returns Q**alpha, on the shortest path of rotations from the natural basis (alpha 0) to each basis (alpha 1).

    A basis with determinant -1 is not a rotation; the sign of its last direction is reversed first.

    Args:
        bases: Float32 `[bases, n, n]`, orthogonal.
        alphas: Float32 `[alphas]`.

    Returns:
        Float32 `[alphas, bases, n, n]`, orthogonal.

    Example:
        >>> bases = haar_bases(3, 20, seed=0)
        >>> fractional_rotations(bases, tf.constant([0.0, 0.5, 1.0])).shape
        TensorShape([3, 3, 20, 20])

    References:
        Bau et al., Network Dissection, 2017, section 3.2, which uses such rotations.
    """
    # Double precision: in single precision, the eigenvectors of two close eigenvalues would mix. This runs once, not on a TPU.
    rotations = _proper(_orthogonalized(tf.cast(bases, tf.float64)))
    unitary, angles = _eigen_angles(tf.cast(rotations, tf.complex128))
    turned = tf.exp(1j * tf.cast(tf.cast(alphas, tf.float64)[:, tf.newaxis, tf.newaxis] * angles, tf.complex128))
    powers = tf.einsum("bij,abj,bkj->abik", unitary, turned, tf.math.conj(unitary))
    return tf.cast(tf.math.real(powers), tf.float32)


def _normal(shape: list[int], seed: int) -> tf.Tensor:
    return tf.random.stateless_normal(shape, [seed, 0], alg="philox")


def _orthogonalized(bases: tf.Tensor) -> tf.Tensor:
    """Takes one Newton-Schulz step, which doubles the number of correct digits of an orthogonal matrix."""
    return 1.5 * bases - 0.5 * tf.matmul(bases, tf.matmul(bases, bases, transpose_a=True))


def _proper(bases: tf.Tensor) -> tf.Tensor:
    signs = tf.sign(tf.linalg.det(bases))
    last = tf.one_hot(bases.shape[-1] - 1, bases.shape[-1], dtype=bases.dtype)
    return bases * (1.0 - last * (1.0 - signs[:, tf.newaxis]))[:, :, tf.newaxis]


def _eigen_angles(rotations: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns unitary eigenvectors `[bases, n, n]` and the angles `[bases, n]` of the eigenvalues `exp(1j * angle)`.

    A rotation Q shares its eigenvectors with the Hermitian matrix `exp(-1j * t) * Q + exp(1j * t) * Q.T`, whose eigenvalues are
    `2 * cos(angle - t)`; the tilt t separates the eigenvalues of a conjugate pair, and the eigenvectors of a Hermitian matrix
    are orthogonal.
    """
    tilt = tf.exp(tf.complex(tf.zeros([], tf.float64), tf.constant(-_TILT, tf.float64)))
    _, unitary = tf.linalg.eigh(tilt * rotations + tf.math.conj(tilt) * tf.linalg.adjoint(rotations))
    eigenvalues = tf.reduce_sum(tf.math.conj(unitary) * tf.matmul(rotations, unitary), axis=1)
    return unitary, tf.math.angle(eigenvalues)
