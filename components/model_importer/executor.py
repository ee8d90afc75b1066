"""The work of ModelImporter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras

from components.contract import Artifacts, Executor, Parameters
from components.records import NetworkRecord
from intriguing.models.loading import FORMATS, NOT_FORMATS, application_names, build_application, check_model_file, load_model
from intriguing.models.networks import zoo
from intriguing.models.networks.alexnet import ONE_WEIRD_TRICK_IN_TORCHVISION
from intriguing.models.networks.squeezenet import SQUEEZENET_IN_TORCHVISION
from intriguing.models.preprocessing import PixelScaling, with_scaling
from intriguing.models.pretrained import load_arrays, load_state_dict
from intriguing.names import check_name

APPLICATIONS = "keras.applications."
IMAGENET, RANDOM = "imagenet", "random"
_STATE_DICTS = (".pth", ".pt")
_SUFFIXES = (*FORMATS, *NOT_FORMATS)
_SIDES, _CHANNELS = 2, 3  # of an image whose number of channels is not given
_NAMES_IN_TORCHVISION: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"AlexNet-OWT": ONE_WEIRD_TRICK_IN_TORCHVISION, "SqueezeNet-torchvision": SQUEEZENET_IN_TORCHVISION}
)


class ModelImporterExecutor(Executor):
    """Builds or loads the model, gives it weights, puts its preprocessing in front, and saves it."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Parameters) -> None:
        """Writes a `TrainedModel`."""
        del input_dict
        output, parameters = output_dict["model"][0], exec_properties
        model, scaling = _loaded(parameters)
        if parameters["scaling"]:
            scaling = scaling_from(parameters["scaling"])
        if scaling is not None:
            shape: Any = _image_shape(model, parameters["image_shape"])  # two numbers for a model without channels
            model = with_scaling(model, scaling, image_shape=shape, probabilities=parameters["probabilities"])
        model = _with_channel_axis(model)
        _check_class_names(parameters["class_names"], model)
        model.save(output.uri / "model.keras")
        output.write_record(
            NetworkRecord(
                name=parameters["name"],
                model=parameters["model"],
                weights=parameters["weights"],
                image_shape=model.input_shape[1:],
                num_classes=model.output_shape[-1],
                class_names=tuple(parameters["class_names"]),
            )
        )


def check_source(model: str, weights: str) -> None:
    """Raises a `ValueError` that names the way out, if there is no such model, or if it cannot have such weights."""
    if not (is_file(model) and weights):
        _source(model)
    if is_file(model) == bool(weights):
        raise ValueError(
            f"a model file has weights of its own, and any other model needs some; received the model {model!r} and the "
            f"weights {weights!r}. Pass --weights=imagenet, random or a file for a name, and none for a file."
        )
    if weights not in ("", IMAGENET, RANDOM) and not Path(weights).is_file():
        raise FileNotFoundError(f"there is no file of weights {weights!r}; expected {IMAGENET}, {RANDOM} or a file.")


def is_file(model: str) -> bool:
    """True if a model is named by the path of a file: it looks like one, or something is there."""
    is_name = model.startswith(APPLICATIONS) or model in zoo.names()
    return (
        bool(model) and not is_name and (Path(model).suffix in _SUFFIXES or "/" in model or Path(model).expanduser().exists())
    )


def scaling_from(parameters: Mapping[str, Any]) -> PixelScaling:
    """Reads the parameter `scaling` of a step."""
    return PixelScaling(
        scale=tuple(parameters["scale"]), offset=tuple(parameters["offset"]), channel_order=parameters["channel_order"]
    )


def _source(model: str) -> Callable[[Parameters], tuple[keras.Model, PixelScaling | None]]:
    if is_file(model):
        check_model_file(model)
        return _from_file
    if model.startswith(APPLICATIONS):
        check_name(model.removeprefix(APPLICATIONS), application_names(), "network of keras.applications")
        return _from_applications
    try:
        check_name(model, zoo.names(), "model")
    except ValueError as error:
        raise ValueError(
            f"{error} A model of your own is a file, --model=mine.keras; one of Keras is {APPLICATIONS}NAME."
        ) from None
    return _from_zoo


def _image_shape(model: keras.Model, wanted: Sequence[int]) -> tuple[int, ...] | None:
    """Completes height and width by the channels that a model takes."""
    inputs = getattr(model, "inputs", None) or []
    if len(wanted) != _SIDES or not inputs:
        return (*wanted, _CHANNELS) if len(wanted) == _SIDES else tuple(wanted) or None
    channels = inputs[0].shape[1 + _SIDES :]  # none where images have no axis of channels
    return (*wanted, *(_CHANNELS if size is None else size for size in channels))


def _with_channel_axis(model: keras.Model) -> keras.Model:
    """Returns a model of images with an axis for their one channel, as data sets have them, also if it takes none."""
    if len(model.input_shape) != 1 + _SIDES:
        return model
    sides = model.input_shape[1:]
    images = keras.Input((*sides, 1), name="images")
    # `call` makes the layers part of the new graph, where the model itself would become one layer.
    return keras.Model(images, model.call(keras.layers.Reshape(sides, name="without_channel_axis")(images)), name=model.name)


def _check_class_names(names: Sequence[str], model: keras.Model) -> None:
    num_classes = model.output_shape[-1]
    if names and len(names) != num_classes:
        raise ValueError(
            f"--class_names must name each of the {num_classes} outputs of the network, in their order; received {len(names)} "
            "names."
        )


def _loaded(parameters: Parameters) -> tuple[keras.Model, PixelScaling | None]:
    """Returns a model and its preprocessing; None if that is a part of the model."""
    return _source(parameters["model"])(parameters)


def _from_file(parameters: Parameters) -> tuple[keras.Model, PixelScaling]:
    return load_model(parameters["model"]), PixelScaling()


def _from_applications(parameters: Parameters) -> tuple[keras.Model, PixelScaling]:
    keras.utils.set_random_seed(parameters["seed"])  # Keras takes the seed of random weights from nowhere else
    weights = None if parameters["weights"] == RANDOM else parameters["weights"]
    return build_application(parameters["model"].removeprefix(APPLICATIONS), weights=weights)


def _from_zoo(parameters: Parameters) -> tuple[keras.Model, None]:
    name, weights = parameters["model"], parameters["weights"]
    shape = parameters["image_shape"]
    shape = (*shape, _CHANNELS) if len(shape) == _SIDES else shape or None
    model = zoo.build(name, image_shape=shape, seed=parameters["seed"])
    if weights == IMAGENET:
        raise ValueError(f"no weights of {name} can be downloaded. Pass a file of weights, or random.")
    if weights.endswith(_STATE_DICTS):
        if name not in _NAMES_IN_TORCHVISION:
            known = ", ".join(_NAMES_IN_TORCHVISION)
            raise ValueError(
                f"the names in a state dict are known for {known}; received {name}. Load it with load_state_dict in Python, "
                "and write it with save_arrays."
            )
        load_state_dict(model, weights, names=_NAMES_IN_TORCHVISION[name])
    elif weights != RANDOM:
        load_arrays(model, weights, channel_order=parameters["weights_channel_order"])
    return model, None
