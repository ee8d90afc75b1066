"""The study as a pipeline: networks, subsets, attacks, transfer and the report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from components.adversarial_trainer.component import AdversarialTrainer
from components.attacker.component import Attacker
from components.contract import Component
from components.example_gen.component import ExampleGen
from components.reporter.component import NO_PARTS, Reporter
from components.settings import LayerChoice, Training, to_parameters
from components.spectral_analyzer.component import SpectralAnalyzer
from components.trainer.component import Trainer
from components.transfer_evaluator.component import TransferEvaluator
from components.unit_analyzer.component import UnitAnalyzer
from components.unit_analyzer.executor import PIXELS, RANDOM_WEIGHTS
from intriguing.attack import SZEGEDY_LBFGS, DistortionSearch
from intriguing.training import AdversarialTraining
from intriguing.units import UnitSettings


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
class ArmStudy:
    """Ways to train, the arms of an experiment, compared on the same images over several seeds.

    Attributes:
        arms: What is trained; the first one is what the others are compared with.
        num_seeds: Networks of each arm, whose seeds follow that of the run.
        trained_on: Subset for training.
        tested_on: Subset on which errors are counted, and of which images are attacked.
        num_images: Images attacked for each network, the same ones for all arms of a seed.
        search: The attack, to random wrong classes.
        robustness: False for errors alone: no attacks, no transfer, no certificates.
    """

    arms: tuple[Network, ...]
    num_seeds: int = 3
    trained_on: str = "train"
    tested_on: str = "test"
    num_images: int = 256
    search: DistortionSearch = DistortionSearch()
    robustness: bool = True

    def __post_init__(self) -> None:
        names = [folder_name(arm.name) for arm in self.arms]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"arms must be at least two, with names of their own; received {[arm.name for arm in self.arms]}.")
        if self.num_seeds < 1:
            raise ValueError(f"num_seeds must be positive; received {self.num_seeds}.")


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
        arms: Ways to train that are compared over several seeds (section 4); None for nothing.
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
    search: DistortionSearch = SZEGEDY_LBFGS
    units: UnitStudy | None = None
    spectra: bool = False
    arms: ArmStudy | None = None


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

    # Tables 1 and 2: networks trained on everything, attacked on training images, and evaluated on the distorted images of all.
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

    # Section 4: ways to train, compared over seeds.
    arms = wire.arms(study.arms, train, test) if study.arms else _Arms()

    halves = [first, second] if half_models else []
    report = Reporter(
        "report", workdir, title=study.title, facts=facts,
        **{
            **NO_PARTS, "subsets": [train, test, *halves],
            "models": models, "cross_model_attacks": attacks, "cross_model_rates": cross_model, "unit_meanings": meanings,
            "cross_subset_models": half_models, "cross_subset_attacks": half_attacks, "cross_subset_rates": cross_subset,
            "spectral_bounds": spectra, "arm_models": arms.models, "arm_attacks": arms.attacks, "arm_bounds": arms.bounds,
            "arm_rates": arms.rates,
        },
    )  # fmt: skip
    return [
        train, test, *halves, *models, *attacks, *cross_model, *spectra, *half_models, *half_attacks, *cross_subset,
        *only_for_units.values(), *meanings, *arms.steps, report,
    ]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Arms:
    """The steps of an `ArmStudy` in the order of their work, and by kind: for each seed in turn, all arms in theirs."""

    steps: list[Component] = dataclasses.field(default_factory=list)
    models: list[Component] = dataclasses.field(default_factory=list)
    attacks: list[Component] = dataclasses.field(default_factory=list)
    bounds: list[Component] = dataclasses.field(default_factory=list)
    rates: list[Component] = dataclasses.field(default_factory=list)


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
            subset=expression, disjoint_from=list(disjoint_from), image_size=[], shorter_side=0, content="",
        )  # fmt: skip

    def trained(self, network: Network, on: ExampleGen, suffix: str = "") -> Component:
        bindings: dict[str, Any] = {
            "subset": on, "name": network.name, "model": network.model, "training": to_parameters(network.training),
            "seed": self.seed,
        }  # fmt: skip
        id = f"train_{folder_name(network.name)}{suffix}"
        if isinstance(network.training, AdversarialTraining):
            return AdversarialTrainer(id, self.workdir, log_dir="", **bindings)
        return Trainer(id, self.workdir, **bindings)

    def attacked(self, model: Component, on: ExampleGen, study: Study | ArmStudy | None = None) -> Attacker:
        study = study or self.study
        return Attacker(
            model.id.replace("train_", "attack_", 1), self.workdir, model=model, subset=on, num_images=study.num_images,
            batch_size=min(self.study.batch_size, study.num_images), targeted=True, target=-1, only_correct=False,
            seed=self.seed, search=to_parameters(study.search), log_dir="",
        )  # fmt: skip

    def compared(
        self, id: str, models: list[Component], attacks: list[Attacker], subsets: list[ExampleGen], **changes: Any
    ) -> TransferEvaluator:
        return TransferEvaluator(id, self.workdir, models=models, distorted=attacks, subsets=subsets, seed=self.seed, **changes)

    def bounded(self, model: Component, attack: Attacker) -> SpectralAnalyzer:
        return SpectralAnalyzer(model.id.replace("train_", "spectra_", 1), self.workdir, model=model, distorted=attack)

    def analyzed(
        self, model: Component, on: ExampleGen, choices: tuple[LayerChoice, ...], settings: UnitSettings, *, with_pixels: bool
    ) -> UnitAnalyzer:
        return UnitAnalyzer(
            model.id.replace("train_", "units_", 1), self.workdir, model=model, subset=on, attributes={},
            controls=[RANDOM_WEIGHTS, PIXELS] if with_pixels else [RANDOM_WEIGHTS],
            layers=[dataclasses.asdict(choice) for choice in choices],
            settings=to_parameters(dataclasses.replace(settings, seed=self.seed)),
        )  # fmt: skip

    def arms(self, study: ArmStudy, train: ExampleGen, test: ExampleGen) -> _Arms:
        wired = _Arms()
        if study.trained_on != "train":
            train = self.subset("subset_arms_train", study.trained_on)
            wired.steps.append(train)
        if (study.trained_on, study.tested_on) != ("train", "test"):
            test = self.subset("subset_arms_test", study.tested_on, study.trained_on)
            wired.steps.append(test)
        for seed in range(self.seed, self.seed + study.num_seeds):
            dataclasses.replace(self, seed=seed).arms_of_seed(study, train, test, wired)
        return wired

    def arms_of_seed(self, study: ArmStudy, train: ExampleGen, test: ExampleGen, wired: _Arms) -> None:
        models = [self.trained(arm, train, f"_seed{self.seed}") for arm in study.arms]
        attacks = [self.attacked(model, test, study) for model in models if study.robustness]
        bounds = [self.bounded(model, attack) for model, attack in zip(models, attacks)]
        # All training variants are evaluated on the images that were distorted for the baseline.
        rates = self.compared(
            f"errors_of_arms_seed{self.seed}", models, attacks[:1], [test], amplify_to=[], noise=[], unclipped_noise=[]
        )
        wired.models.extend(models)
        wired.attacks.extend(attacks)
        wired.bounds.extend(bounds)
        wired.rates.append(rates)
        wired.steps.extend([*models, *attacks, *bounds, rates])


def folder_name(name: str) -> str:
    """Turns a network's name into a folder's: `FC100-100-10'` becomes `FC100-100-10_prime`."""
    spelled = name.replace("'", "_prime").replace("(", "_").replace(")", "")
    return "".join(character if character.isalnum() or character in "-_." else "_" for character in spelled)
