"""Tables 3 and 4: networks trained on disjoint halves of the training set, and transfer between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from components.contract import Artifacts, Parameters
from components.records import ChangedImagesRecord
from components.studies.networks import AttackSettings, StudyNetwork, check_networks, training_facts
from components.studies.plan import TEST, Plan, Split
from components.studies.sections import SectionContent, SectionExecutor, SectionStep
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
from intriguing.reporting import Mean, Section, Table

_FIRST = Split("train[:50%]", disjoint_from=("train[50%:]",), name="P1")
_SECOND = Split("train[50%:]", disjoint_from=("train[:50%]",), name="P2")
_NEARER = (
    "Amplified images all have the same distortion: images with a larger one are moved nearer, and may be classified correctly "
    "again."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferBetweenHalves(Part):
    """Tables 3 and 4.

    Attributes:
        on_first: Networks trained on P1, the first half of the training set.
        on_second: Networks trained on P2, the second half.
        attack: How all are attacked, on test images; by default the method of the paper.
        noise: Standard deviations of the Gaussian noise of Table 4.
        amplify_to: The distortion that Table 4 amplifies to.
    """

    on_first: tuple[StudyNetwork, ...]
    on_second: tuple[StudyNetwork, ...]
    attack: AttackSettings = AttackSettings(search=SZEGEDY_LBFGS)
    noise: tuple[float, ...] = (0.06, 0.1)
    amplify_to: float = 0.1

    def __post_init__(self) -> None:
        check_networks((*self.on_first, *self.on_second), argument="on_first and on_second")

    def add_to(self, plan: Plan) -> SectionStep:
        """Adds the halves, the networks, an attack on each, and the errors of all on the distorted images of each."""
        subsets = [plan.subset(split) for split in (_FIRST, _SECOND, TEST)]
        models = [network.step(plan, _FIRST, "_on_halves") for network in self.on_first]
        models += [network.step(plan, _SECOND, "_on_halves") for network in self.on_second]
        attacks = [self.attack.step(plan, model, TEST) for model in models]
        rates = plan.add(
            TransferEvaluator, "transfer_between_halves", models=models, distorted=attacks, subsets=subsets,
            amplify_to=[self.amplify_to], noise=list(self.noise), unclipped_noise=[], seed=plan.seed,
        )  # fmt: skip
        return plan.add(
            _SectionStep, "section_transfer_between_halves", subsets=subsets, models=models, attacks=attacks,
            rates=rates,
        )  # fmt: skip

    def facts(self) -> Mapping[str, str]:
        """Returns the settings of the attack and of each training."""
        return {**self.attack.facts(), **training_facts(self.on_first, " on P1"), **training_facts(self.on_second, " on P2")}


class _SectionExecutor(SectionExecutor):
    def content(self, input_dict: Artifacts, exec_properties: Parameters) -> SectionContent:
        experiment = Experiment.read(input_dict)
        first, second, test = (subset.record().subset for subset in input_dict["subsets"])
        tables = (table_3(experiment, first, second, test), table_4(experiment), table_4_on_correct(experiment))
        return SectionContent([_section(tables)], {})


class _SectionStep(TransferSection):
    EXECUTOR = _SectionExecutor


def table_3(experiment: Experiment, first: str, second: str, test: str) -> Table:
    """Errors of the networks trained on disjoint halves."""
    errors = experiment.rates.errors
    rows = [
        {
            "Model": name,
            "Trained on": {first: "P1", second: "P2"}[experiment.networks[name].subset],
            "Error on P1": errors[first][name],
            "Error on P2": errors[second][name],
            "Error on Test": errors[test][name],
            "Min Av. Distortion": Mean.of(distortion),
        }
        for name, distortion in experiment.distortions().items()
    ]
    return paper_table(
        "table_3",
        f"Models trained on disjoint halves of the training set: P1 is {first}, P2 is {second}.",
        rows,
        CORRECT_BEFORE,
    )


def table_4(experiment: Experiment) -> Table:
    """Transfer between networks trained on disjoint halves, plain and amplified, with noise of equal size."""
    rows = [
        transfer_row(row, ON_ALL, name_of(row))
        for row in sorted(experiment.changed("distorted", "amplified", "noise"), key=_order)
    ]
    return paper_table(
        "table_4",
        "Errors induced across models and disjoint training sets, by distorted test images.",
        rows,
        LEFT_OUT,
        ALL_DISTORTIONS,
        _NEARER,
    )


def table_4_on_correct(experiment: Experiment) -> Table:
    """Table 4 again, counted on the images that the evaluated model (column) classified correctly before."""
    changed = sorted(experiment.changed("distorted", "amplified", "noise"), key=_order)
    return table_on_correct("table_4", [transfer_row(row, ON_CORRECT, name_of(row)) for row in changed])


def _order(row: ChangedImagesRecord) -> float:
    """Puts each noise row beneath the distortions that it is the control of."""
    return row.amount if row.amount is not None and row.amount >= 0.1 else 0.0


def _section(tables: tuple[Table, ...]) -> Section:
    return Section(
        title="Transfer between disjoint training sets",
        paragraphs=(
            "P1 and P2 are disjoint halves of the training set; the distorted images are test images. Amplified images keep "
            "the direction of their perturbation at a distortion of 0.1 before they are clipped to the pixel box; the last "
            "column is the distortion after clipping. The last table leaves out images that the evaluated model misclassified "
            "before the distortion: they are no evidence of transfer.",
        ),
        tables=tables,
    )
