"""Random bases follow the Haar measure, and rotations between bases follow the laws of powers."""

import numpy as np
import pytest
import tensorflow as tf

from intriguing.units.directions import fractional_rotations, haar_bases, random_directions

stats = pytest.importorskip("scipy.stats", reason="distributions come from SciPy (extra test)")

ATOL_ORTHOGONAL = 1e-5
ATOL_POWER = 1e-5  # computed in double precision, returned in single precision
P_REJECTED = 1e-3  # seeds are fixed, so that results are reproducible


def entry_distribution(num_features):
    """Returns the distribution of a coordinate of a uniform direction: (x + 1) / 2 is Beta((n - 1) / 2, (n - 1) / 2)."""
    half = (num_features - 1) / 2
    return stats.beta(half, half, loc=-1, scale=2).cdf


def gram(bases):
    return np.einsum("...ij,...kj->...ik", bases, bases)


@pytest.mark.parametrize("num_features", [2, 5, 64])
def test_random_directions_have_length_one_and_are_uniform(num_features):
    directions = random_directions(4000, num_features, seed=1).numpy()
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0, atol=ATOL_ORTHOGONAL)
    for column in (0, num_features - 1):
        assert stats.kstest(directions[:, column], entry_distribution(num_features)).pvalue > P_REJECTED


@pytest.mark.parametrize(("num_bases", "num_features"), [(3, 2), (20, 50), (2, 200)])
def test_haar_bases_are_orthogonal(num_bases, num_features):
    bases = haar_bases(num_bases, num_features, seed=0).numpy()
    np.testing.assert_allclose(gram(bases), np.broadcast_to(np.eye(num_features), bases.shape), atol=ATOL_ORTHOGONAL)


@pytest.mark.parametrize("num_features", [3, 8])
def test_first_entry_and_trace_of_haar_bases_have_the_theoretical_distribution(num_features):
    bases = haar_bases(4000, num_features, seed=2).numpy()
    assert stats.kstest(bases[:, 0, 0], entry_distribution(num_features)).pvalue > P_REJECTED
    traces = np.trace(bases, axis1=1, axis2=2)  # mean 0 and variance 1 in any dimension
    assert abs(traces.mean()) < 4 / np.sqrt(4000)
    assert abs(traces.var() - 1.0) < 0.15
    assert abs((np.linalg.det(bases) > 0).mean() - 0.5) < 0.03


def test_qr_without_sign_correction_fails_the_distribution_test():
    orthogonal, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(4000, 3, 3)))
    assert stats.kstest(orthogonal[:, 0, 0], entry_distribution(3)).pvalue < P_REJECTED


def test_draws_depend_only_on_the_seed():
    np.testing.assert_array_equal(haar_bases(2, 4, seed=5), haar_bases(2, 4, seed=5))
    assert np.abs(haar_bases(2, 4, seed=5) - haar_bases(2, 4, seed=6)).max() > 0.1


@pytest.fixture(scope="module")
def bases():
    return haar_bases(6, 40, seed=3)


def test_powers_interpolate_between_the_natural_and_the_random_basis(bases):
    start, end = fractional_rotations(bases, tf.constant([0.0, 1.0])).numpy()
    np.testing.assert_allclose(start, np.broadcast_to(np.eye(40), start.shape), atol=ATOL_POWER)
    np.testing.assert_allclose(np.linalg.det(end), 1.0, atol=1e-3)
    turned = np.sign(np.linalg.det(bases.numpy()))
    assert set(turned) == {-1.0, 1.0}, "the sample must hold reflections and rotations"
    np.testing.assert_allclose(end[:, :-1], bases.numpy()[:, :-1], atol=ATOL_POWER)
    np.testing.assert_allclose(end[:, -1], turned[:, np.newaxis] * bases.numpy()[:, -1], atol=ATOL_POWER)


def test_powers_are_orthogonal_and_additive_in_the_exponent(bases):
    quarter, half, whole = fractional_rotations(bases, tf.constant([0.25, 0.5, 1.0])).numpy()
    np.testing.assert_allclose(gram(quarter), np.broadcast_to(np.eye(40), quarter.shape), atol=ATOL_ORTHOGONAL)
    np.testing.assert_allclose(quarter @ quarter, half, atol=ATOL_POWER)
    np.testing.assert_allclose(half @ half, whole, atol=ATOL_POWER)


def test_powers_use_the_smaller_rotation_angle():
    angle = 3.0  # radians, nearly half a turn
    quarter_turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    half = fractional_rotations(tf.constant(quarter_turn[np.newaxis]), tf.constant([0.5])).numpy()[0, 0]
    np.testing.assert_allclose(half[0, 0], np.cos(angle / 2), atol=ATOL_POWER)
    np.testing.assert_allclose(half[1, 0], np.sin(angle / 2), atol=ATOL_POWER)
