"""Tests of averages of few repetitions and their intervals."""

import math
import statistics

import pytest
from scipy import stats

from intriguing.statistics.estimates import Estimate

# Two-sided 5 % points of Student's distribution, as printed in tables.
PRINTED_QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 10: 2.228, 30: 2.042, 100: 1.984, 1000: 1.962}


@pytest.mark.parametrize("degrees", PRINTED_QUANTILES)
def test_interval_uses_the_tabulated_student_quantile(degrees):
    values = [1.0, *[0.0] * degrees]
    mean = Estimate.of(values)
    standard_error = statistics.stdev(values) / math.sqrt(len(values))
    assert round((mean.upper - mean.value) / standard_error, 3) == PRINTED_QUANTILES[degrees]
    assert mean.value - mean.lower == pytest.approx(mean.upper - mean.value, rel=1e-12)


@pytest.mark.parametrize("num", [2, 3, 4, 12, 100])
def test_an_average_agrees_with_scipy(num):
    values = [1.61 + 0.1 * math.sin(index) for index in range(num)]
    mean = Estimate.of(values)
    lower, upper = stats.t.interval(0.95, num - 1, loc=sum(values) / num, scale=stats.sem(values))
    assert (mean.value, mean.lower, mean.upper, mean.num) == pytest.approx((sum(values) / num, lower, upper, num), rel=1e-8)


def test_one_repetition_has_no_interval_and_zero_repetitions_have_no_mean():
    assert Estimate.of([2.0]).value == 2.0 and math.isnan(Estimate.of([2.0]).lower)
    assert math.isnan(Estimate.of([math.nan]).value) and Estimate.of([math.nan]).num == 0
    assert Estimate.of([1.0, math.nan, 3.0]).num == 2


def test_the_interval_of_equal_repetitions_has_no_width():
    assert Estimate.of([0.1, 0.1, 0.1])[1:3] == pytest.approx((0.1, 0.1))
