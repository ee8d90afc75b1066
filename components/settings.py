"""Settings of the library as plain parameters of a step, and back."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from intriguing.analysis import UnitSettings
from intriguing.attack import DistortionSearch, default_search
from intriguing.pixels import PixelBox
from intriguing.training.adversarial import AdversarialTraining
from intriguing.training.sparse_autoencoder import AutoencoderTraining
from intriguing.training.supervised import FullBatchTraining, MinibatchTraining

PlainTraining = MinibatchTraining | FullBatchTraining | AutoencoderTraining
"""What a Trainer does."""

Training = PlainTraining | AdversarialTraining
"""The same, or what an AdversarialTrainer does."""

_TRAINING = {kind.__name__: kind for kind in typing.get_args(Training)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerChoice:
    """A layer whose units are looked at, and how it is read; as the arguments of `models.features_at`."""

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
    settings: Training = _read(_TRAINING[parameters["kind"]], parameters)
    return settings


def search_from(parameters: Mapping[str, Any], image_shape: Sequence[int] = ()) -> DistortionSearch | None:
    """Reads what `to_parameters` wrote of a search, or changes of the one that the library chooses.

    Args:
        parameters: All settings of a search and its `kind`; or without `kind` some settings, none for no change.
        image_shape: Of the images, for which the library chooses.

    Returns:
        The search; None for the library's own choice, unchanged.
    """
    if not parameters:
        return None
    if "kind" not in parameters:
        return dataclasses.replace(default_search(prod(image_shape)), **parameters)
    return _read(DistortionSearch, dict(parameters))


def unit_settings_from(parameters: dict[str, Any]) -> UnitSettings:
    """Reads what `to_parameters` wrote of a comparison of bases."""
    return _read(UnitSettings, parameters)


def _read(kind: Any, values: dict[str, Any]) -> Any:
    kinds = typing.get_type_hints(kind)
    return kind(**{name: _field(kinds[name], value) for name, value in values.items() if name != "kind"})


def _field(kind: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(kind, types.UnionType):  # the other member is None
        (kind,) = (member for member in typing.get_args(kind) if member is not type(None))
    if kind is PixelBox:
        return PixelBox(*value)
    if typing.get_origin(kind) is tuple:
        member, _ = typing.get_args(kind)  # and an ellipsis
        return tuple(_field(member, item) for item in value)  # JSON knows lists only
    return _read(kind, value) if dataclasses.is_dataclass(kind) else value
