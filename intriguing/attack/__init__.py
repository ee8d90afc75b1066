"""The least distorted image that a classifier gets wrong, and the noise to compare it with."""

from intriguing.attack.bisection import Bisection
from intriguing.attack.boundary import BoundaryWalk
from intriguing.attack.distortion_search import (
    COARSE_SEARCH,
    PAPERS_SEARCH,
    PHOTOGRAPH_SEARCH,
    QUICK_SEARCH,
    SEARCHES,
    THOROUGH_SEARCH,
    DistortionResults,
    DistortionSearch,
    SearchStatus,
    default_search,
    search_named,
)
from intriguing.attack.gaussian_noise import NoisyImages, add_gaussian_noise
from intriguing.attack.lbfgs import BoxMinimization, BoxMinimum, minimize_in_box
from intriguing.attack.minimize_distortion import minimize_distortion
from intriguing.attack.smooth_descent import SmoothDescent

__all__ = [
    "COARSE_SEARCH",
    "PAPERS_SEARCH",
    "PHOTOGRAPH_SEARCH",
    "QUICK_SEARCH",
    "SEARCHES",
    "THOROUGH_SEARCH",
    "Bisection",
    "BoundaryWalk",
    "BoxMinimization",
    "BoxMinimum",
    "DistortionResults",
    "DistortionSearch",
    "NoisyImages",
    "SearchStatus",
    "SmoothDescent",
    "add_gaussian_noise",
    "default_search",
    "minimize_distortion",
    "minimize_in_box",
    "search_named",
]
