"""The nearest point of a box under linear constraints, compared with SciPy in float64."""

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from intriguing.optimize.box_qp import nearest_point
from intriguing.pixels import PixelBox

scipy_optimize = pytest.importorskip("scipy.optimize", reason="the oracle is SciPy's L-BFGS-B on the dual (extra test)")

BOX = PixelBox()
NUM_ROWS, NUM_PIXELS = 24, 40
RTOL_DISTANCE = 1e-4  # a residual of 1e-5 of the distance in up to nine constraints, each with its own multiplier
ATOL_RESIDUAL = 5e-5  # 1e-5 of distances of up to two, and the rounding of sums of forty products of order one
ATOL_ROUNDING = 1e-5  # of float32 slacks of order ten, as lengths
ATOL_BATCH = 1e-4  # products in another order for one row; another Newton step may be taken
ALWAYS_MET = 1e9  # the offset that the boundary search writes for removed constraints


class Problem(NamedTuple):
    center: np.ndarray  # [rows, n]
    normals: np.ndarray  # [rows, constraints, n]
    offsets: np.ndarray  # [rows, constraints]


def gray(rng, shape):
    return rng.uniform(size=shape)


def black_and_white(rng, shape):
    """Returns centers like digits, with many pixels at a bound."""
    return np.clip(rng.normal(0.3, 0.8, size=shape), 0.0, 1.0)


def random_problem(num_constraints, *, centers=gray, seed=0):
    """Returns constraints that are active and that some point of the box satisfies."""
    rng = np.random.default_rng(seed)
    center = centers(rng, (NUM_ROWS, NUM_PIXELS))
    normals = rng.normal(size=(NUM_ROWS, num_constraints, NUM_PIXELS))
    witness = rng.uniform(size=(NUM_ROWS, NUM_PIXELS))
    # The feasible point is one tenth away in every pixel: no constraint holds at the center, and all hold there.
    common = rng.normal(size=(NUM_ROWS, 1, NUM_PIXELS))
    normals = normals + common
    witness = np.clip(center + 0.6 * np.sign(common[:, 0]), 0.0, 1.0)
    offsets = -np.einsum("rkn,rn->rk", normals, 0.3 * center + 0.7 * witness)
    return Problem(center.astype(np.float32), normals.astype(np.float32), offsets.astype(np.float32))


@tf.function(jit_compile=True, autograph=False, reduce_retracing=False)
def solve(center, normals, offsets, multipliers):
    return nearest_point(center, normals, offsets, pixel_box=BOX, multipliers=multipliers)


def solved(problem, multipliers=None):
    if multipliers is None:
        multipliers = np.zeros_like(problem.offsets)
    return solve(*map(tf.constant, problem), tf.convert_to_tensor(multipliers))


def exact(center, normals, offsets):
    """Solves the dual by L-BFGS-B in float64. Returns the point and a certified lower bound of its distance."""
    center, normals, offsets = (array.astype(np.float64) for array in (center, normals, offsets))

    def negative_dual(multipliers):
        point = np.clip(center + normals.T @ multipliers, 0.0, 1.0)
        slack = normals @ point + offsets
        return multipliers @ slack - 0.5 * np.sum((point - center) ** 2), slack

    solution = scipy_optimize.minimize(
        negative_dual, np.zeros(len(offsets)), jac=True, bounds=[(0, None)] * len(offsets), method="L-BFGS-B",
        options={"maxiter": 10000, "maxfun": 20000, "ftol": 1e-16, "gtol": 1e-12, "maxcor": 30},
    )  # fmt: skip
    return np.clip(center + normals.T @ solution.x, 0.0, 1.0), np.sqrt(max(0.0, -2.0 * solution.fun))


def slack_as_length(problem, position):
    """Returns the slack, float64 `[rows, constraints]`, in units of |r|. It is negative for violated constraints."""
    normals = problem.normals.astype(np.float64)
    slack = np.einsum("rkn,rn->rk", normals, position.numpy().astype(np.float64)) + problem.offsets
    return slack / (np.linalg.norm(normals, axis=2) + 1e-20)


def distances(problem, position):
    return np.linalg.norm(position.numpy().astype(np.float64) - problem.center, axis=1)


def in_the_box(position):
    return bool(tf.reduce_all(BOX.contains(position)))


all_numbers_of_constraints = pytest.mark.parametrize("num_constraints", [1, 3, 9])
all_centers = pytest.mark.parametrize("centers", [gray, black_and_white])


@all_numbers_of_constraints
@all_centers
def test_point_is_as_near_as_the_point_of_scipy(num_constraints, centers):
    problem = random_problem(num_constraints, centers=centers)
    found = solved(problem)
    points, floors = zip(*map(exact, *problem), strict=True)
    assert np.mean([(point <= 0.0) | (point >= 1.0) for point in points]) > 0.05  # the bounds are active
    assert min(floors) > 0.1
    ratios = distances(problem, found.position) / floors
    assert ratios.min() >= 1.0 - RTOL_DISTANCE
    assert ratios.max() <= 1.0 + RTOL_DISTANCE
    np.testing.assert_array_less(found.residual, ATOL_RESIDUAL)


