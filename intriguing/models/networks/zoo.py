"""Builds the networks by their names in the paper."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras

from intriguing.models.networks.alexnet import alexnet, alexnet_one_weird_trick
from intriguing.models.networks.autoencoder import classifier_on_autoencoder
from intriguing.models.networks.convnet import convnet
from intriguing.models.networks.fully_connected import fully_connected
from intriguing.models.networks.resnet import resnet
from intriguing.models.networks.squeezenet import squeezenet, squeezenet_torchvision
from intriguing.names import check_name

_MLP_DECAY = (1e-5, 1e-5, 1e-6)
_MLP_DROPOUT = (0.1, 0.1, 0.1)  # rates for the pixels and the units of both hidden layers


def _widths(hidden1: int, hidden2: int, dropout: Sequence[float] = ()) -> Callable[..., keras.Model]:
    def constructor(*, num_classes: int, **options) -> keras.Model:
        return fully_connected((hidden1, hidden2, num_classes), weight_decay=_MLP_DECAY, dropout=dropout, **options)

    return constructor


def _softmax(weight_decay: float) -> Callable[..., keras.Model]:
    def constructor(*, num_classes: int, **options) -> keras.Model:
        return fully_connected((num_classes,), weight_decay=(weight_decay,), **options)

    return constructor


CONSTRUCTORS: Mapping[str, Callable[..., keras.Model]] = MappingProxyType(
    {
        "FC10(1e-4)": _softmax(1e-4),
        "FC10(1e-2)": _softmax(1e-2),
        "FC10(1)": _softmax(1.0),
        "FC100-100-10": _widths(100, 100),
        "FC100-100-10(dropout)": _widths(100, 100, _MLP_DROPOUT),
        "FC200-200-10": _widths(200, 200),
        "FC123-456-10": _widths(123, 456),
        "AE400-10": functools.partial(classifier_on_autoencoder, 400),
        "ConvNet": convnet,
    }
)
"""Networks for images of any size, by default for digits."""

PHOTOGRAPH_CONSTRUCTORS: Mapping[str, Callable[..., keras.Model]] = MappingProxyType(
    {
        "AlexNet": alexnet,
        "AlexNet-OWT": alexnet_one_weird_trick,
        **{f"ResNet-{depth}": functools.partial(resnet, depth) for depth in (20, 32, 44, 56)},
        "SqueezeNet": squeezenet,
        "SqueezeNet-torchvision": squeezenet_torchvision,
    }
)
"""Networks for color images, each with its own size of images and number of classes."""

_DIGITS: Mapping[str, Any] = {"image_shape": (28, 28, 1), "num_classes": 10}


def names() -> list[str]:
    """Returns all names that `build` accepts."""
    return [*CONSTRUCTORS, *PHOTOGRAPH_CONSTRUCTORS]


def build(name: str, *, image_shape: Sequence[int] | None = None, num_classes: int | None = None, seed: int = 0) -> keras.Model:
    """Builds an untrained network that returns logits.

    Args:
        name: One of `names()`, as in the paper: "FC10(1e-4)", "FC100-100-10", "AE400-10", "AlexNet", ...
        image_shape: Shape of one image. If omitted, that of MNIST, or the default of a network for photographs.
        num_classes: Number of logits. If omitted, 10, or the 1000 of ImageNet for a network for photographs.
        seed: Seed of the initial weights.

    Returns:
        A built Keras model from images `[batch, *image_shape]` to logits `[batch, num_classes]`.

    Raises:
        ValueError: If the name is unknown, or `image_shape` does not match the network; the message suggests the nearest name.

    Example:
        >>> model = build("FC100-100-10")
    """
    check_name(name, names(), "model")
    given: dict[str, Any] = {"image_shape": image_shape, "num_classes": num_classes}
    options = {option: value for option, value in given.items() if value is not None}
    if name in CONSTRUCTORS:
        options = {**_DIGITS, **options}
    keras_name = "".join(character if character.isalnum() else "_" for character in name)
    constructor = CONSTRUCTORS.get(name) or PHOTOGRAPH_CONSTRUCTORS[name]
    return constructor(**options, seed=seed, name=keras_name)
