"""Resizes and crops images of any size to the input size of a network."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

_BYTES = 255.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageResizing:
    """Settings to resize an image, and to crop its center.

    Attributes:
        height: Height of the result.
        width: Width of the result.
        shorter_side: Length of the shorter side of the image after resizing and before cropping, as in "shorter side 256,
            center crop 224". If None, the smallest size that covers the result.
    """

    height: int
    width: int
    shorter_side: int | None = None

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ValueError(
                f"height and width of an image must be at least 1; received {self.height}x{self.width}. Pass larger numbers."
            )
        if self.shorter_side is not None and self.shorter_side < max(self.height, self.width):
            raise ValueError(
                f"shorter_side must be at least {max(self.height, self.width)}, so that {self.height}x{self.width} pixels can "
                f"be cropped; received {self.shorter_side}. Pass a larger shorter_side, or a smaller image size."
            )

    def resize(self, image: tf.Tensor) -> tf.Tensor:
        """Returns an image of the given size. The pixels of an image that need not be resized do not change.

        Args:
            image: Uint8 `[height, width, channels]`, of any size.

        Returns:
            Uint8 `[self.height, self.width, channels]`.
        """
        height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
        if self.shorter_side is None:
            scale = tf.maximum(self.height / height, self.width / width)
        else:
            scale = self.shorter_side / tf.minimum(height, width)
        # The rounded size must not be smaller than the crop.
        scaled = tf.maximum(tf.cast(tf.round([scale * height, scale * width]), tf.int32), [self.height, self.width])
        unscaled = tf.reduce_all(scaled == tf.shape(image)[:2])
        resized = tf.cond(unscaled, lambda: image, lambda: _resized(image, scaled))
        top, left = tf.unstack((scaled - [self.height, self.width]) // 2)
        cut = tf.slice(resized, [top, left, 0], [self.height, self.width, -1])
        return tf.ensure_shape(cut, [self.height, self.width, image.shape[2]])


def _resized(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    resized = tf.image.resize(image, size, antialias=True)  # bilinear
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, _BYTES), tf.uint8)
