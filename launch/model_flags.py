"""The flag of the scripts that work on one trained network."""

from __future__ import annotations

from absl import flags

from components.artifacts import TrainedModel

_TRAINED_MODEL = flags.DEFINE_string("trained_model", None, "Folder that launch.train wrote.", required=True)


def trained_model() -> TrainedModel:
    """Returns the network of the flag; what is not a whole trained model is refused before anything runs."""
    trained = TrainedModel(_TRAINED_MODEL.value)
    trained.manifest()
    return trained
