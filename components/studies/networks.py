"""The networks of a study: trained by it, or with weights that exist already; and how they are attacked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

from components.adversarial_trainer.component import AdversarialTrainer
from components.artifacts import TrainedModel, sha256_of
from components.attacker.component import Attacker
from components.contract import Component
from components.folder_names import folder_name
from components.model_importer.component import ModelImporter
from components.model_importer.executor import RANDOM, check_source
from components.settings import LayerChoice, Training, to_parameters
from components.spectral_analyzer.component import SpectralAnalyzer
from components.studies.data_sources import checked_path
from components.studies.plan import Plan, Split
from components.trainer.component import Trainer
from intriguing.attack import DistortionSearch
from intriguing.attack.presets import checked_search, search_named
from intriguing.models import features_at
from intriguing.models.networks import zoo
from intriguing.names import check_name
from intriguing.training import AdversarialTraining

# The component that trains a network, by the class of its settings. If a class is missing, it is Trainer.
_TRAINERS: Mapping[type, type[Component[TrainedModel]]] = {AdversarialTraining: AdversarialTrainer}


class StudyNetwork(Protocol):
    """A network of a study."""

    @property
    def name(self) -> str:
        """Its name in tables."""

    @property
    def model(self) -> str:
        """Its name in the zoo."""

    def step(self, plan: Plan, split: Split, suffix: str = "") -> Component[TrainedModel]:
        """Adds the step that makes the network.

        Args:
            plan: The plan of the study.
            split: The subset for training.
            suffix: End of the step's name, where the network is trained more than once.
        """

    def facts(self, where: str = "") -> Mapping[str, str]:
        """Returns the settings that the report lists."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A network that the study trains: its name in the tables, its zoo name, and how it is trained."""

    name: str
    model: str
    training: Training

    def __post_init__(self) -> None:
        check_name(self.model, zoo.names(), "model")

    def step(self, plan: Plan, split: Split, suffix: str = "") -> Component[TrainedModel]:
        """Adds the step that trains the network."""
        trainer = _TRAINERS.get(type(self.training), Trainer)
        step = plan.add(
            trainer, f"train_{folder_name(self.name)}{suffix}", subset=plan.subset(split), name=self.name, model=self.model,
            training=to_parameters(self.training), seed=plan.seed,
        )  # fmt: skip
        if step not in plan.trained:
            plan.trained.append(step)
        return step

    def facts(self, where: str = "") -> Mapping[str, str]:
        """Returns the settings of its training."""
        return {f"Training of {self.name}{where}": str(self.training)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainedNetwork:
    """A network of the zoo whose weights come from the file that the user names, or are random.

    Attributes:
        model: Its zoo name.
        weights_channel_order: As `load_arrays` takes it.
        random: Whether the weights are random instead.
    """

    model: str
    weights_channel_order: str = "RGB"
    random: bool = False

    def __post_init__(self) -> None:
        check_name(self.model, zoo.names(), "model")

    @property
    def name(self) -> str:
        """Its name in tables."""
        return self.model

    def step(self, plan: Plan, split: Split, suffix: str = "") -> Component[TrainedModel]:
        """Adds the step that builds the network and loads its weights."""
        del split, suffix
        path = None if self.random else checked_path(plan.locations.weights, "file of weights", "--weights=FILE")
        weights = RANDOM if path is None else str(path)
        check_source(self.model, weights)
        return plan.add(
            ModelImporter, f"model_{folder_name(self.model)}", name=self.model, model=self.model, weights=weights,
            weights_channel_order=self.weights_channel_order, files={} if path is None else {weights: sha256_of(path)},
            image_shape=[], scaling={}, probabilities=False, seed=plan.seed,
        )  # fmt: skip

    def facts(self, where: str = "") -> Mapping[str, str]:
        """Returns where its weights come from."""
        return {f"Weights of {self.model}": "random" if self.random else "those of the file"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackSettings:
    """How the networks of a part are attacked.

    Attributes:
        num_images: Images attacked for each network.
        batch_size: Images attacked at once.
        search: The search, or its name.
        target: The target class of all images; None for a random wrong class of each image.
        only_correct: Whether images are drawn among those that the network classifies correctly.
    """

    num_images: int = 256
    batch_size: int = 256
    search: DistortionSearch | str = DistortionSearch()
    target: int | None = None
    only_correct: bool = False

    def __post_init__(self) -> None:
        if min(self.num_images, self.batch_size) < 1:
            raise ValueError(f"num_images and batch_size must be at least 1; received {self.num_images} and {self.batch_size}.")
        checked_search(self.search)

    @property
    def settings(self) -> DistortionSearch:
        """The search, also if only its name was given."""
        return search_named(self.search) if isinstance(self.search, str) else self.search

    def step(self, plan: Plan, model: Component[TrainedModel], split: Split, suffix: str = "") -> Attacker:
        """Adds the attack on a network."""
        return plan.add(
            Attacker, f"attack_{_name_of(model)}{suffix}", model=model, subset=plan.subset(split), num_images=self.num_images,
            batch_size=min(self.batch_size, self.num_images), targeted=True, target=-1 if self.target is None else self.target,
            only_correct=self.only_correct, seed=plan.seed, search=to_parameters(self.settings), log_dir="",
        )  # fmt: skip

    def facts(self) -> Mapping[str, str]:
        """Returns the settings."""
        return {"Images attacked for each model": str(self.num_images), "Search": str(self.settings)}


def bounds_of(plan: Plan, model: Component[TrainedModel], attack: Attacker | None) -> SpectralAnalyzer:
    """Adds the bounds of a network; with an attack, also the certificates of the attacked images."""
    return plan.add(SpectralAnalyzer, f"spectra_{_name_of(model)}", model=model, distorted=[] if attack is None else [attack])


def training_facts(networks: Sequence[StudyNetwork], where: str = "") -> dict[str, str]:
    """Returns the settings that the report lists for each network."""
    return {name: fact for network in networks for name, fact in network.facts(where).items()}


def check_layers(network: StudyNetwork, choices: Sequence[LayerChoice]) -> None:
    """Raises a `ValueError` if the network lacks a layer, or if the features of a layer require another pooling."""
    built = zoo.build(network.model)
    for choice in choices:
        features_at(built, choice.layer, before_activation=choice.before_activation, pooling=choice.pooling)


def check_networks(networks: Sequence[StudyNetwork], *, at_least: int = 1, argument: str = "networks") -> None:
    """Checks the networks of a part.

    Raises:
        TypeError: If `networks` is not a tuple of networks.
        ValueError: If there are too few, or if two have the same name, or names that give the same folder.
    """
    if not isinstance(networks, tuple) or not all(hasattr(network, "step") for network in networks):
        raise TypeError(f"{argument} must be a tuple of Network or PretrainedNetwork; received {networks!r}.")
    names = [network.name for network in networks]
    if len(networks) < at_least or len({folder_name(name) for name in names}) < len(names):
        raise ValueError(f"{argument} must be at least {at_least}, with different names; received {names}.")


def _name_of(model: Component[TrainedModel]) -> str:
    """Returns the name of a network's step without its first word, `train` or `model`."""
    return model.id.partition("_")[-1]
