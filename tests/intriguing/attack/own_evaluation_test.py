"""Success is decided by the classifier itself."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack import own_evaluation
from intriguing.models.logits import split_weights

ACCEPTED = tf.constant([[False, True, False], [False, True, True]])


def architecture_of(classifier, size=3):
    return split_weights(classifier, (size,))[0]


def test_the_lead_is_that_of_the_best_accepted_class_over_the_best_other_one():
    scores = tf.constant([[1.0, 3.0, 2.0], [1.0, 0.5, 0.75]])
    np.testing.assert_allclose(own_evaluation.lead(scores, ACCEPTED), [1.0, -0.25])


def test_the_lead_is_not_a_number_where_a_score_is_not_one():
    scores = tf.constant([[1.0, np.nan, 2.0], [np.inf, 0.5, 0.75]])
    assert np.isnan(own_evaluation.lead(scores, ACCEPTED)).all()


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]], True),
        ([[0.2, 0.3, 0.5], [1.0, 0.5, 0.0]], False),
        ([[-0.2, 0.7, 0.5], [1.0, 0.0, 0.0]], False),
    ],
)
def test_probabilities_lie_in_the_unit_interval_and_sum_to_one(outputs, expected):
    assert own_evaluation.are_probabilities(tf.constant(outputs), architecture_of(lambda images: 2.0 * images)) is expected


def test_one_output_is_a_probability_if_its_operations_show_it_or_do_not_tell_and_it_lies_in_the_unit_interval():
    outputs = tf.constant([[0.3], [0.9]])
    plain = architecture_of(lambda images: images[:, :1])
    sigmoid = architecture_of(lambda images: tf.sigmoid(images[:, :1]))
    opaque = architecture_of(tf.function(lambda images: tf.sigmoid(images[:, :1])))
    assert not own_evaluation.are_probabilities(outputs, plain)
    assert own_evaluation.are_probabilities(outputs, sigmoid) and own_evaluation.are_probabilities(outputs, opaque)
    assert own_evaluation.are_probabilities(tf.constant([[0.3], [np.nan]]), opaque)
    assert not own_evaluation.are_probabilities(3.0 * outputs, opaque)


@pytest.mark.parametrize(("probabilities", "expected"), [(True, [0, 1]), (False, [1, 1])])
def test_one_output_names_the_second_of_two_classes(probabilities, expected):
    scores = own_evaluation.class_scores(tf.constant([[0.4], [0.6]]), probabilities=probabilities)
    assert tf.argmax(scores, axis=1).numpy().tolist() == expected


def test_outputs_are_those_of_the_classifier_whatever_the_number_of_images(monkeypatch):
    monkeypatch.setattr(own_evaluation, "_MOST_ROWS", 4)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), keras.layers.Dropout(0.5)])
    images = tf.random.stateless_uniform([10, 3], seed=[0, 0])
    outputs = own_evaluation.own_outputs(model, images, architecture_of(model))
    np.testing.assert_allclose(outputs, model(images, training=False), rtol=1e-5)


def test_a_perturbation_is_made_longer_until_the_classifier_agrees_and_others_are_left():
    images = tf.zeros([3, 2])
    distorted = tf.constant([[0.5, 0.0], [0.5, 0.0], [0.0, 0.1]])
    longer, contradicted = own_evaluation.lengthened(
        lambda candidates: candidates[:, 0] - 0.51, images, distorted, tf.constant([True, False, True]), lambda image: image
    )
    assert 0.51 < float(longer[0, 0]) < 0.53
    np.testing.assert_array_equal(longer[1:], distorted[1:])
    assert contradicted.numpy().tolist() == [False, False, True]
