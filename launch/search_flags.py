"""The flags of the scripts that search for the least distortion: which search, and what it may spend."""

from __future__ import annotations

import dataclasses

from absl import flags

from intriguing.attack import COARSE_SEARCH, PAPERS_SEARCH, QUICK_SEARCH, THOROUGH_SEARCH, DistortionSearch

SEARCHES = {
    "coarse": COARSE_SEARCH,
    "quick": QUICK_SEARCH,
    "default": DistortionSearch(),
    "thorough": THOROUGH_SEARCH,
    "paper": PAPERS_SEARCH,
}

_SEARCH = flags.DEFINE_enum(
    "search", None, list(SEARCHES), "How to search: coarse, quick, default and thorough end at the decision boundary; "
    "paper is L-BFGS on cross-entropy alone, and ends farther out. If omitted, coarse for training, and default otherwise.",
)  # fmt: skip
_MAX_EVALUATIONS = flags.DEFINE_integer("max_evaluations", None, "Gradients per image at most; the search's own if omitted.")


def search(*, otherwise: str = "default") -> DistortionSearch:
    """Returns the search of the flags, or the one of the name `otherwise`."""
    chosen = SEARCHES[_SEARCH.value or otherwise]
    if _MAX_EVALUATIONS.value is None:
        return chosen
    return dataclasses.replace(chosen, max_evaluations=_MAX_EVALUATIONS.value)
