"""Settings of the library as JSON parameters of a step, and back."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from components.json_records import from_json
from intriguing.attack import DistortionSearch
from intriguing.training.adversarial import AdversarialTraining
from intriguing.training.sparse_autoencoder import AutoencoderTraining
from intriguing.training.supervised import FullBatchTraining, MinibatchTraining
from intriguing.units import UnitSettings

PlainTraining = MinibatchTraining | FullBatchTraining | AutoencoderTraining
"""Settings of a Trainer."""

Training = PlainTraining | AdversarialTraining
"""Settings of a Trainer or of an AdversarialTrainer."""

_TRAINING = {kind.__name__: kind for kind in typing.get_args(Training)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerChoice:
    """A layer whose units are analyzed, and how its features are computed: arguments of `models.features_at`."""

    layer: str
    before_activation: bool = False
    pooling: str | None = None

    @property
    def title(self) -> str:
        """The layer in words, such as "conv1 before activation, max"."""
        before = " before activation" if self.before_activation else ""
        return f"{self.layer}{before}" + (f", {self.pooling}" if self.pooling else "")


def to_parameters(settings: Training | DistortionSearch | UnitSettings) -> dict[str, Any]:
    """Writes settings as a dictionary that survives JSON; the key `kind` names their class."""
    return {"kind": type(settings).__name__, **dataclasses.asdict(settings)}


def training_from(parameters: dict[str, Any]) -> Training:
    """Reads what `to_parameters` wrote of a way to train."""
    settings: Training = from_json(_TRAINING[parameters["kind"]], parameters)
    return settings


def search_from(parameters: Mapping[str, Any], default: DistortionSearch = DistortionSearch()) -> DistortionSearch:
    """Reads a search that `to_parameters` wrote, or changes of the default one.

    Args:
        parameters: All settings of a search and its `kind`; or, without `kind`, the settings that differ from the default.
        default: The search that the settings without `kind` change.

    Returns:
        The search.
    """
    if "kind" in parameters:
        return from_json(DistortionSearch, parameters)
    return dataclasses.replace(default, **parameters)


def unit_settings_from(parameters: dict[str, Any]) -> UnitSettings:
    """Reads what `to_parameters` wrote of a comparison of bases."""
    return from_json(UnitSettings, parameters)
