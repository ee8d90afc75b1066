"""The first steps to the decision boundary, against the closed form of linear classifiers."""

import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack import objective
from intriguing.attack.boundary_problem import BoundaryProblem
from intriguing.attack.linear_steps import step_to_boundary
from intriguing.pixels import PixelBox

BOX = PixelBox()
UNBOUNDED = PixelBox(-np.inf, np.inf)
NUM_PIXELS, NUM_IMAGES = 40, 8
OVERSHOOT = 1.02
RTOL = 1e-4  # float32
ATOL = 3e-5  # steps aim beyond the rounding error
LONGEST = 0.01 * np.sqrt(NUM_PIXELS)


def linear(num_classes, *, size=1.0, budget=20, seed=0):
    rng = np.random.default_rng(seed)
    kernel = tf.constant(size * rng.normal(size=(NUM_PIXELS, num_classes)), tf.float32)
    clean = tf.constant(rng.uniform(0.3, 0.7, size=(NUM_IMAGES, NUM_PIXELS)), tf.float32)
    logits = lambda images: images @ kernel  # noqa: E731
    label = np.argmax(logits(clean), axis=1)
    wanted = (label + 1) % num_classes
    return kernel, logits, problem(logits, clean, wanted, budget=budget), label


def problem(logits, clean, wanted, *, budget, start=None):
    wanted = tf.constant(wanted, tf.int32)
    values = logits(clean)
    rivals = ~objective.accepted_classes(wanted, values.shape[1], targeted=True)
    budgets = tf.constant(np.broadcast_to(budget, [clean.shape[0]]), tf.int32)
    scale = objective.scale_against_tiny(values, 2.0**-24)
    return BoundaryProblem(clean, clean if start is None else start, wanted, rivals, budgets, budgets, scale)


def stepped(logits, problem, box=UNBOUNDED, num_slots=NUM_IMAGES, **settings):
    return step_to_boundary(lambda _: logits, [], problem, pixel_box=box, num_slots=num_slots, **settings)


def wins(logits, point, problem):
    return np.argmax(logits(point), axis=1) == problem.wanted.numpy()


def test_one_step_crosses_the_boundary_of_two_linear_classes():
    kernel, logits, given, _ = linear(2)
    found = stepped(logits, given)
    normal = (kernel[:, 1] - kernel[:, 0]).numpy()
    exact = np.abs(given.clean.numpy() @ normal) / np.linalg.norm(normal)
    length = np.linalg.norm(found.position - given.clean, axis=1)
    assert np.all(length >= exact)
    np.testing.assert_allclose(length, OVERSHOOT * exact, rtol=5e-3)
    np.testing.assert_allclose(found.distance, length, rtol=RTOL)
    np.testing.assert_array_equal(found.num_evaluations, 2)  # the step, and the evaluation that ends the search
    assert wins(logits, found.position, given).all()


def test_estimated_distances_match_the_exact_distances_of_classes():
    kernel, logits, given, label = linear(6)
    others = [np.array([k for k in range(6) if k != own]) for own in label]
    rows = [(image, k) for image in range(NUM_IMAGES) for k in others[image]]
    clean = tf.gather(given.clean, [image for image, _ in rows])
    wanted = tf.constant([k for _, k in rows], tf.int32)
    rivals = tf.one_hot([label[image] for image, _ in rows], 6, on_value=True, off_value=False)
    budgets = tf.fill([len(rows)], 20)
    found = stepped(
        logits,
        BoundaryProblem(clean, clean, wanted, rivals, budgets, budgets, objective.scale_against_tiny(logits(clean), 2.0**-24)),
    )
    normals = np.stack([kernel[:, k] - kernel[:, label[image]] for image, k in rows])
    exact = -np.sum(clean.numpy() * normals, axis=1) / np.linalg.norm(normals, axis=1)
    np.testing.assert_allclose(found.distance, OVERSHOOT * exact, rtol=RTOL, atol=ATOL)


