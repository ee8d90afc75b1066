"""One experiment on transfer: its artifacts, read once, and the rows of its tables."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from components.artifacts import DistortedImages, Subset, TrainedModel, TransferRates
from components.contract import Artifacts
from components.records import ChangedImagesRecord, NetworkRecord, TransferRecord
from components.studies.sections import SectionStep
from intriguing.evaluation import ErrorRates
from intriguing.reporting import Mean, Table, published_rows
from intriguing.statistics.proportions import Proportion

LEFT_OUT = "Images for which the attack failed are left out; the CSV file has the numbers that remain."
CORRECT_BEFORE = (
    "Distortions are averaged over the images that the model classified correctly before; the CSV file has their number."
)
ALL_DISTORTIONS = "The average distortion includes images that were misclassified before."


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment of the study: networks, the images distorted for each of them, and the errors of each on all."""

    networks: Mapping[str, NetworkRecord]
    arrays: Mapping[str, Mapping[str, np.ndarray]]  # from the name of a network to images.npz of the attack on it
    rates: TransferRecord

    @classmethod
    def read(cls, inputs: Artifacts) -> Experiment:
        """Reads the inputs of a `TransferSection`."""
        return cls(
            networks={record.name: record for record in (model.record() for model in inputs["models"])},
            arrays={attack.record().name: attack.arrays() for attack in inputs["attacks"]},
            rates=inputs["rates"][0].record(),
        )

    def distortions(self) -> dict[str, np.ndarray]:
        """Returns the distortion of every image, NaN where the attack failed, or the image was misclassified before."""
        return {name: np.where(arrays["correct"], arrays["distortion"], np.nan) for name, arrays in self.arrays.items()}

    def changed(self, *kinds: str) -> Iterator[ChangedImagesRecord]:
        """Yields the sets of changed images of some kinds, in the order of the kinds."""
        for kind in kinds:
            yield from (row for row in self.rates.changed if row.kind == kind)


class TransferSection(SectionStep):
    """Inputs: subsets, networks, an attack on each network, and the errors of all networks. A subclass has the executor."""

    INPUTS = {"subsets": Subset, "models": TrainedModel, "attacks": DistortedImages, "rates": TransferRates}


Count: TypeAlias = Callable[[ErrorRates], Proportion]
"""On which images errors are counted."""

ON_ALL: Count = operator.attrgetter("on_all")
ON_CORRECT: Count = operator.attrgetter("on_correct")


def transfer_table(experiment: Experiment) -> Table:
    """Every set of changed images on every network, for experiments that are not the paper's."""
    changed = experiment.changed("distorted", "amplified", "noise")
    rows = [transfer_row(row, ON_ALL, name_of(row)) for row in changed]
    title = "Errors induced in the model of the column by the images of the row."
    return Table.from_rows("transfer", title, rows, notes=(LEFT_OUT, ALL_DISTORTIONS))


def transfer_row(row: ChangedImagesRecord, count: Count, name: str) -> dict[str, Any]:
    """Returns a row of a table: the errors of every network on one set of changed images, and its average distortion."""
    rates = {network: count(errors) for network, errors in row.errors.items()}
    return {"Source model": name, **rates, "Av. distortion": Mean(row.mean_distortion, row.std_distortion, row.num_images)}


def name_of(row: ChangedImagesRecord, prefix: str = "Distorted for ") -> str:
    """Returns the name of a row."""
    if row.kind == "noise":
        return f"Gaussian noise with stddev={row.amount:g}"
    amplified = f" amplified to stddev={row.amount:g}" if row.kind == "amplified" else ""
    return f"{prefix}{row.source_model}{amplified}"


def paper_table(name: str, title: str, rows: list[dict[str, Any]], *notes: str) -> Table:
    """Returns a table of the paper, with the numbers of the paper."""
    columns = tuple(rows[0])
    names = [str(row[columns[0]]) for row in rows]
    return Table(
        name=name, title=title, columns=columns, rows=tuple(rows), notes=notes, published=published_rows(name, names, columns)
    )


def table_on_correct(name: str, rows: list[dict[str, Any]]) -> Table:
    """Returns a table of transfer, counted on the images that the evaluated model classified correctly before."""
    title = "Counted only on images whose originals the evaluated model (column) classified correctly."
    return Table.from_rows(f"{name}_on_correct", title, rows, notes=(LEFT_OUT,))
