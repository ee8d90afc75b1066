"""L-BFGS in a box, compared with L-BFGS-B of SciPy in float64."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack import objective
from intriguing.optimize.box_lbfgs import BoxMinimization, minimize_in_box
from intriguing.pixels import PixelBox
from tests.oracles.linear_classifier import random_classifier

scipy_optimize = pytest.importorskip("scipy.optimize", reason="the oracle is SciPy's L-BFGS-B (extra test)")

BOX = PixelBox()
NUM_PIXELS, NUM_CLASSES, NUM_IMAGES = 60, 6, 24
ATOL_LOSS = 1e-5  # the loss is a difference of logits of order ten, each rounded to 1e-6
RTOL_OBJECTIVE = 1e-4  # at most 1.0001 times the objective of SciPy on 95 % of the images


RNG = np.random.default_rng(0)
CLASSIFIER = random_classifier(RNG, NUM_PIXELS, NUM_CLASSES)
# mostly black and white like digits, so that many pixels start at a bound
IMAGES = np.clip(RNG.normal(0.3, 0.8, size=(NUM_IMAGES, NUM_PIXELS)), 0.0, 1.0).astype(np.float32)
TARGETS = RNG.integers(NUM_CLASSES, size=NUM_IMAGES)
UNLIMITED = np.full(NUM_IMAGES, np.iinfo(np.int32).max, np.int32)
ALL = np.full(NUM_IMAGES, True)


def objective_of(c):
    accepted = objective.accepted_classes(tf.constant(TARGETS, tf.int32), NUM_CLASSES, targeted=True)
    return objective.penalty_objective(CLASSIFIER, tf.constant(IMAGES), accepted, tf.fill([NUM_IMAGES], c))


@functools.cache
def compiled(settings):
    """Compiles the minimization like the attack. Without compilation it takes minutes."""

    @tf.function(jit_compile=True)
    def program(c, in_work, max_evaluations):
        start, options = tf.constant(IMAGES), {"in_work": in_work, "max_evaluations": max_evaluations}
        return minimize_in_box(objective_of(c), start, pixel_box=BOX, settings=settings, **options)

    return program


def minimize(c, *, in_work=ALL, max_evaluations=UNLIMITED, settings=BoxMinimization()):
    return compiled(settings)(tf.constant(c), tf.constant(in_work), tf.constant(max_evaluations))


def exact_objective(classifier, image, target, c):
    kernel, bias = classifier.kernel.astype(np.float64), classifier.bias.astype(np.float64)

    def value_and_gradient(x):
        logits = x @ kernel + bias
        exponents = np.exp(logits - logits.max())
        probabilities = exponents / exponents.sum()
        value = c * np.sum((x - image) ** 2) - logits[target] + logits.max() + np.log(exponents.sum())
        return value, 2 * c * (x - image) + kernel @ (probabilities - np.eye(len(bias))[target])

    return value_and_gradient


@pytest.mark.parametrize("c", [0.02, 0.3, 5.0])
def test_objective_is_close_to_scipy_and_never_below_the_minimum(c):
    found = minimize(c).position.numpy()
    ratios = []
    for image, target, x in zip(IMAGES.astype(np.float64), TARGETS, found.astype(np.float64), strict=True):
        exact = exact_objective(CLASSIFIER, image, target, c)
        best = scipy_optimize.minimize(
            exact, image, jac=True, bounds=[(0, 1)] * NUM_PIXELS, method="L-BFGS-B",
            options={"maxiter": 5000, "maxfun": 10000, "ftol": 1e-15, "gtol": 1e-10},
        )  # fmt: skip
        ratios.append(exact(x)[0] / best.fun)
    assert np.quantile(ratios, 0.95) <= 1.0 + RTOL_OBJECTIVE
    assert min(ratios) >= 1.0 - 1e-6


def test_clipping_alone_does_not_reach_the_objective():
    """Shows that rounds over free pixels are needed: one round, which clips inside the objective, is not enough."""
    many, one = minimize(0.02), minimize(0.02, settings=BoxMinimization(max_rounds=1, iterations_per_round=400))
    assert float(tf.reduce_mean(one.objective / many.objective)) > 1.0 + 10 * RTOL_OBJECTIVE


def test_positions_stay_in_the_box_and_the_objective_matches_them():
    found = minimize(0.02)
    assert bool(tf.reduce_all(BOX.contains(found.position)))
    np.testing.assert_allclose(objective_of(0.02)(found.position)[0], found.objective, rtol=1e-5, atol=ATOL_LOSS)


def test_all_rows_are_active_and_unlimited_by_default():
    def minimized(**options):
        # Without XLA, which may sum in different orders, both results are identical.
        return tf.function(
            lambda start: minimize_in_box(
                objective_of(0.3), start, pixel_box=BOX, settings=BoxMinimization(max_rounds=1), **options
            ),
            autograph=False,
        )(tf.constant(IMAGES))

    explicit, default = minimized(in_work=tf.constant(ALL), max_evaluations=tf.constant(UNLIMITED)), minimized()
    np.testing.assert_array_equal(explicit.num_evaluations, default.num_evaluations)
    np.testing.assert_array_equal(explicit.objective, default.objective)


def test_inactive_rows_do_not_move_and_cost_one_evaluation():
    found = minimize(0.3, in_work=np.arange(NUM_IMAGES) % 2 == 0)
    np.testing.assert_array_equal(found.position[1::2], IMAGES[1::2])
    assert found.num_evaluations.numpy()[1::2].tolist() == [1] * (NUM_IMAGES // 2)
    assert found.num_evaluations.numpy()[::2].min() > 1


def test_exhausted_budget_is_reported():
    settings = BoxMinimization(max_rounds=1, iterations_per_round=1)
    assert not tf.reduce_any(minimize(0.02, settings=settings).finished)


@pytest.mark.parametrize("budget", [1, 30, 60])
def test_round_beyond_the_budget_of_a_row_is_neither_used_nor_counted(budget):
    free, value = minimize(0.02), objective_of(0.02)
    budgets = np.where(np.arange(NUM_IMAGES) % 2, budget, np.iinfo(np.int32).max).astype(np.int32)
    bound = minimize(0.02, max_evaluations=budgets)
    assert np.all(bound.num_evaluations <= budgets)
    assert np.all(bound.num_evaluations[1::2] < free.num_evaluations[1::2])  # these rows were stopped by the budget
    # Counted evaluations were used: with one the row stays at its start, with more its objective decreases.
    at_start = value(tf.constant(IMAGES))[0]
    moved = np.any(bound.position != IMAGES, axis=1)
    np.testing.assert_array_equal(moved, bound.num_evaluations.numpy() > 1)
    np.testing.assert_array_equal(bound.objective.numpy() < at_start.numpy() - ATOL_LOSS, moved)
    np.testing.assert_allclose(value(bound.position)[0], bound.objective, rtol=1e-5, atol=ATOL_LOSS)


def test_row_ends_with_the_last_round_within_its_budget():
    """With one evaluation less than two rounds cost, the row ends with the result of one round."""
    one = minimize(0.02, settings=BoxMinimization(max_rounds=1))
    two = minimize(0.02, settings=BoxMinimization(max_rounds=2))
    just_short = minimize(0.02, max_evaluations=two.num_evaluations - 1)
    went_on = two.num_evaluations > one.num_evaluations
    assert bool(tf.reduce_all(went_on))
    np.testing.assert_array_equal(just_short.num_evaluations, one.num_evaluations)
    np.testing.assert_allclose(just_short.objective, one.objective, rtol=1e-5)  # two programs round differently


def test_line_search_succeeds_on_a_regular_problem():
    assert not tf.reduce_any(minimize(0.3).line_search_failed)


@pytest.mark.parametrize("setting", ["max_rounds", "iterations_per_round", "num_correction_pairs"])
def test_settings_refuse_an_empty_budget(setting):
    with pytest.raises(ValueError, match=f"{setting} must be at least 1; received 0"):
        BoxMinimization(**{setting: 0})


def test_settings_refuse_a_tolerance_of_one():
    with pytest.raises(ValueError, match=r"relative_tolerance must lie in \[0, 1\); received 1.0"):
        BoxMinimization(relative_tolerance=1.0)
