"""Preprocessing as a part of the network, so that any classifier takes pixels in [0, 1]."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Container, Sequence
from math import isfinite
from typing import Any

import keras
import numpy as np

from intriguing.models.layer_copies import call_copies
from intriguing.models.traced_classifier import inference_call
from intriguing.names import check_name

CHANNEL_ORDERS = ("RGB", "BGR")
"""The supported orders of the color channels."""

_SMALLEST = 1e-30  # lower limit for probabilities, so that their logarithm is finite
_AGREEMENT = 1e-4  # tolerance between the outputs of two equivalent programs, relative to the largest output
_PROBES = 255.0  # the largest value at which a `preprocess_input` is evaluated
_NOT_A_SCALING = (
    "preprocess_input must scale and shift each color; it returns {}. Write a Keras layer that does the same, and make it the "
    "first layer of the model."
)

PreprocessInput = Callable[[np.ndarray], Any]
"""From colors `[batch, height, width, 3]` in [0, 255] to the inputs of a network, as in `keras.applications`."""


@keras.saving.register_keras_serializable(package="intriguing")
class ReversedChannels(keras.Layer):
    """Reverses the order of the channels: from red, green, blue to blue, green, red."""

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the inputs with the last axis reversed."""
        return keras.ops.flip(inputs, axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the inputs."""
        return input_shape


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelScaling:
    """The preprocessing of a network: pixels in [0, 1] become `scale * pixel + offset`, in the channel order of the network.

    Attributes:
        scale: One number, or one for each of red, green and blue; not zero.
        offset: As `scale`, but zero is allowed; added after scaling.
        channel_order: "BGR" for a network that takes blue first.
    """

    scale: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)
    channel_order: str = "RGB"

    def __post_init__(self) -> None:
        check_name(self.channel_order, CHANNEL_ORDERS, "channel order")
        for name in ("scale", "offset"):
            values = getattr(self, name)
            if not values or not all(isfinite(value) for value in values):
                raise ValueError(f"{name} must be one finite number, or one for each channel; received {values}.")
        if 0.0 in self.scale:
            raise ValueError(f"scale must not be zero, which would make all images equal; received {self.scale}.")

    @classmethod
    def of(cls, preprocess_input: PreprocessInput) -> PixelScaling:
        """Determines the scaling of a function such as `keras.applications.resnet.preprocess_input` by calling it.

        Args:
            preprocess_input: From colors `[batch, height, width, 3]` in [0, 255] to the inputs of the network.

        Raises:
            TypeError: If it is not a function.
            ValueError: If the function is not a scale and a shift of each color, with or without a reversed channel order.

        Example:
            >>> PixelScaling.of(keras.applications.mobilenet_v2.preprocess_input)
            PixelScaling(scale=(2.0,), offset=(-1.0,), channel_order='RGB')
        """

        def output_of(colors: np.ndarray) -> np.ndarray:
            probe = np.array(colors, np.float32)[np.newaxis, np.newaxis, np.newaxis]
            return np.asarray(preprocess_input(probe), np.float64).reshape(-1)

        if not callable(preprocess_input):
            raise TypeError(
                "preprocess_input must be a function, such as keras.applications.resnet50.preprocess_input; received "
                f"{preprocess_input!r}."
            )
        colors = np.array([0.2, 0.5, 0.9])
        with np.errstate(all="ignore"):  # a function that divides by a standard deviation returns NaN for a single color
            offset = output_of(np.zeros(3))
            matrix = np.stack([output_of(_PROBES * row) - offset for row in np.eye(3)], axis=1)
            received = output_of(_PROBES * colors)
        if not np.all(np.isfinite(matrix)):
            raise ValueError(_NOT_A_SCALING.format("NaN or infinite values for a black image or a single color"))
        order = "RGB" if np.all(np.diag(matrix)) else "BGR"
        if order == "BGR":
            matrix, offset = matrix[::-1], offset[::-1]
        scaling = cls(scale=_shortest(np.diag(matrix)), offset=_shortest(offset), channel_order=order)
        expected = scaling.apply(colors)
        if not np.allclose(received, expected, rtol=1e-4, atol=1e-3):
            raise ValueError(
                _NOT_A_SCALING.format(f"{received.tolist()} for {(_PROBES * colors).tolist()}, expected {expected.tolist()}")
            )
        return scaling

    def apply(self, colors: np.ndarray) -> np.ndarray:
        """Returns the inputs of the network for colors `[..., channels]` in [0, 1]."""
        scaled = np.array(self.scale) * colors + np.array(self.offset)
        return scaled[..., ::-1] if self.channel_order == "BGR" else scaled

    def layers(self, taken: Container[str] = ()) -> list[keras.Layer]:
        """Returns the layers that compute this scaling; no layer for the identity. Their names are not among `taken`."""
        layers: list[keras.Layer] = []
        if self.scale != (1.0,) or self.offset != (0.0,):
            layers.append(
                keras.layers.Rescaling(
                    _number_or_list(self.scale), _number_or_list(self.offset), name=_free_name("pixel_scaling", taken)
                )
            )
        return layers + ([ReversedChannels(name=_free_name("pixel_order", taken))] if self.channel_order == "BGR" else [])


def _free_name(name: str, taken: Container[str]) -> str:
    """Returns the name, or the name with a number if it is among `taken`."""
    numbered = (f"{name}_{number}" for number in itertools.count(1))
    return name if name not in taken else next(other for other in numbered if other not in taken)


def _shortest(values: np.ndarray) -> tuple[float, ...]:
    rounded = tuple(float(f"{value:.7g}") for value in values)  # the precision of float32
    return rounded[:1] if len(set(rounded)) == 1 else rounded


def _number_or_list(values: tuple[float, ...]) -> float | list[float]:
    return values[0] if len(values) == 1 else list(values)


def pixel_scaling(
    scale: float | Sequence[float] = 1.0,
    offset: float | Sequence[float] = 0.0,
    channel_order: str = "RGB",
    preprocess_input: PreprocessInput | None = None,
) -> PixelScaling:
    """Returns the scaling that the arguments of `with_preprocessing` describe.

    Raises:
        TypeError: If `scale` or `offset` are not numbers, or `preprocess_input` is not a function.
        ValueError: If they are not finite, `scale` is zero, or both a function and a scaling are given.
    """
    scaling = PixelScaling(scale=_numbers(scale, "scale"), offset=_numbers(offset, "offset"), channel_order=channel_order)
    if preprocess_input is None:
        return scaling
    if scaling != PixelScaling():
        raise ValueError(
            f"pass either preprocess_input or scale, offset and channel_order; received a function and scale={scale}, "
            f"offset={offset}, channel_order={channel_order!r}."
        )
    return PixelScaling.of(preprocess_input)


def _numbers(values: float | Sequence[float], name: str) -> tuple[float, ...]:
    try:
        numbers = np.asarray(values)
    except (TypeError, ValueError):
        numbers = np.asarray(None)
    if numbers.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be one number, or one for each channel; received {values!r}.")
    return tuple(np.atleast_1d(numbers).astype(np.float64).tolist())


def with_preprocessing(
    model: keras.Model,
    *,
    scale: float | Sequence[float] = 1.0,
    offset: float | Sequence[float] = 0.0,
    channel_order: str = "RGB",
    preprocess_input: PreprocessInput | None = None,
    image_shape: tuple[int, ...] | None = None,
    probabilities: bool = False,
    name: str | None = None,
) -> keras.Model:
    """Returns a model that takes pixels in [0, 1], and consists of preprocessing and the given model.

    The new model computes `model(scale * pixels + offset)`. Distortions, gradients and bounds then refer to pixels in [0, 1].
    The given model is not changed.

    The layers are copied with their names and weights. If the copies compute different outputs, for example because the
    configuration of a layer does not contain its state, the model itself becomes one layer of the new model. This is also done
    for a subclassed model. The outputs of both models are compared on random images. The model may end in a softmax. Images are
    not resized.

    Args:
        model: A Keras model with one input, images `[batch, height, width, channels]`, and one output `[batch, classes]`.
        scale: The factor of each pixel in [0, 1]: one number, or one for each of red, green and blue.
        offset: Added after scaling: one number, or one for each of red, green and blue.
        channel_order: "BGR" for a model that takes blue first; the new model takes red first.
        preprocess_input: Instead of `scale`, `offset` and `channel_order`: a function such as
            `keras.applications.resnet.preprocess_input`, from colors in [0, 255] to the inputs of the model. It may scale and
            shift each color, and reverse the channel order.
        image_shape: Shape of one image. Required if the image size of the model is not fixed.
        probabilities: True if the outputs are probabilities that are not computed by a Keras softmax, which is recognized. The
            new model then returns their logarithm.
        name: The name of the new model. If omitted, that of the given model.

    Returns:
        A built functional model from pixels `[batch, *image_shape]` to logits or probabilities `[batch, classes]`.

    Raises:
        ValueError: If the model has several inputs or outputs, its image size is not fixed, it does not accept `image_shape`,
            it computes different outputs for the same images, or the preprocessing is not supported.
        TypeError: If `model` is not a Keras model, `scale` or `offset` are not numbers, or `preprocess_input` is not a
            function.

    Example:
        >>> network = keras.applications.MobileNetV2(weights=None)
        >>> with_preprocessing(network, scale=2.0, offset=-1.0).input_shape
        (None, 224, 224, 3)
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"model must be a keras.Model; received a {type(model).__name__}. Load a model file with "
            "intriguing.models.load_model."
        )
    scaling = pixel_scaling(scale, offset, channel_order, preprocess_input)
    return with_scaling(model, scaling, image_shape=image_shape, probabilities=probabilities, name=name)


