"""The flags of the scripts that search for the least distortion: which search, and what it may spend."""

from __future__ import annotations

import dataclasses
from typing import Any

from absl import flags

from components.settings import to_parameters
from intriguing.attack import SEARCHES, DistortionSearch, search_named

_SEARCH = flags.DEFINE_enum(
    "search", None, list(SEARCHES), "How to search. All but szegedy_lbfgs end at the decision boundary; that one "
    "is L-BFGS on cross-entropy alone, and ends farther out. If omitted, training for pools; else the library chooses.",
)  # fmt: skip
_NUM_LEVELS = flags.DEFINE_integer(
    "quantization_levels", None, "Values that a pixel may have: 256 for images that survive being saved as PNG.", lower_bound=2
)
_MAX_EVALUATIONS = flags.DEFINE_integer("max_evaluations", None, "Gradients per image at most; the search's own if omitted.")


def search(*, otherwise: str) -> DistortionSearch:
    """Returns the search of the flags, or the one of the name `otherwise`."""
    return dataclasses.replace(search_named(_SEARCH.value or otherwise), **_changes())


def parameters() -> dict[str, Any]:
    """Returns the search of the flags as a parameter of a step; where none is named, only what the flags change of it."""
    return to_parameters(search(otherwise=_SEARCH.value)) if _SEARCH.value else _changes()


def _changes() -> dict[str, Any]:
    told = {"max_evaluations": _MAX_EVALUATIONS.value, "quantization_levels": _NUM_LEVELS.value}
    return {name: value for name, value in told.items() if value is not None}
