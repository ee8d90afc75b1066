"""Proportions and means with their confidence intervals, and tests; thin functions over SciPy."""

from intriguing.statistics.estimates import Estimate
from intriguing.statistics.multiple_testing import false_discovery_rates
from intriguing.statistics.proportions import Proportion, sign_test

__all__ = [
    "Estimate",
    "Proportion",
    "false_discovery_rates",
    "sign_test",
]
