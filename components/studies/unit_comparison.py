"""Figures 1 to 4: single units compared with random directions, by the images that excite them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from typing import Any, NamedTuple

import numpy as np

from components.artifacts import DirectionArrays, LayerUnitArrays, UnitAnalyses
from components.contract import Artifacts, Parameters
from components.records import BasisTestRecord, LayerUnitsRecord, UnitsRecord
from components.settings import LayerChoice, to_parameters
from components.studies.networks import StudyNetwork, check_layers, check_networks, training_facts
from components.studies.plan import TEST, TRAIN, Plan, Split
from components.studies.sections import Figures, SectionContent, SectionExecutor, SectionStep
from components.studies.study import Part
from components.unit_analyzer.component import UnitAnalyzer
from components.unit_analyzer.executor import CONTROLS, KINDS, PIXELS, TRAINED
from intriguing.reporting import (
    Cell,
    Curve,
    GalleryRow,
    Section,
    Table,
    direction_galleries,
    effect_sizes,
    rotation_curves,
    to_png,
)
from intriguing.statistics import false_discovery_rates
from intriguing.units.unit_analysis import MEASURES, UnitSettings

SIGNIFICANT = 0.05  # the share of false discoveries that is accepted
MORE, LESS, NEITHER = "more", "less", ""
_WORDS = {
    "purity": "Purity",
    "label_entropy": "Label entropy",
    "class_selectivity": "Class selectivity",
    "best_auc": "Best one-class AUC",
}
_IMAGES_PER_ROW, _PHOTOGRAPHS_PER_ROW = 10, 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitComparison(Part):
    """Compares single units with random directions of the same layer.

    Attributes:
        layers: Each network, trained on the whole training set, with the layers whose units are compared.
        split: Whose images excite them.
        controls: Of each network, as `UnitAnalyzer` names them; raw pixels are compared once.
        kinds: Groups of classes, as `attributes_of_kinds` takes them, in place of the classes themselves.
        settings: How bases are compared.
    """

    layers: tuple[tuple[StudyNetwork, tuple[LayerChoice, ...]], ...]
    split: Split = TEST
    controls: tuple[str, ...] = CONTROLS
    kinds: Mapping[str, tuple[tuple[int, int], ...]] = dataclasses.field(default_factory=dict)
    settings: UnitSettings = UnitSettings()

    def __post_init__(self) -> None:
        check_networks(tuple(network for network, _ in self.layers), argument="layers")

    def add_to(self, plan: Plan) -> SectionStep:
        """Adds the networks, and the analysis of the layers of each."""
        kinds = {kind: [list(ends) for ends in ranges] for kind, ranges in self.kinds.items()}
        analyses, pixels_are_left = [], True
        for network, choices in self.layers:
            check_layers(network, choices)
            model = network.step(plan, TRAIN)
            analyses.append(
                plan.add(
                    UnitAnalyzer, f"units_{model.id.partition('_')[-1]}", model=model, subset=plan.subset(self.split),
                    attributes={KINDS: kinds} if kinds else {}, layers=[dataclasses.asdict(choice) for choice in choices],
                    controls=[control for control in self.controls if control != PIXELS or pixels_are_left],
                    settings=to_parameters(dataclasses.replace(self.settings, seed=plan.seed)),
                )
            )  # fmt: skip
            pixels_are_left = False
        return plan.add(UnitSection, "section_units", analyses=analyses)

    def facts(self) -> Mapping[str, str]:
        """Returns the settings of the comparison and of each training."""
        networks = [network for network, _ in self.layers]
        return {"Comparison of bases": str(self.settings), **training_facts(networks)}


class UnitSectionExecutor(SectionExecutor):
    """Shows effects, tests and galleries."""

    def content(self, input_dict: Artifacts, exec_properties: Parameters) -> SectionContent:
        """Returns what the section shows."""
        analyses = input_dict["analyses"]
        tests = unit_tests(analyses)
        figures = unit_figures(analyses, tests)
        section = unit_section(unit_table(tests), tests, figures)
        return SectionContent([section], figures, unit_lead(tests), [unit_details(tests)])


class UnitSection(SectionStep):
    """Inputs: the analysis of the layers of each network. Takes no parameters."""

    INPUTS = {"analyses": UnitAnalyses}
    EXECUTOR = UnitSectionExecutor


class UnitTest(NamedTuple):
    """One comparison: a layer of a network, or a control, by one measure."""

    network: str
    layer: str
    weights: str
    num_units: int
    num_constant: int
    measure: str
    test: BasisTestRecord
    verdict: str  # MORE or LESS selective than random bases, or NEITHER

    @property
    def space(self) -> str:
        """The feature space in words."""
        if self.weights == PIXELS:
            return "raw pixels"
        return f"{self.network}, {self.layer}" + ("" if self.weights == TRAINED else f" ({self.weights})")


def unit_tests(analyses: Sequence[UnitAnalyses]) -> list[UnitTest]:
    """Reads all comparisons; the share of false verdicts is controlled over all of them, and both sides, together."""
    rows = [
        (units.name, layer.layer, layer.weights, layer.num_units, layer.num_constant, measure, test)
        for units in (analysis.record() for analysis in analyses)
        for layer in units.layers
        for measure, test in layer.tests.items()
    ]
    tails = np.array([[row[-1].tail_more, row[-1].tail_less] for row in rows], np.float32)
    q_values = false_discovery_rates(tails)
    return [UnitTest(*row, _verdict(row[-1], *q)) for row, q in zip(rows, q_values, strict=True)]


def _verdict(test: BasisTestRecord, q_more: float, q_less: float) -> str:
    """Calls a side where both its tail, adjusted for the number of tests, and its exact rank speak for it."""
    if q_more <= SIGNIFICANT and test.p_more <= SIGNIFICANT:
        return MORE
    return LESS if q_less <= SIGNIFICANT and test.p_less <= SIGNIFICANT else NEITHER


def unit_table(tests: Sequence[UnitTest]) -> Table:
    """A row for every feature space, with the effect and the verdict of every measure."""
    rows: dict[str, dict[str, Any]] = {}
    for test in tests:
        row = rows.setdefault(test.space, {"Feature space": test.space, "Units": test.num_units})
        effect = test.test.effect
        row[_WORDS[test.measure]] = "all or nothing" if isnan(effect) else f"{effect:+.2f} {test.verdict}".strip()
    return Table(
        name="units",
        title="Selectivity of the natural basis, compared with Haar-random bases of the same space.",
        columns=("Feature space", "Units", *_WORDS.values()),
        rows=tuple(rows.values()),
        notes=(
            "Differences of means over the directions of a basis, in standard deviations of random directions; positive where "
            "the natural basis is more selective. More, less: significantly so, by the place of its mean among those of random "
            f"bases, at a share of false discoveries (Benjamini and Hochberg) of {SIGNIFICANT:g}.",
            *_note_on_constants(tests),
        ),
    )


def unit_details(tests: Sequence[UnitTest]) -> Table:
    """Every comparison as a row, for files."""
    rows: list[Mapping[str, Cell]] = [
        {
            "Network": test.network,
            "Layer": test.layer,
            "Weights": test.weights,
            "Units": test.num_units,
            "Measure": test.measure,
            "Natural": test.test.natural,
            "Random": test.test.random,
            "Effect": test.test.effect,
            "Effect from": test.test.effect_lower,
            "Effect to": test.test.effect_upper,
            "p more": test.test.p_more,
            "p less": test.test.p_less,
            "Tail more": test.test.tail_more,
            "Tail less": test.test.tail_less,
            "Verdict": test.verdict,
        }
        for test in tests
    ]
    title = "The natural basis against Haar-random bases: means, effects with 95 % intervals, and p-values of either side."
    return Table.from_rows("units_details", title, rows)


def _note_on_constants(tests: Sequence[UnitTest]) -> Iterator[str]:
    named = {test.space: test.num_constant for test in tests if test.num_constant}
    if named:
        numbers = "; ".join(f"{number} in {space}" for space, number in named.items())
        yield f"Features that never change are no units, and left out: {numbers}."


def unit_lead(tests: Sequence[UnitTest]) -> str:
    """The finding on the networks themselves, in a sentence."""
    return unit_summary([test for test in tests if test.weights == TRAINED])


def unit_summary(tests: Sequence[UnitTest]) -> str:
    """The finding in a sentence for the networks and one for each control."""
    sentences = []
    for weights in dict.fromkeys(test.weights for test in tests):
        verdicts = [test.verdict for test in tests if test.weights == weights]
        subject = {TRAINED: "On trained networks", PIXELS: "On raw pixels"}.get(weights, f"With {weights}")
        sentences.append(
            f"{subject}, single units are more selective than random directions in {verdicts.count(MORE)} of {len(verdicts)} "
            f"comparisons, less selective in {verdicts.count(LESS)}."
        )
    return " ".join(sentences)


def unit_figures(analyses: Sequence[UnitAnalyses], tests: Sequence[UnitTest]) -> dict[str, tuple[bytes, str]]:
    """Draws effects and ways for every measure, and a gallery for every layer."""
    figures = {}
    for measure in MEASURES:
        figures[f"units_effect_{measure}"] = _effects(tests, measure)
    figures["units_rotation"] = _rotations(analyses)
    for analysis in analyses:
        units = analysis.record()
        for layer, arrays in zip(units.layers, analysis.layers(), strict=True):
            if layer.weights == TRAINED:
                figures[f"units_{len(figures)}"] = _gallery(units, layer, arrays)
    return figures


def unit_section(table: Table, tests: Sequence[UnitTest], figures: Figures) -> Section:
    """Puts it all under one heading."""
    return Section(
        title="Do single units mean more than random directions?",
        paragraphs=(
            "The paper shows the images that most excite single units and random directions, and finds both equally "
            "meaningful. Here four measures of selectivity are computed on held-out images with their labels: how many of the "
            "top images of a direction share a label, the entropy of those labels, how far one class stands out in its mean, "
            "and how well the direction alone separates one class from the others. The natural basis is compared with "
            "Haar-random bases of the same space, after each unit is scaled to the same variance. The controls are the same "
            "network with random weights, and the raw pixels. Class selectivity favors features that respond on one side "
            "only, as raw pixels show; compare it with its controls.",
            unit_summary(tests),
        ),
        tables=(table,),
        figures=tuple(figures.values()),
    )


def _effects(tests: Sequence[UnitTest], measure: str) -> tuple[bytes, str]:
    those = [test for test in tests if test.measure == measure]
    effect, lower, upper = (
        np.array([getattr(test.test, name) for test in those], float) for name in ("effect", "effect_lower", "effect_upper")
    )
    figure = effect_sizes(
        [test.space for test in those],
        effect, lower, upper,
        significant=[test.verdict != NEITHER for test in those],
        groups=[test.weights for test in those],
        title=f"Natural against random bases: {_WORDS[measure]}",
    )  # fmt: skip
    return to_png(figure), f"{_WORDS[measure]}: effects with 95 % intervals; filled where the natural basis stands out."


def _rotations(analyses: Sequence[UnitAnalyses]) -> tuple[bytes, str]:
    column = list(MEASURES).index("purity")
    curves = {}
    for units in (analysis.record() for analysis in analyses):
        for layer in units.layers:
            if layer.weights == TRAINED:
                rotations = np.array(layer.along_rotations)[:, :, column]
                curves[f"{units.name}, {layer.layer}"] = Curve(
                    np.array(layer.alphas), rotations.mean(axis=1), rotations.min(axis=1), rotations.max(axis=1)
                )
    figure = rotation_curves(
        curves, measure="purity of the top images", title="Turning the natural basis into a random one, Q**alpha"
    )
    return to_png(figure), "Mean over rotations Q and over the directions of a basis; the band holds all of these rotations."


def _gallery(units: UnitsRecord, layer: LayerUnitsRecord, arrays: LayerUnitArrays) -> tuple[bytes, str]:
    title = f"The images that most excite {units.name}, {layer.layer}, on {units.dataset} {units.subset}"
    natural = _gallery_rows(arrays.natural, arrays.shown, [f"unit {arrays.units[row]}" for row in arrays.shown], units)
    random = _gallery_rows(arrays.random, arrays.shown, [f"random direction {row + 1}" for row in arrays.shown], units)
    gray = natural[0].images.shape[-1] == 1
    figure = direction_galleries(
        natural, random, title=title, images_per_row=_IMAGES_PER_ROW if gray else _PHOTOGRAPHS_PER_ROW
    )  # fmt: skip
    return to_png(figure), f"{title}: units and directions drawn at random, no selection (Figures 1 to 4 of the paper)."


def _gallery_rows(basis: DirectionArrays, shown: np.ndarray, names: Sequence[str], units: UnitsRecord) -> list[GalleryRow]:
    num_top, column = basis.top.shape[1], list(MEASURES).index("purity")
    images: Sequence[np.ndarray] = [] if basis.images is None else list(basis.images)
    return [
        GalleryRow(
            name,
            row_images,
            f"{round(num_top * basis.selectivity[row, column])} of {num_top}: {units.attributes[basis.attribute[row]]}",
        )
        for name, row, row_images in zip(names, shown, images, strict=True)
    ]
