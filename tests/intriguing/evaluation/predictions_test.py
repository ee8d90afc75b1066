"""Tests of predictions and error rates."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.evaluation.predictions import predict
from intriguing.models.networks.zoo import build
from tests.oracles.clear_errors import assert_clear_error


@pytest.fixture(scope="module")
def images():
    return tf.random.stateless_uniform([23, 28, 28, 1], seed=[1, 2])


@pytest.mark.parametrize("batch_size", [1, 8, 23, 1000])
def test_predictions_agree_with_the_model_for_partial_batches(images, batch_size):
    model = build("FC100-100-10")
    predictions = predict(model, images, batch_size=batch_size)
    assert predictions.dtype == tf.int32
    np.testing.assert_array_equal(predictions, np.argmax(model(images), axis=1))


def test_predicts_for_a_callable(images):
    def brightness(pictures):
        return tf.reshape(pictures, [-1, 784])[:, :3]

    np.testing.assert_array_equal(predict(brightness, images, batch_size=5), np.argmax(brightness(images), axis=1))


def test_softmax_at_the_end_does_not_change_the_predictions(images):
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")])
    np.testing.assert_array_equal(predict(model, images), np.argmax(model(images), axis=1))


def test_images_are_validated_like_in_the_attack(images):
    model, array = build("FC10(1)"), images.numpy()
    expected = predict(model, images)
    np.testing.assert_array_equal(predict(model, array.tolist()), expected)
    np.testing.assert_array_equal(predict(model, array.astype(np.float64)), expected)
    assert predict(model, []).shape == predict(model, array[:0]).shape == (0,)
    broken = np.where(np.arange(23).reshape(-1, 1, 1, 1) == 4, np.nan, array)
    for wrong, error, words in [
        (
            (255 * array).astype(np.uint8),
            TypeError,
            "images must be floating point; received uint8. Cast them to float32 for a",
        ),
        (broken, ValueError, "images must be finite numbers; received 784 NaN"),
        (array[0, 0, 0], ValueError, "images must be a batch"),
        ("digits", TypeError, "images must be an array or a tensor"),
        (array[:, :5], ValueError, "does not accept images of shape"),
    ]:
        with pytest.raises(error, match=words) as raised:
            predict(model, wrong)
        assert_clear_error(raised.value)
    with pytest.raises(ValueError, match="batch_size must be a positive integer; received 0"):
        predict(model, images, batch_size=0)


def test_image_with_nan_outputs_is_predicted_as_minus_one(images):
    def classifier(pictures):
        pixels = tf.reshape(pictures, [-1, 784])[:, :3]
        return tf.where(pixels[:, :1] > 0.5, float("nan"), pixels)

    outputs = classifier(images).numpy()
    expected = np.where(np.isnan(outputs).any(axis=1), -1, np.argmax(outputs, axis=1))
    assert -1 in expected and max(expected) >= 0
    np.testing.assert_array_equal(predict(classifier, images), expected)
    with pytest.raises(ValueError, match="returns NaN for every image. Check its weights"):
        predict(lambda pictures: float("nan") * classifier(pictures), images)


@pytest.mark.parametrize(("offset", "threshold"), [(0.0, 0.5), (-0.3, 0.0)])
def test_opaque_single_output_is_a_probability_if_all_values_are(images, offset, threshold):
    classifier = tf.function(lambda pictures: tf.reshape(pictures, [-1, 784])[:, :1] + offset)
    expected = classifier(images).numpy()[:, 0] > threshold
    with (
        contextlib.nullcontext()
        if offset
        else pytest.warns(UserWarning, match="do not determine whether .* Pass a classifier that")
    ):
        np.testing.assert_array_equal(predict(classifier, images, batch_size=10), expected.astype(int))


def test_predictions_change_after_training(images):
    model = build("FC10(1)")
    predict(model, images)
    bias = model.get_layer("logits").bias
    bias.assign(1000.0 * tf.one_hot(7, 10))
    np.testing.assert_array_equal(predict(model, images), np.full(23, 7))
