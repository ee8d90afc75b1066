"""The flags of the scripts that work on one network: one that launch.train wrote, or one that was trained elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from components.artifacts import TrainedModel, sha256_of
from components.model_importer.component import ModelImporter
from components.model_importer.executor import APPLICATIONS, FILES, IMAGENET, check_source
from components.pipeline import folder_name
from components.runner import run
from intriguing.models.brought import scaling_of
from intriguing.models.on_pixels import CHANNEL_ORDERS, PixelScaling
from launch import data_flags

_CHANNELS = 3  # of a model that leaves its size open

_TRAINED_MODEL = flags.DEFINE_string("trained_model", None, "Folder that launch.train wrote. This or --model.")
_MODEL = flags.DEFINE_string("model", None, "A .keras file, keras.applications.NAME, or a name of the zoo such as SqueezeNet.")
_WEIGHTS = flags.DEFINE_string(
    "weights", None, "For a name: imagenet, random, or a file. If omitted, imagenet for keras.applications."
)
_WEIGHTS_ORDER = flags.DEFINE_enum("weights_channel_order", "RGB", CHANNEL_ORDERS, "Of the first kernel in --weights=FILE.npz.")
_PREPROCESS_INPUT = flags.DEFINE_string(
    "preprocess_input",
    None,
    "Module of keras.applications, such as resnet50, whose preprocess_input the images passed.",
)
_SCALE = flags.DEFINE_list("pixel_scale", None, "What pixels in [0, 1] are multiplied by: a number, or one for each channel.")
_OFFSET = flags.DEFINE_list("pixel_offset", None, "What is added then: a number, or one for each channel (red, green, blue).")
_ORDER = flags.DEFINE_enum("channel_order", "RGB", CHANNEL_ORDERS, "The order in which the model takes colors.")
_PROBABILITIES = flags.DEFINE_bool("probabilities", False, "The outputs are probabilities, though not by a softmax of Keras.")
_NAME = flags.DEFINE_string("model_name", None, "What the model is called in folders and tables; its own name if omitted.")

flags.mark_flags_as_mutual_exclusive(["trained_model", "model"], required=True)


def network(workdir: Path) -> TrainedModel:
    """Returns the network of the flags; one that was trained elsewhere is imported into `workdir` first.

    Raises:
        ValueError: If the flags contradict each other, or there is no such model.
    """
    if _TRAINED_MODEL.value is None:
        importer = _importer(workdir)
        run([importer])
        return importer.output
    trained = TrainedModel(_TRAINED_MODEL.value)
    trained.manifest()  # what is not a whole trained model is refused before anything runs
    return trained


def image_shape(trained: TrainedModel) -> list[int]:
    """Returns the shape of the images that a network takes, where its training says; nothing elsewhere."""
    return list(trained.training().get("image_shape", []))


def _importer(workdir: Path) -> ModelImporter:
    model = _MODEL.value or ""
    is_file = model.endswith(FILES)
    weights = _WEIGHTS.value or (IMAGENET if model.startswith(APPLICATIONS) else "")
    check_source(model, weights)
    files = [path for path in (model if is_file else "", weights) if path and Path(path).is_file()]
    name = _NAME.value or (Path(model).stem if is_file else model.removeprefix(APPLICATIONS))
    return ModelImporter(
        f"model_{folder_name(name)}", workdir, name=name, model=model, weights=weights,
        weights_channel_order=_WEIGHTS_ORDER.value, files={path: sha256_of(Path(path)) for path in files},
        image_shape=_image_shape(), scaling=_scaling(), probabilities=_PROBABILITIES.value, seed=flags.FLAGS.seed,
    )  # fmt: skip


def _image_shape() -> list[int]:
    """The size that images are brought to is also that of a model which leaves its own open."""
    size = data_flags.image_size()
    return [*size, _CHANNELS] if size else []


def _scaling() -> dict[str, object]:
    told = [flag.name for flag in (_SCALE, _OFFSET) if flag.value is not None] + (
        ["channel_order"] if _ORDER.value != "RGB" else []
    )
    if _PREPROCESS_INPUT.value is not None:
        if told:
            raise ValueError(f"--preprocess_input says it all; received --{told[0]} as well. Leave one of them out.")
        return dataclasses.asdict(scaling_of(_PREPROCESS_INPUT.value))
    if not told:
        return {}
    scaling = PixelScaling(
        scale=_numbers(_SCALE.value or ["1"]), offset=_numbers(_OFFSET.value or ["0"]), channel_order=_ORDER.value
    )
    return dataclasses.asdict(scaling)


def _numbers(texts: Sequence[str]) -> tuple[float, ...]:
    return tuple(float(text) for text in texts)
