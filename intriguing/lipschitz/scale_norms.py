"""Norms of layers that scale or shift values, or do nothing in inference."""

from __future__ import annotations

from math import sqrt
from typing import Any

import keras
import numpy as np

from intriguing.lipschitz.layer_checks import check_finite
from intriguing.lipschitz.operator_norms import OperatorNorm, exactly, register_norm
from intriguing.models.layer_graph import described
from intriguing.models.layer_twins import inference_config

_PROBE_SCALE = 300.0  # standard deviation of test inputs, larger than the pixels of images of bytes

IDENTITIES = (
    keras.layers.InputLayer, keras.layers.Identity, keras.layers.ActivityRegularization, keras.layers.Dropout,
    keras.layers.SpatialDropout1D, keras.layers.SpatialDropout2D, keras.layers.SpatialDropout3D, keras.layers.AlphaDropout,
    keras.layers.GaussianDropout, keras.layers.GaussianNoise,
)  # fmt: skip
"""Layers that do nothing in inference."""

MOVERS = (
    keras.layers.Flatten, keras.layers.Reshape, keras.layers.Permute, keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D,
    keras.layers.ZeroPadding3D, keras.layers.Cropping1D, keras.layers.Cropping2D, keras.layers.Cropping3D,
)  # fmt: skip
"""Layers that move values, pad them with zeros, or remove some of them."""

_AUGMENTATION_NAMES = (
    "AugMix", "CutMix", "MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter",
    "RandomContrast", "RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomGrayscale",
    "RandomHue", "RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation", "RandomSaturation",
    "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom",
)  # fmt: skip
AUGMENTATIONS: tuple[type, ...] = tuple(
    getattr(keras.layers, name) for name in _AUGMENTATION_NAMES if hasattr(keras.layers, name)
)
"""Layers that change images in training only; the list depends on the version of Keras."""


def _scale_of_batch_normalization(layer: Any) -> np.ndarray:
    variance = np.asarray(layer.moving_variance, np.float64) + layer.epsilon
    if not np.all(variance > 0.0):
        raise ValueError(
            f"{described(layer)}, divides by the root of {float(variance.min()):.6g}, its smallest moving variance with "
            f"epsilon {layer.epsilon}, so that no bound holds. Train the network again, or load other weights."
        )
    return np.asarray(layer.gamma, np.float64) / np.sqrt(variance) if layer.scale else 1.0 / np.sqrt(variance)


@register_norm(keras.layers.BatchNormalization, check=lambda layer, input_shape: _scale_of_batch_normalization(layer))
def _norm_of_batch_normalization(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    return exactly(float(np.max(np.abs(_scale_of_batch_normalization(layer)))))


def _check_normalization(layer: Any, input_shape: tuple[int, ...]) -> None:
    if layer.mean is None or layer.variance is None:
        raise ValueError(
            f"{described(layer)}, has no mean and variance. Call layer.adapt(images), or pass both to the constructor."
        )
    check_finite(layer, "mean", layer.mean)
    check_finite(layer, "variance", layer.variance)
    if np.any(np.asarray(layer.variance) < 0.0):
        raise ValueError(f"{described(layer)}, has a negative variance, so that no bound holds. Adapt it again.")


@register_norm(keras.layers.Normalization, check=_check_normalization)
def _norm_of_normalization(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    _check_normalization(layer, input_shape)
    deviations = np.maximum(np.sqrt(np.asarray(layer.variance, np.float64)), keras.config.epsilon())
    return exactly(float(np.max(deviations if layer.invert else 1.0 / deviations)))


def _check_rescaling(layer: Any, input_shape: tuple[int, ...]) -> None:
    check_finite(layer, "scale", layer.scale)
    check_finite(layer, "offset", layer.offset)


@register_norm(keras.layers.Rescaling, check=_check_rescaling)
def _norm_of_rescaling(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    _check_rescaling(layer, input_shape)
    return exactly(float(np.max(np.abs(np.asarray(layer.scale, np.float64)))))


@register_norm(*MOVERS)
def _norm_of_moving_values(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    return OperatorNorm(1.0, 1.0)


@register_norm(*IDENTITIES)
def _norm_of_identity(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    return OperatorNorm(1.0, 1.0)


@register_norm(keras.layers.RepeatVector)
def _norm_of_repetition(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    return exactly(sqrt(layer.n))


def _check_augmentation(layer: Any, input_shape: tuple[int, ...]) -> None:
    """Raises a `ValueError` if a copy of the layer changes images in inference, which depends on the version of Keras."""
    probe = _PROBE_SCALE * np.random.default_rng(0).normal(size=(2, *input_shape)).astype(np.float32)
    copy = type(layer).from_config({**inference_config(layer), "dtype": "float32"})
    if not np.array_equal(np.asarray(copy(probe, training=False)), probe):
        raise ValueError(f"{described(layer)}, changes images in inference, and has no rule. Remove it.")


@register_norm(*AUGMENTATIONS, check=_check_augmentation)
def _norm_of_augmentation(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    _check_augmentation(layer, input_shape)
    return OperatorNorm(1.0, 1.0)
