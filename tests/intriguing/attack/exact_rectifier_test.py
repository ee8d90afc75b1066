"""The attack and the certificate against the exact distance of small rectifier networks."""

import functools

import keras
import numpy as np
import pytest

pytest.importorskip("scipy", reason="the exact distance needs SciPy (extra test)")

from intriguing.attack import minimize_distortion
from intriguing.lipschitz import certified_distortion
from tests.oracles.exact_rectifier import nearest_of_class, nearest_of_other_classes
from tests.oracles.rectifier_network import RectifierNetwork, random_network

SIZES, NUM_IMAGES = (20, 20, 20, 4), 32
MEAN_ABOVE_EXACT = 1.001  # includes the margin that float32 needs for a strict success, some 1e-5 of these lengths
RTOL_ROUNDING = 1e-5  # the exact length is float64, the image and the logits of the attack are float32
RTOL_GAP = 1e-6  # the optimality gap of the exact search


def length_of(distortion):
    """Returns a root-mean-square change of an image as an L2 norm."""
    return np.asarray(distortion, np.float64) * np.sqrt(SIZES[0])


@pytest.fixture(scope="module")
def model():
    drawn = random_network(SIZES)
    layers = keras.layers
    model = keras.Sequential([keras.Input(SIZES[:1]), *(layers.Dense(n, "relu") for n in SIZES[1:-1]), layers.Dense(SIZES[-1])])
    model.set_weights([array for pair in zip(drawn.kernels, drawn.biases, strict=True) for array in pair])
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(size=(NUM_IMAGES, SIZES[0])).astype(np.float32)


@pytest.fixture(scope="module")
def classes(model, images):
    """The predicted classes and the classes with the second largest logits, both int32."""
    ranked = np.argsort(RectifierNetwork.of_model(model).logits(images), axis=1)
    return ranked[:, -1].astype(np.int32), ranked[:, -2].astype(np.int32)


@pytest.fixture(scope="module")
def untargeted(model, images, classes):
    """The untargeted attack, and the exact distances."""
    found = minimize_distortion(model, images, labels=classes[0], search="thorough")
    return found, exact(nearest_of_other_classes, model, images, classes[0], found)


@pytest.fixture(scope="module")
def targeted(model, images, classes):
    """The attack to the runner-up, and the exact distances."""
    found = minimize_distortion(model, images, targets=classes[1], search="thorough")
    return found, exact(nearest_of_class, model, images, classes[1], found)


def exact(oracle, model, images, classes, found):
    solve = functools.partial(oracle, RectifierNetwork.of_model(model))
    starts = [[image] if ok else [] for image, ok in zip(found.distorted.numpy(), found.succeeded.numpy(), strict=True)]
    nearest = [solve(*pair, nearby=start) for *pair, start in zip(images, classes, starts, strict=True)]
    lengths = np.array([one.length for one in nearest])
    assert np.all([one.floor for one in nearest] >= (1 - RTOL_GAP) * lengths)  # the exact search solves all images
    return lengths


@pytest.mark.parametrize("goal", ["untargeted", "targeted"])
def test_attack_succeeds_whenever_an_image_exists(goal, request):
    found, lengths = request.getfixturevalue(goal)
    np.testing.assert_array_equal(found.succeeded, np.isfinite(lengths))


@pytest.mark.parametrize("goal", ["untargeted", "targeted"])
def test_attack_is_never_nearer_than_the_exact_minimum(goal, request):
    found, lengths = request.getfixturevalue(goal)
    assert np.min(length_of(found.distortion) / lengths) >= 1 - RTOL_ROUNDING


@pytest.mark.parametrize("goal", ["untargeted", "targeted"])
def test_mean_of_the_attack_is_close_to_the_exact_mean(goal, request):
    found, lengths = request.getfixturevalue(goal)
    assert length_of(found.distortion).mean() <= MEAN_ABOVE_EXACT * lengths.mean()


def test_certificates_do_not_exceed_the_exact_minimum(model, images, classes, untargeted):
    certified = length_of(certified_distortion(model, images, classes[0]).distortion)
    assert np.all(certified > 0)
    assert np.max(certified / untargeted[1]) <= 1 + RTOL_ROUNDING


def test_targeted_certificates_do_not_exceed_the_exact_minimum(model, images, classes, targeted):
    certified = length_of(certified_distortion(model, images, classes[0], targets=classes[1]).distortion)
    assert np.max(certified / targeted[1]) <= 1 + RTOL_ROUNDING
