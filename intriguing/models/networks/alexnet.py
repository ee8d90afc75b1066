"""The network of Krizhevsky et al., and the AlexNet of torchvision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras

from intriguing.models.color_scaling import (
    ILSVRC_MEAN,
    TORCHVISION_DEVIATION,
    TORCHVISION_MEAN,
    centered_bytes,
    check_color_images,
    standardized,
)
from intriguing.models.normalizations import LocalResponseNormalization

ONE_WEIRD_TRICK_IN_TORCHVISION: Mapping[str, str] = MappingProxyType(
    {
        "conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8", "conv5": "features.10",
        "fc6": "classifier.1", "fc7": "classifier.4", "logits": "classifier.6",
    }
)  # fmt: skip
"""From layers of `alexnet_one_weird_trick` to their names in the state dict of torchvision; for `load_state_dict`."""

_DROPOUT = 0.5
_FINAL_GRID = (6, 6)  # positions before `features`; torchvision averages larger grids to this size


def alexnet(
    *,
    num_classes: int = 1000,
    image_shape: Sequence[int] = (227, 227, 3),
    response_bias: float = 2.0,
    response_alpha: float = 1e-4,
    seed: int = 0,
    name: str | None = None,
) -> keras.Model:
    """Builds the network of Krizhevsky et al.: 60,965,224 parameters at 227x227 pixels and 1000 classes.

    `scaling`, `conv1`, `norm1`, `pool1`, `conv2`, `norm2`, `pool2`, `conv3`, `conv4`, `conv5`, `pool5`, `features`, `fc6`,
    `drop6`, `fc7`, `drop7`, `logits`. Each layer applies its rectifier before the responses are normalized, and the pooling
    windows overlap. The second, fourth and fifth convolution have two groups, as on the two GPUs of the article. Initial
    weights are those of the article: standard deviation 0.01, and biases of 1 in these three layers and in the two hidden dense
    layers.

    Departures: images have 227x227 pixels, because the layer sizes of the article do not result from its 224x224; one mean per
        color is subtracted, not one per pixel; weight decay is a part of the training. Caffe's reference network has another
        `response_bias`, see below, and its CaffeNet also another order of pooling and normalization.

    Args:
        num_classes: Number of logits.
        image_shape: Shape of one image: any size from 67x67 pixels.
        response_bias: The constant k of the normalizations; 1 in Caffe's reference network.
        response_alpha: The alpha of the normalizations. Caffe divides its 1e-4 by the five channels: for its reference network,
            pass 2e-5.
        seed: Seed of the initial weights and of dropout.
        name: The name of the model.

    Returns:
        A built Keras model from colors in [0, 1] `[batch, height, width, 3]` to logits `[batch, num_classes]`.

    Raises:
        ValueError: If images are too small or do not have three colors.

    Example:
        >>> alexnet().count_params()
        60965224

    References:
        Krizhevsky, Sutskever, Hinton, ImageNet classification with deep convolutional neural networks, 2012, sections 3 to 5.
    """
    shape = check_color_images(image_shape, at_least=67, network="alexnet")
    layers = keras.layers

    def options(index: int, *, offset: float) -> dict[str, Any]:
        initializer = keras.initializers.RandomNormal(stddev=0.01, seed=seed + index)
        return {"kernel_initializer": initializer, "bias_initializer": keras.initializers.Constant(offset)}

    def normalization(number: int) -> keras.Layer:
        return LocalResponseNormalization(5, response_bias, response_alpha, 0.75, name=f"norm{number}")

    def rectified(index: int, *, offset: float) -> dict[str, Any]:
        return {"activation": "relu", **options(index, offset=offset)}

    return keras.Sequential(
        [
            keras.Input(shape, name="images"),
            centered_bytes(ILSVRC_MEAN),
            layers.Conv2D(96, 11, strides=4, name="conv1", **rectified(1, offset=0.0)),
            normalization(1),
            layers.MaxPooling2D(3, 2, name="pool1"),
            layers.Conv2D(256, 5, padding="same", groups=2, name="conv2", **rectified(2, offset=1.0)),
            normalization(2),
            layers.MaxPooling2D(3, 2, name="pool2"),
            layers.Conv2D(384, 3, padding="same", name="conv3", **rectified(3, offset=0.0)),
            layers.Conv2D(384, 3, padding="same", groups=2, name="conv4", **rectified(4, offset=1.0)),
            layers.Conv2D(256, 3, padding="same", groups=2, name="conv5", **rectified(5, offset=1.0)),
            layers.MaxPooling2D(3, 2, name="pool5"),
            layers.Flatten(name="features"),
            layers.Dense(4096, name="fc6", **rectified(6, offset=1.0)),
            layers.Dropout(_DROPOUT, seed=seed + 9, name="drop6"),
            layers.Dense(4096, name="fc7", **rectified(7, offset=1.0)),
            layers.Dropout(_DROPOUT, seed=seed + 10, name="drop7"),
            layers.Dense(num_classes, name="logits", **options(8, offset=0.0)),
        ],
        name=name,
    )


def alexnet_one_weird_trick(
    *, num_classes: int = 1000, image_shape: Sequence[int] = (224, 224, 3), seed: int = 0, name: str | None = None
) -> keras.Model:
    """Builds torchvision's AlexNet: 61,100,840 parameters for 1000 classes.

    `scaling`, `pad1`, `conv1`, `pool1`, `conv2`, `pool2`, `conv3`, `conv4`, `conv5`, `pool5`, `features`, `drop6`, `fc6`,
    `drop7`, `fc7`, `logits`: no groups, no normalization, fewer channels in the first layers, and dropout before a layer
        instead of after it.

    Departures: torchvision averages images of other sizes to 6x6 positions before `features`, which has no effect at 224x224
        pixels; here, such sizes raise an error. Initial weights are He's, as for the other rectifier networks of this library.

    Args:
        num_classes: Number of logits.
        image_shape: Shape of one image: any size that results in 6x6 positions, such as 224x224 pixels.
        seed: Seed of the initial weights and of dropout.
        name: The name of the model.

    Returns:
        A built Keras model from colors in [0, 1] `[batch, height, width, 3]` to logits `[batch, num_classes]`.

    Raises:
        ValueError: If images have another size, or do not have three colors.

    Example:
        >>> alexnet_one_weird_trick().count_params()
        61100840

    References:
        Krizhevsky, One weird trick for parallelizing convolutional neural networks, 2014. https://arxiv.org/abs/1404.5997
        torchvision.models.alexnet. https://github.com/pytorch/vision
    """
    shape = check_color_images(image_shape, at_least=63, network="alexnet_one_weird_trick")
    layers = keras.layers

    def options(index: int) -> dict[str, Any]:
        return {"kernel_initializer": keras.initializers.HeUniform(seed=seed + index)}

    def rectified(index: int) -> dict[str, Any]:
        return {"activation": "relu", **options(index)}

    convolutions = [
        standardized(TORCHVISION_MEAN, TORCHVISION_DEVIATION),
        layers.ZeroPadding2D(2, name="pad1"),
        layers.Conv2D(64, 11, strides=4, name="conv1", **rectified(1)),
        layers.MaxPooling2D(3, 2, name="pool1"),
        layers.Conv2D(192, 5, padding="same", name="conv2", **rectified(2)),
        layers.MaxPooling2D(3, 2, name="pool2"),
        layers.Conv2D(384, 3, padding="same", name="conv3", **rectified(3)),
        layers.Conv2D(256, 3, padding="same", name="conv4", **rectified(4)),
        layers.Conv2D(256, 3, padding="same", name="conv5", **rectified(5)),
        layers.MaxPooling2D(3, 2, name="pool5"),
    ]
    _check_final_grid(convolutions, shape)
    return keras.Sequential(
        [
            keras.Input(shape, name="images"),
            *convolutions,
            layers.Flatten(name="features"),
            layers.Dropout(_DROPOUT, seed=seed + 9, name="drop6"),
            layers.Dense(4096, name="fc6", **rectified(6)),
            layers.Dropout(_DROPOUT, seed=seed + 10, name="drop7"),
            layers.Dense(4096, name="fc7", **rectified(7)),
            layers.Dense(num_classes, name="logits", **options(8)),
        ],
        name=name,
    )


def _check_final_grid(layers: Sequence[keras.Layer], image_shape: tuple[int, int, int]) -> None:
    shape = (1, *image_shape)
    for layer in layers:
        shape = layer.compute_output_shape(shape)
    if tuple(shape[1:3]) != _FINAL_GRID:
        raise ValueError(
            f"image_shape must result in 6x6 positions after the last pooling; {image_shape} results in {shape[1]}x{shape[2]}. "
            "Resize the images to 224x224 pixels."
        )
