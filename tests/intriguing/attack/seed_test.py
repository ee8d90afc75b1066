"""The seed of the attack determines its random draws, and all seeds share one compiled program."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack import BoundarySearch, DistortionSearch, minimize_distortion
from intriguing.attack.search_program import compiled_search
from intriguing.models.functional import split_weights

NUM_IMAGES, NUM_PIXELS, NUM_CLASSES = 8, 30, 5
SEVERAL_STARTS = DistortionSearch(
    boundary_search=BoundarySearch(num_starts=3, num_agreeing=3, long_steps=8, num_rivals=1, num_constraints=2, tolerance=1e-3),
    restart_evaluations=0,
    max_evaluations=300,
)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(size=(NUM_IMAGES, NUM_PIXELS)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((NUM_PIXELS,)), keras.layers.Dense(16, "relu", kernel_initializer="orthogonal"), keras.layers.Dense(NUM_CLASSES)]
    )  # fmt: skip


def attacked(model, images, *, search, seed):
    labels = np.asarray(model(images)).argmax(axis=1)
    return minimize_distortion(model, images, labels=labels, search=search, seed=seed)


def assert_equal(found, again):
    for name, values in found._asdict().items():
        np.testing.assert_array_equal(getattr(again, name), values, err_msg=name)


def test_the_same_seed_gives_the_same_results(model, images):
    assert_equal(*(attacked(model, images, search=SEVERAL_STARTS, seed=7) for _ in range(2)))


def test_the_default_seed_is_zero(model, images):
    labels = np.asarray(model(images)).argmax(axis=1)
    by_default = minimize_distortion(model, images, labels=labels, search=SEVERAL_STARTS)
    assert_equal(by_default, attacked(model, images, search=SEVERAL_STARTS, seed=0))


def test_another_seed_changes_the_noisy_starts(model, images):
    found, other = (attacked(model, images, search=SEVERAL_STARTS, seed=seed) for seed in (0, 1))
    assert found.succeeded.numpy().all() and other.succeeded.numpy().all()
    assert (found.num_evaluations.numpy() != other.num_evaluations.numpy()).any()


def test_a_search_with_one_start_does_not_depend_on_the_seed(model, images):
    found, other = (attacked(model, images, search="fast", seed=seed) for seed in (0, 1))
    assert found.succeeded.numpy().all()
    assert_equal(found, other)


def contrast_classifier(images):
    """Predicts class 1 if the variance of the pixels is large, and has no gradient. Noise is of class 1, constant images are not."""
    contrast = tf.math.reduce_variance(tf.stop_gradient(images), axis=1, keepdims=True)
    return tf.concat([tf.zeros_like(contrast), 50.0 * (contrast - 0.02)], axis=1)


def test_another_seed_changes_the_noise_that_is_tried_without_gradients():
    gray = np.random.default_rng(0).uniform(0.45, 0.55, size=(1, NUM_PIXELS)).astype(np.float32)
    found, again, other = (minimize_distortion(contrast_classifier, gray, labels=0, search="fast", seed=n) for n in (0, 0, 1))
    assert found.succeeded.numpy().all() and other.succeeded.numpy().all()
    assert_equal(found, again)
    assert (found.distorted.numpy() != other.distorted.numpy()).any()


def test_one_program_serves_all_seeds(model, images):
    attacked(model, images, search=SEVERAL_STARTS, seed=0)
    program = compiled_search(split_weights(model, (NUM_PIXELS,))[0], SEVERAL_STARTS, False, True)
    before = program.experimental_get_tracing_count(), compiled_search.cache_info().misses
    for seed in (1, 2, 2**31 - 1):
        attacked(model, images, search=SEVERAL_STARTS, seed=seed)
    assert (program.experimental_get_tracing_count(), compiled_search.cache_info().misses) == before
    assert before[0] == 1


@pytest.mark.parametrize("seed", [1.0, True, "1", None])
def test_a_seed_that_is_no_integer_is_refused(model, images, seed):
    with pytest.raises(TypeError, match="seed must be an integer; received"):
        minimize_distortion(model, images, labels=0, seed=seed)


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_out_of_range_is_refused(model, images, seed):
    with pytest.raises(ValueError, match=r"seed must lie in \[0, 2\*\*31\); received"):
        minimize_distortion(model, images, labels=0, seed=seed)
