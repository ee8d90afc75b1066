"""Figure 5: photographs that a network classifies as one target class after a small change."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from components.artifacts import DistortedImages
from components.attacker.executor import BYTES
from components.contract import Artifacts, Parameters
from components.records import AttackRecord, SearchRecord
from components.studies.networks import AttackSettings, StudyNetwork
from components.studies.plan import TRAIN, Plan, Split
from components.studies.sections import Figures, SectionContent, SectionExecutor, SectionStep
from components.studies.study import Part
from intriguing.reporting import Mean, Section, Table, adversarial_gallery, distortion_distributions, to_png
from intriguing.statistics.proportions import Proportion

PAPERS_DISTORTION = 0.006508
"""Average over 64 examples of AlexNet, in the caption of Figure 5."""

_MAGNIFICATION = 10.0
_SHOWN = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetedPhotographs(Part):
    """Changes photographs so that a network classifies all of them as one class: once among all images, once among bytes.

    Attributes:
        network: The network.
        split: Whose images are attacked.
        attack: How they are attacked, with their target class. A second attack, with the same settings, looks among images
            of bytes only.
    """

    network: StudyNetwork
    split: Split
    attack: AttackSettings

    def add_to(self, plan: Plan) -> SectionStep:
        """Adds the network and the two attacks."""
        model = self.network.step(plan, TRAIN)
        searches = {"": None, "_bytes": BYTES}
        attacks = [
            dataclasses.replace(
                self.attack, search=dataclasses.replace(self.attack.settings, quantization_levels=levels)
            ).step(plan, model, self.split, suffix)
            for suffix, levels in searches.items()
        ]  # fmt: skip
        return plan.add(PhotographSection, "section_photographs", attacks=attacks)

    def facts(self) -> Mapping[str, str]:
        """Returns the settings of the attack, and where the network comes from."""
        return {"Network": self.network.name, **self.attack.facts(), **self.network.facts()}


class PhotographSectionExecutor(SectionExecutor):
    """Shows the photographs, and how far they were changed."""

    def content(self, input_dict: Artifacts, exec_properties: Parameters) -> SectionContent:
        """Returns what the section shows."""
        attacks = read(input_dict["attacks"])
        figures = photograph_figures(attacks)
        return SectionContent([photograph_section(photograph_table(attacks), figures)], figures, photograph_lead(attacks))


class PhotographSection(SectionStep):
    """Inputs: the attacks, among all images and among bytes. Takes no parameters."""

    INPUTS = {"attacks": DistortedImages}
    EXECUTOR = PhotographSectionExecutor


class Attack(NamedTuple):
    """One attack on photographs: its record and its arrays."""

    record: AttackRecord
    arrays: Mapping[str, np.ndarray]

    @property
    def title(self) -> str:
        """The network, and what the search was allowed."""
        levels = self.search.quantization_levels
        return f"{self.record.name}, any colors" if levels is None else f"{self.record.name}, {levels} levels of a color"

    @property
    def search(self) -> SearchRecord:
        """What the search found."""
        return self.record.required_search()

    def distortions(self) -> np.ndarray:
        """Returns those of the images that were found."""
        return self.arrays["distortion"][self.arrays["succeeded"]]


def read(artifacts: Sequence[DistortedImages]) -> list[Attack]:
    """Reads the artifacts."""
    return [Attack(artifact.record(), artifact.arrays()) for artifact in artifacts]


def photograph_table(attacks: Sequence[Attack]) -> Table:
    """A row for every search."""
    rows = []
    for attack in attacks:
        found, num_images = attack.arrays["succeeded"], len(attack.arrays["labels"])
        rows.append(
            {
                "Search": attack.title,
                "Reached": Proportion(int(found.sum()), num_images),
                "Av. distortion": Mean.of(attack.distortions()),
                "Median": float(np.median(attack.distortions())) if found.any() else None,
                "Still so as PNG": Proportion(int(attack.arrays["survives_rounding"].sum()), num_images),
                "Gradients per image": attack.search.mean_num_evaluations,
            }
        )
    return Table.from_rows(
        "photographs",
        f"Photographs with the target class {_target(attacks[0])}.",
        rows,
        notes=(
            "Drawn at random among the photographs that the network classifies correctly, with no selection afterwards. "
            "Distortion is the root-mean-square change of a color in [0, 1]; the paper prints "
            f"{PAPERS_DISTORTION} for AlexNet. A PNG file holds 256 levels of a color, 0.0039 apart.",
            *_ratio(attacks),
        ),
    )


def _ratio(attacks: Sequence[Attack]) -> tuple[str, ...]:
    if len(attacks) != 2:
        return ()
    (free, levels), both = attacks, np.logical_and(*(attack.arrays["succeeded"] for attack in attacks))
    if not both.any():
        return ()
    ratio = levels.arrays["distortion"][both].mean() / free.arrays["distortion"][both].mean()
    return (f"Average distortion among images of bytes, over that among all images: {ratio:.2f}.",)


def photograph_figures(attacks: Sequence[Attack]) -> dict[str, tuple[bytes, str]]:
    """Figure 5 for every search, and the distortions."""
    figures = {}
    for number, attack in enumerate(attacks, start=1):
        rows = np.flatnonzero(attack.arrays["succeeded"])[:_SHOWN]
        if len(rows):
            gallery = adversarial_gallery(
                attack.arrays["images"][rows], attack.arrays["distorted"][rows],
                labels=[_shown_name(attack, row) for row in rows],
                predictions=[_target(attack)] * len(rows), title=f"{attack.title}: all classified as {_target(attack)}",
                num_images=_SHOWN, magnification=_MAGNIFICATION,
            )  # fmt: skip
            caption = f"Figure 5: strictly the first of the random sample. Differences times {_MAGNIFICATION:g}, around gray."
            figures[f"figure_5_{number}"] = (to_png(gallery), caption)
    found = {attack.title: attack.distortions() for attack in attacks if attack.arrays["succeeded"].any()}
    if found:
        dots = distortion_distributions(found, title="Least distortion of each photograph")
        figures["photograph_distortion"] = (to_png(dots), "Each dot is one photograph.")
    return figures


def photograph_lead(attacks: Sequence[Attack]) -> str:
    """The finding in two sentences."""
    first = attacks[0]
    found, survived = first.arrays["succeeded"], first.arrays["survives_rounding"]
    if not found.any():
        return f"No attack on {len(found)} photographs succeeded within the budget of the search."
    return (
        f"{int(found.sum())} of {len(found)} photographs are classified as {_target(first)} after a change of "
        f"{first.distortions().mean():.5f} on average; the paper found {PAPERS_DISTORTION} for AlexNet. Saved as PNG files, "
        f"{int(survived.sum())} of them still are."
    )


def photograph_section(table: Table, figures: Figures) -> Section:
    """Puts it all under one heading."""
    return Section(
        title="One target class for all photographs",
        paragraphs=(
            "The attack has the same target class for every photograph. The second search only accepts images whose "
            "colors are bytes, so that what it finds is still found after the image was saved and opened again.",
        ),
        tables=(table,),
        figures=tuple(figures.values()),
    )


def _target(attack: Attack) -> str:
    target = int(attack.arrays["targets"][0])
    return f"class {target}, {attack.record.class_names[target]}"


def _shown_name(attack: Attack, row: int) -> str:
    """Returns the name of the file, which often describes the photograph, or the name of the class."""
    example = PurePosixPath(attack.arrays["ids"][row].decode())
    return example.stem.replace("_", " ") if len(example.parts) > 1 else attack.record.class_names[attack.arrays["labels"][row]]
