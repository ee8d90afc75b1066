"""Training, predictions and the attack on two devices give the results of one device."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack._minimize_distortion import minimize_distortion
from intriguing.evaluation.predictions import predict
from intriguing.models.networks.fully_connected import fully_connected
from intriguing.training import AdversarialTraining, LayerPool, adversarial_pool, fit_adversarially
from intriguing.training.supervised import MinibatchTraining, fit_full_batch, fit_minibatches
from tests.intriguing.training.tiny_pools import attack_without_search

SHAPE = (5, 5, 1)
ATOL_SUMMATION = 1e-5  # the same mean gradient, summed as two halves
ATOL_CONVERGED = 5e-3  # losses are equal in float32; a bias without weight decay is determined less precisely
RTOL_BATCH = 1e-4  # matrix products may round differently for fewer rows


@pytest.fixture(scope="module")
def examples():
    images = tf.random.stateless_uniform([64, *SHAPE], seed=[0, 0])
    return images, tf.cast(images[:, 0, 0, 0] * 3, tf.int32)


@pytest.fixture
def one_device():
    return tf.distribute.OneDeviceStrategy("CPU:0")


def network():
    return fully_connected((12, 3), weight_decay=(1e-3, 1e-3), image_shape=SHAPE)


def endless(examples, batch_size):
    return tf.data.Dataset.from_tensor_slices(examples).batch(batch_size, drop_remainder=True).repeat()


def on_both(one_device, two_replicas, train, build=network):
    results = []
    for strategy in (one_device, two_replicas):
        with strategy.scope():
            model = build()
            record = train(model)
        results.append((record, model.get_weights()))
    return results


def assert_close_results(one, two, atol):
    np.testing.assert_allclose(one[0].losses[-1], two[0].losses[-1], atol=ATOL_SUMMATION)
    assert one[0].converged == two[0].converged
    for weight, other in zip(one[1], two[1], strict=True):
        np.testing.assert_allclose(weight, other, atol=atol)


@pytest.mark.parametrize(("num_epochs", "steps_per_epoch"), [(1, 1), (5, 8)], ids=["one step", "a whole fit"])
def test_minibatch_training_on_two_devices_equals_training_on_one(
    num_epochs, steps_per_epoch, examples, one_device, two_replicas
):
    settings = MinibatchTraining(num_epochs=num_epochs, batch_size=8, learning_rate=0.01)

    def train(model):
        return fit_minibatches(model, endless(examples, 8), steps_per_epoch=steps_per_epoch, settings=settings)

    one, two = on_both(one_device, two_replicas, train)
    assert any(np.any(weight != start) for weight, start in zip(one[1], network().get_weights(), strict=True))
    assert_close_results(one, two, ATOL_SUMMATION)


def test_adversarial_training_on_two_devices_equals_training_on_one(examples, one_device, two_replicas, monkeypatch):
    monkeypatch.setattr(
        adversarial_pool, "minimize_distortion", attack_without_search
    )  # agreement of the attack has its own test
    settings = AdversarialTraining(
        minibatches=MinibatchTraining(num_epochs=2, batch_size=8, learning_rate=0.01),
        pools=(LayerPool(layer="hidden1", size=10, share=0.25), LayerPool(size=16, replaced=0.5, share=0.25)),  # 4 and 4 rows
        rounds_per_epoch=2,
    )

    def train(model):
        return fit_adversarially(model, endless(examples, 8), steps_per_epoch=8, settings=settings)

    (one, weights), (two, others) = on_both(one_device, two_replicas, train)
    np.testing.assert_allclose(one.losses, two.losses, atol=ATOL_SUMMATION)
    for weight, other in zip(weights, others, strict=True):
        np.testing.assert_allclose(weight, other, atol=10 * ATOL_SUMMATION)  # the pools depend on the weights
    assert [each.num_found for each in one.rounds] == [each.num_found for each in two.rounds]
    assert all(value > 0.0 for value in two.rounds[-1].pool_losses.values())


def softmax():
    return fully_connected((3,), weight_decay=(0.1,), image_shape=SHAPE)


def test_full_batch_training_on_two_devices_equals_training_on_one_with_unequal_shares(examples, one_device, two_replicas):
    odd = tuple(tensor[:33] for tensor in examples)
    one, two = on_both(one_device, two_replicas, lambda model: fit_full_batch(model, *odd), build=softmax)
    assert one[0].converged
    assert_close_results(one, two, ATOL_CONVERGED)


def test_batch_normalization_statistics_are_averaged_over_replicas(examples, two_replicas):
    with two_replicas.scope():
        layers = [
            keras.Input(SHAPE),
            keras.layers.Flatten(),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.Dense(3),
        ]
        model = keras.Sequential(layers)
        settings = MinibatchTraining(num_epochs=1, batch_size=64, learning_rate=1e-3)
        fit_minibatches(model, endless(examples, 64), steps_per_epoch=1, settings=settings)
    pixels = examples[0].numpy().reshape(64, -1)
    np.testing.assert_allclose(model.layers[1].moving_mean.numpy(), 0.1 * pixels.mean(axis=0), atol=ATOL_SUMMATION)
    halves = np.mean([half.var(axis=0) for half in np.split(pixels, 2)], axis=0)
    np.testing.assert_allclose(model.layers[1].moving_variance.numpy(), 0.9 + 0.1 * halves, atol=ATOL_SUMMATION)


@pytest.mark.parametrize("batch_size", [7, 64])
def test_predictions_on_two_devices_equal_those_on_one(batch_size, examples, one_device, two_replicas):
    predictions = []
    for strategy in (one_device, two_replicas):
        with strategy.scope():
            predictions.append(predict(network(), examples[0], batch_size=batch_size))
    np.testing.assert_array_equal(*predictions)


def test_attack_on_two_devices_equals_the_attack_on_one_for_an_odd_batch(examples, one_device, two_replicas):
    images, results = examples[0][:7], []
    for strategy in (one_device, two_replicas):
        with strategy.scope():
            model = network()
            model.set_weights(
                [4.0 * weight for weight in model.get_weights()]
            )  # large weights, so that most classes can be reached
            targets = (predict(model, images) + 1 + tf.range(7) % 2) % 3
            results.append(minimize_distortion(model, images, targets=targets))
    one, two = results
    assert np.count_nonzero(one.succeeded) >= 4
    np.testing.assert_array_equal(one.succeeded, two.succeeded)
    np.testing.assert_allclose(one.distortion, two.distortion, rtol=RTOL_BATCH)
    # Near a minimum, a relative error e of the distance allows a relative error sqrt(2 e) of the position; e is 1e-4.
    apart = np.linalg.norm(np.reshape(one.distorted - two.distorted, [7, -1]), axis=1)
    length = np.linalg.norm(np.reshape(one.distorted - images, [7, -1]), axis=1)
    assert np.all(apart <= np.sqrt(2.0 * RTOL_BATCH) * length)
    assert two.distorted.shape == images.shape
