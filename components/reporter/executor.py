"""The work of Reporter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from components.artifacts import Artifact, Report, TrainedModel
from components.contract import Artifacts, Executor, Parameters, versions
from components.reporter import arm_networks, arms, photographs, spectra, study, units
from components.reporter.study import Experiment
from intriguing.attack.gaussian_noise import add_gaussian_noise
from intriguing.reporting import (
    PUBLISHED,
    Section,
    Table,
    adversarial_gallery,
    distortion_distributions,
    noise_panel,
    published_matrix,
    render_page,
    to_png,
    to_text,
    training_curves,
    transfer_heat_map,
    write_table,
    write_whole,
)
from intriguing.statistics.proportions import Proportion

Figures = Mapping[str, tuple[bytes, str]]


class ReporterExecutor(Executor):
    """Turns counts into tables, images into figures, and both into a page."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Parameters) -> None:
        """Writes a `Report`."""
        parts = [
            part(input_dict)
            for part, name in (
                (_cross_model, "models"),
                (_cross_subset, "cross_subset_models"),
                (_photographs, "photograph_attacks"),
                (_spectra, "spectral_bounds"),
                (_units, "unit_meanings"),
                (_arms, "arm_models"),
            )
            if input_dict[name]
        ]
        sections = [section for part in parts for section in part.sections]
        controls = [table for part in parts for table in part.controls]
        if controls:
            sections.append(_counted_without_earlier_errors(controls))
        networks = [model for name in ("models", "cross_subset_models") for model in input_dict[name]]
        networks += _of_one_seed(input_dict["arm_models"])
        figures = {name: figure for part in parts for name, figure in part.figures.items()}
        if networks:
            figures["training"] = _training(networks)
            sections.append(Section(title="Training", figures=(figures["training"],)))
        facts = {**exec_properties["facts"], **versions(), **_seconds(input_dict)}
        page = render_page(
            title=exec_properties["title"],
            lead=" ".join(part.lead for part in parts if part.lead),
            sections=sections,
            facts=facts,
        )
        _write(output_dict["report"][0], page, [table for part in parts for table in part.tables] + controls, figures)


class _Part(NamedTuple):
    """A part of the study that can stand alone."""

    lead: str
    sections: list[Section]
    tables: list[Table]
    controls: list[Table]
    figures: Figures


def _cross_model(input_dict: Artifacts) -> _Part:
    experiment = Experiment.read(*(input_dict[name] for name in ("models", "cross_model_attacks", "cross_model_rates")))
    train, test = (subset.description()["subset"] for subset in input_dict["subsets"][:2])
    tables = [study.table_1(experiment, train, test), study.table_2(experiment)]
    figures = _figures(experiment, tables[1])
    return _Part(_lead(experiment), _sections(tables, figures), tables, [study.table_2_on_correct(experiment)], figures)


def _cross_subset(input_dict: Artifacts) -> _Part:
    names = ("cross_subset_models", "cross_subset_attacks", "cross_subset_rates")
    experiment = Experiment.read(*(input_dict[name] for name in names))
    _, test, first, second = (subset.description()["subset"] for subset in input_dict["subsets"])
    tables = [study.table_3(experiment, first, second, test), study.table_4(experiment)]
    return _Part("", [_section_on_halves(tables)], tables, [study.table_4_on_correct(experiment)], {})


def _photographs(input_dict: Artifacts) -> _Part:
    attacks = photographs.read(input_dict["photograph_attacks"])
    table, figures = photographs.photograph_table(attacks), photographs.photograph_figures(attacks)
    section = photographs.photograph_section(table, figures)
    return _Part(photographs.photograph_lead(attacks), [section], [table], [], figures)


def _spectra(input_dict: Artifacts) -> _Part:
    networks = spectra.read(input_dict["spectral_bounds"])
    tables, certified = [spectra.layer_table(networks)], [network for network in networks if network.has_images]
    if not certified:
        return _Part("", [spectra.spectral_section(tables, {})], tables, [], {})
    tables, figures = [*tables, spectra.certificate_table(certified)], spectra.certificate_figures(certified)
    section = spectra.spectral_section(tables, figures)
    return _Part(spectra.spectral_lead(certified), [section], [*tables, spectra.image_table(certified)], [], figures)


