"""Tables 1 and 2 and Figure 7: the errors of each network on the images that were distorted for the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from components.contract import Artifacts, Parameters
from components.records import ChangedImagesRecord
from components.studies.networks import AttackSettings, StudyNetwork, check_networks, training_facts
from components.studies.plan import TEST, TRAIN, Plan
from components.studies.sections import Figures, SectionContent, SectionExecutor, SectionStep
from components.studies.study import Part
from components.studies.transfer_experiment import (
    ALL_DISTORTIONS,
    CORRECT_BEFORE,
    LEFT_OUT,
    ON_ALL,
    ON_CORRECT,
    Experiment,
    TransferSection,
    name_of,
    paper_table,
    table_on_correct,
    transfer_row,
)
from components.transfer_evaluator.component import TransferEvaluator
from intriguing.attack import SZEGEDY_LBFGS
from intriguing.distortion import add_gaussian_noise
from intriguing.reporting import (
    PUBLISHED,
    Mean,
    Section,
    Table,
    adversarial_gallery,
    distortion_distributions,
    noise_panel,
    published_matrix,
    to_png,
    transfer_heat_map,
)
from intriguing.statistics.proportions import Proportion

_UNCLIPPED_NOISE = 1.0  # standard deviation of Figure 7 (c)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferBetweenModels(Part):
    """Tables 1 and 2 and Figure 7.

    Attributes:
        networks: Trained on the whole training set.
        illustrated: Names of those whose distorted images are drawn; the predictions of the last one stand under noisy images.
        attack: How they are attacked, on training images; by default the method of the paper.
        noise: Standard deviations of the Gaussian noise of Table 2.
    """

    networks: tuple[StudyNetwork, ...]
    illustrated: tuple[str, ...]
    attack: AttackSettings = AttackSettings(search=SZEGEDY_LBFGS)
    noise: tuple[float, ...] = (0.1, 0.3)

    def __post_init__(self) -> None:
        check_networks(self.networks)
        names = [network.name for network in self.networks]
        if not self.illustrated or not set(self.illustrated) <= set(names):
            raise ValueError(f"illustrated must name some of the networks {names}; received {list(self.illustrated)}.")

    def add_to(self, plan: Plan) -> SectionStep:
        """Adds the networks, an attack on each, and the errors of all on the distorted images of each."""
        subsets = [plan.subset(TRAIN), plan.subset(TEST)]
        models = [network.step(plan, TRAIN) for network in self.networks]
        attacks = [self.attack.step(plan, model, TRAIN) for model in models]
        rates = plan.add(
            TransferEvaluator, "transfer_between_models", models=models, distorted=attacks, subsets=subsets,
            amplify_to=[], noise=list(self.noise), unclipped_noise=[_UNCLIPPED_NOISE], seed=plan.seed,
        )  # fmt: skip
        return plan.add(
            _SectionStep, "section_transfer_between_models", subsets=subsets, models=models, attacks=attacks, rates=rates,
            illustrated=list(self.illustrated),
        )  # fmt: skip

    def facts(self) -> Mapping[str, str]:
        """Returns the settings of the attack and of each training."""
        return {**self.attack.facts(), **training_facts(self.networks)}


class _SectionExecutor(SectionExecutor):
    def content(self, input_dict: Artifacts, exec_properties: Parameters) -> SectionContent:
        experiment = Experiment.read(input_dict)
        train, test = (subset.record().subset for subset in input_dict["subsets"])
        tables = [table_1(experiment, train, test), table_2(experiment), table_2_on_correct(experiment)]
        galleries = _galleries(experiment, exec_properties["illustrated"])
        transfer, distortion = _heat_map(experiment, tables[1]), _distortions(experiment)
        sections = _sections(tables, galleries, transfer=transfer, distortion=distortion)
        return SectionContent(
            sections, {"transfer": transfer, "distortion": distortion, **galleries}, transfer_lead(experiment)
        )


class _SectionStep(TransferSection):
    PARAMETERS = {"illustrated": list}
    EXECUTOR = _SectionExecutor


def table_1(experiment: Experiment, train: str, test: str) -> Table:
    """Errors of every network, and the average least distortion of misclassified images."""
    errors = experiment.rates.errors
    rows = [
        {
            "Model": name,
            "Training error": errors[train][name],
            "Test error": errors[test][name],
            "Av. min. distortion": Mean.of(distortion),
        }
        for name, distortion in experiment.distortions().items()
    ]
    return paper_table(
        "table_1",
        "Errors of the models, and the least distortion to a random wrong class.",
        rows,
        CORRECT_BEFORE,
    )


def table_2(experiment: Experiment) -> Table:
    """Every network on the images distorted for every other."""
    rows = [transfer_row(row, ON_ALL, _name(row)) for row in experiment.changed("distorted", "noise")]
    return paper_table(
        "table_2",
        "Error rates of the evaluated model (column) on images distorted for the source model (row).",
        rows,
        LEFT_OUT,
        ALL_DISTORTIONS,
    )


def table_2_on_correct(experiment: Experiment) -> Table:
    """Table 2 again, counted on the images that the evaluated model (column) classified correctly before."""
    rows = [transfer_row(row, ON_CORRECT, _name(row)) for row in experiment.changed("distorted", "noise")]
    return table_on_correct("table_2", rows)


def _name(row: ChangedImagesRecord) -> str:
    return f"Gaussian noise, stddev={row.amount:g}" if row.kind == "noise" else name_of(row, prefix="")


def transfer_lead(experiment: Experiment) -> str:
    """The finding in numbers: found, how near, and transfer against noise of at least the same size."""
    rows = list(experiment.changed("distorted"))
    total = sum(len(arrays["succeeded"]) for arrays in experiment.arrays.values())
    found = sum(int(arrays["succeeded"].sum()) for arrays in experiment.arrays.values())
    if not found:
        return f"No attack of {total} succeeded within the budget of the search."
    distances = [row.mean_distortion for row in rows if row.num_images]
    transferred = [row.errors[name].on_correct.rate for row in rows for name in row.errors if name != row.source_model]
    noise = next(experiment.changed("noise"))
    noisy = [errors.on_correct.rate for errors in noise.errors.values()]
    share = "Every one" if found == total else f"{100 * found / total:.1f} %"
    return (
        f"{share} of {total} attacks succeeded, at a mean distortion of {min(distances):.3f} to "
        f"{max(distances):.3f}. Of the images that a network other than the source model classified correctly before, it "
        f"misclassifies {100 * np.nanmean(transferred):.0f} % when they are distorted, and {100 * np.nanmean(noisy):.1f} % "
        f"with Gaussian noise of standard deviation {noise.amount:g}."
    )


def _heat_map(experiment: Experiment, transfer: Table) -> tuple[bytes, str]:
    names = [str(row["Source model"]) for row in transfer.rows]
    columns = experiment.rates.networks
    rows = experiment.changed("distorted", "noise")
    rates = np.array([[row.errors[name].on_all.rate for name in columns] for row in rows])
    figure = transfer_heat_map(
        rates, names, columns, title="Errors induced, percent; in brackets the paper's",
        published=published_matrix("table_2", names, columns),
    )  # fmt: skip
    return to_png(figure), "Table 2 as a picture."


def _distortions(experiment: Experiment) -> tuple[bytes, str]:
    known = PUBLISHED["table_1"]
    published = {name: known[name]["Av. min. distortion"] for name in experiment.arrays if name in known}
    figure = distortion_distributions(experiment.distortions(), title="Least distortion of each image", published=published)
    return to_png(figure), "Each dot is one image that was classified correctly before and whose attack succeeded."


def _galleries(experiment: Experiment, illustrated: Sequence[str]) -> Figures:
    found = [name for name in illustrated if experiment.arrays[name]["succeeded"].any()]
    galleries = {f"figure_7_{index}": _gallery(experiment, name) for index, name in enumerate(found, start=1)}
    return {**galleries, "figure_7_noise": _noise(experiment, illustrated[-1])}


def _gallery(experiment: Experiment, name: str) -> tuple[bytes, str]:
    arrays = experiment.arrays[name]
    rows = np.flatnonzero(arrays["succeeded"])
    figure = adversarial_gallery(
        arrays["images"][rows], arrays["distorted"][rows],
        labels=arrays["labels"][rows].tolist(), predictions=arrays["targets"][rows].tolist(),
        title=f"Nearest images that {name} classifies as a random wrong class",
    )  # fmt: skip
    return to_png(figure), f"Figure 7 for {name}: strictly the first images of the random sample, no selection."


def _noise(experiment: Experiment, name: str) -> tuple[bytes, str]:
    row = next(experiment.changed("unclipped noise"))
    accuracies = {other: _accuracy(errors.on_all) for other, errors in row.errors.items()}
    arrays = next(iter(experiment.arrays.values()))
    noisy = add_gaussian_noise(
        arrays["images"], standard_deviation=_UNCLIPPED_NOISE, seed=experiment.rates.noise_seed, pixel_box=None
    )
    figure = noise_panel(
        arrays["images"], noisy.images.numpy(), labels=arrays["labels"].tolist(), predictions=row.predictions[name],
        title=f"Gaussian noise of standard deviation {row.amount:g}, not clipped, and the predictions of {name}",
        accuracy=accuracies[name],
    )  # fmt: skip
    others = ", ".join(f"{other} {100 * accuracy.rate:.0f} %" for other, accuracy in accuracies.items())
    return to_png(
        figure
    ), f"Figure 7 (c). Accuracy on the noisy images: {others}. The paper prints 51 %, without naming the model."


def _accuracy(errors: Proportion) -> Proportion:
    return Proportion(errors.num_trials - errors.num_events, errors.num_trials)


def _sections(
    tables: Sequence[Table], galleries: Figures, *, transfer: tuple[bytes, str], distortion: tuple[bytes, str]
) -> list[Section]:
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
            figures=(distortion,),
        ),
        Section(title="Distorted images", figures=tuple(galleries.values())),
        Section(
            title="Transfer between models",
            paragraphs=(
                "All networks are attacked on the same random training images with the same targets. Noise is clipped to the "
                "pixel box. The second table leaves out images that the evaluated model misclassified before the distortion: "
                "they are no evidence of transfer.",
            ),
            tables=tuple(tables[1:]),
            figures=(transfer,),
        ),
    ]
