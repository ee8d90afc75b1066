"""The search along the decision boundary, against the exact floor of linear classifiers."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack import objective
from intriguing.attack.boundary_problem import BoundaryProblem
from intriguing.attack.boundary_search import BoundarySearch, search_boundary
from intriguing.pixels import PixelBox

pytest.importorskip("scipy", reason="the exact floor needs SciPy (extra test)")

from tests.oracles.linear_classifier import nearest_of_class, random_classifier, two_class_closed_form

BOX = PixelBox()
NUM_PIXELS, NUM_CLASSES, NUM_IMAGES = 50, 6, 16
BUDGET = 300
RTOL_MEAN = 5e-4  # images lie beyond the boundary by the rounding error; the search stops at 2e-4 of the distance
RTOL_WORST = 5e-3
RTOL_FLOOR = 1e-4  # float32 logits against a floor in float64
RTOL_BATCH = 2e-3  # rounding may decide whether a run has converged, within 2e-4 of the distance
SHORT_SEARCH = BoundarySearch(num_starts=2)


def linear_problem(num_classes=NUM_CLASSES, *, budget=BUDGET, digits=False, seed=0):
    rng = np.random.default_rng(seed)
    classifier = random_classifier(rng, NUM_PIXELS, num_classes)
    images = rng.normal(0.3, 0.8, size=(NUM_IMAGES, NUM_PIXELS)) if digits else rng.uniform(size=(NUM_IMAGES, NUM_PIXELS))
    images = np.clip(images, 0.0, 1.0).astype(np.float32)
    labels = classifier(images).numpy().argmax(axis=1)
    wanted = ((labels + 1 + rng.integers(num_classes - 1, size=NUM_IMAGES)) % num_classes).astype(np.int32)
    rivals = ~objective.accepted_classes(tf.constant(wanted), num_classes, targeted=True)
    budgets = tf.constant(np.broadcast_to(budget, [NUM_IMAGES]).astype(np.int32))
    images = tf.constant(images)
    scale = objective.scale_against_tiny(classifier(images), 2.0**-24)
    return classifier, BoundaryProblem(images, images, tf.constant(wanted), rivals, budgets, budgets, scale)


def searched(classifier, problem, *, settings=SHORT_SEARCH, num_slots=16):
    kernel, bias = (tf.constant(weights, tf.float32) for weights in classifier)
    return compiled(settings, num_slots)(kernel, bias, problem)


@functools.cache
def compiled(settings, num_slots):
    """Compiles the search like the attack. Without compilation it takes minutes."""

    @tf.function(jit_compile=True, autograph=False)
    def program(kernel, bias, problem):
        return search_boundary(
            lambda weights: lambda images: images @ weights[0] + weights[1], [kernel, bias], problem, pixel_box=BOX, settings=settings,
            num_rivals=problem.rivals.shape[1] - 1, num_slots=num_slots,
        )  # fmt: skip

    return program


def cost_of_a_step(num_rivals):
    """The cost of a step: a gradient for each margin, and eight forward passes that count half."""
    return num_rivals + 4


@pytest.mark.parametrize("digits", [False, True], ids=["gray", "digits"])
def test_ends_at_the_exact_floor_of_a_linear_classifier(digits):
    classifier, problem = linear_problem(digits=digits)
    found = searched(classifier, problem)
    floors = [
        nearest_of_class(classifier, image, int(target)).floor
        for image, target in zip(problem.clean.numpy(), problem.wanted, strict=True)
    ]
    ratios = found.length.numpy() / floors
    assert ratios.mean() <= 1.0 + RTOL_MEAN
    assert ratios.max() <= 1.0 + RTOL_WORST
    assert ratios.min() >= 1.0 - RTOL_FLOOR


def test_reaches_the_closed_form_for_two_classes_away_from_the_bounds():
    classifier, problem = linear_problem(2)
    gray = 0.5 + 0.02 * (problem.clean - 0.5)
    # The margin at the center of the box is small, so that all changes of pixels are small.
    bias = classifier.bias - classifier.logits(np.full(NUM_PIXELS, 0.5)).astype(np.float32)
    classifier = classifier._replace(bias=bias)
    wanted = tf.argmin(classifier(gray), axis=1, output_type=tf.int32)
    rivals = ~objective.accepted_classes(wanted, 2, targeted=True)
    found = searched(classifier, problem._replace(clean=gray, start=gray, wanted=wanted, rivals=rivals))
    optimum = [two_class_closed_form(classifier, image, int(k)) for image, k in zip(gray.numpy(), wanted, strict=True)]
    # With a length of 0.02 and logits of order one, the margin that success requires is not negligible.
    gradient_norm = np.linalg.norm(classifier.kernel[:, 0] - classifier.kernel[:, 1])
    beyond = 2.0 * problem.scale.resolution(classifier(problem.clean)).numpy() / gradient_norm
    assert np.all(found.length.numpy() >= np.multiply(1.0 - RTOL_FLOOR, optimum))
    assert np.all(found.length.numpy() <= np.multiply(1.0 + RTOL_WORST, optimum) + beyond)


def test_positions_stay_within_bounds_and_lengths_match_them():
    classifier, problem = linear_problem(digits=True)
    found = searched(classifier, problem)
    assert bool(tf.reduce_all(BOX.contains(found.position)))
    np.testing.assert_allclose(found.length, tf.norm(found.position - problem.clean, axis=1), rtol=1e-5)
    assert bool(tf.reduce_all(problem.scale.succeeded(classifier(found.position), ~problem.rivals)))


def test_all_runs_converge_within_the_budget_on_a_linear_classifier():
    found = searched(*linear_problem())
    assert bool(tf.reduce_all(found.converged))
    assert int(tf.reduce_max(found.num_evaluations)) < BUDGET


def test_search_of_a_linear_classifier_ends_when_runs_agree():
    classifier, problem = linear_problem()
    spared = searched(classifier, problem, settings=BoundarySearch(num_starts=6, num_agreeing=2))
    all_six = searched(classifier, problem, settings=BoundarySearch(num_starts=6, num_agreeing=6))
    assert bool(tf.reduce_all(spared.converged & all_six.converged))
    assert np.mean(spared.num_evaluations) < 0.6 * np.mean(all_six.num_evaluations)
    np.testing.assert_allclose(spared.length, all_six.length, rtol=RTOL_BATCH)


def test_every_row_keeps_to_its_own_budget():
    step = cost_of_a_step(SHORT_SEARCH.num_rivals)
    budgets = np.arange(NUM_IMAGES) * 4  # some are not multiples of the cost of a step
    found = searched(*linear_problem(budget=budgets), num_slots=5)
    spent = found.num_evaluations.numpy()
    assert np.all(spent <= budgets)
    assert np.all(spent % step == 0)
    unfinished = ~found.converged.numpy()
    assert np.all(spent[unfinished] + step > budgets[unfinished])  # the budget is used up


@pytest.mark.parametrize("budget", [0, 6])
def test_budget_below_the_cost_of_a_step_is_not_spent(budget):
    found = searched(*linear_problem(budget=budget))
    assert np.all(np.isposinf(found.length))
    assert not found.converged.numpy().any()
    np.testing.assert_array_equal(found.num_evaluations, 0)


def test_class_without_images_in_the_box_has_infinite_distance():
    classifier, problem = linear_problem()
    wanted = tf.zeros([NUM_IMAGES], tf.int32)
    rivals = ~objective.accepted_classes(wanted, NUM_CLASSES, targeted=True)
    bias = classifier.bias.copy()
    bias[0] = -1e4
    found = searched(classifier._replace(bias=bias), problem._replace(wanted=wanted, rivals=rivals))
    assert np.all(np.isposinf(found.length))
    assert not found.converged.numpy().any()
    assert np.isfinite(found.position).all()
    assert np.all(found.num_evaluations <= BUDGET)


@pytest.mark.parametrize("num_slots", [1, 5, 100])
def test_a_row_ignores_the_number_of_slots(num_slots):
    classifier, problem = linear_problem()
    reference, found = searched(classifier, problem), searched(classifier, problem, num_slots=num_slots)
    np.testing.assert_allclose(found.length, reference.length, rtol=RTOL_BATCH)


def test_a_row_ignores_its_batch():
    classifier, problem = linear_problem()
    together = searched(classifier, problem)
    for rows in (slice(0, 1), slice(7, 12)):
        alone = searched(classifier, tf.nest.map_structure(lambda tensor, rows=rows: tensor[rows], problem))
        np.testing.assert_allclose(alone.length, together.length[rows], rtol=RTOL_BATCH)


@pytest.mark.parametrize("setting", ["num_starts", "num_agreeing", "long_steps", "short_steps", "num_rivals", "num_candidates"])
def test_settings_refuse_a_number_below_one(setting):
    with pytest.raises(ValueError, match=f"{setting} must be at least 1; received 0"):
        BoundarySearch(**{setting: 0})


def test_settings_refuse_fewer_constraints_than_a_step_adds():
    with pytest.raises(ValueError, match="num_constraints must be at least num_rivals, 3; received 2"):
        BoundarySearch(num_constraints=2)


@pytest.mark.parametrize("setting", ["noise", "tolerance"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_settings_refuse_numbers_that_are_not_positive(setting, value):
    with pytest.raises(ValueError, match=f"{setting} must be positive; received {value}"):
        BoundarySearch(**{setting: value})


def test_successful_search_without_restart_ends_after_its_steps():
    classifier, problem = linear_problem()
    steps = {"num_starts": 1, "long_steps": 3, "short_steps": 2, "scales": (0.0, 1.0, 3.0), "tolerance": 1e-9}
    cost = 3 + 2  # a gradient for each rival, and three forward passes that count half, rounded up
    found = searched(classifier, problem, settings=BoundarySearch(restart=False, **steps))
    restarted = searched(classifier, problem, settings=BoundarySearch(**steps))
    ended = np.isfinite(found.length.numpy())
    assert ended.any()
    assert found.num_evaluations.numpy()[ended].max() <= BUDGET // 2
    np.testing.assert_array_equal(found.num_evaluations.numpy() % cost, 0)
    unconverged = ~restarted.converged.numpy()
    assert unconverged.any()
    assert restarted.num_evaluations.numpy()[unconverged].min() > BUDGET - cost
    assert np.all(restarted.length <= found.length + 1e-6)


def test_unordered_scales_are_refused():
    with pytest.raises(ValueError, match=r"scales must hold at least one number, in increasing order; received \(1.0, 0.0\)."):
        BoundarySearch(scales=(1.0, 0.0))
