"""Where the images of a study come from: a data set of TFDS, or a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from intriguing.data import content_of, numbering_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Locations:
    """Where this machine keeps what a study reads.

    Attributes:
        data_dir: Where TFDS keeps its data sets; "" for its own folder.
        manual_dir: Folder with source files that TFDS cannot download; "" for none.
        images: Folder of the images of an `ImageFolder`, `split/class/image`.
        weights: File with the weights of a `PretrainedNetwork`.
    """

    data_dir: str = ""
    manual_dir: str = ""
    images: Path | None = None
    weights: Path | None = None

    def facts(self) -> Mapping[str, str]:
        """Returns the files that the report lists."""
        return {"Weights": self.weights.name} if self.weights else {}


class DataSource(Protocol):
    """The images of a study."""

    def bindings(self, locations: Locations) -> Mapping[str, Any]:
        """Returns the parameters of `ExampleGen` that name the images."""

    def facts(self) -> Mapping[str, str]:
        """Returns the facts that the report lists."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set of TFDS.

    Attributes:
        name: As TFDS spells it, such as "mnist".
    """

    name: str

    def bindings(self, locations: Locations) -> Mapping[str, Any]:
        """Returns the parameters of `ExampleGen` that name the images."""
        return {
            "dataset": self.name, "data_dir": locations.data_dir, "manual_dir": locations.manual_dir,
            "image_size": [], "shorter_side": 0, "content": "",
        }  # fmt: skip

    def facts(self) -> Mapping[str, str]:
        """Returns the name."""
        return {"Data set": self.name}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """A folder `split/class/image` that the user names.

    Attributes:
        image_size: Height and width to which images are resized.
        shorter_side: As in `ImageResizing`.
        num_classes: Number of classes of the networks, by which the folders of classes are numbered.
    """

    image_size: tuple[int, int]
    shorter_side: int
    num_classes: int

    def bindings(self, locations: Locations) -> Mapping[str, Any]:
        """Returns the parameters of `ExampleGen` that name the images.

        Raises:
            ValueError: If no folder was named, or something lies in the folder where it does not belong.
            FileNotFoundError: If there is no such folder.
        """
        folder = checked_path(locations.images, "folder of photographs", "--photographs=FOLDER, with split/class/image in it")
        class_names, _ = numbering_of(folder, num_classes=self.num_classes)
        return {
            "dataset": str(folder.resolve()), "data_dir": "", "manual_dir": "", "image_size": list(self.image_size),
            "shorter_side": self.shorter_side, "content": content_of(folder), "class_names": list(class_names),
        }  # fmt: skip

    def facts(self) -> Mapping[str, str]:
        """Returns the size of the images."""
        height, width = self.image_size
        return {"Images": f"{height} x {width} pixels"}


def checked_path(path: Path | None, kind: str, flag: str) -> Path:
    """Returns a path that exists.

    Raises:
        ValueError: If none was given.
        FileNotFoundError: If there is nothing.
    """
    if path is None:
        raise ValueError(f"this study needs a {kind}; received none. Pass {flag}.")
    if not path.exists():
        raise FileNotFoundError(f"there is no {kind} {str(path)!r}. Check the path.")
    return path
