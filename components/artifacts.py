"""Artifacts that steps exchange: typed folders, each with a manifest of its origin and of the digests of its files."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import keras
import numpy as np

from components.json_records import from_json, to_json
from components.records import (
    AttackRecord,
    BoundsRecord,
    NetworkRecord,
    SectionRecord,
    SubsetRecord,
    TransferRecord,
    UnitsRecord,
)
from intriguing.models.loading import load_model

MANIFEST = "manifest.json"

Record = TypeVar("Record")


class CorruptArtifactError(RuntimeError):
    """A folder does not hold the complete, unaltered artifact that its reader expected."""


class Artifact:
    """A folder with a manifest: type, step, inputs, parameters, versions, and the SHA-256 of every other file.

    Attributes:
        uri: The folder.
    """

    TYPE_NAME: ClassVar[str] = "Artifact"

    def __init__(self, uri: str | Path):
        """Names the folder; nothing is read yet."""
        self.uri = Path(uri)

    def manifest(self) -> dict[str, Any]:
        """Reads the manifest and checks every file against it.

        Raises:
            FileNotFoundError: If there is no such folder, or it has no manifest.
            CorruptArtifactError: If it is of another type, or a file is missing, altered or unreadable.
        """
        manifest = self._read_manifest()
        if manifest.get("type") != self.TYPE_NAME:
            raise CorruptArtifactError(
                f"{self.uri} must be a {self.TYPE_NAME}; received a {manifest.get('type')}. Pass another folder."
            )
        for name, expected in manifest["files"].items():
            path = self.uri / name
            found = sha256_of(path) if path.is_file() else "no file"
            if found != expected:
                raise CorruptArtifactError(
                    f"{path} is not as it was written: expected SHA-256 {expected}, found {found}. "
                    f"Delete {self.uri} and run its step again."
                )
        return manifest

    def digest(self) -> str:
        """Returns a hash of the content, which names this artifact as an input of later steps."""
        return hashlib.sha256(json.dumps(self.manifest()["files"], sort_keys=True).encode()).hexdigest()

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file into the folder."""
        (self.uri / name).write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")

    def read_json(self, name: str) -> Any:
        """Reads a JSON file of the folder."""
        return json.loads((self.uri / name).read_text())

    def _read_manifest(self) -> dict[str, Any]:
        path = self.uri / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(
                f"{self.uri} is not an artifact: expected {MANIFEST} in it, found none. Pass a folder that a step wrote."
            )
        try:
            manifest = json.loads(path.read_text())
            return {**manifest, "files": dict(manifest["files"])}
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptArtifactError(f"{path} cannot be read: {error}. Delete {self.uri} and run its step again.") from error


class _WithRecord(Artifact, Generic[Record]):
    """An artifact whose JSON file holds one typed record.

    Attributes:
        RECORD: Type of the record.
        RECORD_FILE: Name of the file.
    """

    RECORD: ClassVar[type]
    RECORD_FILE: ClassVar[str]

    def write_record(self, record: Record) -> None:
        """Writes the record into the folder."""
        self.write_json(self.RECORD_FILE, to_json(record))

    def record(self) -> Record:
        """Reads the record."""
        record: Record = from_json(self.RECORD, self.read_json(self.RECORD_FILE))
        return record


class Subset(_WithRecord[SubsetRecord]):
    """A slice of a data set; the pixels stay with TFDS, or in their folder.

    subset.json     `SubsetRecord`
    """

    TYPE_NAME, RECORD, RECORD_FILE = "Subset", SubsetRecord, "subset.json"


class TrainedModel(_WithRecord[NetworkRecord]):
    """A network after training, or with weights from elsewhere.

    model.keras     the network, in Keras's own format
    training.json   `NetworkRecord`
    """

    TYPE_NAME, RECORD, RECORD_FILE = "TrainedModel", NetworkRecord, "training.json"

    def load(self) -> keras.Model:
        """Loads the network in Keras's safe mode."""
        return load_model(self.uri / "model.keras")


