"""Resizing returns the center of the scaled image, and unchanged bytes if the scale is one."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from intriguing.data import ImageFitting


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_center_crop_keeps_its_bytes() -> None:
    image = _noise(256, 256, 3)
    fitted = ImageFitting(height=227, width=227, shorter_side=256).fit(tf.constant(image))
    np.testing.assert_array_equal(fitted, image[14:241, 14:241])
    assert fitted.dtype == tf.uint8


@pytest.mark.parametrize(
    ("shape", "fitting", "rows", "columns"),
    [
        ((256, 300, 3), ImageFitting(height=227, width=227, shorter_side=256), slice(14, 241), slice(36, 263)),
        ((301, 256, 1), ImageFitting(height=224, width=200, shorter_side=256), slice(38, 262), slice(28, 228)),
        ((5, 4, 3), ImageFitting(height=4, width=4), slice(0, 4), slice(0, 4)),
        ((4, 9, 3), ImageFitting(height=4, width=4), slice(0, 4), slice(2, 6)),
        ((4, 6, 3), ImageFitting(height=4, width=6), slice(0, 4), slice(0, 6)),
    ],
)
def test_images_of_the_right_scale_are_cropped_without_resampling(shape, fitting, rows, columns) -> None:
    image = _noise(*shape)
    np.testing.assert_array_equal(fitting.fit(tf.constant(image)), image[rows, columns])


def test_scaled_image_is_the_rounded_center_of_an_antialiased_resize() -> None:
    image = _noise(375, 500, 3)
    resized = np.rint(tf.image.resize(image, (256, 341), antialias=True))
    fitted = ImageFitting(height=224, width=224, shorter_side=256).fit(tf.constant(image))
    np.testing.assert_array_equal(fitted, resized[16:240, 58:282])


def test_halving_is_antialiased() -> None:
    stripes = np.tile(np.array([0, 255, 0, 255], np.uint8)[:, None, None], (2, 8, 1))
    fitted = ImageFitting(height=2, width=2).fit(tf.constant(stripes)).numpy()
    assert (np.abs(fitted.astype(int) - 127) <= 16).all(), "no stripe survives; one pixel in four would be 0 or 255"


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (7, 3), (10, 333), (641, 479), (1024, 10)])
@pytest.mark.parametrize("fitting", [ImageFitting(height=9, width=5), ImageFitting(height=9, width=5, shorter_side=11)])
def test_constant_images_of_any_size_keep_their_color(size, fitting) -> None:
    fitted = fitting.fit(tf.fill([*size, 3], tf.constant(201, tf.uint8)))
    np.testing.assert_array_equal(fitted, np.full((9, 5, 3), 201))


def test_images_of_unknown_size_get_a_static_shape_in_a_map() -> None:
    images = [_noise(6, 8, 3), _noise(5, 4, 3)]
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(images), output_signature=tf.TensorSpec([None, None, 3], tf.uint8)
    ).map(ImageFitting(height=4, width=3, shorter_side=4).fit)
    assert dataset.element_spec == tf.TensorSpec([4, 3, 3], tf.uint8)
    batch = next(iter(dataset.batch(2)))
    np.testing.assert_array_equal(batch[1], images[1][0:4, 0:3])


@pytest.mark.parametrize("size", [(0, 4), (4, -1)])
def test_size_without_pixels_is_refused(size) -> None:
    with pytest.raises(ValueError, match=f"at least one pixel a side; received a size of {size[0]}x{size[1]}. Ask for more"):
        ImageFitting(height=size[0], width=size[1])


def test_crop_larger_than_the_scaled_image_is_refused() -> None:
    with pytest.raises(
        ValueError, match="shorter_side must be at least 227, so that 200x227 pixels can be cut out; received 226"
    ):
        ImageFitting(height=200, width=227, shorter_side=226)
