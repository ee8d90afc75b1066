"""Tests of the projection onto polytopes."""

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the projection needs SciPy (extra test)")

import scipy.optimize

from tests.oracles.polytope_projection import project_origin

RTOL_SOLVER = 1e-6  # tolerance of SLSQP in SciPy, the less precise solver


def random_polytope(rng, n=5, m=7):
    return rng.normal(size=(m, n)), rng.normal(size=m) - 0.3, -rng.uniform(size=n), rng.uniform(size=n)


def test_one_half_space_has_a_closed_form():
    found = project_origin(np.array([[3.0, 4.0]]), np.array([10.0]), np.full(2, -9.0), np.full(2, 9.0))
    np.testing.assert_allclose(found.point, [1.2, 1.6], rtol=1e-12)
    assert found.floor == pytest.approx(2.0, rel=1e-12)


def test_origin_is_its_own_projection():
    found = project_origin(np.array([[1.0, 0.0]]), np.array([-1.0]), np.zeros(2), np.ones(2))
    np.testing.assert_array_equal(found.point, np.zeros(2))
    assert found.floor == 0.0


def test_result_equals_a_general_solver_and_the_floor_equals_the_length():
    rng, num_found = np.random.default_rng(0), 0
    for _ in range(60):
        normals, offsets, lower, upper = random_polytope(rng)
        found = project_origin(normals, offsets, lower, upper)
        solution = scipy.optimize.minimize(
            lambda d: 0.5 * d @ d, np.zeros(5), jac=lambda d: d, method="SLSQP", bounds=list(zip(lower, upper, strict=True)),
            constraints={"type": "ineq", "fun": lambda d: normals @ d - offsets, "jac": lambda d: normals},  # noqa: B023
            options={"maxiter": 1000, "ftol": 1e-14},
        )  # fmt: skip
        if not np.isfinite(found.floor):
            assert not solution.success
            continue
        num_found += 1
        assert np.all(normals @ found.point >= offsets - 1e-9)
        assert np.all((lower <= found.point) & (found.point <= upper))
        assert np.linalg.norm(found.point) == pytest.approx(np.sqrt(2 * solution.fun), rel=RTOL_SOLVER, abs=1e-7)
        assert found.floor == pytest.approx(np.linalg.norm(found.point), rel=RTOL_SOLVER)
    assert 20 <= num_found <= 55  # both outcomes are common


def test_empty_polytope_has_infinite_distance():
    apart = np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([0.5, -0.4])
    assert project_origin(*apart, -np.ones(2), np.ones(2)).floor == np.inf
    beyond_the_box = np.array([[1.0, 1.0]]), np.array([2.5])
    assert project_origin(*beyond_the_box, -np.ones(2), np.ones(2)).floor == np.inf
    never = np.zeros((1, 2)), np.ones(1)
    assert project_origin(*never, -np.ones(2), np.ones(2)).floor == np.inf
