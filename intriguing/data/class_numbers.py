"""Maps the classes of a folder of images to the outputs of a network, by name if the names are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from intriguing.data.image_folder import list_images
from intriguing.names import suggestion

_IMAGENET_CLASSES = 1000


def imagenet_class_names() -> tuple[str, ...]:
    """Returns the WordNet ids of the 1000 classes of ImageNet, in the order of the outputs of networks."""
    return tuple(sorted(tfds.builder("imagenet2012").info.features["label"].names))


def numbering_of(
    folder: Path, *, num_classes: int | None = None, class_names: Sequence[str] = ()
) -> tuple[tuple[str, ...], bool]:
    """Determines the class names, in the order of the outputs of a network, that number the classes of a folder.

    Args:
        folder: A folder with the layout split/class/image.
        num_classes: Number of outputs of the network; None if it is not known.
        class_names: The names of the outputs, if known. For a network of 1000 classes, folders may be named by WordNet ids.

    Returns:
        The names for `dataset_card`, empty if the sorted names of the folders result in the same numbers; and False if names
        are known, but no folder has one of them.

    Raises:
        ValueError: If the folder has other classes than the network.

    Example:
        >>> for name in ("cat", "dog"):
        ...     (folder / "pets" / "test" / name).mkdir(parents=True)
        ...     (folder / "pets" / "test" / name / "1.png").touch()
        >>> numbering_of(folder / "pets", class_names=("dog", "cat"))
        (('dog', 'cat'), True)
    """
    found = list_images(folder).class_names
    known = tuple(class_names)
    if not known and num_classes == _IMAGENET_CLASSES and set(found) <= set(imagenet_class_names()):
        known = imagenet_class_names()
    unknown = [name for name in found if name not in known]
    if not unknown:
        return (() if known == found else known), True
    is_smaller = num_classes is not None and len(found) < num_classes
    if is_smaller or (known and len(unknown) < len(found)):
        raise ValueError(_other_classes(folder, found, unknown, known, num_classes))
    return (), not known


def _other_classes(
    folder: Path, found: Sequence[str], unknown: Sequence[str], known: Sequence[str], num_classes: int | None
) -> str:
    if known:
        return (
            f"the class {unknown[0]!r} of {str(folder)!r} is not a class of the network.{suggestion(unknown[0], known)} Rename "
            "that folder, or pass --class_names=FILE with the names of all classes in the order of the network's outputs."
        )
    return (
        f"the folder {str(folder)!r} has {len(found)} classes, and the network {num_classes}: numbered by the sorted names of "
        "their folders, they would not be the classes of the network. Pass --class_names=FILE with the names of all classes in "
        "the order of the network's outputs, or create an empty folder for each missing class."
    )
