"""A layer that maps colors in [0, 1] to the inputs that a network for photographs was trained on.

An attack then changes pixels in [0, 1], and gradients and spectral bounds refer to such pixels. The order is always red, green,
blue. Networks of Caffe take blue first: the input channels of their first kernel are reversed when it is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

ILSVRC_MEAN = (122.679, 116.669, 104.007)
"""Mean red, green and blue of the training images of ILSVRC 2012, in [0, 255]: Caffe's mean image, averaged over its pixels."""

SQUEEZENET_MEAN = (123.0, 117.0, 104.0)
"""The same, rounded, as Iandola et al. subtract it."""

TORCHVISION_MEAN = (0.485, 0.456, 0.406)
"""Mean red, green and blue of ImageNet, in [0, 1], which torchvision's networks subtract."""

TORCHVISION_DEVIATION = (0.229, 0.224, 0.225)
"""Standard deviations, for colors in [0, 1], by which torchvision's networks divide."""


def centered_bytes(mean: Sequence[float]) -> keras.layers.Rescaling:
    """Returns the layer `scaling`: colors in [0, 1] become `255 * color - mean`.

    Args:
        mean: Means of red, green and blue, in [0, 255].

    References:
        Krizhevsky, Sutskever, Hinton, ImageNet classification with deep convolutional neural networks, 2012, section 2; they
        subtract a separate mean at every pixel.
    """
    return keras.layers.Rescaling(255.0, offset=[-float(value) for value in mean], name="scaling")


def standardized(mean: Sequence[float], deviation: Sequence[float]) -> keras.layers.Rescaling:
    """Returns the layer `scaling`: colors in [0, 1] become `(color - mean) / deviation`.

    Args:
        mean: Means of red, green and blue, in [0, 1].
        deviation: Standard deviations of red, green and blue, as `mean`.

    References:
        torchvision, transforms of its ImageNet weights. https://github.com/pytorch/vision
    """
    scale = [1.0 / float(value) for value in deviation]
    offset = [-float(center) / float(value) for center, value in zip(mean, deviation, strict=True)]
    return keras.layers.Rescaling(scale, offset=offset, name="scaling")


def check_color_images(image_shape: Sequence[int], *, at_least: int, network: str) -> tuple[int, int, int]:
    """Returns the shape of color images that are large enough, or raises a `ValueError`."""
    shape = tuple(int(size) for size in image_shape)
    if len(shape) != 3 or shape[-1] != 3 or min(shape[:2]) < at_least:
        raise ValueError(
            f"{network} takes color images [height, width, 3] of at least {at_least}x{at_least} pixels; received image_shape "
            f"{shape}. Enlarge the images, or repeat the channel of gray images three times."
        )
    return shape