@all_numbers_of_constraints
@all_centers
def test_constraint_violations_are_at_most_the_residual(num_constraints, centers):
    problem = random_problem(num_constraints, centers=centers)
    found = solved(problem)
    violation = np.maximum(0.0, -slack_as_length(problem, found.position)).max(axis=1)
    assert np.all(violation <= found.residual.numpy() + ATOL_ROUNDING)


@all_numbers_of_constraints
@all_centers
def test_points_stay_in_the_box_and_multipliers_are_nonnegative(num_constraints, centers):
    found = solved(random_problem(num_constraints, centers=centers))
    assert in_the_box(found.position)
    assert found.multipliers.numpy().min() >= 0.0


def test_satisfied_constraints_give_zero_distance():
    problem = random_problem(3)
    outside = np.clip(problem.center, 0.2, 0.8) * 3.0 - 1.0  # some pixels of the center lie outside the box
    at_center = np.einsum("rkn,rn->rk", problem.normals, np.clip(outside, 0.0, 1.0))
    found = solved(problem._replace(center=outside.astype(np.float32), offsets=(1.0 - at_center).astype(np.float32)))
    np.testing.assert_array_equal(found.position, np.clip(outside.astype(np.float32), 0.0, 1.0))
    np.testing.assert_array_equal(found.multipliers, 0.0)
    np.testing.assert_array_equal(found.residual, 0.0)


@pytest.mark.parametrize("normal", [0.0, 1.0, 1e3])
def test_distant_constraint_is_ignored(normal):
    problem = random_problem(3)
    alone = solved(Problem(problem.center, problem.normals[:, :1], problem.offsets[:, :1]))
    normals, offsets = problem.normals.copy(), problem.offsets.copy()
    normals[:, 1:] *= normal
    offsets[:, 1:] = ALWAYS_MET
    found = solved(Problem(problem.center, normals, offsets))
    np.testing.assert_allclose(found.position, alone.position, atol=ATOL_BATCH)
    np.testing.assert_array_equal(found.multipliers[:, 1:], 0.0)
    np.testing.assert_array_less(found.residual, ATOL_RESIDUAL)


def test_infeasible_problem_has_a_residual_and_finite_results():
    problem = random_problem(3)
    impossible = problem._replace(offsets=problem.offsets - 1e3)
    possible = np.arange(NUM_ROWS) % 2 == 0
    offsets = np.where(possible[:, np.newaxis], problem.offsets, impossible.offsets)
    found = solved(problem._replace(offsets=offsets))
    for tensor in found:
        assert np.isfinite(tensor).all()
    assert in_the_box(found.position)
    assert found.residual.numpy()[~possible].min() > 1.0
    assert found.residual.numpy()[possible].max() < ATOL_RESIDUAL  # infeasible rows do not affect feasible ones


def test_contradictory_constraints_leave_a_residual():
    problem = random_problem(1)
    normals = np.concatenate([problem.normals, -problem.normals], axis=1)
    offsets = np.concatenate([problem.offsets, -problem.offsets - 1.0], axis=1)
    found = solved(Problem(problem.center, normals, offsets))
    for tensor in found:
        assert np.isfinite(tensor).all()
    assert found.residual.numpy().min() > 0.0
    assert in_the_box(found.position)


def test_repeated_constraint_counts_once():
    once = random_problem(1)
    scales = np.array([1.0, 1.0, 7.0], np.float32)  # parallel normals of different lengths
    thrice = Problem(once.center, once.normals * scales[:, np.newaxis], once.offsets * scales)
    alone, found = solved(once), solved(thrice)
    np.testing.assert_allclose(distances(thrice, found.position), distances(once, alone.position), rtol=RTOL_DISTANCE)
    np.testing.assert_array_less(found.residual, ATOL_RESIDUAL)


@all_numbers_of_constraints
def test_a_row_ignores_its_batch(num_constraints):
    problem = random_problem(num_constraints)
    together = solved(problem)
    for row in (0, NUM_ROWS - 1):
        alone = solved(Problem(*(array[row : row + 1] for array in problem)))
        np.testing.assert_allclose(alone.position[0], together.position[row], atol=ATOL_BATCH)


@all_numbers_of_constraints
def test_start_at_the_solution_is_kept(num_constraints):
    problem = random_problem(num_constraints)
    cold = solved(problem)
    warm = solved(problem, cold.multipliers)
    np.testing.assert_allclose(warm.position, cold.position, atol=ATOL_BATCH)
    np.testing.assert_array_less(warm.residual, ATOL_RESIDUAL)


def test_solution_is_equivariant_to_scaling_and_shifting_the_box():
    """The same problem in a box that is twice as wide and shifted."""
    problem = random_problem(3)
    shifted = Problem(2.0 * problem.center - 1.0, problem.normals, 2.0 * problem.offsets + problem.normals.sum(axis=2))
    found = nearest_point(*map(tf.constant, shifted), pixel_box=PixelBox(-1.0, 1.0), multipliers=tf.zeros([NUM_ROWS, 3]))
    np.testing.assert_allclose(found.position, 2.0 * solved(problem).position - 1.0, atol=2.0 * ATOL_BATCH)
