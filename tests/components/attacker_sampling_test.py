"""Sampling of the attacked images: random, optionally restricted to correctly classified images, with checks of their shape."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.attacker.sampling import check_fits, class_number, sample, targets_of
from intriguing.data import DatasetCard, dataset_card, sample_examples

PARAMETERS = {"num_images": 5, "only_correct": True, "seed": 3, "targeted": True, "target": -1, "batch_size": 4}


@pytest.fixture
def card(digits_dir: Path) -> DatasetCard:
    return dataset_card("mnist_5k", data_dir=str(digits_dir))


class _ClassifiesDarkAndBright(keras.Model):
    """Predicts class 1 for dark images and class 7 for others."""

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return tf.one_hot(tf.where(tf.reduce_mean(images, axis=[1, 2, 3]) < 0.1, 1, 7), 10)


def test_only_correctly_classified_images_are_drawn_in_sample_order(card: DatasetCard) -> None:
    drawn, correct, accuracy = sample(_ClassifiesDarkAndBright(), card, "test", PARAMETERS)
    everything = sample_examples(card, "test", num_images=1000, seed=3)
    predictions = np.argmax(_ClassifiesDarkAndBright()(everything.images), axis=1)
    right = np.flatnonzero(predictions == everything.labels)[:5]
    assert correct.all() and accuracy.num_trials == 10 * 2 ** int(np.ceil(np.log2((right[-1] + 1) / 10)))
    assert accuracy.num_events == np.count_nonzero(
        predictions[: accuracy.num_trials] == everything.labels[: accuracy.num_trials]
    )
    np.testing.assert_array_equal(drawn.ids, everything.ids.numpy()[right])
    np.testing.assert_array_equal(drawn.images, everything.images.numpy()[right])


def test_images_of_the_target_class_are_excluded(card: DatasetCard) -> None:
    drawn, _, _ = sample(_ClassifiesDarkAndBright(), card, "test", {**PARAMETERS, "target": 7})
    assert set(drawn.labels.numpy()) == {1}
    np.testing.assert_array_equal(targets_of(drawn, card, {**PARAMETERS, "target": 7}), 7)


def test_sample_without_conditions_equals_sample_examples(card: DatasetCard) -> None:
    drawn, correct, accuracy = sample(_ClassifiesDarkAndBright(), card, "test", {**PARAMETERS, "only_correct": False})
    np.testing.assert_array_equal(correct, np.argmax(_ClassifiesDarkAndBright()(drawn.images), axis=1) == drawn.labels)
    assert accuracy == (correct.sum(), 5)
    np.testing.assert_array_equal(drawn.ids, sample_examples(card, "test", num_images=5, seed=3).ids)


def test_too_few_correctly_classified_images_raise_with_their_number(card: DatasetCard) -> None:
    with pytest.raises(
        ValueError, match=r"num_images must be at most \d+, the images of 'test\[:60\]' that the network classifies correctly"
    ):
        sample(_ClassifiesDarkAndBright(), card, "test[:60]", {**PARAMETERS, "num_images": 50})


def test_network_without_correct_predictions_raises_a_separate_error(card: DatasetCard) -> None:
    class Wrong(keras.Model):
        def call(self, images: tf.Tensor) -> tf.Tensor:
            return tf.one_hot(tf.fill([tf.shape(images)[0]], 10), 11)

    with pytest.raises(ValueError, match=r"classifies 0 of 60 images of 'test\[:60\]' correctly, .* Check the scale of pixels"):
        sample(Wrong(), card, "test[:60]", PARAMETERS)


def test_targets_are_random_wrong_classes_or_none(card: DatasetCard) -> None:
    drawn = sample_examples(card, "test", num_images=50, seed=0)
    random = targets_of(drawn, card, PARAMETERS)
    assert np.all(random != drawn.labels) and len(set(random)) > 5
    for target in (-1, 7):
        np.testing.assert_array_equal(targets_of(drawn, card, {**PARAMETERS, "targeted": False, "target": target}), -1)


def test_class_number_accepts_a_name_or_a_number() -> None:
    assert [class_number(text, ("cat", "dog", "10"), 12) for text in ("dog", "0", "11", "10")] == [1, 0, 11, 2]
    for text in ("dgo", "12", "-1"):
        with pytest.raises(ValueError, match=f"there is no class '{text}'; expected a name, or a number from 0 to 11."):
            class_number(text, ("cat", "dog", "10"), 12)
    with pytest.raises(ValueError, match=r"Did you mean 'c7'\? Known: c0, c1, .*, c19, \.\.\.\."):
        class_number("c7?", [f"c{number}" for number in range(30)], 30)


def test_network_with_another_image_shape_or_fewer_classes_is_refused(card: DatasetCard) -> None:
    def network(shape: tuple[int, ...], num_classes: int) -> keras.Model:
        inputs = keras.Input(shape)
        return keras.Model(inputs, keras.layers.Dense(num_classes)(keras.layers.Flatten()(inputs)))

    check_fits(network((28, 28, 1), 12), card)
    with pytest.raises(ValueError, match=r"takes images \[28, 28, 3\]; those of mnist_5k are \[28, 28, 1\]. Take another data"):
        check_fits(network((28, 28, 3), 10), card)
    with pytest.raises(
        ValueError, match=r"takes images \[8, 8, 1\]; .* Bring them to its size with --image_size, or take another"
    ):
        check_fits(network((8, 8, 1), 10), card)
    with pytest.raises(ValueError, match=r"takes images \[28, 28\]; those of mnist_5k are \[28, 28, 1\]"):
        check_fits(network((28, 28), 10), card)
    with pytest.raises(ValueError, match="the network has 4 classes; mnist_5k has 10. Take a data set"):
        check_fits(network((28, 28, 1), 4), card)
