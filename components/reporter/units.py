"""What the reporter says of units and directions: the tests as tables and figures, and the galleries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from components.artifacts import UnitMeanings
from intriguing.analysis.basis_test import false_discovery_rates
from intriguing.analysis.unit_analysis import MEASURES
from intriguing.reporting import (
    Curve,
    GalleryRow,
    Section,
    Table,
    direction_galleries,
    effect_sizes,
    rotation_curves,
    to_png,
)

SIGNIFICANT = 0.05  # the share of false discoveries that is accepted
_TRAINED = "trained"  # as the analyzer calls the network itself, among its controls
_WORDS = {
    "purity": "purity of the top images",
    "label_entropy": "label entropy of the top images, bits",
    "class_selectivity": "class selectivity",
    "best_auc": "best one-class AUC",
}
_IMAGES_PER_ROW, _PHOTOGRAPHS_PER_ROW = 10, 5


class UnitTest(NamedTuple):
    """One comparison: a layer of a network, or a control, by one measure."""

    network: str
    layer: str
    weights: str
    num_units: int
    num_constant: int
    measure: str
    test: Mapping[str, float | None]
    q_value: float

    @property
    def significant(self) -> bool:
        """Whether the natural basis is called the more coherent one."""
        return self.q_value <= SIGNIFICANT


def unit_tests(analyses: Sequence[UnitMeanings]) -> list[UnitTest]:
    """Reads all comparisons; the share of false discoveries is controlled over all of them together."""
    rows = [
        (units["name"], layer["layer"], layer["weights"], layer["num_units"], layer["num_constant"], measure, test)
        for units in (analysis.units() for analysis in analyses)
        for layer in units["layers"]
        for measure, test in layer["tests"].items()
    ]
    q_values = false_discovery_rates(np.array([row[-1]["p_value"] for row in rows], np.float32)).numpy()
    return [UnitTest(*row, float(q_value)) for row, q_value in zip(rows, q_values, strict=True)]


def unit_table(tests: Sequence[UnitTest]) -> Table:
    """Every comparison as a row."""
    rows = tuple(
        {
            "Network": test.network,
            "Layer": test.layer,
            "Weights": test.weights,
            "Units": test.num_units,
            "Measure": _WORDS[test.measure],
            "Natural": test.test["natural"],
            "Random": test.test["random"],
            "Effect": test.test["effect"],
            "Effect lower": test.test["effect_lower"],
            "Effect upper": test.test["effect_upper"],
            "p": test.test["p_value"],
            "q": test.q_value,
        }
        for test in tests
    )
    return Table(
        name="units",
        title="The natural basis against Haar-random bases of the same feature space.",
        columns=tuple(rows[0]),
        rows=rows,
        notes=(
            "Natural and random are means over the directions of a basis. The effect is their difference in standard "
            "deviations of random directions, positive where the natural basis is more coherent; then its 95 % interval.",
            "p is the one-sided rank of the natural basis among the random ones; near 1, the random bases are more coherent. q "
            "is the share of false discoveries (Benjamini and Hochberg) over all rows.",
            *_note_on_constants(tests),
        ),
    )


def _note_on_constants(tests: Sequence[UnitTest]) -> Iterator[str]:
    silent = {f"{test.network}, {test.layer} ({test.weights}): {test.num_constant}": test.num_constant for test in tests}
    named = [name for name, number in silent.items() if number]
    if named:
        yield f"Features that never change are no units, and left out: {'; '.join(named)}."


def unit_summary(tests: Sequence[UnitTest]) -> str:
    """The finding in a sentence or two."""
    sentences = []
    for weights in dict.fromkeys(test.weights for test in tests):
        those = [test for test in tests if test.weights == weights]
        more = sum(test.significant for test in those)
        less = sum((test.test["p_value"] or 0.0) >= 1.0 - SIGNIFICANT / 2 for test in those)
        subject = {"trained": "trained networks", "pixels": "raw pixels"}.get(weights, f"networks with {weights}")
        sentences.append(
            f"On {subject}, single units are more coherent than random directions in {more} of {len(those)} comparisons "
            f"(q at most {SIGNIFICANT:g}), less coherent in {less} (p at least {1.0 - SIGNIFICANT / 2:g})."
        )
    return " ".join(sentences)


def unit_figures(analyses: Sequence[UnitMeanings], tests: Sequence[UnitTest]) -> dict[str, tuple[bytes, str]]:
    """Draws effects and ways for every measure, and a gallery for every layer."""
    figures = {}
    for measure in MEASURES:
        figures[f"units_effect_{measure}"] = _effects(tests, measure)
    figures["units_rotation"] = _rotations(analyses)
    for analysis in analyses:
        units, arrays = analysis.units(), analysis.arrays()
        for number, layer in enumerate(units["layers"]):
            if layer["weights"] == _TRAINED:
                figures[f"units_{len(figures)}"] = _gallery(units, layer, arrays, number)
    return figures


def unit_section(table: Table, tests: Sequence[UnitTest], figures: Mapping[str, tuple[bytes, str]]) -> Section:
    """Puts it all under one heading."""
    return Section(
        title="Do single units mean more than random directions?",
        paragraphs=(
            "The paper shows the images that most excite single units, and random directions, and finds both alike in meaning. "
            "Here both are measured, on held-out images with their labels: how many of the top images of a direction share a "
            "label, the entropy of those labels, how far one class stands out in its mean, and how well one class can be told "
            "by the direction alone. The natural basis is compared with Haar-random bases of the same space, after each unit "
            "was brought to the same variance; the controls are the same network with random weights, and the raw pixels.",
            unit_summary(tests),
        ),
        tables=(table,),
        figures=tuple(figure for name, figure in figures.items() if name.startswith("units_")),
    )


def _effects(tests: Sequence[UnitTest], measure: str) -> tuple[bytes, str]:
    those = [test for test in tests if test.measure == measure]
    effect, lower, upper = (
        np.array([np.nan if test.test[name] is None else test.test[name] for test in those], float)
        for name in ("effect", "effect_lower", "effect_upper")
    )
    figure = effect_sizes(
        [test.network if test.weights == "pixels" else f"{test.network}, {test.layer}" for test in those],
        effect, lower, upper,
        significant=[test.significant for test in those],
        groups=[test.weights for test in those],
        title=f"Natural against random bases: {_WORDS[measure]}",
    )  # fmt: skip
    return to_png(figure), f"Effects with 95 % intervals, by {_WORDS[measure]}; filled where q is at most {SIGNIFICANT:g}."


def _rotations(analyses: Sequence[UnitMeanings]) -> tuple[bytes, str]:
    column = list(MEASURES).index("purity")
    curves = {}
    for units in (analysis.units() for analysis in analyses):
        for layer in units["layers"]:
            if layer["weights"] == _TRAINED:
                ways = np.array(layer["along_ways"])[:, :, column]
                curves[f"{units['name']}, {layer['layer']}"] = Curve(
                    np.array(layer["alphas"]), ways.mean(axis=1), ways.min(axis=1), ways.max(axis=1)
                )
    figure = rotation_curves(curves, measure=_WORDS["purity"], title="Turning the natural basis into a random one, Q**alpha")
    return to_png(figure), "Mean over rotations Q and over the directions of a basis; the band holds all of these rotations."


def _gallery(
    units: Mapping[str, Any], layer: Mapping[str, Any], arrays: Mapping[str, np.ndarray], number: int
) -> tuple[bytes, str]:
    kept = {name.removeprefix(f"{number}_"): values for name, values in arrays.items() if name.startswith(f"{number}_")}
    title = f"The images that most excite {units['name']}, {layer['layer']}, on {units['dataset']} {units['subset']}"
    gray = kept["natural_images"].shape[-1] == 1
    figure = direction_galleries(
        _gallery_rows(kept, "natural", [f"unit {unit}" for unit in kept["units"][kept["shown"]]], units["attributes"]),
        _gallery_rows(kept, "random", [f"random direction {row + 1}" for row in kept["shown"]], units["attributes"]),
        title=title,
        images_per_row=_IMAGES_PER_ROW if gray else _PHOTOGRAPHS_PER_ROW,
    )
    return to_png(figure), f"{title}: units and directions drawn at random, no selection (Figures 1 to 4 of the paper)."


def _gallery_rows(
    kept: Mapping[str, np.ndarray], side: str, names: Sequence[str], attributes: Sequence[str]
) -> list[GalleryRow]:
    num_top = kept[f"{side}_top"].shape[1]
    column = list(MEASURES).index("purity")
    rows = zip(names, kept["shown"], kept[f"{side}_images"], strict=True)
    return [
        GalleryRow(
            name,
            images,
            f"{round(num_top * kept[f'{side}_coherence'][row, column])} of {num_top}: "
            f"{attributes[kept[f'{side}_attribute'][row]]}",
        )
        for name, row, images in rows
    ]
