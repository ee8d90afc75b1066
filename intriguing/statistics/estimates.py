"""The mean of repeated measurements, such as of networks of several seeds, with Student's interval."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple


class Estimate(NamedTuple):
    """A mean with a 95 % confidence interval of the true value."""

    value: float
    lower: float
    upper: float
    num: int  # repetitions

    @classmethod
    def of(cls, values: Iterable[float]) -> Estimate:
        """Averages repetitions that are independent and normally distributed, with the 95 % interval of Student's t.

        Values that are not finite are left out. One value has no interval, and without values the mean is NaN as well.

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
        margin = _student_quantile(len(finite) - 1) * math.sqrt(variance / len(finite))
        return cls(mean, mean - margin, mean + margin, len(finite))


def _student_quantile(degrees: int) -> float:
    """Returns t such that Student's variable of so many degrees of freedom lies within +-t with probability 0.95."""
    from scipy import special  # at the first use, so that importing this library does not load it

    return float(special.stdtrit(degrees, 0.975))
