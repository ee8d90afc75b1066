"""The artifacts of a study, read once, and the four tables of the paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.artifacts import DistortedImages, TrainedModel, TransferRates
from intriguing.reporting import Mean, Table, published_rows
from intriguing.statistics.proportions import Proportion

_LEFT_OUT = "Images for which the attack failed are left out; n tells how many remain."
_CORRECT_BEFORE = (
    "Distortions are averaged over the images that the model classified correctly before; the CSV file has their number."
)
_ALL_DISTORTIONS = "The average distortion includes images that were misclassified before."
_NEARER = "Amplified images all have the same distortion: those that needed more are moved nearer, and may be right again."


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


def table_1(experiment: Experiment, train: str, test: str) -> Table:
    """Errors of every network, and the average least distortion that changes its answers."""
    rows = [
        {
            "Model": name,
            "Training error": experiment.errors_on(train, name),
            "Test error": experiment.errors_on(test, name),
            "Av. min. distortion": Mean.of(distortion),
        }
        for name, distortion in experiment.distortions().items()
    ]
    return _table(
        "table_1",
        "Errors of the models, and the least distortion that makes each answer a random wrong class.",
        rows,
        _CORRECT_BEFORE,
    )


def table_2(experiment: Experiment) -> Table:
    """Every network on the images distorted for every other."""
    rows = [_transfer_row(experiment, row, "on_all", _table_2_name(row)) for row in experiment.changed("distorted", "noise")]
    return _table(
        "table_2",
        "Error rates of the evaluated model (column) on images distorted for the source model (row).",
        rows,
        _LEFT_OUT,
        _ALL_DISTORTIONS,
    )


def transfer_table(experiment: Experiment) -> Table:
    """Every set of changed images on every network, for experiments that are not the paper's."""
    changed = experiment.changed("distorted", "amplified", "noise")
    rows = [_transfer_row(experiment, row, "on_all", _table_4_name(row)) for row in changed]
    title = "Errors induced in the model of the column by the images of the row."
    return Table(name="transfer", title=title, columns=tuple(rows[0]), rows=tuple(rows), notes=(_LEFT_OUT, _ALL_DISTORTIONS))


def table_3(experiment: Experiment, first: str, second: str, test: str) -> Table:
    """Errors of the networks trained on disjoint halves."""
    rows = [
        {
            "Model": name,
            "Trained on": {first: "P1", second: "P2"}[experiment.networks[name]["subset"]],
            "Error on P1": experiment.errors_on(first, name),
            "Error on P2": experiment.errors_on(second, name),
            "Error on Test": experiment.errors_on(test, name),
            "Min Av. Distortion": Mean.of(distortion),
        }
        for name, distortion in experiment.distortions().items()
    ]
    return _table(
        "table_3",
        f"Models trained on disjoint halves of the training set: P1 is {first}, P2 is {second}.",
        rows,
        _CORRECT_BEFORE,
    )


def table_4(experiment: Experiment) -> Table:
    """Transfer between networks trained on disjoint halves, plain and amplified, with noise of equal size."""
    rows = [
        _transfer_row(experiment, row, "on_all", _table_4_name(row))
        for row in sorted(experiment.changed("distorted", "amplified", "noise"), key=_table_4_order)
    ]
    return _table(
        "table_4",
        "Errors induced across models and disjoint training sets, by distorted test images.",
        rows,
        _LEFT_OUT,
        _ALL_DISTORTIONS,
        _NEARER,
    )


def table_2_on_correct(experiment: Experiment) -> Table:
    """Table 2 again, counted on the images that the model of the column got right before."""
    rows = [
        _transfer_row(experiment, row, "on_correct", _table_2_name(row)) for row in experiment.changed("distorted", "noise")
    ]
    return _counted_on_correct("table_2", rows)


def table_4_on_correct(experiment: Experiment) -> Table:
    """Table 4 again, counted on the images that the model of the column got right before."""
    changed = sorted(experiment.changed("distorted", "amplified", "noise"), key=_table_4_order)
    return _counted_on_correct("table_4", [_transfer_row(experiment, row, "on_correct", _table_4_name(row)) for row in changed])


def _counted_on_correct(name: str, rows: list[dict[str, Any]]) -> Table:
    title = "Counted only on images whose originals the model of the column got right."
    return Table(name=f"{name}_on_correct", title=title, columns=tuple(rows[0]), rows=tuple(rows), notes=(_LEFT_OUT,))


def _transfer_row(experiment: Experiment, row: Mapping[str, Any], count: str, name: str) -> dict[str, Any]:
    rates = {network: experiment.transfer(row, network, count) for network in experiment.rates["networks"]}
    # JSON has no NaN: None stands for the average of nothing.
    mean, std = (np.nan if row[key] is None else row[key] for key in ("mean_distortion", "std_distortion"))
    return {"Source model": name, **rates, "Av. distortion": Mean(mean, std, row["num_images"])}


def _table_2_name(row: Mapping[str, Any]) -> str:
    return f"Gaussian noise, stddev={row['amount']:g}" if row["kind"] == "noise" else _table_4_name(row, prefix="")


def _table_4_name(row: Mapping[str, Any], prefix: str = "Distorted for ") -> str:
    if row["kind"] == "noise":
        return f"Gaussian noise with stddev={row['amount']:g}"
    amplified = f" amplified to stddev={row['amount']:g}" if row["kind"] == "amplified" else ""
    return f"{prefix}{row['made_for']}{amplified}"


def _table_4_order(row: Mapping[str, Any]) -> float:
    """Puts each noise row beneath the distortions that it is the control of."""
    return row["amount"] if row["amount"] is not None and row["amount"] >= 0.1 else 0.0


def _table(name: str, title: str, rows: list[dict[str, Any]], *notes: str) -> Table:
    columns = tuple(rows[0])
    names = [str(row[columns[0]]) for row in rows]
    return Table(
        name=name, title=title, columns=columns, rows=tuple(rows), notes=notes, published=published_rows(name, names, columns)
    )
