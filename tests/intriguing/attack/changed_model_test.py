"""The attack uses the current state of a model that was changed after an earlier call."""

import keras
import numpy as np
import pytest

from intriguing.attack import minimize_distortion
from intriguing.evaluation import predict
from tests.intriguing.attack.op_by_op import op_by_op
from tests.oracles.any_models import CASES, balanced, dense, with_normalization
from tests.oracles.any_objects import AttributeOfCall

IMAGES = CASES[0].images(number=8)
layers = keras.layers


def attacked(classifier, images=IMAGES, *, compiled=False):
    """Attacks the currently predicted classes, and checks every success with the classifier."""
    labels = np.argmax(classifier(images), axis=1)
    np.testing.assert_array_equal(predict(classifier, images), labels)
    with op_by_op(not compiled):
        found = minimize_distortion(classifier, images, labels=labels, search="training")
    np.testing.assert_array_equal(found.succeeded, np.argmax(classifier(found.distorted), axis=1) != labels)
    assert np.all(found.distortion.numpy()[found.succeeded.numpy()] > 0)
    return found


def assert_attack_equals_that_of_a_copy(model, copy):
    """Asserts that a changed model and a new model with the same weights have the same distortions."""
    np.testing.assert_allclose(attacked(model).distortion, attacked(copy).distortion, rtol=1e-5)


def test_replaced_last_layer_is_used():
    model, other = dense(), dense(seed=5)
    attacked(model)
    model.pop()
    model.add(other.layers[-1])
    copy = keras.Sequential([keras.Input((8,)), *(type(layer).from_config(layer.get_config()) for layer in model.layers)])
    copy.set_weights(model.get_weights())
    assert_attack_equals_that_of_a_copy(model, copy)


def test_replaced_activation_function_is_used():
    model, copy = dense(), dense()
    attacked(model)
    model.layers[0].activation = keras.activations.tanh
    copy.layers[0].activation = keras.activations.tanh
    assert_attack_equals_that_of_a_copy(model, copy)


def test_changed_attribute_of_call_is_used():
    model = AttributeOfCall(dense())
    before = attacked(model)
    model.sign = -1.0
    after = attacked(model)
    assert not np.allclose(before.distortion, after.distortion, equal_nan=True)


def test_readapted_normalization_is_used():
    model = with_normalization()
    before = attacked(model)
    model.layers[0].adapt(np.random.default_rng(3).uniform(size=(64, 8)).astype(np.float32))
    after = attacked(model)
    assert not np.allclose(before.distortion, after.distortion, equal_nan=True)


def test_changed_weights_are_used():
    model, copy = dense(), dense(seed=3)
    attacked(model)
    model.set_weights(copy.get_weights())
    assert_attack_equals_that_of_a_copy(model, copy)


def two_layers_of_one_shape(seed=0):
    return balanced([layers.Dense(8, "relu"), layers.Dense(8, "relu"), layers.Dense(4)], (8,), seed=seed)


@pytest.mark.parametrize("frozen", [(1,), (0, 1), (0, 1, 2)], ids=str)
def test_frozen_layers_are_used_with_other_batch_sizes(frozen):
    model, untouched = two_layers_of_one_shape(), two_layers_of_one_shape(seed=1)
    attacked(model)
    for index in frozen:
        model.layers[index].trainable = False
    attacked(model, IMAGES[:5])
    attacked(untouched, IMAGES[:5])
    assert [layer.trainable for layer in model.layers] == [index not in frozen for index in range(3)]


def test_exchanged_frozen_layers_are_used():
    model, untouched = two_layers_of_one_shape(), two_layers_of_one_shape(seed=1)
    model.layers[0].trainable = False
    attacked(model, compiled=True)
    model.layers[0].trainable, model.layers[1].trainable = True, False
    attacked(model, IMAGES[:5], compiled=True)
    attacked(untouched, IMAGES[:5], compiled=True)
    assert [layer.trainable for layer in model.layers] == [True, False, True]


def test_function_with_a_rebound_network_uses_the_new_one():
    networks = {"net": dense()}

    def classifier(images):
        return networks["net"](images)

    attacked(classifier)
    networks["net"] = dense(seed=4)
    found = attacked(classifier)
    np.testing.assert_allclose(found.distortion, attacked(networks["net"]).distortion, rtol=1e-5)


def test_new_lambda_at_each_call_gives_the_same_results():
    model = dense()
    distortions = [attacked(lambda images: model(images), compiled=True).distortion for _ in range(3)]
    np.testing.assert_array_equal(distortions[0], distortions[1])
    np.testing.assert_array_equal(distortions[0], distortions[2])


def test_attack_does_not_fix_the_batch_size_of_an_unbuilt_model():
    model = keras.Sequential([layers.Dense(6, "relu"), layers.Dense(4)])
    with op_by_op():
        minimize_distortion(model, IMAGES[:1], labels=[0], search="training")
    assert model(IMAGES).shape == (8, 4)
    attacked(model)
