"""Loads models from files in the safe mode of Keras, or by their name in `keras.applications`."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import keras

from intriguing.models import legacy_layers
from intriguing.models.preprocessing import PixelScaling, PreprocessInput, pixel_scaling, with_scaling
from intriguing.names import check_name

_HDF5 = (".h5", ".hdf5")
FORMATS = (".keras", *_HDF5)
"""The suffixes of model files."""

NOT_FORMATS = (".npz", ".tflite", ".pt", ".pth", ".onnx", ".pb", ".hdf")
"""The suffixes of model files that Keras does not read."""

_MOST_CHARACTERS = 300  # maximum length of a quoted error message of Keras
_IN_PYTHON = "pass the model to the functions of intriguing in Python"
_WAYS_OUT = {
    ".weights.h5": "it contains weights without a network. Build the network in Python, call load_weights, and save the model",
    ".npz": "it contains arrays without a network. Build the network in Python, set its weights, and save the whole model",
    ".tflite": "it is a TensorFlow Lite model, which has no gradients. Take the Keras model that it was converted from",
    **dict.fromkeys((".pt", ".pth", ".onnx"), "it was not written by Keras. Convert the network to Keras, and save it"),
    ".pb": "it is a part of a TensorFlow SavedModel. Save the Keras model that it was exported from",
}


def load_model(
    path: str | os.PathLike[str],
    *,
    scale: float | Sequence[float] = 1.0,
    offset: float | Sequence[float] = 0.0,
    channel_order: str = "RGB",
    preprocess_input: PreprocessInput | None = None,
    image_shape: tuple[int, ...] | None = None,
) -> keras.Model:
    """Loads a Keras model that takes pixels in [0, 1], without running code that is stored in the file.

    Files in HDF5 that Keras 2 wrote are read as well, if their layers exist in Keras 3.

    Args:
        path: A file in Keras's own format, `.keras`, or in the older HDF5, `.h5` or `.hdf5`.
        scale: The factor of each pixel before the first layer of the stored model. This and the following arguments are those
            of `with_preprocessing`.
        offset: Added after scaling.
        channel_order: "BGR" for a stored model that takes blue first.
        preprocess_input: A preprocessing function of Keras, instead of `scale`, `offset` and `channel_order`.
        image_shape: Shape of one image. Required if there is preprocessing and the image size of the stored model is not fixed.

    Returns:
        The model, not compiled. Without preprocessing and `image_shape` it is the stored model itself.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file does not contain a model, or contains layers that are unknown or cannot be loaded safely; or if
            the preprocessing does not match the model, as in `with_preprocessing`.
        TypeError: If `scale` or `offset` are not numbers, or `preprocess_input` is not a function.

    Example:
        >>> model.save(folder / "mine.keras")
        >>> load_model(folder / "mine.keras").count_params() == model.count_params()
        True
        >>> bytes_model = load_model(folder / "mine.keras", scale=255.0)  # the stored model takes pixels in [0, 255]
    """
    scaling = pixel_scaling(scale, offset, channel_order, preprocess_input)
    model = _stored_model(Path(path).expanduser())
    return model if scaling == PixelScaling() and image_shape is None else with_scaling(model, scaling, image_shape=image_shape)


def _stored_model(path: Path) -> keras.Model:
    check_model_file(path)
    try:
        if path.suffix in _HDF5:
            model = legacy_layers.load_hdf5(path)
        else:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # errors of zipfile, json, h5py and Keras
        raise ValueError(f"the model file {str(path)!r} cannot be loaded: {_reason(error)}") from error
    if not isinstance(model, keras.Model):
        raise ValueError(f"the file {str(path)!r} must contain a Keras model; received a {type(model).__name__}.")
    return model


def check_model_file(path: str | os.PathLike[str]) -> None:
    """Checks that a path refers to a model file, without loading it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a folder or another kind of file; the message describes how to convert such a model.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(_about_folder(path))
    if not path.is_file():
        raise FileNotFoundError(f"there is no model file {str(path)!r}. Save one with model.save('model.keras').")
    way_out = next((way_out for suffix, way_out in _WAYS_OUT.items() if path.name.endswith(suffix)), None)
    if way_out or path.suffix not in FORMATS:
        reason = f" {way_out[0].upper()}{way_out[1:]}" if way_out else " Save it"
        raise ValueError(
            f"a model file must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, and hold a whole Keras model; received "
            f"{str(path)!r}.{reason} with model.save('model.keras')."
        )
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        raise ValueError(_NOT_WHOLE.format(path=str(path)))
    if path.suffix in _HDF5 and not h5py.is_hdf5(path):
        raise ValueError(_NOT_WHOLE.format(path=str(path)))


_NOT_WHOLE = (
    "the model file {path!r} must be a file that Keras saved; it is truncated or another file, such as a web page. Download or "
    "save it again."
)