def test_steps_are_at_most_a_hundredth_of_the_box():
    _, logits, given, _ = linear(2, budget=1)
    found = stepped(logits, given, box=BOX)
    length = np.linalg.norm(found.position - given.clean, axis=1)
    beyond = stepped(logits, given).distance > LONGEST
    assert beyond.numpy().any()
    np.testing.assert_allclose(length[beyond], LONGEST, rtol=RTOL)
    assert np.all(length <= LONGEST * (1.0 + RTOL))
    # The estimated distance does not depend on the length of the step.
    np.testing.assert_allclose(found.distance, stepped(logits, given).distance, rtol=RTOL)


def test_several_bounded_steps_reach_the_boundary_inside_the_box():
    _, logits, given, _ = linear(4, budget=60)
    found = stepped(logits, given, box=BOX)
    assert wins(logits, found.position, given).all()
    assert np.min(found.position) >= 0.0 and np.max(found.position) <= 1.0
    assert np.max(found.num_evaluations) > 3


def test_row_without_a_gradient_stays_and_has_infinite_distance():
    _, _, given, _ = linear(2)
    constant = lambda images: tf.tile([[1.0, 0.0]], [images.shape[0], 1]) + 0.0 * images[:, :2]  # noqa: E731
    found = stepped(constant, given._replace(wanted=tf.ones([NUM_IMAGES], tf.int32)))
    np.testing.assert_array_equal(found.position, given.clean)
    assert np.isinf(found.distance).all()
    np.testing.assert_array_equal(found.num_evaluations, 1)


def test_start_that_has_the_wanted_class_is_kept():
    _, logits, given, _ = linear(3)
    start = stepped(logits, given).position
    found = stepped(logits, given._replace(start=start))
    np.testing.assert_array_equal(found.position, start)
    np.testing.assert_allclose(found.distance, np.linalg.norm(start - given.clean, axis=1), rtol=RTOL)


def test_steps_grow_until_they_cross_a_kink():
    """The margin increases by a tenth of what its gradient predicts, at every point."""

    @tf.custom_gradient
    def with_large_gradient(margin):
        return margin, lambda upstream: 10.0 * upstream

    def logits(images):
        margin = with_large_gradient(images[:, :1] - 0.9)
        return tf.concat([tf.zeros_like(margin), margin], axis=1)

    clean = tf.fill([1, NUM_PIXELS], 0.5)
    given = problem(logits, clean, [1], budget=60)
    found = stepped(logits, given, num_slots=1)
    assert wins(logits, found.position, given).all()
    assert found.num_evaluations.numpy()[0] < 30  # steps that do not grow would take 60


@pytest.mark.parametrize("budget", [0, 1, 3])
def test_every_row_keeps_to_its_own_budget(budget):
    _, logits, given, _ = linear(2, budget=np.where(np.arange(NUM_IMAGES) % 2, budget, 20))
    found = stepped(logits, given, box=BOX)
    assert np.all(found.num_evaluations <= given.max_evaluations)
    if budget == 0:
        np.testing.assert_array_equal(found.position[1::2], given.clean[1::2])


@pytest.mark.parametrize("num_slots", [1, 3])
def test_a_row_ignores_the_number_of_slots_and_its_batch(num_slots):
    _, logits, given, _ = linear(5)
    whole, few = stepped(logits, given, box=BOX), stepped(logits, given, box=BOX, num_slots=num_slots)
    np.testing.assert_allclose(few.position, whole.position, atol=1e-6)
    alone = stepped(logits, tf.nest.map_structure(lambda tensor: tensor[2:3], given), box=BOX, num_slots=1)
    np.testing.assert_allclose(alone.position[0], whole.position[2], atol=1e-6)


def test_network_is_evaluated_only_at_quantized_images():
    evaluated = []
    _, logits, given, _ = linear(3, budget=60)
    levels = 16
    clean = BOX.to_levels(given.clean, levels)
    given = given._replace(clean=clean, start=clean)

    def recorded(images):
        evaluated.append(images.numpy())
        return logits(images)

    found = stepped(recorded, given, box=BOX, quantization_levels=levels)
    scaled = (levels - 1) * np.concatenate(evaluated)
    np.testing.assert_allclose(scaled, np.round(scaled), atol=1e-4)
    assert wins(logits, BOX.to_levels(found.position, levels), given).all()
