"""The box of legal pixel values: the one definition of what an image may be."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf


class PixelBox(NamedTuple):
    """The closed interval in which every pixel of a legal image lies."""

    lower: float = 0.0
    upper: float = 1.0

    def contains(self, images: tf.Tensor) -> tf.Tensor:
        """Returns a bool `[batch]`: every pixel of the image is a number inside the box (NaN is not)."""
        inside = (images >= self.lower) & (images <= self.upper)
        return tf.reduce_all(tf.reshape(inside, [tf.shape(images)[0], -1]), axis=1)

    def clip(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the images with every pixel moved to the nearest legal value."""
        return tf.clip_by_value(images, self.lower, self.upper)

    def to_levels(self, images: tf.Tensor, num_levels: int) -> tf.Tensor:
        """Returns images inside the box with every pixel rounded to the nearest of evenly spaced values, bounds included.

        256 levels are the bytes of a PNG file.
        """
        step = (self.upper - self.lower) / (num_levels - 1)
        return self.lower + tf.round((images - self.lower) / step) * step

    def legal(self, images: tf.Tensor, num_levels: int | None = None) -> tf.Tensor:
        """Returns the images clipped to the box and, where levels are given, rounded to them."""
        inside = self.clip(images)
        return inside if num_levels is None else self.to_levels(inside, num_levels)

    def rescale(self, images: tf.Tensor, source: PixelBox) -> tf.Tensor:
        """Maps images that live in the box `source` affinely onto this one, as float32.

        Example:
            >>> PixelBox(0.0, 1.0).rescale(bytes_image, source=PixelBox(0.0, 255.0))
        """
        unit = (tf.cast(images, tf.float32) - source.lower) / (source.upper - source.lower)
        return self.clip(unit * (self.upper - self.lower) + self.lower)

    def check(self, images: tf.Tensor, name: str = "images") -> None:
        """Raises a `ValueError` that tells the received range, if a pixel is outside the box or not a number."""
        if not bool(tf.reduce_all(tf.math.is_finite(images))):
            num_bad = int(tf.math.count_nonzero(~tf.math.is_finite(images)))
            raise ValueError(f"{name} must be finite numbers; received {num_bad} NaN or infinite values. Remove those images.")
        lowest, highest = float(tf.reduce_min(images)), float(tf.reduce_max(images))
        if lowest < self.lower or highest > self.upper:
            raise ValueError(
                f"{name} must lie in the pixel box [{self.lower}, {self.upper}]; received values from {lowest:.6g} to "
                f"{highest:.6g}. Rescale them with PixelBox.rescale."
            )


def checked_images(images: Any, pixel_box: PixelBox) -> tf.Tensor:
    """Returns a batch of images as float32 `[batch, ...]`, or tells what is wrong with it.

    Raises:
        TypeError: If the images are not floating point.
        ValueError: If there is no batch axis or no image, or a pixel is outside the box or not a number.
    """
    images = tf.convert_to_tensor(images)
    if not images.dtype.is_floating:
        raise TypeError(f"images must be floating point; received {images.dtype.name}. Rescale them with PixelBox.rescale.")
    if images.shape.rank is None or images.shape.rank < 2:
        raise ValueError(f"images must be a batch [batch, ...]; received shape {images.shape.as_list()}. Add a batch axis.")
    if images.shape.num_elements() == 0:
        raise ValueError(f"images must hold at least one image; received shape {images.shape.as_list()}.")
    images = tf.cast(images, tf.float32)
    pixel_box.check(images)
    return images


def checked_perturbations(perturbations: Any, images: tf.Tensor) -> tf.Tensor:
    """Returns perturbations of a batch of images as float32 of their shape, zeros for None, or tells what is wrong with them.

    Raises:
        ValueError: If the shape is not that of the images, or a value is not a number.
    """
    if perturbations is None:
        return tf.zeros_like(images)
    perturbations = tf.cast(tf.convert_to_tensor(perturbations), tf.float32)
    if perturbations.shape != images.shape:
        raise ValueError(
            f"perturbations must have the shape of the images, {images.shape.as_list()}; received "
            f"{perturbations.shape.as_list()}."
        )
    if not bool(tf.reduce_all(tf.math.is_finite(perturbations))):
        raise ValueError(
            "perturbations must be finite numbers; received NaN or infinite values. Pass zeros to begin at the image."
        )
    return perturbations
