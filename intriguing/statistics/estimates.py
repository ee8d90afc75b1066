"""The mean of repeated measurements, such as of networks of several seeds, with Student's interval."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple


class Estimate(NamedTuple):
    """An average with the interval in which the true value plausibly lies."""

    value: float
    lower: float
    upper: float
    num: int  # repetitions

    @classmethod
    def of(cls, values: Iterable[float]) -> Estimate:
        """Averages repetitions that are independent and normally distributed, with the 95 % interval of Student's t.

        What is not finite is left out; without anything all is NaN, and one repetition alone has no interval.

        Example:
            >>> mean = Estimate.of([1.61, 1.55, 1.70])
            >>> f"{mean.value:.2f} [{mean.lower:.2f}, {mean.upper:.2f}]"
            '1.62 [1.43, 1.81]'

        References:
            Student, The probable error of a mean, Biometrika 6, 1908.
        """
        finite = [value for value in values if math.isfinite(value)]
        if len(finite) < 2:
            return cls(finite[0] if finite else math.nan, math.nan, math.nan, len(finite))
        mean = math.fsum(finite) / len(finite)
        variance = math.fsum((value - mean) ** 2 for value in finite) / (len(finite) - 1)
        margin = student_quantile(len(finite) - 1) * math.sqrt(variance / len(finite))
        return cls(mean, mean - margin, mean + margin, len(finite))


def student_quantile(degrees: int, *, inside: float = 0.95) -> float:
    """Returns t such that Student's variable lies within +-t with probability `inside`.

    Args:
        degrees: Of freedom, at least 1.
        inside: The probability, in (0, 1).

    Example:
        >>> round(student_quantile(9), 3)
        2.262
    """
    if degrees < 1 or not 0.0 < inside < 1.0:
        raise ValueError(f"degrees must be at least 1 and inside lie in (0, 1); received {degrees} and {inside}.")
    lower, upper = 0.0, math.pi / 2
    for _ in range(100):  # halved until nothing is left of it
        middle = (lower + upper) / 2
        lower, upper = (middle, upper) if _probability_within(middle, degrees) < inside else (lower, middle)
    return math.sqrt(degrees) * math.tan(lower)


def _probability_within(angle: float, degrees: int) -> float:
    """Returns the probability of |t| < sqrt(degrees) * tan(angle), a finite sum (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    sine, cosine, odd = math.sin(angle), math.cos(angle), degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(odd, degrees - 1, 2):
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
