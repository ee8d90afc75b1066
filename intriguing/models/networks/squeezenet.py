"""SqueezeNet 1.0, which has the accuracy of AlexNet with 2 % of its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import keras

from intriguing.models.color_scaling import (
    SQUEEZENET_MEAN,
    TORCHVISION_DEVIATION,
    TORCHVISION_MEAN,
    centered_bytes,
    check_color_images,
    standardized,
)

# Squeezed and expanded channels of each fire module; the expanded ones for each of the two window sizes.
_FIRES = {2: (16, 64), 3: (16, 64), 4: (32, 128), 5: (32, 128), 6: (48, 192), 7: (48, 192), 8: (64, 256), 9: (64, 256)}
_POOLED_AFTER = (4, 8)
_DROPOUT = 0.5
_IN_TORCHVISION = {2: 3, 3: 4, 4: 5, 5: 7, 6: 8, 7: 9, 8: 10, 9: 12}
_PARTS = {"squeeze": "squeeze", "expand1": "expand1x1", "expand3": "expand3x3"}

SQUEEZENET_IN_TORCHVISION: Mapping[str, str] = MappingProxyType(
    {
        "conv1": "features.0",
        **{
            f"fire{number}_{ours}": f"features.{place}.{theirs}"
            for number, place in _IN_TORCHVISION.items()
            for ours, theirs in _PARTS.items()
        },
        "conv_final": "classifier.1",
    }
)
"""From layers of `squeezenet_torchvision` to their names in torchvision's squeezenet1_0; for `load_state_dict`."""


def squeezenet(
    *, num_classes: int = 1000, image_shape: Sequence[int] = (227, 227, 3), seed: int = 0, name: str | None = None
) -> keras.Model:
    """Builds SqueezeNet 1.0 as its authors released it for Caffe: 1,248,424 parameters for 1000 classes.

    `scaling`, `conv1`, `pool1`, then for n from 2 to 9 `fire{n}_squeeze`, `fire{n}_expand1`, `fire{n}_expand3` and their
    concatenation `fire{n}`, with `pool4` and `pool8` in between, `drop9`, `pad_final`, `conv_final` and the mean over all
    positions, `logits`. Every convolution is rectified, including the last one, so that logits are never negative.

    Pooling includes a last window that is not full, as in Caffe; at 227x227 pixels, all windows are full. The input of the last
    convolution is padded with zeros, although its window is 1x1: at 56 of the 225 positions of the mean, its output depends
    only on the bias. Departure: initial weights are He's instead of Glorot's.

    Args:
        num_classes: Number of logits.
        image_shape: Shape of one image: any size from 21x21 pixels.
        seed: Seed of the initial weights and of dropout.
        name: The name of the model.

    Returns:
        A built Keras model from colors in [0, 1] `[batch, height, width, 3]` to logits `[batch, num_classes]`.

    Raises:
        ValueError: If images are too small or do not have three colors.

    Example:
        >>> squeezenet().count_params()
        1248424

    References:
        Iandola et al., SqueezeNet: AlexNet-level accuracy with 50x fewer parameters, 2016. https://arxiv.org/abs/1602.07360
        and the release SqueezeNet_v1.0, train_val.prototxt. https://github.com/forresti/SqueezeNet
    """
    return _squeezenet(centered_bytes(SQUEEZENET_MEAN), 1, num_classes, image_shape, seed, name)


def squeezenet_torchvision(
    *, num_classes: int = 1000, image_shape: Sequence[int] = (224, 224, 3), seed: int = 0, name: str | None = None
) -> keras.Model:
    """Builds torchvision's squeezenet1_0: `squeezenet` with its scaling of colors, and without the layer `pad_final`.

    Args:
        num_classes: Number of logits.
        image_shape: Shape of one image: any size from 21x21 pixels.
        seed: Seed of the initial weights and of dropout.
        name: The name of the model.

    Returns:
        A built Keras model from colors in [0, 1] `[batch, height, width, 3]` to logits `[batch, num_classes]`.

    Raises:
        ValueError: If images are too small or do not have three colors.

    Example:
        >>> squeezenet_torchvision().count_params()
        1248424

    References:
        torchvision.models.squeezenet1_0. https://github.com/pytorch/vision
    """
    return _squeezenet(standardized(TORCHVISION_MEAN, TORCHVISION_DEVIATION), 0, num_classes, image_shape, seed, name)


def _squeezenet(
    scaling: keras.Layer, final_padding: int, num_classes: int, image_shape: Sequence[int], seed: int, name: str | None
) -> keras.Model:
    layers = keras.layers
    initializer = keras.initializers.HeUniform
    images = keras.Input(check_color_images(image_shape, at_least=21, network="squeezenet"), name="images")
    maps = scaling(images)
    maps = layers.Conv2D(96, 7, strides=2, activation="relu", kernel_initializer=initializer(seed + 1), name="conv1")(maps)
    maps = _pooled(maps, 1)
    for number, (squeezed, expanded) in _FIRES.items():
        maps = _fire(maps, number, squeezed, expanded, seed + 3 * number)
        if number in _POOLED_AFTER:
            maps = _pooled(maps, number)
    maps = layers.Dropout(_DROPOUT, seed=seed + 40, name="drop9")(maps)
    if final_padding:
        maps = layers.ZeroPadding2D(final_padding, name="pad_final")(maps)
    small = keras.initializers.RandomNormal(stddev=0.01, seed=seed + 2)
    maps = layers.Conv2D(num_classes, 1, activation="relu", kernel_initializer=small, name="conv_final")(maps)
    return keras.Model(images, layers.GlobalAveragePooling2D(name="logits")(maps), name=name)


def _fire(maps: keras.KerasTensor, number: int, squeezed: int, expanded: int, seed: int) -> keras.KerasTensor:
    def convolution(part: str, filters: int, window: int, offset: int) -> keras.Layer:
        return keras.layers.Conv2D(
            filters,
            window,
            padding="same",
            activation="relu",
            kernel_initializer=keras.initializers.HeUniform(seed + offset),
            name=f"fire{number}_{part}",
        )

    maps = convolution("squeeze", squeezed, 1, 0)(maps)
    expansions = [convolution("expand1", expanded, 1, 1)(maps), convolution("expand3", expanded, 3, 2)(maps)]
    return keras.layers.Concatenate(name=f"fire{number}")(expansions)


def _pooled(maps: keras.KerasTensor, number: int) -> keras.KerasTensor:
    """Applies 3x3 max pooling with stride 2, and pads the last window with zeros, which do not change rectified maxima."""
    missing = [(size - 3) % 2 for size in maps.shape[1:3]]
    if any(missing):
        maps = keras.layers.ZeroPadding2D([(0, size) for size in missing], name=f"pad{number}")(maps)
    return keras.layers.MaxPooling2D(3, 2, name=f"pool{number}")(maps)
