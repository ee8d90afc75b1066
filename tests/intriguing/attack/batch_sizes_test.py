"""Batches of any size share a few compiled programs, and the result for an image does not depend on the size of its batch."""

import keras
import numpy as np
import pytest

from intriguing.attack import QUICK_SEARCH, minimize_distortion
from intriguing.attack.search_program import compiled_search
from intriguing.models.functional import split_weights

NUM_IMAGES, NUM_PIXELS, NUM_CLASSES = 300, 30, 6
SIZES = (1, 299, 17, 2, 128, 5, 100, 16, 129, 64, 33, 300)
MOST_PROGRAMS = 6


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(24, "relu"), keras.layers.Dense(24, "relu"), keras.layers.Dense(NUM_CLASSES)]
    return keras.Sequential([keras.Input((NUM_PIXELS,)), *layers])


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((NUM_IMAGES, NUM_PIXELS), dtype=np.float32)


@pytest.fixture(scope="module")
def whole(network, images):
    return attacked(network, images)


def attacked(network, images):
    return minimize_distortion(network, images, labels=network(images).numpy().argmax(axis=1), search="fast")


@pytest.mark.slow
def test_every_batch_size_gives_the_result_of_one_large_batch(network, images, whole):
    assert whole.succeeded.numpy().all()
    rng = np.random.default_rng(1)
    for size in SIZES:
        rows = rng.permutation(NUM_IMAGES)[:size]
        part = attacked(network, images[rows])
        np.testing.assert_array_equal(part.distorted, whole.distorted.numpy()[rows], err_msg=f"batch of {size}")
        np.testing.assert_array_equal(part.status, whole.status.numpy()[rows])
        np.testing.assert_array_equal(part.num_evaluations, whole.num_evaluations.numpy()[rows])


def test_many_batch_sizes_share_a_few_compiled_programs(network, images, whole):
    for size in SIZES:
        attacked(network, images[:size])
    architecture, _ = split_weights(network, images.shape[1:])
    num_programs = compiled_search(architecture, QUICK_SEARCH, False, True).experimental_get_tracing_count()
    assert 1 <= num_programs <= MOST_PROGRAMS
