"""Flags of the scripts that search for the least distortion: the search and its budget."""

from __future__ import annotations

import dataclasses
from typing import Any

from absl import flags

from components.settings import to_parameters
from intriguing.attack import SEARCHES, DistortionSearch, search_named

_SEARCH = flags.DEFINE_enum(
    "search", None, list(SEARCHES), "Name of the search. szegedy_lbfgs is the method of the paper, L-BFGS on "
    "cross-entropy; the others search along the decision boundary and find nearer images. If omitted: training for pools; "
    "otherwise the library chooses.",
)  # fmt: skip
_QUANTIZATION_LEVELS = flags.DEFINE_integer(
    "quantization_levels",
    None,
    "Number of values of a pixel: 256 for images that are saved as PNG files.",
    lower_bound=2,
)
_MAX_EVALUATIONS = flags.DEFINE_integer(
    "max_evaluations", None, "Maximum number of gradients per image. If omitted, that of the search."
)


def search(*, otherwise: str) -> DistortionSearch:
    """Returns the search of the flags, or the search named `otherwise`."""
    return dataclasses.replace(search_named(_SEARCH.value or otherwise), **_changes())


def parameters() -> dict[str, Any]:
    """Returns the search of the flags as a parameter of a step; without --search, only the settings that flags change."""
    return to_parameters(search(otherwise=_SEARCH.value)) if _SEARCH.value else _changes()


def _changes() -> dict[str, Any]:
    values = {"max_evaluations": _MAX_EVALUATIONS.value, "quantization_levels": _QUANTIZATION_LEVELS.value}
    return {name: value for name, value in values.items() if value is not None}