def _units(input_dict: Artifacts) -> _Part:
    analyses = input_dict["unit_meanings"]
    tests = units.unit_tests(analyses)
    table, figures = units.unit_table(tests), units.unit_figures(analyses, tests)
    section = units.unit_section(table, tests, figures)
    return _Part(units.unit_lead(tests), [section], [table, units.unit_details(tests)], [], figures)


def _arms(input_dict: Artifacts) -> _Part:
    read = arm_networks.read(*(input_dict[name] for name in ("arm_models", "arm_attacks", "arm_bounds", "arm_rates")))
    tables, figures = [arms.error_table(read)], arms.arm_figures(read)
    if read.attacked:
        tables.append(arms.robustness_table(read))
    section = arms.arm_section(read, tables, figures)
    return _Part(arms.arm_lead(read), [section], [*tables, arms.seed_table(read)], [], figures)


def _write(report: Report, page: str, tables: Sequence[Table], figures: Figures) -> None:
    for folder in ("tables", "figures"):
        (report.uri / folder).mkdir()
    write_whole(report.uri / "index.html", page)
    for table in tables:
        write_table(table, report.uri / "tables")
        write_whole(report.uri / "tables" / f"{table.name}.txt", to_text(table))
    for name, (png, _) in figures.items():
        write_whole(report.uri / "figures" / f"{name}.png", png)


def _lead(experiment: Experiment) -> str:
    """The finding in numbers: found, how near, and transfer against noise of at least the same size."""
    rows = list(experiment.changed("distorted"))
    total = sum(len(arrays["succeeded"]) for arrays in experiment.arrays.values())
    found = sum(int(arrays["succeeded"].sum()) for arrays in experiment.arrays.values())
    if not found:
        return f"None of {total} attacks reached its wrong class within the budget of the search."
    distances = [row["mean_distortion"] for row in rows if row["num_images"]]
    transferred = [
        experiment.transfer(row, name, "on_correct").rate for row in rows for name in row["errors"] if name != row["made_for"]
    ]
    noise = next(experiment.changed("noise"))
    noisy = [experiment.transfer(noise, name, "on_correct").rate for name in noise["errors"]]
    share = "Every one" if found == total else f"{100 * found / total:.1f} %"
    return (
        f"{share} of {total} attacks reached its target class, at a mean distortion of {min(distances):.3f} to "
        f"{max(distances):.3f}. Of the images that a network other than the source model classified correctly before, it "
        f"misclassifies {100 * np.nanmean(transferred):.0f} % when they are distorted, and {100 * np.nanmean(noisy):.1f} % "
        f"with Gaussian noise of standard deviation {noise['amount']:g}."
    )


def _figures(experiment: Experiment, transfer: Table) -> Figures:
    names = list(experiment.arrays)
    row_names = [str(row["Source model"]) for row in transfer.rows]
    columns = experiment.rates["networks"]
    rows = list(experiment.changed("distorted", "noise"))
    rates = np.array([[experiment.transfer(row, name).rate for name in columns] for row in rows])
    heat_map = transfer_heat_map(
        rates, row_names, columns, title="Errors induced, percent; in brackets the paper's",
        published=published_matrix("table_2", row_names, columns),
    )  # fmt: skip
    published = {name: PUBLISHED["table_1"][name]["Av. min. distortion"] for name in names if name in PUBLISHED["table_1"]}
    distances = distortion_distributions(experiment.distortions(), title="Least distortion of each image", published=published)
    return {
        "transfer": (to_png(heat_map), "Table 2 as a picture."),
        "distortion": (to_png(distances), "Each dot is one image that was classified correctly before and reached."),
        **{f"figure_7_{index}": _gallery(experiment, name) for index, name in enumerate(_found(experiment), start=1)},
        "figure_7_noise": _noise(experiment),
    }


def _training(networks: Sequence[TrainedModel]) -> tuple[bytes, str]:
    losses = {training["name"]: training["losses"] for training in (network.training() for network in networks)}
    curves = training_curves(losses, title="Training loss", step="report (epoch, or 50 iterations)")
    return to_png(curves), "Training loss of every model, of one seed."


def _of_one_seed(networks: Sequence[TrainedModel]) -> list[TrainedModel]:
    firsts: dict[str, TrainedModel] = {}
    for network in networks:
        firsts.setdefault(network.training()["name"], network)
    return list(firsts.values())


