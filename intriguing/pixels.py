"""The pixel box, which holds the legal pixel values, and checks of images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

_ULPS = 4.0  # allowed excess of a pixel over its bound, because either of them may be rounded

_EPSILONS = {tf.bfloat16: 2.0**-7, tf.float16: 2.0**-10}

BOUNDS = "bounds=({})"
"""The argument by which most functions receive the bounds of pixels, for messages."""


class PixelBox(NamedTuple):
    """The closed interval in which every pixel of a legal image lies."""

    lower: float = 0.0
    upper: float = 1.0

    def contains(self, images: tf.Tensor) -> tf.Tensor:
        """Returns a bool `[batch]`: whether every pixel of the image is inside the box; NaN is not."""
        inside = (images >= self.lower) & (images <= self.upper)
        return tf.reduce_all(tf.reshape(inside, [tf.shape(images)[0], -1]), axis=1)

    def clip(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the images with every pixel moved to the nearest legal value."""
        return tf.clip_by_value(images, self.lower, self.upper)

    def to_levels(self, images: tf.Tensor, quantization_levels: int) -> tf.Tensor:
        """Rounds every pixel of images inside the box to the nearest of evenly spaced values, which include the bounds.

        With 256 levels these are the values of a PNG file with 8 bits.
        """
        step = (self.upper - self.lower) / (quantization_levels - 1)
        return self.lower + tf.round((images - self.lower) / step) * step

    def legal(self, images: tf.Tensor, quantization_levels: int | None = None) -> tf.Tensor:
        """Returns the images clipped to the box and, if levels are given, rounded to them."""
        inside = self.clip(images)
        return inside if quantization_levels is None else self.to_levels(inside, quantization_levels)

    def rescale(self, images: tf.Tensor, source: PixelBox) -> tf.Tensor:
        """Maps images in the box `source` affinely to this box, as float32.

        Example:
            >>> PixelBox(0.0, 1.0).rescale(bytes_image, source=PixelBox(0.0, 255.0))
        """
        unit = (tf.cast(images, tf.float32) - source.lower) / (source.upper - source.lower)
        return self.clip(unit * (self.upper - self.lower) + self.lower)

    def check(self, images: tf.Tensor, name: str = "images", argument: str = BOUNDS) -> None:
        """Raises a `ValueError` if a pixel is NaN, infinite, or outside the box by more than rounding.

        The message advises to pass `argument`, in which `{}` stands for the two bounds.
        """
        if not bool(tf.reduce_all(tf.math.is_finite(images))):
            num_bad = int(tf.math.count_nonzero(~tf.math.is_finite(images)))
            raise ValueError(f"{name} must be finite numbers; received {num_bad} NaN or infinite values. Remove those images.")
        lowest, highest = float(tf.reduce_min(images)), float(tf.reduce_max(images))
        slack = _ULPS * _EPSILONS.get(images.dtype, 2.0**-23) * self._magnitude()
        if lowest < self.lower - slack or highest > self.upper + slack:
            enough = (0.0, 255.0) if lowest >= 0.0 and 2.0 < highest <= 255.0 else (lowest, highest)
            raise ValueError(
                f"{name} must lie within bounds ({_digits(self.lower)}, {_digits(self.upper)}); received values from "
                f"{_digits(lowest)} to {_digits(highest)}. If the network takes such values, pass "
                f"{argument.format(', '.join(map(_digits, enough)))}; otherwise rescale the images, or put the network's "
                "preprocessing in front of it with intriguing.models.with_preprocessing."
            )

    def in_single_precision(self) -> PixelBox:
        """Returns the box with bounds rounded to float32, which is the dtype of pixels."""
        return PixelBox(float(np.float32(self.lower)), float(np.float32(self.upper)))

    def _magnitude(self) -> float:
        return max([1e-30, *(abs(bound) for bound in self if np.isfinite(bound))])


def _digits(value: float) -> str:
    """Formats a number with the fewest digits that distinguish it from neighboring float32 numbers."""
    return repr(float(f"{value:.9g}")) if np.float32(value) != value else repr(float(str(np.float32(value))))


def checked_bounds(bounds: Any) -> PixelBox:
    """Returns the lower and the upper bound of every pixel as a `PixelBox`.

    Raises:
        ValueError: If the bounds are not two numbers, or the first one is not lower than the second.
    """
    try:
        lower, upper = (float(bound) for bound in (() if isinstance(bounds, str | bytes) else bounds))
    except (TypeError, ValueError) as error:
        raise ValueError(f"bounds must be two numbers, such as (0.0, 1.0); received {bounds!r}.") from error
    if not lower < upper:
        raise ValueError(f"bounds must be a lower and a larger upper bound; received ({lower}, {upper}).")
    return PixelBox(lower, upper)


def checked_images(images: Any, pixel_box: PixelBox, argument: str = BOUNDS) -> tf.Tensor:
    """Returns a batch of images as float32 `[batch, ...]` inside the box; an excess by rounding is clipped.

    Args:
        images: The images.
        pixel_box: The legal pixel values.
        argument: The argument that changes the box, for messages, in which `{}` stands for the two bounds.

    Raises:
        TypeError: If the images are not an array, or not floating point.
        ValueError: If there is no batch axis or no image, or a pixel is outside the box, NaN or infinite.
    """
    images = as_tensor(images)
    if not images.dtype.is_floating:
        bounds = f", and pass {argument.format('0, 255')}" if np.all(np.isfinite(pixel_box)) else ""
        raise TypeError(
            f"images must be floating point; received {images.dtype.name}. Cast them to float32{bounds} for a "
            "network that takes values from 0 to 255; for one that takes [0, 1], divide them by 255."
        )
    if images.shape.rank is None or images.shape.rank < 2:
        raise ValueError(
            f"images must be a batch [batch, ...]; received shape {images.shape.as_list()}. Add a batch axis: "
            "images[np.newaxis]."
        )
    if images.shape.num_elements() == 0:
        raise ValueError(f"images must hold at least one image; received shape {images.shape.as_list()}.")
    pixel_box.check(images, argument=argument)
    return pixel_box.in_single_precision().clip(tf.cast(images, tf.float32))


def as_tensor(images: Any) -> tf.Tensor:
    """Returns images as a tensor.

    Raises:
        TypeError: If the images are not an array of numbers.
    """
    if isinstance(images, tf.data.Dataset):
        raise TypeError(
            "images must be an array or a tensor; received a tf.data.Dataset. Take a batch of it: "
            "images, labels = next(iter(dataset.batch(128)))."
        )
    if callable(images) or isinstance(images, str | bytes | Iterator):
        raise TypeError(
            f"images must be an array or a tensor [batch, ...]; received a {type(images).__name__}. The classifier is the "
            "first argument, the images are the second."
        )
    try:
        return tf.convert_to_tensor(images)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"images must be an array or a tensor of numbers [batch, ...]; received a {type(images).__name__} that cannot "
            "be converted."
        ) from error


def checked_starts(init: Any, images: tf.Tensor) -> tf.Tensor:
    """Returns the images from which a search starts, as float32; the images themselves if `init` is None.

    Raises:
        ValueError: If the shape is not that of the images, or a value is not finite.
    """
    if init is None:
        return images
    init = tf.cast(tf.convert_to_tensor(init), tf.float32)
    if init.shape != images.shape:
        raise ValueError(f"init must have the shape of the images, {images.shape.as_list()}; received {init.shape.as_list()}.")
    if not bool(tf.reduce_all(tf.math.is_finite(init))):
        raise ValueError("init must be finite numbers; received NaN or infinite values. Omit it to start from the images.")
    return init
