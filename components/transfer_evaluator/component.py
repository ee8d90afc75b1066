"""TransferEvaluator: every network on every set of distorted images, and on clean subsets."""

from __future__ import annotations

from components.artifacts import DistortedImages, Subset, TrainedModel, TransferRates
from components.contract import Component
from components.transfer_evaluator.executor import TransferEvaluatorExecutor


class TransferEvaluator(Component[TransferRates]):
    """Parameters: distortions to amplify to, standard deviations of clipped and unclipped noise, and the seed of the noise.

    Without changed images it counts errors on the subsets alone.
    """

    PARAMETERS = {"amplify_to": list, "noise": list, "unclipped_noise": list, "seed": int}
    INPUTS = {"models": TrainedModel, "distorted": DistortedImages, "subsets": Subset}
    OUTPUTS = {"rates": TransferRates}
    EXECUTOR = TransferEvaluatorExecutor
