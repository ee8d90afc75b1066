"""A folder of images, `split/class/image`, as a TFDS data set with slices and example ids."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from intriguing.names import check_name

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
_LAYOUT = "expected folders split/class/image, such as validation/n01518878/ostrich.jpg"
_DEPTH_AT, _LEAST_DEPTH = 28, 24  # offset of the bits per pixel in a BMP file; minimum for colors


class ListedImage(NamedTuple):
    """An image file with its id and its label."""

    path: Path
    id: str  # its path within the folder
    label: int


class Listing(NamedTuple):
    """The images and classes of a folder."""

    class_names: tuple[str, ...]  # the classes of all splits in the order of the labels, by default sorted
    splits: dict[str, list[ListedImage]]


def list_images(folder: Path, class_names: Sequence[str] = ()) -> Listing:
    """Lists the images of every split in an order that mixes the classes, and is the same on every machine.

    Files and folders whose names begin with a dot are ignored. An empty folder of a class also counts as a class.

    Args:
        folder: A folder with the layout split/class/image.
        class_names: The class names in the order of the labels, which may include classes without a folder. If omitted, the
            sorted names of the folders.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If the folder has another layout, a split contains no image, the name of a split is not valid in TFDS, or a
            folder is not in `class_names`.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {str(folder)!r}; {_LAYOUT}. Check the path.")
    classes = {split.name: _folders(split) for split in _folders(folder)}
    if not classes:
        raise ValueError(f"the folder {str(folder)!r} contains no split; {_LAYOUT}.")
    found_names = sorted({class_.name for found in classes.values() for class_ in found})
    for name in found_names if class_names else ():
        check_name(name, class_names, f"class of the folder {str(folder)!r}")
    class_names = tuple(class_names or found_names)
    labels = {name: label for label, name in enumerate(class_names)}
    return Listing(class_names, {split: _images_of(folder, split, found, labels) for split, found in classes.items()})


