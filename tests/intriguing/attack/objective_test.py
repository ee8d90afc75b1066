"""The penalty function against its definition and against finite differences."""

import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack import objective
from tests.oracles.linear_classifier import random_classifier

ATOL_DIFFERENCE = 2e-4  # third order in a step of 0.01, three times faster inside the sine; and logits of order ten in float32


FLOAT32 = 2.0**-24


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    classifier = random_classifier(rng, 12, 4)
    return classifier, rng.uniform(size=(5, 12)).astype(np.float32), rng.integers(4, size=5).astype(np.int32)


def test_loss_of_a_target_is_its_cross_entropy(problem):
    classifier, images, targets = problem
    logits = classifier(images)
    accepted = objective.accepted_classes(targets, 4, targeted=True)
    expected = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    np.testing.assert_allclose(objective.loss(logits, accepted), expected, rtol=1e-5)


def test_loss_of_a_label_is_the_cross_entropy_of_all_other_classes(problem):
    classifier, images, labels = problem
    logits = classifier(images)
    accepted = objective.accepted_classes(labels, 4, targeted=False)
    probability = tf.gather(tf.nn.softmax(logits), labels, axis=1, batch_dims=1)
    np.testing.assert_allclose(objective.loss(logits, accepted), -tf.math.log(1 - probability), rtol=1e-4)


def test_gradient_equals_finite_differences(problem):
    classifier, images, targets = problem
    accepted = objective.accepted_classes(targets, 4, targeted=True)
    function = objective.penalty_objective(classifier, tf.constant(images), accepted, tf.fill([5], 0.7))
    position = tf.constant(np.clip(images + 0.1, 0, 1))
    theory, numerical = tf.test.compute_gradient(lambda x: function(x)[0], [position], delta=1e-2)
    np.testing.assert_allclose(theory[0], numerical[0], atol=2e-3)  # float32 differences over a step of 0.01
    diagonal = np.stack([theory[0][row, row * 12 : (row + 1) * 12] for row in range(5)])
    np.testing.assert_allclose(function(position)[1], diagonal, rtol=1e-5)


def test_success_must_exceed_rounding():
    accepted = objective.accepted_classes(tf.constant([0, 0, 0, 1]), 3, targeted=True)
    logits = tf.constant([[1.0, 0.0, 0.5], [1.0, 1.0, 0.0], [1.0 + 1e-6, 1.0, 0.0], [3.0, 2.0, 1.0]])
    assert objective.scale_against_tiny(logits, FLOAT32).succeeded(logits, accepted).numpy().tolist() == [
        True,
        False,
        False,
        False,
    ]


def test_accepted_classes_are_the_target_or_all_but_the_label():
    classes = tf.constant([0, 2])
    assert objective.accepted_classes(classes, 3, targeted=True).numpy().tolist() == [
        [True, False, False],
        [False, False, True],
    ]
    assert objective.accepted_classes(classes, 3, targeted=False).numpy().tolist() == [[False, True, True], [True, True, False]]


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e6])
@pytest.mark.parametrize(("rounding", "share"), [(FLOAT32, 1e-5), (2.0**-11, 2.0**-10), (2.0**-8, 2.0**-7)])
def test_resolution_is_relative_to_the_largest_logit_at_any_scale_and_precision(unit, rounding, share):
    clean = tf.constant([[unit, -99.0 * unit], [9.0 * unit, 3.0 * unit]])
    scale = objective.scale_of_gaps(clean, objective.accepted_classes(tf.constant([1, 1]), 2, targeted=True), rounding)
    for logits, largest in ((clean, [99.0, 9.0]), (0.0 * clean, [99.0, 9.0]), (2.0 * clean, [198.0, 18.0])):
        resolution = scale.resolution(scale.apply(logits)) / scale.factor
        np.testing.assert_allclose(resolution, share * unit * np.array(largest), rtol=1e-5)


@pytest.mark.parametrize("mask", [-1e4, -1e9])
def test_a_masked_class_changes_neither_scale_nor_resolution(mask):
    plain = tf.constant([[1.0, 0.5, -0.2], [0.0, 0.0, 0.0]])
    masked = tf.concat([plain, tf.fill([2, 1], mask)], axis=1)
    for scale_of in (
        lambda logits: objective.scale_of_gaps(
            logits, objective.accepted_classes(tf.constant([0, 0]), logits.shape[1], targeted=False), FLOAT32
        ),
        lambda logits: objective.scale_against_tiny(logits, FLOAT32),
    ):
        expected, scale = scale_of(plain), scale_of(masked)
        np.testing.assert_array_equal(scale.factor, expected.factor)
        np.testing.assert_array_equal(scale.resolution(scale.apply(masked)), expected.resolution(expected.apply(plain)))
    np.testing.assert_array_equal(objective.has_constant_logits(masked, FLOAT32), [False, True])


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e6])
def test_scaled_logits_of_clean_images_have_equal_gaps(unit):
    logits = unit * tf.constant([[5.0, 1.0, 0.0], [0.2, 0.3, 0.1], [1.0, 2.0, 3.0]])
    accepted = objective.accepted_classes(tf.constant([1, 0, 2]), 3, targeted=True)
    scaled = objective.scale_of_gaps(logits, accepted, FLOAT32).apply(logits)
    np.testing.assert_allclose(tf.abs(objective.shortfall(scaled, accepted)), objective.GAP, rtol=1e-5)


def test_scaling_of_small_gaps_is_limited():
    logits = tf.constant([[1.0, 1.0 - 1e-6, 0.0]])
    scale = objective.scale_of_gaps(logits, objective.accepted_classes(tf.constant([1]), 3, targeted=True), FLOAT32)
    np.testing.assert_allclose(scale.factor, objective.GAP / objective.LEAST_GAP, rtol=1e-5)


