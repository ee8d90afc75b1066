"""Claims about what a classifier answers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.analysis.predictions import predict
from intriguing.models.zoo import build


@pytest.fixture(scope="module")
def images():
    return tf.random.stateless_uniform([23, 28, 28, 1], seed=[1, 2])


@pytest.mark.parametrize("batch_size", [1, 8, 23, 1000])
def test_agrees_with_the_model_for_numbers_that_are_no_multiple_of_the_batch(images, batch_size):
    model = build("FC100-100-10")
    answers = predict(model, images, batch_size=batch_size)
    assert answers.dtype == tf.int32
    np.testing.assert_array_equal(answers, np.argmax(model(images), axis=1))


def test_answers_for_a_callable(images):
    def brightness(pictures):
        return tf.reshape(pictures, [-1, 784])[:, :3]

    np.testing.assert_array_equal(predict(brightness, images, batch_size=5), np.argmax(brightness(images), axis=1))


def test_a_softmax_at_the_end_does_not_change_the_answers(images):
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")])
    np.testing.assert_array_equal(predict(model, images), np.argmax(model(images), axis=1))


def test_answers_anew_after_training(images):
    model = build("FC10(1)")
    predict(model, images)
    bias = model.get_layer("logits").bias
    bias.assign(1000.0 * tf.one_hot(7, 10))
    np.testing.assert_array_equal(predict(model, images), np.full(23, 7))
