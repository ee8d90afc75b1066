"""The flags of the scripts that work on one subset of a data set."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from components.example_gen.component import ExampleGen
from components.folder_names import folder_name
from intriguing.data import content_of, is_folder, numbering_of
from launch import tfds_flags

flags.adopt_module_key_flags(tfds_flags)
_DATASET = flags.DEFINE_string(
    "dataset", "mnist_5k", "A TFDS name: mnist_5k (embedded), mnist, cifar10, ...; or a folder with split/class/image."
)
_SUBSET = flags.DEFINE_string("subset", "train", "A split, or a slice of one such as train[:50%].")
_IMAGE_SIZE = flags.DEFINE_string(
    "image_size",
    None,
    "HEIGHTxWIDTH, or one number for both, to which images are resized and cropped. If omitted, the size of the data "
    "set; for a folder, that of the model.",
)
_NUM_CHANNELS = flags.DEFINE_integer(
    "num_channels", None, "Channels of the images of a folder: 3 for colors, 1 for gray. If omitted, those of the model, or 3."
)
_SHORTER_SIDE = flags.DEFINE_integer(
    "shorter_side", None, "Resize images so that their shorter side has this many pixels, then crop the center.", lower_bound=1
)


def subset_step(
    workdir: Path, image_shape: Sequence[int] = (), *, num_classes: int | None = None, class_names: Sequence[str] = ()
) -> ExampleGen:
    """Returns the step that prepares the data set and describes the subset of the flags.

    Args:
        workdir: Folder of the step.
        image_shape: That of the model, to which images of a folder are scaled unless the flags say otherwise.
        num_classes: Outputs of the model, if there is one.
        class_names: Their names, if known.

    Raises:
        ValueError: If a size cannot be read, something lies in a folder where it does not belong, or a folder has other
            classes than the model.
    """
    dataset, size = _DATASET.value, image_size()
    numbering: Sequence[str] = ()
    of_folder = is_folder(dataset)
    if of_folder:
        dataset = str(Path(dataset).expanduser().resolve())
        size = size or list(image_shape[:2])
        numbering, by_name = numbering_of(Path(dataset), num_classes=num_classes, class_names=class_names)
        if not by_name:
            _warn_of_order(dataset)
    return ExampleGen(
        f"subset_{folder_name(Path(dataset).name if of_folder else dataset)}_{folder_name(_SUBSET.value)}", workdir,
        dataset=dataset, data_dir=tfds_flags.data_dir() or "", manual_dir=tfds_flags.manual_dir() or "", subset=_SUBSET.value,
        disjoint_from=[], image_size=size, shorter_side=_SHORTER_SIDE.value or 0,
        content=content_of(Path(dataset)) if of_folder else "", class_names=list(numbering),
        num_channels=_num_channels(image_shape) if of_folder else 3,
    )  # fmt: skip


def _num_channels(image_shape: Sequence[int]) -> int:
    return _NUM_CHANNELS.value or (1 if list(image_shape[2:]) == [1] else 3)


def _warn_of_order(dataset: str) -> None:
    print(
        f"Warning: no class of {dataset} has the name of a class of the network, so they are numbered by the sorted names of "
        "their folders. If the network numbers them differently, pass --class_names=FILE with their names in the order of its "
        "outputs.",
        file=sys.stderr,
    )


def image_size() -> list[int]:
    """Returns height and width of the flags, or nothing."""
    if _IMAGE_SIZE.value is None:
        return []
    if not re.fullmatch(r"\d+(x\d+)?", _IMAGE_SIZE.value):
        raise ValueError(
            f"--image_size must be a number or HEIGHTxWIDTH, such as 224 or 240x320; received {_IMAGE_SIZE.value!r}."
        )
    sides = [int(side) for side in _IMAGE_SIZE.value.split("x")]
    return [sides[0], sides[-1]]
