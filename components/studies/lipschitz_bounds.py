"""Table 5: bounds of layers, and certified distortions compared with attacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from math import nan
from typing import NamedTuple

import numpy as np

from components.artifacts import SpectralBounds
from components.contract import Artifacts, Parameters
from components.records import BoundsRecord
from components.studies.networks import AttackSettings, StudyNetwork, bounds_of, check_networks, training_facts
from components.studies.plan import TRAIN, Plan
from components.studies.sections import Figures, SectionContent, SectionExecutor, SectionStep
from components.studies.study import Part
from intriguing.reporting import Cell, Mean, Section, Table, certified_versus_attack, to_png

_ROUNDING = 1e-5  # a layer with a norm nearer to 1 only moves values


@dataclasses.dataclass(frozen=True, kw_only=True)
class LipschitzBounds(Part):
    """Table 5, and certificates: the distortion within which no perturbation can change the prediction.

    Attributes:
        networks: Trained on the whole training set.
        attack: How training images are attacked, whose certificates are computed; None for bounds of layers alone.
    """

    networks: tuple[StudyNetwork, ...]
    attack: AttackSettings | None = AttackSettings()

    def __post_init__(self) -> None:
        check_networks(self.networks)

    def add_to(self, plan: Plan) -> SectionStep:
        """Adds the networks, an attack on each, and their bounds."""
        models = [network.step(plan, TRAIN) for network in self.networks]
        attacks = [self.attack.step(plan, model, TRAIN) if self.attack else None for model in models]
        bounds = [bounds_of(plan, model, attack) for model, attack in zip(models, attacks, strict=True)]
        return plan.add(BoundSection, "section_lipschitz_bounds", bounds=bounds)

    def facts(self) -> Mapping[str, str]:
        """Returns the settings of the attack and of each training."""
        facts = dict(self.attack.facts()) if self.attack else {}
        return facts | training_facts(self.networks)


class BoundSectionExecutor(SectionExecutor):
    """Shows bounds of layers, and certificates where images were attacked."""

    def content(self, input_dict: Artifacts, exec_properties: Parameters) -> SectionContent:
        """Returns what the section shows."""
        networks = read(input_dict["bounds"])
        certified = [network for network in networks if network.has_images]
        if not certified:
            return SectionContent([spectral_section([layer_table(networks)], {})], {})
        figures = certificate_figures(certified)
        section = spectral_section([layer_table(networks), certificate_table(certified)], figures)
        return SectionContent([section], figures, spectral_lead(certified), [image_table(certified)])


class BoundSection(SectionStep):
    """Inputs: the bounds of each network. Takes no parameters."""

    INPUTS = {"bounds": SpectralBounds}
    EXECUTOR = BoundSectionExecutor


class BoundedNetwork(NamedTuple):
    """The bounds of one network: their record and their arrays."""

    bounds: BoundsRecord
    arrays: Mapping[str, np.ndarray]

    @property
    def name(self) -> str:
        """Of the network."""
        return self.bounds.name

    @property
    def has_images(self) -> bool:
        """False where layers were bounded, and no image was certified."""
        return bool(len(self.arrays["ids"]))

    def ratios(self) -> np.ndarray:
        """Returns certificate over attack of every image that has both, in [0, 1]."""
        attacked = self.arrays["attacked"]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(attacked > 0, self.arrays["certified"] / attacked, nan)

    def share(self) -> float | None:
        """Returns the average certificate over the average attack, of the images that have both."""
        attacked = self.arrays["attacked"]
        found = np.isfinite(attacked)
        return float(self.arrays["certified"][found].mean() / attacked[found].mean()) if attacked[found].any() else None


def read(artifacts: Sequence[SpectralBounds]) -> list[BoundedNetwork]:
    """Reads the artifacts."""
    return [BoundedNetwork(artifact.record(), artifact.arrays()) for artifact in artifacts]


def layer_table(networks: Sequence[BoundedNetwork]) -> Table:
    """Table 5 for every network: each layer with weights or a norm other than 1, and the cumulative bound."""
    columns = ("Layer", "Size", "Stride", "Lower bound", "Upper bound", "Activation Lipschitz", "Cumulative bound")
    rows: list[dict[str, Cell]] = []
    for network in networks:
        for layer in network.bounds.layers:
            if layer.size or abs(layer.upper * layer.activation_lipschitz - 1.0) > _ROUNDING:
                rows.append(
                    {
                        "Layer": f"{network.name}, {layer.name}",
                        "Size": " x ".join(str(size) for size in layer.size or ()) or layer.kind,
                        "Stride": " x ".join(str(stride) for stride in layer.strides or ()) or None,
                        "Lower bound": layer.lower,
                        "Upper bound": layer.upper,
                        "Activation Lipschitz": layer.activation_lipschitz,
                        "Cumulative bound": layer.cumulative,
                    }
                )
        if network.bounds.upper != network.bounds.layers[-1].cumulative:  # branches meet at its end
            output: dict[str, Cell] = {
                "Layer": f"{network.name}, output",
                "Size": "branches",
                "Cumulative bound": network.bounds.upper,
            }
            rows.append({column: output.get(column) for column in columns})
    return Table(
        name="table_5",
        title="Operator norm of each layer, bounded from both sides, and the cumulative bound up to it.",
        columns=columns,
        rows=tuple(rows),
        notes=(
            "Operator norms in L2, without the activation function, whose Lipschitz constant has its own column. A change of "
            "the input attains the lower bound; the upper one is proved. The paper prints such upper bounds for AlexNet.",
            "Cumulative bounds are products along a chain. Where branches are added, their bounds are added; where they are "
            "concatenated, the squares of their bounds are.",
        ),
    )


def certificate_table(networks: Sequence[BoundedNetwork]) -> Table:
    """A row for every network: certified distortion, attack distortion, and their ratio."""
    rows: list[Mapping[str, Cell]] = []
    for network in networks:
        ratios = network.ratios()
        rows.append(
            {
                "Model": network.name,
                "Lipschitz bound": network.bounds.upper,
                "Certified by the product": Mean.of(network.arrays["by_product"]),
                "Certified": Mean.of(network.arrays["certified"]),
                "Attack": Mean.of(network.arrays["attacked"]),
                "Certified / attack": network.share(),
                "Largest ratio": float(np.nanmax(ratios)) if np.isfinite(ratios).any() else None,
            }
        )
    return Table.from_rows(
        "certificates",
        "Certified and attack distortion: no smaller distortion than the first changes the prediction; the second does.",
        rows,
        notes=(
            "Average distortions. The certificate of a misclassified image is 0. No ratio of a "
            "single image may exceed 1: the run stops if one does.",
        ),
    )


def image_table(networks: Sequence[BoundedNetwork]) -> Table:
    """Every image as a row, for files."""
    rows: list[Mapping[str, Cell]] = [
        {
            "Example": f"{network.name}, {example.decode()}",
            "Certified by the product": float(by_product),
            "Certified": float(certified),
            "Attack": float(attacked),
            "Certified / attack": float(ratio),
        }
        for network in networks
        for example, by_product, certified, attacked, ratio in zip(
            *(network.arrays[name] for name in ("ids", "by_product", "certified", "attacked")), network.ratios(), strict=True
        )
    ]
    title = "Certified and attacked distortion, image by image."
    return Table.from_rows("certificates_images", title, rows)


def certificate_figures(networks: Sequence[BoundedNetwork]) -> dict[str, tuple[bytes, str]]:
    """Draws certified and attack distortions for every network."""
    figures = {}
    for number, network in enumerate(networks, start=1):
        arrays, bounds = network.arrays, network.bounds
        goal = "a random wrong class" if bounds.targeted else "any wrong class"
        figure = certified_versus_attack(
            arrays["certified"],
            arrays["by_product"],
            arrays["attacked"],
            title=f"{network.name}: certified and attack distortion to {goal}",
        )
        caption = f"{network.name} on {bounds.dataset} {bounds.subset}: the nearest error lies on the gray line."
        figures[f"certificates_{number}"] = (to_png(figure), caption)
    return figures


def spectral_lead(networks: Sequence[BoundedNetwork]) -> str:
    """The finding in a sentence."""
    known = [share for share in (network.share() for network in networks) if share is not None]
    if not known:
        return ""
    shares = " to ".join(dict.fromkeys(f"{100 * share:.2g}" for share in (min(known), max(known))))
    return f"No attack is nearer than its certificate. The certified distortion is {shares} % of the distortion that was found."


def spectral_section(tables: Sequence[Table], figures: Figures) -> Section:
    """Puts it all under one heading."""
    return Section(
        title="Certified and attack distortion",
        paragraphs=(
            "An attack finds an image that a network misclassifies; it cannot prove that no nearer one exists. A certificate "
            "proves a distortion below which the prediction does not change. The product of the norms of all layers gives one "
            "certificate, which is loose. A better one bounds the activation functions of the last layers over the values "
            "that their units can take inside a ball around the image; the certificate is the largest ball in which no other "
            "class can have the largest logit. The least distortion of each image lies between its certificate and its attack.",
        ),
        tables=tuple(tables),
        figures=tuple(figures.values()),
    )
