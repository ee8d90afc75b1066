"""A proportion of a sample with Wilson's interval, and McNemar's test."""

from __future__ import annotations

import math
from typing import NamedTuple

Z_95_PERCENT = 1.959963984540054  # the standard normal lies within +-z with probability 0.95


class Proportion(NamedTuple):
    """A number of events among a number of trials, with the interval in which the true rate plausibly lies.

    The interval is Wilson's: unlike `rate +- z * stderr` it stays inside [0, 1] and keeps a width at 0 and at 1, where most
    cells of a transfer table are. No trials give NaN, not zero.

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
        """The lower end of the 95 % Wilson interval; exactly 0 at no events."""
        _check(self)
        if not self.num_trials:
            return math.nan
        # The product of both ends is k**2 / (n * (n + z**2)); to subtract instead would cancel for rare events.
        return self.num_events**2 / (self.num_trials * _scaled_upper(self))

    @property
    def upper(self) -> float:
        """The upper end of the 95 % Wilson interval; exactly 1 when every trial was an event."""
        _check(self)
        if not self.num_trials:
            return math.nan
        if self.num_events == self.num_trials:
            return 1.0
        return min(1.0, _scaled_upper(self) / (self.num_trials + Z_95_PERCENT**2))


def sign_test(num_first: int, num_second: int) -> float:
    """Returns the two-sided exact p-value of McNemar's test of two classifiers on the same images.

    Images that both get wrong, or both right, tell nothing; of the others, each is a coin toss if the two are equally good.

    Args:
        num_first: Images that the first alone gets wrong.
        num_second: Images that the second alone gets wrong.

    Returns:
        The probability of a split at least as uneven, 1 if there are no such images.

    Example:
        >>> sign_test(1, 9)
        0.021484375

    References:
        McNemar, Note on the sampling error of the difference between correlated proportions, Psychometrika 12, 1947.
    """
    if min(num_first, num_second) < 0:
        raise ValueError(f"counts of images must not be negative; received {num_first} and {num_second}.")
    total, ways, one_tail = num_first + num_second, 1, 0
    for chosen in range(min(num_first, num_second) + 1):
        one_tail += ways
        ways = ways * (total - chosen) // (chosen + 1)
    return min(1.0, 2 * one_tail / 2**total)  # whole numbers until here: nothing is rounded


def _scaled_upper(proportion: Proportion) -> float:
    """Returns the larger root of Wilson's quadratic, times `n + z**2`."""
    num_events, num_trials = proportion
    variance = num_events * (num_trials - num_events) / num_trials
    return num_events + Z_95_PERCENT**2 / 2 + Z_95_PERCENT * math.sqrt(variance + Z_95_PERCENT**2 / 4)


def _check(proportion: Proportion) -> None:
    if not 0 <= proportion.num_events <= proportion.num_trials:
        raise ValueError(
            f"num_events must lie between 0 and num_trials; received {proportion.num_events} of {proportion.num_trials}. "
            "Count events and trials on the same images."
        )
