"""Results do not depend on the scale of the logits, such as that of label smoothing, temperature or little training."""

import functools

import keras
import numpy as np
import pytest

pytest.importorskip("scipy", reason="the exact floor needs SciPy (extra test)")

from intriguing.attack import minimize_distortion
from tests.oracles.linear_classifier import LinearClassifier, nearest_of_class, nearest_of_other_classes, random_classifier

NUM_PIXELS, NUM_CLASSES, NUM_IMAGES = 40, 10, 24
UNITS = [1e-6, 1e-3, 0.1, 50.0, 1e6]
MEAN_CHANGE, MOST_CHANGE = 0.01, 0.05  # rounding may move some searches to another basin
MEAN_ABOVE_FLOOR = 1.0005  # includes the margin that success requires because of rounding
RTOL_ROUNDING = 1e-4  # the floor is float64, the image float32


@functools.cache
def images():
    return np.clip(np.random.default_rng(0).normal(0.4, 0.5, size=(NUM_IMAGES, NUM_PIXELS)), 0, 1).astype(np.float32)


@functools.cache
def network(unit):
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((NUM_PIXELS,)), *(layers.Dense(20, "sigmoid") for _ in range(2)), layers.Dense(NUM_CLASSES)]
    )
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(scale=1.0, size=weight.shape) for weight in model.weights])
    for weight in model.layers[-1].weights:
        weight.assign(unit * weight)
    return model


def ranked():
    return np.argsort(network(1.0)(images()).numpy(), axis=1)


@functools.cache
def found(unit, goal):
    classes = ranked()[:, -1 if goal == "labels" else -2]
    return minimize_distortion(network(unit), images(), **{goal: classes})


@pytest.mark.parametrize("goal", ["labels", "targets"])
@pytest.mark.parametrize("unit", UNITS)
def test_attack_does_not_depend_on_the_scale_of_the_logits(unit, goal):
    reference, again = found(1.0, goal), found(unit, goal)
    assert reference.succeeded.numpy().all() and again.succeeded.numpy().all()
    ratio = again.distortion.numpy() / reference.distortion.numpy()
    assert abs(ratio.mean() - 1.0) <= MEAN_CHANGE and ratio.max() <= 1.0 + MOST_CHANGE


@pytest.mark.parametrize("unit", [1.0, *UNITS])
def test_untargeted_attack_is_at_most_as_far_as_the_runner_up(unit):
    untargeted, targeted = found(unit, "labels").distortion.numpy(), found(unit, "targets").distortion.numpy()
    assert np.max(untargeted / targeted) <= 1.0 + MOST_CHANGE


@functools.cache
def floors(goal):
    classifier = random_classifier(np.random.default_rng(3), NUM_PIXELS, NUM_CLASSES, scale=0.3)
    ranked = classifier.logits(images()).argsort(axis=1)
    classes, nearest = (ranked[:, -1], nearest_of_other_classes) if goal == "labels" else (ranked[:, 2], nearest_of_class)
    floor = np.array([nearest(classifier, image, one).floor for image, one in zip(images(), classes, strict=True)])
    return classifier, classes, floor


@functools.cache
def linear_model():
    return keras.Sequential([keras.Input((NUM_PIXELS,)), keras.layers.Dense(NUM_CLASSES)])


@pytest.mark.parametrize("goal", ["labels", "targets"])
@pytest.mark.parametrize("unit", [1.0, *UNITS])
def test_linear_network_is_at_its_exact_floor_at_any_scale_of_the_logits(unit, goal):
    classifier, classes, floor = floors(goal)
    scaled = LinearClassifier(np.float32(unit * classifier.kernel), np.float32(unit * classifier.bias))
    linear_model().set_weights(list(scaled))
    results = minimize_distortion(linear_model(), images(), **{goal: classes})
    lengths = results.distortion.numpy() * np.sqrt(NUM_PIXELS)
    assert results.succeeded.numpy().all()
    assert lengths.mean() <= MEAN_ABOVE_FLOOR * floor.mean()
    assert np.all(lengths >= (1.0 - RTOL_ROUNDING) * floor)


def test_image_with_equal_logits_does_not_affect_its_batch():
    """A black image has equal logits in a network without biases, and a change in any direction gives it a class."""
    model = keras.Sequential([keras.Input((NUM_PIXELS,)), keras.layers.Dense(NUM_CLASSES, use_bias=False)])
    kernel = np.random.default_rng(3).normal(size=(NUM_PIXELS, NUM_CLASSES)).astype(np.float32)
    model.set_weights([kernel - kernel.mean(axis=1, keepdims=True)])
    batch = np.concatenate([np.zeros((1, NUM_PIXELS), np.float32), images()[1:]])
    targets = (np.argmax(model(batch), axis=1) + 1) % NUM_CLASSES
    results = minimize_distortion(model, batch, targets=targets, search="fast")
    assert results.succeeded.numpy()[1:].all()
    np.testing.assert_array_equal(results.succeeded, np.argmax(model(results.distorted), axis=1) == targets)
