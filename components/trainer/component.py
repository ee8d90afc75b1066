"""Trainer: one network of the zoo, trained on one subset."""

from __future__ import annotations

from components.artifacts import Subset, TrainedModel
from components.contract import Component
from components.trainer.executor import TrainerExecutor


class Trainer(Component[TrainedModel]):
    """Parameters: what the network is called in tables, its zoo name, how it is trained, and the seed of weights and order."""

    PARAMETERS = {"name": str, "model": str, "training": dict, "seed": int}
    INPUTS = {"subset": Subset}
    OUTPUTS = {"model": TrainedModel}
    EXECUTOR = TrainerExecutor
