"""Models that a user brings: from a `.keras` file, read in safe mode, or by a name of `keras.applications`."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from intriguing.models.on_pixels import PixelScaling
from intriguing.names import check_name

_FORMATS = (".keras", ".h5")
_MOST_CHARACTERS = 300  # of what Keras says, in a message


def load_model_file(path: str | os.PathLike[str]) -> keras.Model:
    """Loads a Keras model without running code that is stored in it.

    Args:
        path: A file in Keras's own format, `.keras`, or in the older `.h5`.

    Returns:
        The model, not compiled.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no model, or if it holds layers that cannot be loaded safely, or that are not known here.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no model file {str(path)!r}. Save one with model.save('model.keras').")
    if path.suffix not in _FORMATS:
        raise ValueError(
            f"a model file must end in .keras or .h5; received {str(path)!r}. Save it with model.save('model.keras')."
        )
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        raise ValueError(
            f"the model file {str(path)!r} is not what Keras saves: truncated, or another file, perhaps a web page. Fetch or "
            "save it again."
        )
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises nearly everything: of zipfile, json, h5py and its own
        raise ValueError(f"the model file {str(path)!r} cannot be loaded: {_reason(error)}") from error
    if not isinstance(model, keras.Model):
        raise ValueError(f"the file {str(path)!r} holds a {type(model).__name__}; expected a Keras model.")
    return model


def _reason(error: Exception) -> str:
    told = str(error)
    if re.search("safe_mode|[Uu]nsafe|Lambda", told):
        return (
            "it holds code, as a Lambda layer does, which is never run from a file. Write that layer as a class with "
            "@keras.saving.register_keras_serializable, or pass the model to the functions of intriguing in Python."
        )
    unknown = re.search("Could not locate class '([^']+)'|Unknown layer: '?([A-Za-z0-9_]+)", told)
    if unknown:
        return (
            f"the layer {unknown[1] or unknown[2]!r} is not one of Keras. Pass the model to the functions of intriguing in "
            "Python, where its class is known."
        )
    return f"it is not a whole model. Keras says: {' '.join(told.split())[:_MOST_CHARACTERS] or type(error).__name__}"


def application_names() -> list[str]:
    """Returns the names of the networks of `keras.applications`, in alphabetical order."""
    return sorted(name for name in dir(keras.applications) if name[0].isupper())


def preprocessing_names() -> list[str]:
    """Returns the modules of `keras.applications` that have a `preprocess_input`, in alphabetical order."""
    modules = {name: getattr(keras.applications, name) for name in dir(keras.applications) if name[0].islower()}
    return sorted(name for name, module in modules.items() if callable(getattr(module, "preprocess_input", None)))


def scaling_of(module: str) -> PixelScaling:
    """Returns what the `preprocess_input` of a module of `keras.applications` does, such as that of "resnet50".

    Raises:
        ValueError: If there is no such module, the message offering the nearest name.
    """
    check_name(module, preprocessing_names(), "module of keras.applications")
    return PixelScaling.of(getattr(keras.applications, module).preprocess_input)


def application(name: str, *, weights: str | None = "imagenet") -> tuple[keras.Model, PixelScaling]:
    """Builds a network of `keras.applications`, and tells what it makes of colors first.

    Args:
        name: As Keras spells it, such as "MobileNetV2".
        weights: "imagenet", which Keras downloads once, or a file of weights for this network; None for random ones.

    Returns:
        The network, from what its `preprocess_input` returns to probabilities, and the scaling that `on_pixels` takes.

    Raises:
        ValueError: If there is no such network, the message offering the nearest name, or if the weights do not fit.
        ConnectionError: If the weights cannot be downloaded.

    Example:
        >>> model = on_pixels(*application("MobileNetV2"))
    """
    check_name(name, application_names(), "network of keras.applications")
    constructor: Callable[..., Any] = getattr(keras.applications, name)
    module = constructor.__module__.rsplit(".", 1)[-1]
    try:
        model = constructor(weights=weights)
    except Exception as error:
        if "URL fetch failure" in str(error):
            raise ConnectionError(
                f"the weights of {name} could not be downloaded: {_first_line(error)}. Keras keeps what it downloaded in "
                "~/.keras/models; put the file there, name a file of weights, or use random ones."
            ) from error
        raise ValueError(f"{name} does not take the weights {weights!r}: {_first_line(error)}") from error
    return model, scaling_of(module)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
