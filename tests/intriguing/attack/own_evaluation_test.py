"""The outputs of the classifier decide success."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack import own_evaluation
from intriguing.models.functional import split_weights

ACCEPTED = tf.constant([[False, True, False], [False, True, True]])


def architecture_of(classifier, size=3):
    return split_weights(classifier, (size,))[0]


def test_lead_is_the_best_accepted_score_minus_the_best_other_score():
    scores = tf.constant([[1.0, 3.0, 2.0], [1.0, 0.5, 0.75]])
    np.testing.assert_allclose(own_evaluation.lead(scores, ACCEPTED), [1.0, -0.25])


def test_lead_is_nan_if_a_score_is_not_finite():
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


def test_single_output_is_classified_as_probability_by_operations_then_by_values():
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


def test_outputs_computed_in_parts_equal_those_of_the_classifier(monkeypatch):
    monkeypatch.setattr(own_evaluation, "_MOST_ROWS", 4)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), keras.layers.Dropout(0.5)])
    images = tf.random.stateless_uniform([10, 3], seed=[0, 0])
    outputs = own_evaluation.own_outputs(model, images, architecture_of(model))
    np.testing.assert_allclose(outputs, model(images, training=False), rtol=1e-5)


def check_repeatable(classifier, images):
    architecture = architecture_of(classifier, images.shape[1])
    outputs = own_evaluation.own_outputs(classifier, images, architecture)
    own_evaluation.check_repeatable(classifier, images, outputs, architecture)


def network(policy="float32", size=3):
    layers = [keras.layers.Dense(64, "relu", dtype=policy), keras.layers.Dense(64, "relu", dtype=policy)]
    return keras.Sequential([keras.Input((size,)), *layers, keras.layers.Dense(4, dtype=policy)])


class DropsUnits(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner, self.dropout = network(), keras.layers.Dropout(0.1)

    def call(self, images):
        return self.inner(self.dropout(images, training=True))


NOISE = {
    "one percent": lambda model: lambda images: model(images) + 1e-2 * tf.random.normal([tf.shape(images)[0], 4]),
    "below the margin of success": lambda model: lambda images: model(images) + 1e-6 * tf.random.normal([4]),
    "generator": lambda model: functools.partial(_with_generator, model, tf.random.Generator.from_seed(0)),
    "NumPy": lambda model: lambda images: model(images) + 1e-3 * np.random.default_rng().normal(size=4).astype(np.float32),
    "dropout": lambda model: DropsUnits(),
    "in a function": lambda model: tf.function(lambda images: model(images) + 1e-4 * tf.random.uniform([4])),
    "in a loop": lambda model: lambda images: model(images) + 1e-4 * _random_steps(tf.shape(images)[0]),
    "counts its calls": lambda model: functools.partial(_counting, model, tf.Variable(0.0)),
}


def _with_generator(model, generator, images):
    return model(images) + 1e-3 * generator.normal([4])


def _random_steps(number):
    return tf.while_loop(
        lambda place, _: place < 3, lambda place, sum: (place + 1, sum + tf.random.normal([4])), (0, tf.zeros([4]))
    )[1]


def _counting(model, counter, images):
    return model(images) + 0.01 * counter.assign_add(1.0)


@pytest.mark.parametrize("name", NOISE)
def test_small_random_numbers_are_detected(name):
    images = tf.random.stateless_uniform([5, 3], seed=[0, 0])
    with pytest.raises(RuntimeError, match="two calls on the first 2 images differ.*random numbers"):
        check_repeatable(NOISE[name](network()), images)


def test_dependence_between_rows_is_detected():
    model, images = network(), tf.random.stateless_uniform([5, 3], seed=[0, 0])
    with pytest.raises(RuntimeError, match="a call without the others differs by up to .* Its rows influence each other"):
        check_repeatable(lambda batch: model(batch) - tf.reduce_mean(model(batch), axis=0), images)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("size", [3, 500])
def test_a_network_is_repeatable_in_every_precision(policy, size):
    check_repeatable(network(policy, size), tf.random.stateless_uniform([40, size], seed=[0, 0]))


def test_deterministic_noise_and_noise_without_effect_are_allowed():
    model, images = network(), tf.random.stateless_uniform([5, 3], seed=[0, 0])
    check_repeatable(lambda batch: model(batch) + tf.random.stateless_normal([4], seed=[1, 2]), images)
    check_repeatable(lambda batch: model(batch) + 0.0 * tf.random.normal([4]), images)


def test_a_masked_class_does_not_hide_noise():
    model, images = network(), tf.random.stateless_uniform([5, 3], seed=[0, 0])
    mask = np.array([-1e9, 0, 0, 0], np.float32)
    check_repeatable(lambda batch: model(batch) + mask, images)
    with pytest.raises(RuntimeError, match="random numbers"):
        check_repeatable(lambda batch: model(batch) + mask + np.float32(0.01 * np.random.default_rng().normal()), images)


def test_only_contradicted_perturbations_are_lengthened():
    images = tf.zeros([3, 2])
    distorted = tf.constant([[0.5, 0.0], [0.5, 0.0], [0.0, 0.1]])
    longer, contradicted = own_evaluation.lengthened(
        lambda candidates: candidates[:, 0] - 0.51, images, distorted, tf.constant([True, False, True]), lambda image: image
    )
    assert 0.51 < float(longer[0, 0]) < 0.53
    np.testing.assert_array_equal(longer[1:], distorted[1:])
    assert contradicted.numpy().tolist() == [False, False, True]
