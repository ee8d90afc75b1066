"""The study as a pipeline: what is trained on what, attacked how, and shown to whom."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from components.attacker.component import Attacker
from components.contract import Component
from components.example_gen.component import ExampleGen
from components.reporter.component import Reporter
from components.settings import LayerChoice, Training, to_parameters
from components.spectral_analyzer.component import SpectralAnalyzer
from components.trainer.component import Trainer
from components.transfer_evaluator.component import TransferEvaluator
from components.unit_analyzer.component import UnitAnalyzer
from components.unit_analyzer.executor import PIXELS, RANDOM_WEIGHTS
from intriguing.analysis import UnitSettings
from intriguing.attack import PAPERS_SEARCH, DistortionSearch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A network of a study: its name in the tables, its zoo name, and how it is trained."""

    name: str
    model: str
    training: Training


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitStudy:
    """The networks and layers whose units are compared with random directions, on the test set.

    Attributes:
        layers: For each network, trained on the whole training set, the layers to look at.
        settings: How bases are compared.
    """

    layers: tuple[tuple[Network, tuple[LayerChoice, ...]], ...]
    settings: UnitSettings = UnitSettings()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A recipe: everything that determines the numbers of a report, apart from the seed and the machine.

    A part without networks is left out, of the work and of the report.

    Attributes:
        title: Headline of the page.
        dataset: TFDS name.
        networks: Trained on the whole training set (Tables 1 and 2).
        networks_on_first: Trained on its first half (Tables 3 and 4).
        networks_on_second: Trained on its second half.
        num_images: Images attacked for each network.
        batch_size: Images attacked at once.
        noise: Standard deviations of the noise rows of Table 2.
        noise_on_halves: The same for Table 4.
        amplify_to: The distortion that Table 4 amplifies to.
        search: Settings of the attack; the paper's own method, whose tables these are.
        units: What is asked of units and directions (Figures 1 to 4); None for nothing.
        spectra: Whether the networks trained on the whole set are bounded (Table 5), and their attacked images certified.
    """

    title: str
    dataset: str
    networks: tuple[Network, ...] = ()
    networks_on_first: tuple[Network, ...] = ()
    networks_on_second: tuple[Network, ...] = ()
    num_images: int = 256
    batch_size: int = 256
    noise: tuple[float, ...] = (0.1, 0.3)
    noise_on_halves: tuple[float, ...] = (0.06, 0.1)
    amplify_to: float = 0.1
    search: DistortionSearch = PAPERS_SEARCH
    units: UnitStudy | None = None
    spectra: bool = False


def study_pipeline(
    study: Study, *, workdir: Path, seed: int, data_dir: str | None = None, manual_dir: str | None = None, facts: dict[str, str]
) -> list[Component]:
    """Wires the steps of a study together.

    Args:
        study: The recipe.
        workdir: Folder of all the steps.
        seed: Of weights, order, samples, targets and noise.
        data_dir: Where TFDS keeps its data sets.
        manual_dir: Folder with source files that TFDS cannot download.
        facts: What the report shall say of the run.

    Returns:
        The steps, in an order in which they can run.
    """

    wire = _Wiring(study, workdir, seed, data_dir or "", manual_dir or "")

    # The data: the whole training set, its two halves, and the test set.
    train, test = wire.subset("subset_train", "train"), wire.subset("subset_test", "test", "train")
    first = wire.subset("subset_P1", "train[:50%]", "train[50%:]")
    second = wire.subset("subset_P2", "train[50%:]", "train[:50%]")

    # Tables 1 and 2: networks trained on everything, attacked on training images, each shown the images made for the others.
    models = [wire.trained(network, train) for network in study.networks]
    attacks = [wire.attacked(model, train) for model in models]
    cross_model = [
        wire.compared(
            "transfer_between_models", models, attacks, [train, test],
            amplify_to=[], noise=list(study.noise), unclipped_noise=[1.0],
        )
    ] if models else []  # fmt: skip

    # Tables 3 and 4: networks trained on disjoint halves, attacked on test images.
    half_models = [wire.trained(network, first, "_on_halves") for network in study.networks_on_first]
    half_models += [wire.trained(network, second, "_on_halves") for network in study.networks_on_second]
    half_attacks = [wire.attacked(model, test) for model in half_models]
    cross_subset = [
        wire.compared(
            "transfer_between_halves", half_models, half_attacks, [first, second, test],
            amplify_to=[study.amplify_to], noise=list(study.noise_on_halves), unclipped_noise=[],
        )
    ] if half_models else []  # fmt: skip

    # Table 5, and certificates: what no perturbation can do to those networks, beside what the attacks did.
    spectra = [wire.bounded(model, attack) for model, attack in zip(models, attacks, strict=True) if study.spectra]

    # Figures 1 to 4: units of networks trained on everything, by the test images that excite them.
    units = study.units or UnitStudy(layers=())
    only_for_units = {network: wire.trained(network, train) for network, _ in units.layers if network not in study.networks}
    whole_models = only_for_units | dict(zip(study.networks, models, strict=True))
    meanings = [
        wire.analyzed(whole_models[network], test, choices, units.settings, with_pixels=not number)
        for number, (network, choices) in enumerate(units.layers)
    ]

    halves = [first, second] if half_models else []
    report = Reporter(
        "report", workdir, title=study.title, facts=facts, subsets=[train, test, *halves],
        models=models, cross_model_attacks=attacks, cross_model_rates=cross_model, unit_meanings=meanings,
        cross_subset_models=half_models, cross_subset_attacks=half_attacks, cross_subset_rates=cross_subset,
        spectral_bounds=spectra,
    )  # fmt: skip
    return [
        train, test, *halves, *models, *attacks, *cross_model, *spectra, *half_models, *half_attacks, *cross_subset,
        *only_for_units.values(), *meanings, report,
    ]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Wiring:
    """Makes the steps of a study, all in one folder and of one seed."""

    study: Study
    workdir: Path
    seed: int
    data_dir: str
    manual_dir: str

    def subset(self, id: str, expression: str, *disjoint_from: str) -> ExampleGen:
        return ExampleGen(
            id, self.workdir, dataset=self.study.dataset, data_dir=self.data_dir, manual_dir=self.manual_dir,
            subset=expression, disjoint_from=list(disjoint_from),
        )  # fmt: skip

    def trained(self, network: Network, on: ExampleGen, suffix: str = "") -> Trainer:
        return Trainer(
            f"train_{folder_name(network.name)}{suffix}", self.workdir, subset=on, name=network.name, model=network.model,
            training=to_parameters(network.training), seed=self.seed,
        )  # fmt: skip

    def attacked(self, model: Trainer, on: ExampleGen) -> Attacker:
        study = self.study
        return Attacker(
            model.id.replace("train_", "attack_", 1), self.workdir, model=model, subset=on, num_images=study.num_images,
            batch_size=study.batch_size, targeted=True, seed=self.seed, search=to_parameters(study.search), log_dir="",
        )  # fmt: skip

    def compared(
        self, id: str, models: list[Trainer], attacks: list[Attacker], subsets: list[ExampleGen], **changes: Any
    ) -> TransferEvaluator:
        return TransferEvaluator(id, self.workdir, models=models, distorted=attacks, subsets=subsets, seed=self.seed, **changes)

    def bounded(self, model: Trainer, attack: Attacker) -> SpectralAnalyzer:
        return SpectralAnalyzer(model.id.replace("train_", "spectra_", 1), self.workdir, model=model, distorted=attack)

    def analyzed(
        self, model: Trainer, on: ExampleGen, choices: tuple[LayerChoice, ...], settings: UnitSettings, *, with_pixels: bool
    ) -> UnitAnalyzer:
        return UnitAnalyzer(
            model.id.replace("train_", "units_", 1), self.workdir, model=model, subset=on, attributes={},
            controls=[RANDOM_WEIGHTS, PIXELS] if with_pixels else [RANDOM_WEIGHTS],
            layers=[dataclasses.asdict(choice) for choice in choices],
            settings=to_parameters(dataclasses.replace(settings, seed=self.seed)),
        )  # fmt: skip


def folder_name(name: str) -> str:
    """Turns a network's name into a folder's: `FC100-100-10'` becomes `FC100-100-10_prime`."""
    spelled = name.replace("'", "_prime").replace("(", "_").replace(")", "")
    return "".join(character if character.isalnum() or character in "-_." else "_" for character in spelled)