def _shown(names: Sequence[str]) -> list[str]:
    """Figure 7 shows the linear classifier and the deepest sigmoid network."""
    linear = [name for name in names if name.startswith("FC10(")]
    sigmoid = [name for name in names if name.startswith("FC") and "-" in name and "(" not in name]
    return [*linear[:1], *sigmoid[-1:]]


def _found(experiment: Experiment) -> list[str]:
    return [name for name in _shown(list(experiment.arrays)) if experiment.arrays[name]["succeeded"].any()]


def _gallery(experiment: Experiment, name: str) -> tuple[bytes, str]:
    arrays = experiment.arrays[name]
    rows = np.flatnonzero(arrays["succeeded"])
    figure = adversarial_gallery(
        arrays["images"][rows], arrays["distorted"][rows],
        labels=arrays["labels"][rows].tolist(), answers=arrays["targets"][rows].tolist(),
        title=f"Nearest images that {name} classifies as a random wrong class",
    )  # fmt: skip
    return to_png(figure), f"Figure 7 for {name}: strictly the first images of the random sample, no selection."


def _noise(experiment: Experiment) -> tuple[bytes, str]:
    row = next(experiment.changed("unclipped noise"))
    accuracies = {name: _accuracy(experiment.transfer(row, name)) for name in row["errors"]}
    name = _shown(list(experiment.arrays))[-1]
    arrays = next(iter(experiment.arrays.values()))
    noisy = add_gaussian_noise(
        arrays["images"], standard_deviation=row["amount"], seed=experiment.rates["noise_seed"], pixel_box=None
    )
    figure = noise_panel(
        arrays["images"], noisy.images.numpy(), labels=arrays["labels"].tolist(), answers=row["answers"][name],
        title=f"Gaussian noise of standard deviation {row['amount']:g}, not clipped, and the predictions of {name}",
        accuracy=accuracies[name],
    )  # fmt: skip
    others = ", ".join(f"{other} {100 * accuracy.rate:.0f} %" for other, accuracy in accuracies.items())
    return to_png(
        figure
    ), f"Figure 7 (c). Accuracy on the noisy images: {others}. The paper prints 51 %, without naming the model."


def _accuracy(errors: Proportion) -> Proportion:
    return Proportion(errors.num_trials - errors.num_events, errors.num_trials)


def _sections(tables: Sequence[Table], figures: Figures) -> list[Section]:
    galleries = tuple(figure for name, figure in figures.items() if name.startswith("figure_7"))
    return [
        Section(
            title="Networks and their distortion",
            paragraphs=(
                "Distortion is the root-mean-square change of a pixel, black being 0 and white 1. The target of each image is "
                "a random wrong class. The method is that of the paper, inside the pixel box: L-BFGS on c * |r|**2 + "
                "cross-entropy, and a search for the largest c that succeeds. On the linear networks of MNIST, where the "
                "nearest image is known, the method ends 2 to 17 % beyond it.",
            ),
            tables=(tables[0],),
            figures=(figures["distortion"],),
        ),
        Section(title="Distorted images", figures=galleries),
        Section(
            title="Transfer between models",
            paragraphs=(
                "All networks are attacked on the same random training images with the same targets. Noise is clipped to the "
                "pixel box.",
            ),
            tables=(tables[1],),
            figures=(figures["transfer"],),
        ),
    ]


def _section_on_halves(tables: Sequence[Table]) -> Section:
    return Section(
        title="Transfer between disjoint training sets",
        paragraphs=(
            "P1 and P2 are disjoint halves of the training set; the distorted images are test images. Amplified images keep "
            "the direction of their perturbation at a distortion of 0.1 before they are clipped to the pixel box; the last "
            "column is the distortion after clipping.",
        ),
        tables=tuple(tables),
    )


def _counted_without_earlier_errors(controls: Sequence[Table]) -> Section:
    return Section(
        title="Errors among images classified correctly before",
        paragraphs=("Images that a network misclassified before the distortion are no evidence of transfer.",),
        tables=tuple(controls),
    )


def _seconds(input_dict: Mapping[str, Sequence[Artifact]]) -> dict[str, str]:
    uris = {artifact.uri: artifact for artifacts in input_dict.values() for artifact in artifacts}
    manifests = [artifact.manifest() for artifact in uris.values()]
    times = {f"Step {manifest['step']}": f"{manifest['seconds']:.1f} s" for manifest in manifests}
    return {"Machine": manifests[0]["machine"], **times}
