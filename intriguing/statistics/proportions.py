"""A proportion of a sample with Wilson's interval, and McNemar's test."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple


class Proportion(NamedTuple):
    """A number of events among a number of trials, with a 95 % confidence interval of the true rate.

    The interval is Wilson's. Unlike `rate +- z * stderr` it stays inside [0, 1], and its width is positive even at the rates 0
    and 1, which most cells of a transfer table have. Without trials, the rate and both ends are NaN.

    Example:
        >>> errors = Proportion(num_events=74, num_trials=256)
        >>> f"{errors.rate:.3f} [{errors.lower:.3f}, {errors.upper:.3f}]"
        '0.289 [0.237, 0.347]'

    References:
        Wilson, Probable inference, the law of succession, and statistical inference, JASA 22, 1927.
        Brown, Cai, DasGupta, Interval estimation for a binomial proportion, Statistical Science 16, 2001.
    """

    num_events: int
    num_trials: int

    @property
    def rate(self) -> float:
        """The share of events, in [0, 1]; NaN without trials."""
        _check(self)
        return self.num_events / self.num_trials if self.num_trials else math.nan

    @property
    def lower(self) -> float:
        """The lower end of the 95 % Wilson interval; exactly 0 without events, NaN without trials."""
        return _wilson_interval(self)[0]

    @property
    def upper(self) -> float:
        """The upper end of the 95 % Wilson interval; exactly 1 if every trial was an event, NaN without trials."""
        return _wilson_interval(self)[1]


def sign_test(num_first: int, num_second: int) -> float:
    """Returns the two-sided exact p-value of McNemar's test of two classifiers on the same images.

    Images on which both classifiers are wrong, or both correct, do not enter the test. If the two are equally good, each of the
    other images is misclassified by either of them with probability 1/2.

    Args:
        num_first: Images that only the first classifier misclassifies.
        num_second: Images that only the second classifier misclassifies.

    Returns:
        The probability of a split that is at least as uneven; 1 if there are no such images.

    Example:
        >>> sign_test(1, 9)
        0.021484375

    References:
        McNemar, Note on the sampling error of the difference between correlated proportions, Psychometrika 12, 1947.
    """
    from scipy import stats  # at the first use: importing it takes most of a second

    if min(num_first, num_second) < 0:
        raise ValueError(f"counts of images must not be negative; received {num_first} and {num_second}.")
    total = num_first + num_second
    return float(stats.binomtest(num_first, total).pvalue) if total else 1.0


@functools.lru_cache(maxsize=4096)
def _wilson_interval(proportion: Proportion) -> tuple[float, float]:
    """Returns both ends. They are cached, because SciPy takes 0.3 ms for each proportion, and a table has hundreds."""
    from scipy import stats

    _check(proportion)
    num_events, num_trials = (int(count) for count in proportion)
    if not num_trials:
        return math.nan, math.nan
    interval = stats.binomtest(num_events, num_trials).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _check(proportion: Proportion) -> None:
    if not 0 <= proportion.num_events <= proportion.num_trials:
        raise ValueError(
            f"num_events must lie between 0 and num_trials; received {proportion.num_events} of {proportion.num_trials}. "
            "Count events and trials on the same images."
        )
