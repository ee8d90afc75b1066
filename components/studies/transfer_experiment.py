"""One experiment on transfer: its artifacts, read once, and the rows of its tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.artifacts import DistortedImages, TrainedModel, TransferRates
from intriguing.reporting import Mean, Section, Table, published_rows
from intriguing.statistics.proportions import Proportion

LEFT_OUT = "Images for which the attack failed are left out; n tells how many remain."
CORRECT_BEFORE = (
    "Distortions are averaged over the images that the model classified correctly before; the CSV file has their number."
)
ALL_DISTORTIONS = "The average distortion includes images that were misclassified before."


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment of the study: networks, the images distorted for each of them, and the predictions of each for all."""

    networks: Mapping[str, Mapping[str, Any]]  # name -> training.json
    arrays: Mapping[str, Mapping[str, np.ndarray]]  # name -> images.npz of the attack on it
    rates: Mapping[str, Any]  # rates.json

    @classmethod
    def read(
        cls, models: Sequence[TrainedModel], attacks: Sequence[DistortedImages], rates: Sequence[TransferRates]
    ) -> Experiment:
        """Reads the artifacts."""
        return cls(
            networks={description["name"]: description for description in (model.training() for model in models)},
            arrays={attack.attack()["name"]: attack.arrays() for attack in attacks},
            rates=rates[0].rates(),
        )

    def distortions(self) -> dict[str, np.ndarray]:
        """Returns the distortion of every image, NaN where the attack failed, or the image was misclassified before."""
        return {name: np.where(arrays["correct"], arrays["distortion"], np.nan) for name, arrays in self.arrays.items()}

    def changed(self, *kinds: str) -> Iterator[Mapping[str, Any]]:
        """Yields the sets of changed images of some kinds, in the order of the kinds."""
        for kind in kinds:
            yield from (row for row in self.rates["changed"] if row["kind"] == kind)

    def errors_on(self, split: str, name: str) -> Proportion:
        """Returns the errors of one network on one clean subset."""
        return Proportion(*self.rates["errors"][split][name])

    def transfer(self, row: Mapping[str, Any], name: str, count: str = "on_all") -> Proportion:
        """Returns the errors of one network on one set of changed images."""
        return Proportion(*row["errors"][name][count])


def transfer_table(experiment: Experiment) -> Table:
    """Every set of changed images on every network, for experiments that are not the paper's."""
    changed = experiment.changed("distorted", "amplified", "noise")
    rows = [transfer_row(experiment, row, "on_all", name_of(row)) for row in changed]
    title = "Errors induced in the model of the column by the images of the row."
    return Table(name="transfer", title=title, columns=tuple(rows[0]), rows=tuple(rows), notes=(LEFT_OUT, ALL_DISTORTIONS))


def transfer_row(experiment: Experiment, row: Mapping[str, Any], count: str, name: str) -> dict[str, Any]:
    """Returns a row of a table: the errors of every network on one set of changed images, and its average distortion."""
    rates = {network: experiment.transfer(row, network, count) for network in experiment.rates["networks"]}
    # JSON has no NaN: None stands for the average of nothing.
    mean, std = (np.nan if row[key] is None else row[key] for key in ("mean_distortion", "std_distortion"))
    return {"Source model": name, **rates, "Av. distortion": Mean(mean, std, row["num_images"])}


def name_of(row: Mapping[str, Any], prefix: str = "Distorted for ") -> str:
    """Returns the name of a row."""
    if row["kind"] == "noise":
        return f"Gaussian noise with stddev={row['amount']:g}"
    amplified = f" amplified to stddev={row['amount']:g}" if row["kind"] == "amplified" else ""
    return f"{prefix}{row['made_for']}{amplified}"


def paper_table(name: str, title: str, rows: list[dict[str, Any]], *notes: str) -> Table:
    """Returns a table of the paper, with the numbers that the paper prints beside ours."""
    columns = tuple(rows[0])
    names = [str(row[columns[0]]) for row in rows]
    return Table(
        name=name, title=title, columns=columns, rows=tuple(rows), notes=notes, published=published_rows(name, names, columns)
    )


def table_on_correct(name: str, rows: list[dict[str, Any]]) -> Table:
    """Returns a table of transfer, counted on the images that the evaluated model classified correctly before."""
    title = "Counted only on images whose originals the evaluated model (column) classified correctly."
    return Table(name=f"{name}_on_correct", title=title, columns=tuple(rows[0]), rows=tuple(rows), notes=(LEFT_OUT,))


def section_on_correct(table: Table, title: str) -> Section:
    """Puts such a table under its heading."""
    return Section(
        title=f"{title}, among images classified correctly before",
        paragraphs=("Images that a network misclassified before the distortion are no evidence of transfer.",),
        tables=(table,),
    )
