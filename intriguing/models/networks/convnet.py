"""A small convolutional network for digits, which is not in the paper."""

from __future__ import annotations

from collections.abc import Sequence

import keras


def convnet(
    *, num_classes: int = 10, image_shape: Sequence[int] = (28, 28, 1), seed: int = 0, name: str | None = None
) -> keras.Model:
    """Builds a network of `conv1`, `pool1`, `conv2`, `pool2`, `hidden1` and `logits`, with rectified units.

    Args:
        num_classes: Number of logits.
        image_shape: Shape of one image.
        seed: Seed of the initial weights.
        name: The name of the model.

    Returns:
        A built Keras model from images to logits `[batch, num_classes]`.

    Example:
        >>> convnet()(np.zeros([2, 28, 28, 1], np.float32)).shape
        TensorShape([2, 10])
    """

    def initializer(index: int) -> keras.Initializer:
        return keras.initializers.HeUniform(seed=seed + index)

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(tuple(image_shape), name="images"),
            layers.Conv2D(16, 5, activation="relu", kernel_initializer=initializer(1), name="conv1"),
            layers.MaxPooling2D(name="pool1"),
            layers.Conv2D(32, 5, activation="relu", kernel_initializer=initializer(2), name="conv2"),
            layers.MaxPooling2D(name="pool2"),
            layers.Flatten(name="features"),
            layers.Dense(128, activation="relu", kernel_initializer=initializer(3), name="hidden1"),
            layers.Dense(num_classes, kernel_initializer=initializer(4), name="logits"),
        ],
        name=name,
    )
