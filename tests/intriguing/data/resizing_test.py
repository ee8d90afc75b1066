"""Resizing returns the center of the scaled image, and unchanged bytes where nothing is scaled."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from intriguing.data import ImageResizing


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_the_center_of_a_photograph_keeps_its_bytes() -> None:
    image = _noise(256, 256, 3)
    resized = ImageResizing(height=227, width=227, shorter_side=256).resize(tf.constant(image))
    np.testing.assert_array_equal(resized, image[14:241, 14:241])
    assert resized.dtype == tf.uint8


@pytest.mark.parametrize(
    ("shape", "resizing", "rows", "columns"),
    [
        ((256, 300, 3), ImageResizing(height=227, width=227, shorter_side=256), slice(14, 241), slice(36, 263)),
        ((301, 256, 1), ImageResizing(height=224, width=200, shorter_side=256), slice(38, 262), slice(28, 228)),
        ((5, 4, 3), ImageResizing(height=4, width=4), slice(0, 4), slice(0, 4)),
        ((4, 9, 3), ImageResizing(height=4, width=4), slice(0, 4), slice(2, 6)),
        ((4, 6, 3), ImageResizing(height=4, width=6), slice(0, 4), slice(0, 6)),
    ],
)
def test_an_image_of_the_right_scale_is_cropped_without_resampling(shape, resizing, rows, columns) -> None:
    image = _noise(*shape)
    np.testing.assert_array_equal(resizing.resize(tf.constant(image)), image[rows, columns])


def test_a_scaled_image_is_the_rounded_middle_of_an_antialiased_resize() -> None:
    image = _noise(375, 500, 3)
    expected = np.rint(tf.image.resize(image, (256, 341), antialias=True))
    resized = ImageResizing(height=224, width=224, shorter_side=256).resize(tf.constant(image))
    np.testing.assert_array_equal(resized, expected[16:240, 58:282])


def test_halving_is_antialiased() -> None:
    stripes = np.tile(np.array([0, 255, 0, 255], np.uint8)[:, None, None], (2, 8, 1))
    resized = ImageResizing(height=2, width=2).resize(tf.constant(stripes)).numpy()
    assert (np.abs(resized.astype(int) - 127) <= 16).all(), "no stripe survives; one pixel in four would be 0 or 255"


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (7, 3), (10, 333), (641, 479), (1024, 10)])
@pytest.mark.parametrize("resizing", [ImageResizing(height=9, width=5), ImageResizing(height=9, width=5, shorter_side=11)])
def test_an_image_of_any_size_is_covered_and_constant_color_stays(size, resizing) -> None:
    resized = resizing.resize(tf.fill([*size, 3], tf.constant(201, tf.uint8)))
    np.testing.assert_array_equal(resized, np.full((9, 5, 3), 201))


def test_images_of_unknown_sizes_come_out_of_a_map_with_one_static_shape() -> None:
    images = [_noise(6, 8, 3), _noise(5, 4, 3)]
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(images), output_signature=tf.TensorSpec([None, None, 3], tf.uint8)
    ).map(ImageResizing(height=4, width=3, shorter_side=4).resize)
    assert dataset.element_spec == tf.TensorSpec([4, 3, 3], tf.uint8)
    batch = next(iter(dataset.batch(2)))
    np.testing.assert_array_equal(batch[1], images[1][0:4, 0:3])


@pytest.mark.parametrize("size", [(0, 4), (4, -1)])
def test_a_size_without_pixels_is_refused(size) -> None:
    with pytest.raises(ValueError, match=f"must be at least 1; received {size[0]}x{size[1]}. Pass larger"):
        ImageResizing(height=size[0], width=size[1])


def test_a_cut_larger_than_the_scaled_image_is_refused() -> None:
    with pytest.raises(
        ValueError, match="shorter_side must be at least 227, so that 200x227 pixels can be cropped; received 226"
    ):
        ImageResizing(height=200, width=227, shorter_side=226)