def with_scaling(
    model: keras.Model,
    scaling: PixelScaling,
    *,
    image_shape: tuple[int, ...] | None = None,
    probabilities: bool = False,
    name: str | None = None,
) -> keras.Model:
    """Returns a model as `with_preprocessing` does, for preprocessing that is given as a `PixelScaling`."""
    shape = _checked_shape(model, image_shape)
    _check_channels(scaling, shape)
    taken = {layer.name for layer in model.layers} | {model.name}
    images = keras.Input(shape, name=_free_name("pixels", taken))
    scaled = images
    for layer in scaling.layers(taken):
        scaled = layer(scaled)
    expected = _own_outputs(model, keras.Model(images, scaled), shape)
    for combine in (call_copies, _nested):
        outputs = _classes_of(combine, model, scaled)
        combined = None if outputs is None else keras.Model(images, outputs, name=name or model.name)
        if combined is not None and _agrees(combined, expected, shape):
            break
    else:
        raise ValueError(
            f"the model {model.name!r} must return the same outputs when it is called twice on the same images; it draws "
            "random numbers in inference, or has a state. Call it with training=False twice, and compare the outputs."
        )
    if probabilities:
        outputs = keras.ops.log(keras.ops.maximum(combined.outputs[0], _SMALLEST))
        return keras.Model(images, outputs, name=name or model.name)
    return combined


