"""Minimum-distortion adversarial examples, and Gaussian noise as a control."""

from intriguing.attack._minimize_distortion import minimize_distortion
from intriguing.attack.boundary_search import BoundarySearch
from intriguing.attack.presets import (
    COARSE_SEARCH,
    PHOTOGRAPH_SEARCH,
    QUICK_SEARCH,
    SEARCHES,
    SZEGEDY_LBFGS,
    THOROUGH_SEARCH,
    DistortionSearch,
    default_search,
    search_named,
)
from intriguing.attack.results import DistortionResults, SearchStatus
from intriguing.attack.smoothed_gradient import SmoothDescent
from intriguing.distortion import NoisyImages, add_gaussian_noise
from intriguing.optimize.bisection import Bisection
from intriguing.optimize.box_lbfgs import BoxMinimization

__all__ = [
    "COARSE_SEARCH",
    "PHOTOGRAPH_SEARCH",
    "QUICK_SEARCH",
    "SEARCHES",
    "SZEGEDY_LBFGS",
    "THOROUGH_SEARCH",
    "Bisection",
    "BoundarySearch",
    "BoxMinimization",
    "DistortionResults",
    "DistortionSearch",
    "NoisyImages",
    "SearchStatus",
    "SmoothDescent",
    "add_gaussian_noise",
    "default_search",
    "minimize_distortion",
    "search_named",
]
