"""Tests of distortion and amplification against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from intriguing.distortion import amplify, distortion
from intriguing.pixels import PixelBox

RTOL_ROUNDING = 1e-5  # a mean over hundreds of float32 squares
SHAPE = (5, 7, 6, 3)
EVERYTHING = PixelBox(-1e6, 1e6)


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    images = rng.uniform(0.3, 0.7, SHAPE).astype(np.float32)
    return images, (images + rng.normal(0, 0.01, SHAPE)).astype(np.float32)


def rms(images, distorted):
    change = distorted.astype(np.float64) - images
    return np.sqrt((change**2).mean(axis=(1, 2, 3)))


def test_distortion_is_the_root_mean_square_over_pixels_and_channels(pair):
    np.testing.assert_allclose(distortion(*pair), rms(*pair), rtol=RTOL_ROUNDING)


def test_distortion_of_a_constant_change_is_its_absolute_value():
    np.testing.assert_allclose(distortion(tf.zeros([2, 784]), tf.fill([2, 784], 0.25)), [0.25, 0.25], rtol=RTOL_ROUNDING)


def test_distortion_of_an_unchanged_image_is_zero(pair):
    np.testing.assert_array_equal(distortion(pair[0], pair[0]), np.zeros(5))


def test_amplify_reaches_the_requested_distortion_without_clipping(pair):
    amplified = amplify(*pair, to_distortion=0.05)
    assert np.all((amplified.images > 0) & (amplified.images < 1))
    np.testing.assert_allclose(amplified.distortion, np.full(5, 0.05), rtol=RTOL_ROUNDING)


def test_amplify_keeps_the_direction(pair):
    images, distorted = pair
    expected = images + (distorted - images) * (0.05 / rms(images, distorted)).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(
        amplify(*pair, to_distortion=0.05).images, expected, atol=1e-6
    )  # a few units in the last place of 1


def test_amplify_clips_to_the_bounds_and_returns_the_realized_distortion(pair):
    images, distorted = pair
    wanted = images + (distorted - images) * (2.0 / rms(images, distorted)).reshape(-1, 1, 1, 1)
    amplified = amplify(*pair, to_distortion=2.0, pixel_box=PixelBox(0.1, 0.9))
    np.testing.assert_allclose(amplified.images, wanted.clip(0.1, 0.9), atol=1e-5)  # rounding, amplified two hundred times
    np.testing.assert_allclose(amplified.distortion, rms(images, wanted.clip(0.1, 0.9)), rtol=1e-4)
    assert np.all(amplified.distortion < 2.0)


def test_amplify_keeps_images_without_perturbation(pair):
    images, distorted = pair
    distorted[2] = images[2]
    amplified = amplify(images, distorted, to_distortion=0.3, pixel_box=EVERYTHING)
    np.testing.assert_array_equal(amplified.images[2], images[2])
    assert amplified.distortion[2] == 0.0
    np.testing.assert_allclose(amplified.distortion.numpy()[[0, 1, 3, 4]], 0.3, rtol=RTOL_ROUNDING)
