"""Accuracy at growing distortions: what an attack leaves of it, and what is certified."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from components.artifacts import DistortedImages, SpectralBounds
from components.contract import Artifacts, Parameters
from components.studies.networks import AttackSettings, StudyNetwork, bounds_of, check_networks, training_facts
from components.studies.plan import TRAIN, Plan
from components.studies.sections import SectionContent, SectionExecutor, SectionStep
from components.studies.study import Part
from intriguing.reporting import Cell, Section, Table, to_png
from intriguing.reporting.plots.accuracy import ImageBounds, accuracy_curves
from intriguing.statistics.proportions import Proportion


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobustAccuracy(Part):
    """Bounds the accuracy of networks at growing distortions from both sides.

    Attributes:
        networks: Trained on the whole training set.
        attack: How training images are attacked.
        distortions: At which the table counts images.
    """

    networks: tuple[StudyNetwork, ...]
    attack: AttackSettings = AttackSettings()
    distortions: tuple[float, ...] = (0.01, 0.03, 0.1)

    def __post_init__(self) -> None:
        check_networks(self.networks)

    def add_to(self, plan: Plan) -> SectionStep:
        """Adds the networks, an attack on each, and their certificates."""
        models = [network.step(plan, TRAIN) for network in self.networks]
        attacks = [self.attack.step(plan, model, TRAIN) for model in models]
        bounds = [bounds_of(plan, model, attack) for model, attack in zip(models, attacks, strict=True)]
        return plan.add(
            AccuracySection, "section_robust_accuracy", attacks=attacks, bounds=bounds, distortions=list(self.distortions)
        )

    def facts(self) -> Mapping[str, str]:
        """Returns the settings of the attack and of each training."""
        return {**self.attack.facts(), **training_facts(self.networks)}


class AccuracySectionExecutor(SectionExecutor):
    """Shows the accuracy under the attack, and the certified accuracy."""

    def content(self, input_dict: Artifacts, exec_properties: Parameters) -> SectionContent:
        """Returns what the section shows."""
        networks = [read(attack, bounds) for attack, bounds in zip(input_dict["attacks"], input_dict["bounds"], strict=True)]
        curves = accuracy_curves(
            {network.name: network.bounds for network in networks}, title="Accuracy at growing distortions"
        )
        figure = (to_png(curves), "The accuracy against perturbations of each distortion lies between the two curves.")
        section = Section(
            title="Accuracy at growing distortions",
            paragraphs=(
                "An attack that misclassifies an image bounds the accuracy from above; a certificate bounds it from below. The "
                "attack has a random wrong class as its target, and so have the certificates: the accuracy against any wrong "
                "class is lower. An image that is misclassified without a perturbation counts as an error at every distortion.",
            ),
            tables=(accuracy_table(networks, exec_properties["distortions"]),),
            figures=(figure,),
        )
        return SectionContent([section], {"robust_accuracy": figure})


class AccuracySection(SectionStep):
    """Inputs: an attack on each network, and its certificates. Parameter: the distortions of the table."""

    PARAMETERS = {"distortions": list}
    INPUTS = {"attacks": DistortedImages, "bounds": SpectralBounds}
    EXECUTOR = AccuracySectionExecutor


class NetworkAccuracy(NamedTuple):
    """The images of one network."""

    name: str
    bounds: ImageBounds


def read(attack: DistortedImages, bounds: SpectralBounds) -> NetworkAccuracy:
    """Reads the artifacts of one network."""
    arrays = attack.arrays()
    attacked = np.where(arrays["succeeded"], arrays["distortion"], np.inf)
    certified = bounds.arrays()["certified"]
    correct = arrays["correct"]
    return NetworkAccuracy(
        attack.record().name, ImageBounds(np.where(correct, attacked, 0.0), np.where(correct, certified, 0.0))
    )


def accuracy_table(networks: Sequence[NetworkAccuracy], distortions: Sequence[float]) -> Table:
    """Returns a row for every network: its accuracy, and both bounds at each distortion."""
    rows: list[Mapping[str, Cell]] = []
    for name, (attack, certified) in networks:
        row: dict[str, Cell] = {"Model": name, "Accuracy": _share(attack, 0.0)}
        for distortion in distortions:
            row[f"Attack, {distortion:g}"] = _share(attack, distortion)
            row[f"Certified, {distortion:g}"] = _share(certified, distortion)
        rows.append(row)
    return Table.from_rows(
        "robust_accuracy",
        "Accuracy without perturbation, and at some distortions: under the attack, and certified.",
        rows,
    )


def _share(distortions: np.ndarray, at_least: float) -> Proportion:
    return Proportion(int(np.count_nonzero(distortions > at_least)), len(distortions))
