"""Claims about the box of legal pixel values."""

import numpy as np
import pytest
import tensorflow as tf

from intriguing.pixels import PixelBox

BYTES = PixelBox(0.0, 255.0)


def images(*rows):
    return tf.constant(rows, tf.float32)


def test_rescales_bytes_exactly_to_the_float_nearest_their_ratio():
    everything = np.arange(256, dtype=np.uint8)
    rescaled = PixelBox().rescale(everything, source=BYTES)
    assert rescaled.dtype == tf.float32
    np.testing.assert_array_equal(rescaled, everything.astype(np.float32) / np.float32(255))


def test_rescaling_maps_the_ends_and_the_middle_of_one_box_onto_another():
    np.testing.assert_array_equal(
        PixelBox(-1.0, 3.0).rescale(images([10.0, 15.0, 20.0]), source=PixelBox(10.0, 20.0)), [[-1, 1, 3]]
    )


def test_rescaling_never_leaves_the_pixel_box():
    box = PixelBox(-0.1, 0.7)
    rescaled = box.rescale(np.linspace(0, 255, 10_001, dtype=np.float32), source=BYTES).numpy()
    assert rescaled.min() >= np.float32(box.lower) and rescaled.max() <= np.float32(box.upper)


def test_clipping_moves_only_the_pixels_outside_and_only_to_the_edge():
    np.testing.assert_array_equal(PixelBox().clip(images([-0.5, 0.25, 1.5])), [[0.0, 0.25, 1.0]])


def test_legal_images_are_inside_the_box_and_at_the_nearest_level_where_levels_are_given():
    box = PixelBox(-1.0, 1.0)
    pixels = tf.constant([[-3.0, -0.7, -0.3, 0.2, 0.8, 1.4]])
    np.testing.assert_array_equal(box.legal(pixels), box.clip(pixels))
    np.testing.assert_allclose(box.legal(pixels, 5), [[-1.0, -0.5, -0.5, 0.0, 1.0, 1.0]])


def test_contains_judges_each_image_alone_and_counts_the_edges_as_inside():
    rows = images([0.0, 1.0], [0.5, 1.0001], [-0.0001, 0.5], [np.nan, 0.5])
    np.testing.assert_array_equal(PixelBox().contains(rows), [True, False, False, False])


def test_check_is_silent_about_legal_images():
    PixelBox().check(images([0.0, 0.5, 1.0]))


def test_check_tells_the_received_range_and_the_remedy():
    words = r"images must lie in the pixel box \[0.0, 1.0\]; received values from -0.42 to 2.64. Rescale them with PixelBox"
    with pytest.raises(ValueError, match=words):
        PixelBox().check(images([-0.42, 0.5], [1.0, 2.64]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_check_counts_the_values_that_are_not_numbers(bad):
    with pytest.raises(
        ValueError, match="distorted must be finite numbers; received 2 NaN or infinite values. Remove those images."
    ):
        PixelBox().check(images([bad, 0.5], [0.5, bad]), name="distorted")
