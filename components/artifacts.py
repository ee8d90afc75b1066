"""Artifacts that steps exchange: typed folders, each with a manifest of its origin and of the digests of its files."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np

from intriguing.models.loading import load_model

MANIFEST = "manifest.json"


class CorruptArtifactError(RuntimeError):
    """A folder is not the whole and unaltered artifact that its reader expected."""


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


class Subset(Artifact):
    """A slice of a data set; the pixels stay with TFDS, or in their folder.

    subset.json     dataset, data_dir, size to which images are scaled, content of a folder, split expression, number of
                    examples, image shape, number of classes
    """

    TYPE_NAME = "Subset"

    def description(self) -> dict[str, Any]:
        """Returns what subset.json says."""
        return self.read_json("subset.json")


class TrainedModel(Artifact):
    """A network after training.

    model.keras     the network, in Keras's own format
    training.json   name, zoo name, data set, subset, losses, whether it converged, errors on its training subset; where there
                    were pools of adversarial examples, what happened in every round. Of a network that was trained elsewhere:
                    name, where it came from, its weights, and the shape of its images
    """

    TYPE_NAME = "TrainedModel"

    def load(self) -> keras.Model:
        """Loads the network in Keras's safe mode."""
        return load_model(self.uri / "model.keras")

    def training(self) -> dict[str, Any]:
        """Returns what training.json says."""
        return self.read_json("training.json")


class _WithArrays(Artifact):
    """An artifact with a file of arrays."""

    ARRAYS: ClassVar[str]

    def write_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes the file of arrays."""
        np.savez_compressed(self.uri / self.ARRAYS, allow_pickle=False, **arrays)

    def arrays(self) -> dict[str, np.ndarray]:
        """Reads the file of arrays; nothing is unpickled."""
        with np.load(io.BytesIO((self.uri / self.ARRAYS).read_bytes()), allow_pickle=False) as file:
            return dict(file)


class DistortedImages(_WithArrays):
    """Images and the nearest ones found that a network gets wrong.

    images.npz      images, labels, ids, targets, distorted, distortion, succeeded, status, c, num_evaluations; correct, whether
                    the image was classified as its label before; and survives_rounding, whether the attack still succeeds
                    after pixels were rounded to bytes; row by row
    attack.json     name of the network, data set, names of classes, and a summary: its average distortion is over the images
                    found that were classified correctly before
    """

    TYPE_NAME = "DistortedImages"
    ARRAYS = "images.npz"

    def attack(self) -> dict[str, Any]:
        """Returns what attack.json says."""
        return self.read_json("attack.json")


class TransferRates(Artifact):
    """Errors of networks on clean, distorted and noisy images.

    rates.json      errors of every network on every subset, with the rows that are wrong, and on every set of changed images
    """

    TYPE_NAME = "TransferRates"

    def rates(self) -> dict[str, Any]:
        """Returns what rates.json says."""
        return self.read_json("rates.json")


class UnitMeanings(_WithArrays):
    """What the units of some layers respond to, beside random directions.

    units.json      name of the network, settings, and for each layer and control the tests and the way between the bases
    units.npz       example ids; for each layer its units, their top images and measures, those of random directions, pictures
    """

    TYPE_NAME = "UnitMeanings"
    ARRAYS = "units.npz"

    def units(self) -> dict[str, Any]:
        """Returns what units.json says."""
        return self.read_json("units.json")


class SpectralBounds(_WithArrays):
    """Certified distortions of a network, and those of an attack on it.

    bounds.json     name of the network, a bound of its Lipschitz constant, and for each layer its norm from both sides
    bounds.npz      ids, certified, by_product, attacked: distortions, image by image; NaN where the attack failed
    """

    TYPE_NAME = "SpectralBounds"
    ARRAYS = "bounds.npz"

    def bounds(self) -> dict[str, Any]:
        """Returns what bounds.json says."""
        return self.read_json("bounds.json")


class ReportSection(Artifact):
    """One part of a study for people: what its step writes with `components.studies.sections.write_section`.

    section.json    what the page needs to know: `SectionRecord`
    tables/         each table as CSV, JSON and text
    figures/        each figure as a PNG file
    """

    TYPE_NAME = "ReportSection"

    def record(self) -> SectionRecord:
        """Returns what section.json holds."""
        return SectionRecord(**self.read_json("section.json"))

    def printed(self) -> list[str]:
        """Returns the tables that the page shows, as text."""
        return [(self.uri / "tables" / f"{name}.txt").read_text() for name in self.record().printed]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SectionRecord:
    """What a page needs to know of a section.

    Attributes:
        lead: The finding in a sentence or two; "" if there is none.
        fragments: For each heading of the section, the heading and its HTML.
        printed: Names of the tables that the page shows, in its order.
        seconds: From the name of each step that the section reads to the seconds that the step took.
        machine: On which they ran.
    """

    lead: str
    fragments: Sequence[tuple[str, str]]
    printed: Sequence[str]
    seconds: Mapping[str, float]
    machine: str


class Report(Artifact):
    """The study for people.

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
