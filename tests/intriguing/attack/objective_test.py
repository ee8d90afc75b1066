"""The penalty function against its definition and against finite differences."""

import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack import objective
from tests.oracles.linear_classifier import random_classifier


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    classifier = random_classifier(rng, 12, 4)
    return classifier, rng.uniform(size=(5, 12)).astype(np.float32), rng.integers(4, size=5).astype(np.int32)


def test_the_loss_of_a_target_is_its_cross_entropy(problem):
    classifier, images, targets = problem
    logits = classifier(images)
    accepted = objective.accepted_classes(4, targets=targets, labels=None)
    expected = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    np.testing.assert_allclose(objective.loss(logits, accepted), expected, rtol=1e-5)


def test_the_loss_of_a_label_is_the_surprise_at_any_other_class(problem):
    classifier, images, labels = problem
    logits = classifier(images)
    accepted = objective.accepted_classes(4, targets=None, labels=labels)
    probability = tf.gather(tf.nn.softmax(logits), labels, axis=1, batch_dims=1)
    np.testing.assert_allclose(objective.loss(logits, accepted), -tf.math.log(1 - probability), rtol=1e-4)


def test_the_gradient_is_the_numerical_one(problem):
    classifier, images, targets = problem
    accepted = objective.accepted_classes(4, targets=targets, labels=None)
    function = objective.penalty_objective(classifier, tf.constant(images), accepted, tf.fill([5], 0.7))
    position = tf.constant(np.clip(images + 0.1, 0, 1))
    theory, numerical = tf.test.compute_gradient(lambda x: function(x)[0], [position], delta=1e-2)
    np.testing.assert_allclose(theory[0], numerical[0], atol=2e-3)  # float32 differences over a step of 0.01
    diagonal = np.stack([theory[0][row, row * 12 : (row + 1) * 12] for row in range(5)])
    np.testing.assert_allclose(function(position)[1], diagonal, rtol=1e-5)


def test_reached_asks_for_more_than_rounding(problem):
    del problem
    accepted = objective.accepted_classes(3, targets=tf.constant([0, 0, 0, 1]), labels=None)
    logits = tf.constant([[1.0, 0.0, 0.5], [1.0, 1.0, 0.0], [1.0 + 1e-6, 1.0, 0.0], [3.0, 2.0, 1.0]])
    assert objective.reached(logits, accepted).numpy().tolist() == [True, False, False, False]