class _WithArrays(_WithRecord[Record]):
    """An artifact with a record and a file of arrays."""

    ARRAYS: ClassVar[str]

    def write_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes the file of arrays."""
        np.savez_compressed(self.uri / self.ARRAYS, allow_pickle=False, **arrays)

    def arrays(self) -> dict[str, np.ndarray]:
        """Reads the file of arrays; nothing is unpickled."""
        with np.load(io.BytesIO((self.uri / self.ARRAYS).read_bytes()), allow_pickle=False) as file:
            return dict(file)


class DistortedImages(_WithArrays[AttackRecord]):
    """Images, and the nearest images found that a network misclassifies.

    images.npz      images, labels, ids, targets, distorted, distortion, succeeded, status, c, num_evaluations; correct, whether
                    the image was classified as its label before; and survives_rounding, whether the attack still succeeds
                    after pixels were rounded to bytes; row by row
    attack.json     `AttackRecord`
    """

    TYPE_NAME, RECORD, RECORD_FILE = "DistortedImages", AttackRecord, "attack.json"
    ARRAYS = "images.npz"


class TransferRates(_WithRecord[TransferRecord]):
    """Errors of networks on clean, distorted and noisy images.

    rates.json      `TransferRecord`
    """

    TYPE_NAME, RECORD, RECORD_FILE = "TransferRates", TransferRecord, "rates.json"


class DirectionArrays(NamedTuple):
    """What the directions of one basis of a layer respond to."""

    top: np.ndarray  # [directions, num_top], rows of the images that excite a direction most
    selectivity: np.ndarray  # [directions, measures]
    attribute: np.ndarray  # [directions], the attribute that most top images share
    images: np.ndarray | None = None  # [shown, num_top, height, width, channels], of the shown directions of a network


class LayerUnitArrays(NamedTuple):
    """The arrays of one layer."""

    units: np.ndarray  # [units], their numbers in the layer
    shown: np.ndarray  # [shown], rows of `units` that galleries show
    natural: DirectionArrays
    random: DirectionArrays


class UnitAnalyses(_WithArrays[UnitsRecord]):
    """What the units of some layers respond to, compared with random directions.

    units.json      `UnitsRecord`
    units.npz       example ids; for each layer its units, their top images and measures, those of random directions, pictures
    """

    TYPE_NAME, RECORD, RECORD_FILE = "UnitAnalyses", UnitsRecord, "units.json"
    ARRAYS = "units.npz"

    def write_layers(self, ids: np.ndarray, layers: Sequence[LayerUnitArrays]) -> None:
        """Writes the example ids and the arrays of all layers."""
        arrays = {"ids": ids}
        for number, layer in enumerate(layers):
            arrays |= {f"{number}_units": layer.units, f"{number}_shown": layer.shown}
            for basis in ("natural", "random"):
                fields = getattr(layer, basis)._asdict()
                arrays |= {f"{number}_{basis}_{name}": values for name, values in fields.items() if values is not None}
        self.write_arrays(arrays)

    def layers(self) -> list[LayerUnitArrays]:
        """Reads the arrays of all layers, in the order of the record."""
        arrays = self.arrays()

        def directions(prefix: str) -> DirectionArrays:
            return DirectionArrays(*(arrays.get(f"{prefix}_{name}") for name in DirectionArrays._fields))  # type: ignore[arg-type]

        return [
            LayerUnitArrays(
                arrays[f"{number}_units"], arrays[f"{number}_shown"],
                directions(f"{number}_natural"), directions(f"{number}_random"),
            )
            for number in range(len(self.record().layers))
        ]  # fmt: skip


class SpectralBounds(_WithArrays[BoundsRecord]):
    """Certified distortions of a network, and those of an attack on it.

    bounds.json     `BoundsRecord`
    bounds.npz      ids, certified, by_product, attacked: distortions, image by image; NaN where the attack failed
    """

    TYPE_NAME, RECORD, RECORD_FILE = "SpectralBounds", BoundsRecord, "bounds.json"
    ARRAYS = "bounds.npz"


class ReportSection(_WithRecord[SectionRecord]):
    """One part of a study as tables, figures and HTML. Its step writes it with `components.studies.sections.write_section`.

    section.json    `SectionRecord`
    tables/         each table as CSV, JSON and text
    figures/        each figure as a PNG file
    """

    TYPE_NAME, RECORD, RECORD_FILE = "ReportSection", SectionRecord, "section.json"

    def printed(self) -> list[str]:
        """Returns the tables that the page shows, as text."""
        return [(self.uri / "tables" / f"{name}.txt").read_text() for name in self.record().printed]


class Report(Artifact):
    """A study as tables, figures and a page.

    index.html      one self-contained page
    tables/         table_1.csv, table_1.json, ...
    figures/        the figures of the page as PNG files
    """

    TYPE_NAME = "Report"


def sha256_of(path: Path) -> str:
    """Hashes a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
