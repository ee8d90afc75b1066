"""Claims about averages of few repetitions and their intervals."""

import math

import pytest

from intriguing.statistics.estimates import Estimate, student_quantile

scipy_stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize("degrees", [*range(1, 12), 30, 99, 1000])
@pytest.mark.parametrize("inside", [0.5, 0.95, 0.999])
def test_quantiles_agree_with_scipy(degrees, inside):
    expected = scipy_stats.t.ppf((1 + inside) / 2, degrees)
    assert student_quantile(degrees, inside=inside) == pytest.approx(expected, rel=1e-8)


def test_quantiles_agree_with_the_printed_table():
    assert [round(student_quantile(degrees), 3) for degrees in (1, 2, 4, 10)] == [12.706, 4.303, 2.776, 2.228]


def test_an_average_agrees_with_scipy():
    values = [1.61, 1.55, 1.70, 1.49]
    mean = Estimate.of(values)
    lower, upper = scipy_stats.t.interval(0.95, 3, loc=sum(values) / 4, scale=scipy_stats.sem(values))
    assert (mean.value, mean.lower, mean.upper, mean.num) == pytest.approx((sum(values) / 4, lower, upper, 4), rel=1e-8)


def test_one_repetition_has_no_interval_and_none_has_nothing():
    assert Estimate.of([2.0]).value == 2.0 and math.isnan(Estimate.of([2.0]).lower)
    assert math.isnan(Estimate.of([math.nan]).value) and Estimate.of([math.nan]).num == 0
    assert Estimate.of([1.0, math.nan, 3.0]).num == 2


def test_equal_repetitions_leave_no_doubt():
    assert Estimate.of([0.1, 0.1, 0.1])[1:3] == pytest.approx((0.1, 0.1))


@pytest.mark.parametrize(("degrees", "inside"), [(0, 0.95), (2, 1.0), (2, 0.0)])
def test_refuses_what_has_no_quantile(degrees, inside):
    with pytest.raises(ValueError, match="degrees must be at least 1 and inside lie in"):
        student_quantile(degrees, inside=inside)
