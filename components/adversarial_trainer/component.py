"""AdversarialTrainer: one network of the zoo, trained on one subset and on pools of adversarial examples made of it."""

from __future__ import annotations

from components.adversarial_trainer.executor import AdversarialTrainerExecutor
from components.artifacts import TrainedModel
from components.contract import Component
from components.trainer.component import Trainer


class AdversarialTrainer(Component[TrainedModel]):
    """Parameters: those of `Trainer`, and TensorBoard's folder."""

    PARAMETERS = {**Trainer.PARAMETERS, "log_dir": str}
    DEFAULTS = {"log_dir": ""}
    INPUTS = Trainer.INPUTS
    OUTPUTS = Trainer.OUTPUTS
    EXECUTOR = AdversarialTrainerExecutor
