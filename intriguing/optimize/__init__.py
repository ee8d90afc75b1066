"""Minimizers for many independent problems at once."""

from intriguing.optimize.bisection import Bisection, bisect_on_c
from intriguing.optimize.box_lbfgs import BoxMinimization, BoxMinimum, minimize_in_box

__all__ = [
    "Bisection",
    "BoxMinimization",
    "BoxMinimum",
    "bisect_on_c",
    "minimize_in_box",
]
