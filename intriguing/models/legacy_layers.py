"""Loads HDF5 model files of Keras 2, and converts their layers to Keras 3."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import keras

_ANYTHING = object()  # any value is allowed, because the setting does not change the outputs of a trained layer

_NO_GROUPS = {"groups": 1}
_OF_SEPARABLE = {
    "groups": 1,
    "kernel_initializer": _ANYTHING,
    "kernel_regularizer": _ANYTHING,
    "kernel_constraint": _ANYTHING,
}
_OF_RECURRENT = {"time_major": False}
_OF_SPATIAL_DROPOUT = {"trainable": _ANYTHING, "noise_shape": None}
_OF_AUGMENTATION = {"rng_type": _ANYTHING}

_DROPPED: Mapping[str, Mapping[str, Any]] = {
    "DepthwiseConv1D": _NO_GROUPS,
    "DepthwiseConv2D": _NO_GROUPS,
    "Conv1DTranspose": _NO_GROUPS,
    "Conv2DTranspose": _NO_GROUPS,
    "Conv3DTranspose": _NO_GROUPS,
    "SeparableConv1D": _OF_SEPARABLE,
    "SeparableConv2D": _OF_SEPARABLE,
    "LSTM": _OF_RECURRENT,
    "GRU": _OF_RECURRENT,
    "SimpleRNN": _OF_RECURRENT,
    "SpatialDropout1D": _OF_SPATIAL_DROPOUT,
    "SpatialDropout2D": _OF_SPATIAL_DROPOUT,
    "SpatialDropout3D": _OF_SPATIAL_DROPOUT,
    "RandomBrightness": _OF_AUGMENTATION,
    "RandomContrast": _OF_AUGMENTATION,
    "RandomCrop": _OF_AUGMENTATION,
    "RandomFlip": _OF_AUGMENTATION,
    "RandomRotation": _OF_AUGMENTATION,
    "RandomTranslation": _OF_AUGMENTATION,
    "RandomZoom": _OF_AUGMENTATION,
}
"""For each layer, the settings that Keras 3 does not have, and the only value for which they can be omitted."""


def load_hdf5(path: str | os.PathLike[str]) -> keras.Model:
    """Loads a model from HDF5 in the safe mode of Keras, including files with settings of Keras 2 that Keras 3 refuses.

    The layers are ordinary layers of Keras 3.

    Raises:
        ValueError: If the file contains only weights, or code. Other errors of Keras are not caught.
    """
    _check_content(path)
    readers = {name: _reader(getattr(keras.layers, name), dropped) for name, dropped in _DROPPED.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about obsolete settings
        model = keras.saving.load_model(path, custom_objects=readers, compile=False, safe_mode=True)
    if type(model).__name__ == "Functional" and len(model.inputs) == len(model.outputs) == 1:
        # Keras 2 stored lists of one tensor; Keras 3 warns whenever such a model is called on a tensor.
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return model


def _reader(layer_class: type[keras.Layer], dropped: Mapping[str, Any]) -> type:
    class Reader:
        """Builds a Keras 3 layer from a Keras 2 configuration."""

        @classmethod
        def from_config(cls, config: Mapping[str, Any]) -> keras.Layer:
            """Returns the layer without the obsolete settings."""
            for name, neutral in dropped.items():
                if neutral is not _ANYTHING and config.get(name, neutral) != neutral:
                    raise ValueError(
                        f"the layer {config.get('name')!r} has {name}={config[name]!r}, which a {layer_class.__name__} of "
                        f"Keras 3 does not support; expected {neutral!r}."
                    )
            return layer_class.from_config({name: value for name, value in config.items() if name not in dropped})

    return Reader


def _check_content(path: str | os.PathLike[str]) -> None:
    """Raises a `ValueError` if a file contains only weights, or code, which some versions of Keras run even in safe mode."""
    config = _config(path)
    if config is None:
        raise ValueError("it contains weights without a network. Build the network in Python, load them, and save the model")
    if any(part.get("class_name") in ("Lambda", "__lambda__") for part in _parts(config)):
        raise ValueError("it holds a Lambda layer")


def _config(path: str | os.PathLike[str]) -> Any:
    with h5py.File(path, mode="r") as file:
        config = file.attrs.get("model_config")
    return None if config is None else json.loads(config)  # text or bytes


def _parts(config: Any) -> Iterator[Mapping[str, Any]]:
    """Yields every dictionary of a configuration."""
    if isinstance(config, Mapping):
        yield config
    for value in config.values() if isinstance(config, Mapping) else config if isinstance(config, list) else ():
        yield from _parts(value)
