"""Proportions and means with their confidence intervals."""

from intriguing.statistics.estimates import Estimate, student_quantile
from intriguing.statistics.proportions import Proportion, sign_test

__all__ = [
    "Estimate",
    "Proportion",
    "sign_test",
    "student_quantile",
]
