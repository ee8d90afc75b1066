"""Scales and crops images of any size to the size that a network takes."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

_BYTES = 255.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageResizing:
    """Scales an image and crops its center.

    Attributes:
        height: Of the result.
        width: Likewise.
        shorter_side: Pixels of the shorter side after scaling, as in "shorter side 256, center crop 224";
            if None, the image is scaled until it just covers the result.
    """

    height: int
    width: int
    shorter_side: int | None = None

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ValueError(
                f"an image must have at least one pixel a side; received a size of {self.height}x{self.width}. Ask for more."
            )
        if self.shorter_side is not None and self.shorter_side < max(self.height, self.width):
            raise ValueError(
                f"shorter_side must be at least {max(self.height, self.width)}, so that {self.height}x{self.width} pixels can "
                f"be cut out; received {self.shorter_side}. Ask for more, or for a smaller image."
            )

    def resize(self, image: tf.Tensor) -> tf.Tensor:
        """Returns an image of the wanted size; one that has the right scale keeps its bytes.

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
        # No size may be rounded to less than what is cut out.
        scaled = tf.maximum(tf.cast(tf.round([scale * height, scale * width]), tf.int32), [self.height, self.width])
        unscaled = tf.reduce_all(scaled == tf.shape(image)[:2])
        resized = tf.cond(unscaled, lambda: image, lambda: _resized(image, scaled))
        top, left = tf.unstack((scaled - [self.height, self.width]) // 2)
        cut = tf.slice(resized, [top, left, 0], [self.height, self.width, -1])
        return tf.ensure_shape(cut, [self.height, self.width, image.shape[2]])


def _resized(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    resized = tf.image.resize(image, size, antialias=True)  # bilinear
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, _BYTES), tf.uint8)