def test_equal_logits_are_not_scaled():
    logits = tf.fill([2, 3], 7.0)
    scale = objective.scale_of_gaps(logits, objective.accepted_classes(tf.constant([0, 1]), 3, targeted=False), FLOAT32)
    assert scale.factor.numpy().tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("largest", "power"), [(3e4, 1.0), (1e-3, 1.0), (9e-4, 1024.0), (4e-11, 1024.0**3), (0.0, 1.0)])
def test_only_tiny_logits_are_scaled_by_a_power_of_two(largest, power):
    logits = tf.constant([[0.0, -largest], [0.1 * largest, 0.0], [1.0, 0.0]])
    factor = objective.scale_against_tiny(logits, FLOAT32).factor.numpy()
    assert factor[0] == power and factor[2] == 1.0  # the factor of an image does not depend on its batch


def test_nan_gradients_become_zero():
    function = objective.loss_objective(lambda x: tf.sqrt(x), objective.accepted_classes(tf.constant([1]), 2, targeted=True))
    assert function(tf.constant([[0.0, 1.0]]))[1].numpy()[0, 0] == 0.0


def test_margin_is_the_wanted_logit_minus_the_largest_rival():
    logits = tf.constant([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    rivals = tf.constant(
        [[False, True, True], [True, False, True], [False, True, False]]
    )  # rivals may be some of the other classes
    wanted = tf.constant([0, 1, 2])
    np.testing.assert_allclose(objective.margin(logits, wanted, rivals), [1.0, -2.0, 1.0])
    stacked = objective.margin(tf.stack([logits, -logits]), wanted, rivals)
    np.testing.assert_allclose(stacked, [[1.0, -2.0, 1.0], [-2.0, 1.0, -1.0]])


def test_smooth_margin_is_a_lower_bound_that_converges_to_the_margin():
    logits = tf.constant([[3.0, 2.0, 2.0], [3.0, 5.0, -1.0]])
    wanted, rivals = tf.constant([0, 2]), tf.constant([[False, True, True], [True, True, False]])
    smooth = objective.smooth_margin(logits, wanted, rivals, tf.constant([0.5, 2.0]))
    np.testing.assert_allclose(smooth, [3 - 2 - 0.5 * np.log(2), -1 - 2 * np.log(np.exp(1.5) + np.exp(2.5))], rtol=1e-6)
    sharp = objective.smooth_margin(logits, wanted, rivals, tf.constant([1e-4, 1e-20]))
    np.testing.assert_allclose(sharp, objective.margin(logits, wanted, rivals), atol=1e-3)


def test_margin_of_a_target_is_the_negative_shortfall(problem):
    classifier, images, targets = problem
    logits = classifier(images)
    accepted = objective.accepted_classes(targets, 4, targeted=True)
    np.testing.assert_allclose(objective.margin(logits, targets, ~accepted), -objective.shortfall(logits, accepted), rtol=1e-6)


@pytest.mark.parametrize("num_rivals", [1, 2, 3])
def test_margin_gradients_of_a_linear_classifier_are_kernel_differences(problem, num_rivals):
    classifier, images, targets = problem
    rivals = ~objective.accepted_classes(targets, 4, targeted=True)
    found = objective.linearize_margins(classifier, tf.constant(images), wanted=targets, rivals=rivals, num_rivals=num_rivals)
    logits = classifier(images).numpy()
    np.testing.assert_array_equal(found.logits, logits)
    for row, target in enumerate(targets):
        strongest = sorted((k for k in range(4) if k != target), key=lambda k, row=row: -logits[row, k])[:num_rivals]
        assert found.rivals[row].numpy().tolist() == strongest
        np.testing.assert_allclose(found.margins[row], logits[row, target] - logits[row, strongest], rtol=1e-5, atol=1e-6)
        expected = (classifier.kernel[:, [target]] - classifier.kernel[:, strongest]).T
        np.testing.assert_allclose(found.gradients[row], expected, rtol=1e-5, atol=1e-6)


def test_margin_gradients_of_nonlinear_logits_equal_finite_differences(problem):
    classifier, images, targets = problem
    rivals = ~objective.accepted_classes(targets, 4, targeted=True)

    def curved(position):
        return classifier(tf.sin(3.0 * position))

    found = objective.linearize_margins(curved, tf.constant(images), wanted=targets, rivals=rivals, num_rivals=2)
    direction = np.random.default_rng(1).normal(size=images.shape).astype(np.float32)
    step = 1e-2 * direction / np.linalg.norm(direction, axis=1, keepdims=True)

    def margins_at(position):
        logits = curved(tf.constant(position))
        ours = tf.gather(logits, targets, batch_dims=1)[:, tf.newaxis]
        return (ours - tf.gather(logits, found.rivals, batch_dims=1)).numpy()

    predicted = np.einsum("rkn,rn->rk", found.gradients, step)
    np.testing.assert_allclose((margins_at(images + step) - margins_at(images - step)) / 2, predicted, atol=ATOL_DIFFERENCE)


def test_constant_classifier_has_zero_margin_gradients():
    constant = tf.constant([[1.0, 2.0, 4.0]] * 2)
    rivals = tf.constant([[True, True, False]] * 2)
    found = objective.linearize_margins(
        lambda position: constant, tf.zeros([2, 5]), wanted=tf.constant([2, 2]), rivals=rivals, num_rivals=2
    )
    np.testing.assert_allclose(found.margins, [[2.0, 3.0]] * 2)
    np.testing.assert_array_equal(found.gradients, np.zeros([2, 2, 5]))