def _about_folder(path: Path) -> str:
    if (path / "saved_model.pb").is_file():
        return (
            f"{str(path)!r} is a TensorFlow SavedModel, which scripts do not read. Save the Keras model that it was exported "
            "from with model.save('model.keras'); or wrap it in Python, "
            f"keras.layers.TFSMLayer({str(path)!r}, call_endpoint='serve'), and {_IN_PYTHON}."
        )
    if (path / "manifest.json").is_file():
        return f"{str(path)!r} is a folder that a pipeline step wrote; expected a model file. Pass it as --trained_model."
    return f"{str(path)!r} is a folder; expected a model file. Save one with model.save('model.keras')."


def _reason(error: Exception) -> str:
    message = str(error)
    if re.search("safe_mode|[Uu]nsafe|[` ]Lambda[` ]", message):
        return (
            "it contains code, such as a Lambda layer, which is never run from a file. Write that layer as a class with "
            f"@keras.saving.register_keras_serializable, or {_IN_PYTHON}."
        )
    if re.search("TFOpLambda|SlicingOpLambda", message):
        return (
            "Keras 2 saved it with TensorFlow operations between its layers, which Keras 3 does not read. Load it in "
            f"Python with tf_keras.models.load_model, and {_IN_PYTHON}, as lambda images: model(images)."
        )
    unknown = re.search("Could not locate class '([^']+)'|Unknown layer: '?([A-Za-z0-9_>]+)", message)
    if unknown:
        return (
            f"the layer {(unknown[1] or unknown[2]).split('>')[-1]!r} is not a layer of Keras. Name the module that registers "
            f"it, as --import_module=mine in a script, or {_IN_PYTHON}, where its class is known."
        )
    return f"Keras cannot read it as a model: {_last_line(error)}"


def _last_line(error: Exception) -> str:
    """Returns the last informative line of an error message, because Keras prints configurations before the reason."""
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    informative = [line for line in lines if line and not line.startswith(("[", "<", "List of objects"))]
    reason = (informative or [""])[-1].removeprefix("Exception encountered: ")
    if len(reason) > _MOST_CHARACTERS:
        reason = f"{reason[:_MOST_CHARACTERS]} ..."
    return reason if " " in reason else f"{type(error).__name__}: {reason}".removesuffix(": ")


def application_names() -> list[str]:
    """Returns the names of the networks of `keras.applications`, in alphabetical order."""
    return sorted(name for name in dir(keras.applications) if name[0].isupper())


def preprocessing_names() -> list[str]:
    """Returns the modules of `keras.applications` that have a `preprocess_input`, in alphabetical order."""
    modules = {name: getattr(keras.applications, name) for name in dir(keras.applications) if name[0].islower()}
    return sorted(name for name, module in modules.items() if callable(getattr(module, "preprocess_input", None)))


def scaling_of(module: str) -> PixelScaling:
    """Returns the scaling of the `preprocess_input` of a module of `keras.applications`, such as "resnet50".

    Raises:
        ValueError: If there is no such module; the message suggests the nearest name.
    """
    check_name(module, preprocessing_names(), "module of keras.applications")
    return PixelScaling.of(getattr(keras.applications, module).preprocess_input)


def load_application(name: str, *, weights: str | os.PathLike[str] | None = "imagenet") -> keras.Model:
    """Loads a network of `keras.applications`, including its preprocessing, as a model that takes pixels in [0, 1].

    Args:
        name: The name in Keras, such as "MobileNetV2".
        weights: "imagenet", which Keras downloads once, or a file of weights for this network; None for random weights.

    Returns:
        A model from pixels `[batch, height, width, 3]` in [0, 1] to probabilities `[batch, 1000]`, for the default image size
        in Keras.

    Raises:
        ValueError: If there is no such network, or if the weights do not match; the message suggests the nearest name.
        TypeError: If `name` is not a string.
        ConnectionError: If the weights cannot be downloaded.

    Example:
        >>> load_application("MobileNetV2", weights=None).input_shape
        (None, 224, 224, 3)
    """
    return with_scaling(*build_application(name, weights=weights))


def build_application(name: str, *, weights: str | os.PathLike[str] | None) -> tuple[keras.Model, PixelScaling]:
    """Returns a network of `keras.applications` without preprocessing, and its preprocessing; as in `load_application`."""
    check_name(name, application_names(), "network of keras.applications")
    constructor: Callable[..., Any] = getattr(keras.applications, name)
    module = constructor.__module__.rsplit(".", 1)[-1]
    try:
        model = constructor(weights=weights)
    except Exception as error:
        if "URL fetch failure" in str(error):
            raise ConnectionError(
                f"the weights of {name} could not be downloaded: {_first_line(error)}. Place the file in ~/.keras/models, "
                "where Keras stores its downloads, name a file of weights, or use random weights."
            ) from error
        raise ValueError(f"{name} does not accept the weights {weights!r}: {_first_line(error)}") from error
    return model, scaling_of(module)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
