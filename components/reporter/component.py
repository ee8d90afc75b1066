"""Reporter: the study as tables, figures and one page."""

from __future__ import annotations

from components.artifacts import DistortedImages, Report, Subset, TrainedModel, TransferRates
from components.contract import Component
from components.reporter.executor import ReporterExecutor


class Reporter(Component[Report]):
    """Parameters: the facts of the recipe that the page repeats. Inputs: both halves of the study."""

    PARAMETERS = {"title": str, "facts": dict}
    INPUTS = {
        "subsets": Subset,
        "models": TrainedModel,
        "cross_model_attacks": DistortedImages,
        "cross_model_rates": TransferRates,
        "cross_subset_models": TrainedModel,
        "cross_subset_attacks": DistortedImages,
        "cross_subset_rates": TransferRates,
    }
    OUTPUTS = {"report": Report}
    EXECUTOR = ReporterExecutor
    LIBRARY = ("pixels.py", "distortion.py", "reporting", "analysis/proportions.py", "attack/gaussian_noise.py")
    ON_EVERY_WORKER = False
