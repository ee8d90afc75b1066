"""The smooth descent against exact minima, its budget, and its search among quantized images."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

pytest.importorskip("scipy", reason="the exact floor needs SciPy (extra test)")

from intriguing.attack import PHOTOGRAPH_SEARCH, DistortionSearch, SmoothDescent, minimize_distortion, objective
from intriguing.attack.boundary_problem import BoundaryProblem
from intriguing.attack.smoothed_gradient import descend_smoothly
from intriguing.pixels import PixelBox
from tests.oracles.linear_classifier import nearest_of_class, random_classifier

NUM_PIXELS, NUM_CLASSES, NUM_IMAGES, NUM_SLOTS = 60, 8, 12, 5
BEYOND = 1.02  # the descent aims this far beyond the boundary
MAX_CHECKS = 24  # forward passes for the final bisection; each counts half an evaluation
LEVELS_BEYOND = 1.05  # of 60 pixels on 16 levels


@pytest.fixture(scope="module")
def linear():
    return random_classifier(np.random.default_rng(3), NUM_PIXELS, NUM_CLASSES, scale=0.3)


def problem_of(classifier, budget=1000):
    rng = np.random.default_rng(0)
    images = np.round(15 * np.clip(rng.normal(0.4, 0.5, size=(NUM_IMAGES, NUM_PIXELS)), 0, 1)).astype(np.float32) / 15
    targets = (classifier.logits(images).argmax(axis=1) + 1) % NUM_CLASSES
    rivals = np.arange(NUM_CLASSES) != targets[:, np.newaxis]
    budgets = np.broadcast_to(np.int32(budget), NUM_IMAGES)
    columns = map(tf.constant, (images, images, targets.astype(np.int32), rivals, budgets, budgets))
    return BoundaryProblem(*columns, objective.scale_against_tiny(classifier(images), 2.0**-24))


def descend(classifier, problem, **options):
    @tf.function(autograph=False)
    def program():
        descent = options.pop("descent", SmoothDescent())
        return descend_smoothly(
            lambda _: classifier, [], problem, pixel_box=PixelBox(), descent=descent, num_slots=NUM_SLOTS, **options
        )

    return tf.nest.map_structure(lambda tensor: tensor.numpy(), program())


def assert_adversarial(classifier, problem, point):
    assert np.isfinite(point.length).all() and not point.converged.any()
    assert point.position.min() >= 0.0 and point.position.max() <= 1.0
    np.testing.assert_array_equal(classifier.logits(point.position).argmax(axis=1), problem.wanted)
    np.testing.assert_allclose(np.linalg.norm(point.position - problem.clean, axis=1), point.length, rtol=1e-5)


def floors(classifier, problem):
    return np.array(
        [nearest_of_class(classifier, *pair).floor for pair in zip(problem.clean.numpy(), problem.wanted.numpy(), strict=True)]
    )


def test_descent_ends_close_to_the_exact_floor_of_a_linear_network(linear):
    problem = problem_of(linear)
    point = descend(linear, problem)
    assert_adversarial(linear, problem, point)
    assert (point.length >= (1 - 1e-4) * floors(linear, problem)).all()
    assert point.length.mean() <= BEYOND * floors(linear, problem).mean()
    least = SmoothDescent().num_steps
    assert (least < point.num_evaluations).all() and (point.num_evaluations <= least + MAX_CHECKS // 2).all()


def test_quantized_descent_ends_at_levels_close_to_the_exact_floor(linear):
    problem = problem_of(linear)
    point = descend(linear, problem, quantization_levels=16)
    assert_adversarial(linear, problem, point)
    np.testing.assert_allclose(15 * point.position, np.round(15 * point.position), atol=1e-4)
    assert point.length.mean() <= LEVELS_BEYOND * floors(linear, problem).mean()


@pytest.mark.parametrize("quantization_levels", [None, 16])
@pytest.mark.parametrize("budget", [0, 1, 13, 40, 97])
def test_no_row_spends_more_than_its_budget(linear, budget, quantization_levels):
    problem = problem_of(linear, budget)
    point = descend(linear, problem, quantization_levels=quantization_levels)
    assert point.num_evaluations.max() <= budget
    found = np.isfinite(point.length)
    assert not found.any() if budget < 2 else found.any()  # one evaluation only checks the clean image
    np.testing.assert_array_equal(linear.logits(point.position[found]).argmax(axis=1), problem.wanted.numpy()[found])


def test_unreachable_class_is_not_found(linear):
    hopeless = linear._replace(kernel=0 * linear.kernel)
    problem = problem_of(hopeless)
    for quantization_levels in (None, 16):
        point = descend(hopeless, problem, quantization_levels=quantization_levels)
        assert np.isinf(point.length).all()
        np.testing.assert_array_equal(point.position, problem.clean)


@pytest.mark.parametrize("quantization_levels", [None, 16])
def test_a_row_does_not_depend_on_the_others(linear, quantization_levels):
    problem = problem_of(linear)
    backward = tf.nest.map_structure(lambda tensor: tensor[::-1], problem)
    budgets = 20 + 3 * np.arange(NUM_IMAGES, dtype=np.int32)
    budgets[NUM_IMAGES - 1 - 7] = 1000
    as_before = descend(linear, problem, quantization_levels=quantization_levels)
    among_others = descend(
        linear, backward._replace(max_evaluations=tf.constant(budgets)), quantization_levels=quantization_levels
    )
    row = among_others.position[NUM_IMAGES - 1 - 7]
    np.testing.assert_allclose(row, as_before.position[7], atol=1e-6)
    assert among_others.num_evaluations[NUM_IMAGES - 1 - 7] == as_before.num_evaluations[7]
    assert np.median(among_others.num_evaluations) < as_before.num_evaluations[7]
    alone = descend(linear, tf.nest.map_structure(lambda tensor: tensor[7:8], problem), quantization_levels=quantization_levels)
    np.testing.assert_allclose(alone.position[0], as_before.position[7], atol=1e-5)


@pytest.mark.parametrize("goal", ["targets", "labels"])
def test_photograph_search_reaches_the_floor_within_its_budget(linear, goal):
    problem = problem_of(linear)
    classes = problem.wanted if goal == "targets" else linear.logits(problem.clean.numpy()).argmax(axis=1)
    search = dataclasses.replace(PHOTOGRAPH_SEARCH, max_evaluations=150)
    found = minimize_distortion(linear, problem.clean, search=search, **{goal: classes})
    assert found.succeeded.numpy().all()
    assert found.num_evaluations.numpy().max() <= 150
    least = floors(linear, problem) / np.sqrt(NUM_PIXELS)
    if goal == "targets":
        assert (found.distortion.numpy() >= (1 - 1e-4) * least).all()
        assert found.distortion.numpy().mean() <= 1.002 * least.mean()
    else:
        assert (found.distortion.numpy() <= 1.002 * least).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": 0}, "num_steps must be at least 1; received 0"),
        ({"turns": (1.0,)}, r"turns must be two positive numbers, the first and the last; received \(1.0,\)"),
        ({"smoothing": (1.0, 0.0)}, r"smoothing must be two positive numbers, the first and the last; received \(1.0, 0.0\)"),
    ],
)
def test_invalid_descent_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SmoothDescent(**settings)


def test_a_descent_without_a_boundary_search_is_refused():
    with pytest.raises(ValueError, match="Pass boundary_search, too, or descent=None"):
        DistortionSearch(descent=SmoothDescent(), boundary_search=None)