def content_of(folder: Path) -> str:
    """Returns a digest of the names, sizes and modification times of the files in a folder, which changes if a file changes.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: As in `list_images`.

    Example:
        >>> (folder / "photographs" / "test" / "cat").mkdir(parents=True)
        >>> (folder / "photographs" / "test" / "cat" / "1.png").touch()
        >>> content_of(folder / "photographs") == content_of(folder / "photographs")
        True
    """
    listing = list_images(folder)
    digest = hashlib.sha256("\0".join(listing.class_names).encode())
    for listed in (image for images in listing.splits.values() for image in images):
        stat = listed.path.stat()
        digest.update(f"\n{listed.id}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())
    return digest.hexdigest()


class ImageFolder(tfds.core.DatasetBuilder, skip_registration=True):  # type: ignore[call-arg]  # an argument of TFDS
    """TFDS builder of a folder. In contrast to `tfds.ImageFolder`, it supports slices, and rejects unexpected files."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, folder: Path, *, num_channels: int = 3, class_names: Sequence[str] = ()):
        """Lists the files without reading them.

        Args:
            folder: The folder of the images.
            num_channels: 3 for colors, 1 for gray.
            class_names: As in `list_images`.
        """
        self._num_channels = num_channels
        self._listing = list_images(folder, class_names)
        super().__init__(data_dir=str(folder))
        self._data_dir = str(folder)  # the files are in this folder, not in a subfolder for the builder and version
        sizes = {name: len(images) for name, images in self._listing.splits.items()}
        infos = [tfds.core.SplitInfo(name=name, shard_lengths=[size], num_bytes=0) for name, size in sizes.items()]
        self.info.set_splits(tfds.core.SplitDict(infos))

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(None, None, self._num_channels)),
            "label": tfds.features.ClassLabel(names=self._listing.class_names),
            "image/filename": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Images of a folder.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing, because the files are read from their folder."""

    def _as_dataset(self, split: Any, decoders: Any = None, read_config: Any = None, shuffle_files: bool = False) -> Any:
        """Returns the images of a split, or of a slice or sum of splits, in order."""
        del read_config  # there are no shards and caches
        if decoders is not None or shuffle_files:
            raise ValueError(
                "a folder of images does not support decoders and shuffle_files. Shuffle the returned data set instead."
            )
        return self.serve(self.listed(split))

    def listed(self, subset: str) -> list[ListedImage]:
        """Returns the images of a subset, such as 'validation[:3]', in order."""
        slices = tfds.core.ReadInstruction.from_spec(subset).to_absolute(self.info.splits)
        return [image for part in slices for image in self._listing.splits[part.splitname][part.from_ : part.to]]

    def serve(self, images: Sequence[ListedImage]) -> tf.data.Dataset:
        """Returns a data set of the listed images, decoded, as `{"image", "label", "image/filename"}`."""
        paths, labels = [str(image.path) for image in images], [image.label for image in images]
        dataset = tf.data.Dataset.from_tensor_slices((paths, np.array(labels, np.int64)))
        return dataset.map(self._example, num_parallel_calls=tf.data.AUTOTUNE)

    def _example(self, path: tf.Tensor, label: tf.Tensor) -> dict[str, tf.Tensor]:
        image = decode(tf.io.read_file(path))
        if self._num_channels == 1:
            image = brightness(image)
        return {"image": image, "label": label, "image/filename": path}


def brightness(colors: tf.Tensor) -> tf.Tensor:
    """Returns the luma of colors, from uint8 `[..., 3]` to `[..., 1]`, as in JPEG files; gray values do not change.

    References:
        ITU-R Recommendation BT.601, 2011, section 2.5.1.
    """
    luma = tf.reduce_sum(tf.cast(colors, tf.float32) * [0.299, 0.587, 0.114], axis=-1, keepdims=True)
    return tf.cast(tf.round(luma), tf.uint8)


def decode(content: tf.Tensor) -> tf.Tensor:
    """Returns the colors of an image file, uint8 `[height, width, 3]`; of an animation, those of its first frame."""
    # The default dct_method is faster, but its result differs by a few levels from that of other programs.
    return tf.cond(
        tf.io.is_jpeg(content),
        lambda: tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: _decode_other(content),
    )


def _decode_other(content: tf.Tensor) -> tf.Tensor:
    if_bitmap = tf.where(tf.strings.substr(content, 0, 2) == b"BM", _DEPTH_AT, 0)
    depth = tf.io.decode_raw(tf.strings.substr(content, if_bitmap, 2), tf.uint16, fixed_length=2)[0]
    # TensorFlow would decode the indices of a color table as gray values.
    has_colors = tf.debugging.Assert((if_bitmap == 0) | (depth >= _LEAST_DEPTH), ["a BMP file with a color table"])
    with tf.control_dependencies([] if has_colors is None else [has_colors]):
        return tf.io.decode_image(content, channels=3, expand_animations=False)


def check_readable(images: Sequence[ListedImage]) -> None:
    """Raises a `ValueError` with the path of the first image that cannot be decoded, if there is one."""
    for image in images:
        try:
            decode(tf.io.read_file(str(image.path)))
        except tf.errors.InvalidArgumentError as error:
            # TensorFlow adds the names of operations to the reason.
            reason = re.sub(r"\{\{.*?\}\} | \[Op:.*|Expected .*Summarized data: b'", "", error.message).strip(" .'")
            raise ValueError(
                f"the image {str(image.path)!r} cannot be read: {reason}. Replace it, save it as PNG, or remove it."
            ) from error


def _images_of(folder: Path, split: str, classes: Sequence[Path], labels: dict[str, int]) -> list[ListedImage]:
    if not re.fullmatch(r"[\w-]+", split) or split == "all":
        raise ValueError(
            f"the name of a split must consist of letters, digits, '_' and '-', and must not be 'all'; received "
            f"{str(folder / split)!r}. Rename that folder."
        )
    files = [(path, class_.name) for class_ in classes for path in _files(class_)]
    if not files:
        raise ValueError(f"the split {str(folder / split)!r} contains no image; {_LAYOUT}.")
    images = [ListedImage(path, path.relative_to(folder).as_posix(), labels[name]) for path, name in files]
    return sorted(images, key=lambda image: hashlib.sha256(image.id.encode()).digest())


def _folders(folder: Path) -> list[Path]:
    found = _visible(folder)
    for path in found:
        if not path.is_dir():
            raise ValueError(f"{str(path)!r} is a file, where only folders are allowed; {_LAYOUT}. Remove it.")
    return found


def _files(folder: Path) -> list[Path]:
    found = _visible(folder)
    for path in found:
        if path.suffix.lower() not in _SUFFIXES or path.is_dir():
            raise ValueError(f"{str(path)!r} is not an image file ({', '.join(_SUFFIXES)}); {_LAYOUT}. Remove it.")
    return found


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
