"""The flags of the scripts that work on networks which were trained elsewhere: their weights, and their preprocessing."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from components.artifacts import sha256_of
from components.folder_names import folder_name
from components.model_importer.component import ModelImporter
from components.model_importer.executor import APPLICATIONS, IMAGENET, check_source, is_file
from intriguing.models.loading import scaling_of
from intriguing.models.preprocessing import CHANNEL_ORDERS, PixelScaling
from launch import data_flags

_WEIGHTS = flags.DEFINE_string(
    "weights", None, "For a name: imagenet, random, or a file. If omitted, imagenet for keras.applications."
)
_WEIGHTS_ORDER = flags.DEFINE_enum(
    "weights_channel_order", "RGB", CHANNEL_ORDERS, "Channel order of the first kernel in --weights=FILE.npz."
)
_PREPROCESS_INPUT = flags.DEFINE_string(
    "preprocess_input",
    None,
    "Module of keras.applications, such as resnet50, whose preprocess_input the model expects.",
)
_SCALE = flags.DEFINE_list("pixel_scale", None, "Factor of pixels in [0, 1]: a number, or one for each channel.")
_OFFSET = flags.DEFINE_list(
    "pixel_offset", None, "Added after multiplication: a number, or one for each channel (red, green, blue)."
)
_ORDER = flags.DEFINE_enum("channel_order", "RGB", CHANNEL_ORDERS, "The order in which the model takes colors.")
_PROBABILITIES = flags.DEFINE_bool(
    "probabilities", False, "The outputs are probabilities that are not computed by a softmax layer of Keras."
)
_CLASS_NAMES = flags.DEFINE_string(
    "class_names", None, "Names of the classes in the order of the outputs: separated by commas, or a file with one a line. "
    "The classes of a folder of images are matched by them.",
)  # fmt: skip
_MODULES = flags.DEFINE_list(
    "import_module", [], "Python modules that register layers of the model, such as mine for mine.py, separated by commas."
)


def import_modules() -> dict[str, str]:
    """Imports the modules of the flags, which register layers, and returns the digests of their files.

    Raises:
        ValueError: If there is no such module, or if it cannot be imported.
    """
    return {name: _imported(name) for name in _MODULES.value}


def _imported(name: str) -> str:
    if not all(part.isidentifier() for part in name.split(".")) or name.endswith(".py"):
        raise ValueError(f"--import_module takes the name of a module, such as mine for mine.py; received {name!r}.")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"there is no module {name!r}. Expected {name.replace('.', '/')}.py in the current folder, "
                f"{str(Path.cwd())!r}, or in a folder that the environment variable PYTHONPATH names."
            ) from error
        raise _broken(name, error) from error
    except Exception as error:  # a user's module can raise anything
        raise _broken(name, error) from error
    file = getattr(module, "__file__", None)
    return sha256_of(Path(file)) if file and Path(file).is_file() else ""


def _broken(name: str, error: Exception) -> ValueError:
    reason = (str(error).splitlines() or [""])[-1]
    return ValueError(
        f"the module {name!r} cannot be imported: {type(error).__name__}: {reason}. Correct it until python -c 'import {name}' "
        "succeeds; it only has to define and register layers."
    )


def class_names() -> list[str]:
    """Returns the names of the classes of the flags, in the order of the outputs; () without the flag.

    Raises:
        ValueError: If a name is repeated.
    """
    if _CLASS_NAMES.value is None:
        return []
    path = Path(_CLASS_NAMES.value).expanduser()
    is_list = "," in _CLASS_NAMES.value
    if not is_list and not path.is_file():
        raise FileNotFoundError(f"there is no file of class names {str(path)!r}. Pass a file with one name a line, or A,B,C.")
    parts = _CLASS_NAMES.value.split(",") if is_list else path.read_text(errors="replace").splitlines()
    names = [part.strip() for part in parts if part.strip()]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"--class_names must name each class once; received {repeated[0]!r} more than once.")
    return names


def importer(workdir: Path, model: str, name: str | None = None) -> ModelImporter:
    """Returns the step that imports a model as the flags say.

    Args:
        workdir: Folder of the step.
        model: A model file, keras.applications.NAME, or a name of the zoo.
        name: What to call it; its own name if omitted.

    Raises:
        ValueError: If the flags contradict each other, or there is no such model.
        FileNotFoundError: If there is no such file.
    """
    weights = _WEIGHTS.value or (IMAGENET if model.startswith(APPLICATIONS) else "")
    check_source(model, weights)
    if is_file(model):
        model = str(Path(model).expanduser())
    files = [path for path in (model, weights) if path and Path(path).is_file()]
    name = name or (Path(model).stem if is_file(model) else model.removeprefix(APPLICATIONS))
    return ModelImporter(
        f"model_{folder_name(name)}", workdir, name=name, model=model, weights=weights,
        weights_channel_order=_WEIGHTS_ORDER.value, files={path: sha256_of(Path(path)) for path in files},
        image_shape=data_flags.image_size(), scaling=_scaling(), probabilities=_PROBABILITIES.value, seed=flags.FLAGS.seed,
        class_names=class_names(), modules=import_modules(),
    )  # fmt: skip


def _scaling() -> dict[str, object]:
    given = [flag.name for flag in (_SCALE, _OFFSET) if flag.value is not None] + (
        ["channel_order"] if _ORDER.value != "RGB" else []
    )
    if _PREPROCESS_INPUT.value is not None:
        if given:
            raise ValueError(
                f"--preprocess_input excludes the flags of a scaling; received --{given[0]} as well. Leave one of them out."
            )
        return dataclasses.asdict(scaling_of(_PREPROCESS_INPUT.value))
    if not given:
        return {}
    scaling = PixelScaling(scale=_numbers(_SCALE, "1"), offset=_numbers(_OFFSET, "0"), channel_order=_ORDER.value)
    return dataclasses.asdict(scaling)


def _numbers(flag: flags.FlagHolder, otherwise: str) -> tuple[float, ...]:
    texts: Sequence[str] = flag.value or [otherwise]
    try:
        return tuple(float(text) for text in texts)
    except ValueError:
        received = ",".join(texts)
    raise ValueError(f"--{flag.name} must be a number, or one for each channel, separated by commas; received {received!r}.")
