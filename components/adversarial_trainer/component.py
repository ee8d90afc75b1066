"""AdversarialTrainer: one network of the zoo, trained on one subset and on pools of adversarial examples made of it."""

from __future__ import annotations

from components.adversarial_trainer.executor import AdversarialTrainerExecutor
from components.artifacts import Subset, TrainedModel
from components.contract import Component


class AdversarialTrainer(Component[TrainedModel]):
    """Parameters: what the network is called in tables, its zoo name, how it is trained, the seed, and TensorBoard's folder."""

    PARAMETERS = {"name": str, "model": str, "training": dict, "seed": int, "log_dir": str}
    INPUTS = {"subset": Subset}
    OUTPUTS = {"model": TrainedModel}
    EXECUTOR = AdversarialTrainerExecutor
    LIBRARY = (
        "accelerators.py",
        "pixels.py",
        "distortion.py",
        "data",
        "models",
        "attack",
        "training",
        "analysis/predictions.py",
        "analysis/proportions.py",
        "analysis/transfer.py",
    )
