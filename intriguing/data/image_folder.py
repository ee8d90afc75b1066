"""A folder of images, `split/class/image`, as a TFDS data set with slices and example ids."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
_FOR_LAYOUT = "expected folders split/class/image, such as validation/n01518878/ostrich.jpg"


class ListedImage(NamedTuple):
    """An image file, and what its place in the folder says of it."""

    path: Path
    id: str  # its path within the folder
    class_name: str


def list_images(folder: Path) -> dict[str, list[ListedImage]]:
    """Lists the images of every split, in an order that mixes the classes and is the same on every machine.

    Names that begin with a dot are passed over.

    Raises:
        ValueError: If something lies where it does not belong, or if a split holds no image.
    """
    splits = {split.name: _images_of_split(folder, split) for split in _folders(folder)}
    if not splits:
        raise ValueError(f"the folder {str(folder)!r} holds no split; {_FOR_LAYOUT}.")
    return splits


def content_of(folder: Path) -> str:
    """Returns a digest of the files in a folder by name, size and time of change: another one means that something changed."""
    digest = hashlib.sha256()
    for listed in (image for images in list_images(folder).values() for image in images):
        stat = listed.path.stat()
        digest.update(f"{listed.id}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


class ImageFolder(tfds.ImageFolder, skip_registration=True):  # type: ignore[call-arg]  # a word of TFDS
    """As `tfds.ImageFolder`, which knows whole splits only, and passes over what it does not understand."""

    def __init__(self, folder: Path):
        """Lists the files; none is read yet."""
        self._listed = list_images(folder)
        super().__init__(str(folder))

    def _as_dataset(self, split: Any, decoders: Any = None, read_config: Any = None, shuffle_files: bool = False) -> Any:
        """Serves the images of a split, or of a slice or sum of splits, in order."""
        del decoders, read_config
        if shuffle_files:
            raise ValueError("a folder of images is served in order; received shuffle_files=True. Shuffle what is served.")
        return self.serve(self.listed(str(split)))

    def listed(self, subset: str) -> list[ListedImage]:
        """Returns the images of a subset, such as 'validation[:3]', in order."""
        slices = tfds.core.ReadInstruction.from_spec(subset).to_absolute(self.info.splits)
        return [image for part in slices for image in self._listed[part.splitname][part.from_ : part.to]]

    def labels_of(self, images: Sequence[ListedImage]) -> np.ndarray:
        """Returns the labels of listed images, int32."""
        return np.array([self.info.features["label"].str2int(image.class_name) for image in images], np.int32)

    def serve(self, images: Sequence[ListedImage]) -> tf.data.Dataset:
        """Serves listed images as `{"image", "label", "image/filename"}`, decoded."""
        paths = [str(image.path) for image in images]
        dataset = tf.data.Dataset.from_tensor_slices((paths, self.labels_of(images).astype(np.int64)))
        return dataset.map(_example, num_parallel_calls=tf.data.AUTOTUNE)


def _example(path: tf.Tensor, label: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"image": decode(tf.io.read_file(path)), "label": label, "image/filename": path}


def decode(content: tf.Tensor) -> tf.Tensor:
    """Returns the colors of an image file, uint8 `[height, width, 3]`."""
    # The default of the first decoder is faster, and differs by a few levels from what other programs see.
    return tf.cond(
        tf.io.is_jpeg(content),
        lambda: tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(content, channels=3, expand_animations=False),
    )


def check_readable(images: Sequence[ListedImage]) -> None:
    """Raises a `ValueError` that names the first of the images that cannot be decoded, if there is one."""
    for image in images:
        try:
            decode(tf.io.read_file(str(image.path)))
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(
                f"the image {str(image.path)!r} cannot be read: truncated, or no image. Replace it, or move it away."
            ) from error


def _images_of_split(folder: Path, split: Path) -> list[ListedImage]:
    images = [
        ListedImage(path, path.relative_to(folder).as_posix(), class_folder.name)
        for class_folder in _folders(split)
        for path in _files(class_folder)
    ]
    if not images:
        raise ValueError(f"the split {str(split)!r} holds no image; {_FOR_LAYOUT}.")
    return sorted(images, key=lambda image: hashlib.sha256(image.id.encode()).digest())


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _folders(folder: Path) -> list[Path]:
    for path in _visible(folder):
        if not path.is_dir():
            raise ValueError(f"{str(path)!r} is a file among folders; {_FOR_LAYOUT}. Move it away.")
    return _visible(folder)


def _files(folder: Path) -> list[Path]:
    for path in _visible(folder):
        if path.is_dir() or path.suffix.lower() not in _SUFFIXES:
            raise ValueError(f"{str(path)!r} is no image file ({', '.join(_SUFFIXES)}); {_FOR_LAYOUT}. Move it away.")
    return _visible(folder)