def _probe(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=(2, *shape)).astype(np.float32)


def _own_outputs(model: keras.Model, scaling: keras.Model, shape: tuple[int, ...]) -> np.ndarray:
    scaled = scaling(_probe(shape))
    outputs = inference_call(model)(scaled)
    return keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32"))


def _agrees(combined: keras.Model, expected: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Returns True if a model computes the expected outputs for random images; NaN equals NaN."""
    received = keras.ops.convert_to_numpy(keras.ops.cast(inference_call(combined)(_probe(shape)), "float32"))
    finite = np.abs(expected[np.isfinite(expected)])
    tolerance = _AGREEMENT * float(finite.max() if finite.size else 0.0)
    return bool(np.allclose(received, expected, rtol=0.0, atol=tolerance, equal_nan=True))


def _classes_of(combine: Callable[..., Any], model: keras.Model, scaled: keras.KerasTensor) -> keras.KerasTensor | None:
    """Returns the outputs of the model for scaled images; None if its layers cannot be copied."""
    try:
        outputs = combine(model, scaled)
    except Exception:
        if combine is _nested:
            raise
        return None  # for example, for a Lambda layer, whose function has no configuration
    if len(outputs.shape) != 2:
        raise ValueError(
            f"the model {model.name!r} must return [batch, classes]; received outputs of shape {list(outputs.shape)}. Pool or "
            "flatten its outputs."
        )
    return outputs


def _nested(model: keras.Model, images: keras.KerasTensor) -> keras.KerasTensor:
    """Calls the model as one layer; a functional model is wrapped in another model of the same layers, and not changed."""
    if not getattr(model, "inputs", None):
        return model(images)
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)(images)


def _checked_shape(model: keras.Model, image_shape: tuple[int, ...] | None) -> tuple[int, ...]:
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    if len(inputs) > 1 or len(outputs) > 1:
        raise ValueError(
            f"the model {model.name!r} must have one input and one output; received {len(inputs)} and {len(outputs)}. Build a "
            "keras.Model with one input and one output."
        )
    wanted = tuple(inputs[0].shape[1:]) if inputs else (None, None, None)
    shape = wanted if image_shape is None else tuple(int(size) for size in image_shape)
    if None in shape:
        raise ValueError(
            f"the model {model.name!r} takes images {list(wanted)}, whose size is not fixed. Pass image_shape, or --image_size "
            "to a script."
        )
    if len(shape) != len(wanted) or any(want not in (None, size) for want, size in zip(wanted, shape, strict=True)):
        raise ValueError(
            f"the model {model.name!r} takes images {list(wanted)}; received image_shape {shape}. Resize the images."
        )
    return shape


def _check_channels(scaling: PixelScaling, shape: tuple[int, ...]) -> None:
    if scaling.channel_order == "BGR" and shape[-1] != len("BGR"):
        raise ValueError(
            f"channel_order 'BGR' requires images of 3 channels; the model takes images {list(shape)}. Omit channel_order."
        )
    for name in ("scale", "offset"):
        if len(getattr(scaling, name)) not in (1, shape[-1]):
            raise ValueError(
                f"{name} must be one number, or one for each of the {shape[-1]} channels; received {getattr(scaling, name)}."
            )
