"""Gaussian noise, the control of the attacks."""

import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack import add_gaussian_noise
from intriguing.pixels import PixelBox

GRAY, BLACK = tf.fill([4, 50, 50, 1], 0.5), tf.zeros([4, 50, 50, 1])
RTOL_SAMPLE = 0.05  # 2,500 pixels: the standard deviation of a sample is within 5 % of the true one


def test_unclipped_noise_has_the_requested_standard_deviation():
    noisy = add_gaussian_noise(GRAY, standard_deviation=0.1, seed=0)
    np.testing.assert_allclose(noisy.distortion, 0.1, rtol=RTOL_SAMPLE)


def test_reported_distortion_is_measured_after_clipping():
    noisy = add_gaussian_noise(BLACK, standard_deviation=0.1, seed=0)
    assert bool(tf.reduce_all(PixelBox().contains(noisy.images)))
    np.testing.assert_allclose(noisy.distortion, 0.1 / np.sqrt(2), rtol=RTOL_SAMPLE)


def test_noise_without_bounds_is_not_clipped():
    noisy = add_gaussian_noise(BLACK, standard_deviation=1.0, seed=0, pixel_box=None)
    assert float(tf.reduce_min(noisy.images)) < -1.0
    np.testing.assert_allclose(noisy.distortion, 1.0, rtol=RTOL_SAMPLE)


@pytest.mark.parametrize("seed, same", [(0, True), (1, False)])
def test_seed_determines_the_noise(seed, same):
    first, second = (
        add_gaussian_noise(GRAY, standard_deviation=0.1, seed=0),
        add_gaussian_noise(GRAY, standard_deviation=0.1, seed=seed),
    )
    assert bool(tf.reduce_all(first.images == second.images)) == same
