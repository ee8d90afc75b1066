"""Reporter: the study as tables, figures and one page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.artifacts import DistortedImages, Report, SpectralBounds, Subset, TrainedModel, TransferRates, UnitMeanings
from components.contract import Component
from components.reporter.executor import ReporterExecutor


class Reporter(Component[Report]):
    """Parameters: the facts of the recipe that the page repeats. Inputs: the parts of the study, any of which may be empty."""

    PARAMETERS = {"title": str, "facts": dict}
    INPUTS = {
        "subsets": Subset,
        "models": TrainedModel,
        "cross_model_attacks": DistortedImages,
        "cross_model_rates": TransferRates,
        "cross_subset_models": TrainedModel,
        "cross_subset_attacks": DistortedImages,
        "cross_subset_rates": TransferRates,
        "unit_meanings": UnitMeanings,
        "spectral_bounds": SpectralBounds,
        "arm_models": TrainedModel,
        "arm_attacks": DistortedImages,
        "arm_bounds": SpectralBounds,
        "arm_rates": TransferRates,
        "photograph_attacks": DistortedImages,
    }
    OUTPUTS = {"report": Report}
    EXECUTOR = ReporterExecutor
    ON_EVERY_WORKER = False


NO_PARTS: Mapping[str, list[Any]] = {name: [] for name in Reporter.INPUTS}
"""Nothing of the study; a page on one part of it fills in that."""
