"""Tests of PixelBox, the legal range of pixel values."""

import numpy as np
import pytest
import tensorflow as tf

from intriguing.pixels import PixelBox, checked_bounds, checked_images

BYTES = PixelBox(0.0, 255.0)


def images(*rows):
    return tf.constant(rows, tf.float32)


def test_bytes_are_rescaled_to_the_nearest_float():
    everything = np.arange(256, dtype=np.uint8)
    rescaled = PixelBox().rescale(everything, source=BYTES)
    assert rescaled.dtype == tf.float32
    np.testing.assert_array_equal(rescaled, everything.astype(np.float32) / np.float32(255))


def test_rescaling_maps_bounds_to_bounds_and_center_to_center():
    np.testing.assert_array_equal(
        PixelBox(-1.0, 3.0).rescale(images([10.0, 15.0, 20.0]), source=PixelBox(10.0, 20.0)), [[-1, 1, 3]]
    )


def test_rescaled_images_stay_within_bounds():
    box = PixelBox(-0.1, 0.7)
    rescaled = box.rescale(np.linspace(0, 255, 10_001, dtype=np.float32), source=BYTES).numpy()
    assert rescaled.min() >= np.float32(box.lower) and rescaled.max() <= np.float32(box.upper)


def test_clipping_moves_only_outside_pixels_to_the_bounds():
    np.testing.assert_array_equal(PixelBox().clip(images([-0.5, 0.25, 1.5])), [[0.0, 0.25, 1.0]])


def test_legal_images_are_within_bounds_and_at_the_nearest_level():
    box = PixelBox(-1.0, 1.0)
    pixels = tf.constant([[-3.0, -0.7, -0.3, 0.2, 0.8, 1.4]])
    np.testing.assert_array_equal(box.legal(pixels), box.clip(pixels))
    np.testing.assert_allclose(box.legal(pixels, 5), [[-1.0, -0.5, -0.5, 0.0, 1.0, 1.0]])


def test_contains_checks_each_image_and_includes_the_bounds():
    rows = images([0.0, 1.0], [0.5, 1.0001], [-0.0001, 0.5], [np.nan, 0.5])
    np.testing.assert_array_equal(PixelBox().contains(rows), [True, False, False, False])


def test_check_accepts_legal_images():
    PixelBox().check(images([0.0, 0.5, 1.0]))


def test_check_error_shows_the_received_range_and_what_to_do():
    words = (
        r"images must lie within bounds \(0.0, 1.0\); received values from -0.42 to 2.64. If the network takes such values, pass "
        r"bounds=\(-0.42, 2.64\); otherwise rescale the images, or put the network's preprocessing in front of it with "
        "intriguing.models.with_preprocessing"
    )
    with pytest.raises(ValueError, match=words):
        PixelBox().check(images([-0.42, 0.5], [1.0, 2.64]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_check_error_counts_nan_and_infinite_values(bad):
    with pytest.raises(
        ValueError, match="distorted must be finite numbers; received 2 NaN or infinite values. Remove those images."
    ):
        PixelBox().check(images([bad, 0.5], [0.5, bad]), name="distorted")


def test_error_for_byte_images_suggests_bounds_of_bytes():
    with pytest.raises(ValueError, match=r"received values from 3.0 to 200.0. .* pass bounds=\(0.0, 255.0\)"):
        checked_images(np.float32([[3.0, 200.0]]), PixelBox())


@pytest.mark.parametrize(
    ("bounds", "pixels"),
    [
        ((0.0, 1.0), [0.0, 1.0 + 2e-7]),
        (((0 - 0.1307) / 0.3081, (1 - 0.1307) / 0.3081), np.float32([(0 - 0.1307) / 0.3081, (1 - 0.1307) / 0.3081])),
        ((0.0, 0.1), [0.0, 0.1]),
        ((0.0, 0.1), np.float16([0.0, 0.1])),
    ],
)
def test_pixels_at_rounded_bounds_are_accepted_and_clipped(bounds, pixels):
    box = checked_bounds(bounds)
    images = checked_images(np.array([pixels], getattr(pixels, "dtype", np.float32)), box)
    assert images.dtype == tf.float32
    assert images.numpy().min() >= np.float32(box.lower) and images.numpy().max() <= np.float32(box.upper)
    np.testing.assert_allclose(images.numpy()[0], pixels, rtol=1e-3, atol=1e-6)


def test_pixels_beyond_rounding_are_refused_with_enough_digits():
    with pytest.raises(ValueError, match=r"within bounds \(0.0, 1.0\); received values from 0.0 to 1.00001"):
        checked_images(np.float32([[0.0, 1.00001]]), PixelBox())


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (tf.data.Dataset.range(3), "received a tf.data.Dataset. Take a batch of it"),
        (lambda x: x, "received a function. The classifier is the first argument"),
        ((row for row in [[0.0]]), "received a generator. The classifier is the first argument"),
        ([[0.0, 1.0], [0.5]], "images must be an array or a tensor of numbers"),
        (np.zeros((2, 3), np.uint8), r"received uint8. Cast them to float32, and pass bounds=\(0, 255\)"),
    ],
)
def test_invalid_arrays_are_refused_and_the_error_says_what_to_do(images, words):
    with pytest.raises(TypeError, match=words):
        checked_images(images, PixelBox())


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ((1.0, 0.0), r"must be the lower and then the upper one; received \(1.0, 0.0\)"),
        ((0.0, 0.0), r"must be the lower and then the upper one"),
        ((0.0, float("nan")), r"must be the lower and then the upper one"),
        (1.0, r"bounds must be two numbers, such as \(0.0, 1.0\); received 1.0"),
        (("a", 1), r"bounds must be two numbers"),
        ("01", r"bounds must be two numbers"),
        ((0.0, 0.5, 1.0), r"bounds must be two numbers"),
    ],
)
def test_invalid_bounds_are_refused(bounds, words):
    with pytest.raises(ValueError, match=words):
        checked_bounds(bounds)
