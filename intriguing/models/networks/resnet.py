"""Residual networks for CIFAR-10, with shortcuts that have no weights."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from intriguing.models.color_scaling import TORCHVISION_DEVIATION, TORCHVISION_MEAN, check_color_images, standardized

_CHANNELS = (16, 32, 64)  # of the three stages
_EPSILON = 1e-5  # of batch normalization


def resnet(
    depth: int,
    *,
    num_classes: int = 10,
    image_shape: Sequence[int] = (32, 32, 3),
    seed: int = 0,
    name: str | None = None,
) -> keras.Model:
    """Builds a residual network for CIFAR-10 as in section 4.2 of the article, with shortcuts of option A.

    `scaling`, `conv1`, `bn1`, then for each stage s from 1 to 3 and each block b `stage{s}_block{b}_conv1`, `_bn1`, `_conv2`,
    `_bn2` and their sum with the shortcut, the mean over all places, and `logits`. A shortcut between stages takes every
    second place, and adds channels of zeros before and after the others.

    Colors are standardized by the mean and deviation of ImageNet, as published weights for CIFAR-10 expect.

    Args:
        depth: Number of layers with weights: 20, 32, 44 or 56, or 6 * n + 2 for n blocks in each stage.
        num_classes: Number of logits.
        image_shape: Shape of one image: any size from 8x8 pixels.
        seed: Of the initial weights.
        name: Of the model.

    Returns:
        A built Keras model from colors in [0, 1] `[batch, height, width, 3]` to logits `[batch, num_classes]`.

    Raises:
        ValueError: If the depth is not 6 * n + 2, or if images are too small or have no colors.

    Example:
        >>> resnet(20)(np.zeros([2, 32, 32, 3], np.float32)).shape
        TensorShape([2, 10])

    References:
        He, Zhang, Ren, Sun, Deep residual learning for image recognition, 2016. https://arxiv.org/abs/1512.03385
    """
    num_blocks, remainder = divmod(depth - 2, 6)
    if num_blocks < 1 or remainder:
        raise ValueError(f"depth must be 6 * n + 2, such as 20, 32, 44 or 56; received {depth}.")
    images = keras.Input(check_color_images(image_shape, at_least=8, network="resnet"), name="images")
    maps = standardized(TORCHVISION_MEAN, TORCHVISION_DEVIATION)(images)
    maps = keras.layers.Activation("relu", name="relu1")(_convolved(maps, _CHANNELS[0], 1, "", 1, seed))
    for stage, channels in enumerate(_CHANNELS, start=1):
        for block in range(1, num_blocks + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            maps = _block(maps, channels, strides, f"stage{stage}_block{block}", seed + 100 * stage + 2 * block)
    maps = keras.layers.GlobalAveragePooling2D(name="features")(maps)
    logits = keras.layers.Dense(num_classes, kernel_initializer=keras.initializers.HeNormal(seed + 2), name="logits")
    return keras.Model(images, logits(maps), name=name)


def _block(maps: keras.KerasTensor, channels: int, strides: int, name: str, seed: int) -> keras.KerasTensor:
    inner = _convolved(maps, channels, strides, f"{name}_", 1, seed)
    inner = keras.layers.Activation("relu", name=f"{name}_relu1")(inner)
    inner = _convolved(inner, channels, 1, f"{name}_", 2, seed + 1)
    total = keras.layers.Add(name=f"{name}_add")([inner, _shortcut(maps, strides, name)])
    return keras.layers.Activation("relu", name=name)(total)


def _convolved(maps: keras.KerasTensor, channels: int, strides: int, prefix: str, number: int, seed: int) -> keras.KerasTensor:
    """Convolves 3x3 places and normalizes. Zeros of width one pad the maps on all sides, for any stride."""
    if strides > 1:  # where "same" would add zeros on two sides only
        maps = keras.layers.ZeroPadding2D(1, name=f"{prefix}pad{number}")(maps)
    maps = keras.layers.Conv2D(
        channels, 3, strides=strides, padding="same" if strides == 1 else "valid", use_bias=False,
        kernel_initializer=keras.initializers.HeNormal(seed), name=f"{prefix}conv{number}",
    )(maps)  # fmt: skip
    return keras.layers.BatchNormalization(epsilon=_EPSILON, name=f"{prefix}bn{number}")(maps)


def _shortcut(maps: keras.KerasTensor, strides: int, name: str) -> keras.KerasTensor:
    """Returns the maps, or every second place of them between as many channels of zeros."""
    if strides == 1:
        return maps
    kept = keras.layers.MaxPooling2D(1, strides, name=f"{name}_subsample")(maps)
    zeros = keras.layers.Rescaling(0.0, name=f"{name}_zeros")(kept[..., : kept.shape[-1] // 2])
    return keras.layers.Concatenate(name=f"{name}_shortcut")([zeros, kept, zeros])
