"""The work of ImageImporter."""

from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np

from components.contract import Artifacts, Executor, Parameters
from components.records import AttackRecord
from intriguing.data import DatasetCard, dataset_card, load_examples
from intriguing.distortion import distortion

_ALL = "all"  # splits


class ImageImporterExecutor(Executor):
    """Reads distorted images, finds their originals by name, and counts each as a success."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Parameters) -> None:
        """Writes `DistortedImages`, without the arrays that only a search has."""
        del input_dict
        clean_card, card = (_card(exec_properties, exec_properties[kind]) for kind in ("clean", "distorted"))
        _check_sizes(card)
        distorted, clean = load_examples(card, _ALL), load_examples(clean_card, _ALL)
        rows = _rows_of_originals(card, distorted.ids.numpy(), clean_card, clean.ids.numpy())
        originals = clean.images.numpy()[rows]
        output = output_dict["distorted"][0]
        output.write_arrays(
            {
                "images": originals,
                "labels": clean.labels.numpy()[rows],
                "ids": distorted.ids.numpy().astype(np.bytes_),
                "distorted": distorted.images.numpy(),
                "distortion": distortion(originals, distorted.images).numpy(),
                "succeeded": np.ones(len(rows), bool),
            }
        )
        output.write_record(
            AttackRecord(name=exec_properties["name"], dataset=clean_card.name, subset=_ALL, class_names=clean_card.class_names)
        )


def _card(parameters: Parameters, folder: str) -> DatasetCard:
    return dataset_card(
        folder,
        image_size=tuple(parameters["image_size"]),
        num_channels=parameters["num_channels"],
        class_names=tuple(parameters["class_names"]),
    )


def _check_sizes(card: DatasetCard) -> None:
    """Raises a `ValueError` if the size of an image is not that of the networks: resizing would change its perturbation."""
    builder = card.builder()
    for image in builder.as_dataset(split=_ALL).as_numpy_iterator():
        received = image["image"].shape[:2]
        if received != card.image_shape[:2]:
            raise ValueError(
                f"the image {image['image/filename'].decode()!r} has {received[0]}x{received[1]} pixels; the networks take "
                f"{card.image_shape[0]}x{card.image_shape[1]}. Distorted images are not resized, since that changes what was "
                "distorted. Save them in the size of the networks."
            )


def _rows_of_originals(card: DatasetCard, ids: np.ndarray, clean_card: DatasetCard, clean_ids: np.ndarray) -> list[int]:
    rows = {_name(example): row for row, example in enumerate(clean_ids)}
    missing = [example.decode() for example in ids if _name(example) not in rows]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(ids)} images of {card.folder!r} have no original in {clean_card.folder!r}, such as "
            f"{missing[0]!r}. Save both under the same path, split/class/image; the endings may differ."
        )
    return [rows[_name(example)] for example in ids]


def _name(example: bytes) -> str:
    return str(PurePosixPath(example.decode()).with_suffix(""))
