"""Tests of proportions with Wilson intervals, and of the sign test."""

import math
from fractions import Fraction

import pytest
from scipy import stats

from intriguing.statistics.proportions import Proportion, sign_test

RTOL_ROUNDING = 1e-12  # both sides evaluate one closed form in float64
Z_95_PERCENT = 1.959963984540054  # the standard normal lies within +-z with probability 0.95


@pytest.mark.parametrize(
    ("num_events", "num_trials"),
    [(0, 1), (1, 1), (0, 256), (1, 256), (74, 256), (255, 256), (256, 256), (3, 10_000), (5, 10**9)],
)
def test_agrees_with_scipy_and_with_the_closed_form(num_events, num_trials):
    proportion = Proportion(num_events, num_trials)
    expected = stats.binomtest(num_events, num_trials).proportion_ci(confidence_level=0.95, method="wilson")
    assert (proportion.lower, proportion.upper) == (expected.low, expected.high)
    variance = num_events * (num_trials - num_events) / num_trials
    root = num_events + Z_95_PERCENT**2 / 2 + Z_95_PERCENT * math.sqrt(variance + Z_95_PERCENT**2 / 4)
    atol_cancellation = 1e-15 if num_trials < 10**6 else 1e-12  # SciPy subtracts where this formula divides
    assert proportion.lower == pytest.approx(num_events**2 / (num_trials * root), rel=RTOL_ROUNDING, abs=atol_cancellation)
    assert proportion.upper == pytest.approx(root / (num_trials + Z_95_PERCENT**2), rel=RTOL_ROUNDING, abs=atol_cancellation)


def test_agrees_with_the_published_example():
    # Newcombe, Statistics in Medicine 17, 1998, table I: 81 of 263 and 15 of 148 by the score method without correction.
    assert [round(end, 4) for end in (Proportion(81, 263).lower, Proportion(81, 263).upper)] == [0.2553, 0.3662]
    assert [round(end, 4) for end in (Proportion(15, 148).lower, Proportion(15, 148).upper)] == [0.0624, 0.1605]


@pytest.mark.parametrize("num_trials", [1, 7, 256, 10_000, 10**12])
def test_interval_is_exact_for_zero_and_all_events(num_trials):
    none, every = Proportion(0, num_trials), Proportion(num_trials, num_trials)
    assert (none.rate, none.lower) == (0.0, 0.0)
    assert (every.rate, every.upper) == (1.0, 1.0)
    assert none.upper == pytest.approx(Z_95_PERCENT**2 / (num_trials + Z_95_PERCENT**2), rel=RTOL_ROUNDING)
    assert every.lower == pytest.approx(num_trials / (num_trials + Z_95_PERCENT**2), rel=RTOL_ROUNDING)


def test_both_bounds_solve_the_quadratic_of_wilson():
    proportion = Proportion(19, 83)
    for end in (proportion.lower, proportion.upper):
        distance = abs(end - proportion.rate) / math.sqrt(end * (1 - end) / proportion.num_trials)
        assert distance == pytest.approx(Z_95_PERCENT, rel=RTOL_ROUNDING)


def test_interval_is_mirrored_if_events_and_failures_are_exchanged():
    proportion, mirrored = Proportion(30, 256), Proportion(226, 256)
    assert proportion.lower == pytest.approx(1 - mirrored.upper, rel=RTOL_ROUNDING)
    assert proportion.upper == pytest.approx(1 - mirrored.lower, rel=RTOL_ROUNDING)


def test_encloses_the_rate_and_stays_between_zero_and_one():
    for num_trials in (1, 2, 5, 40):
        for num_events in range(num_trials + 1):
            proportion = Proportion(num_events, num_trials)
            assert 0 <= proportion.lower <= proportion.rate <= proportion.upper <= 1


def test_everything_is_nan_without_trials():
    proportion = Proportion(0, 0)
    assert math.isnan(proportion.rate) and math.isnan(proportion.lower) and math.isnan(proportion.upper)


@pytest.mark.parametrize(("num_events", "num_trials"), [(-1, 5), (6, 5), (0, -1)])
def test_refuses_more_events_than_trials(num_events, num_trials):
    with pytest.raises(ValueError, match="between 0 and num_trials; received"):
        _ = Proportion(num_events, num_trials).rate
    with pytest.raises(ValueError, match="between 0 and num_trials; received"):
        _ = Proportion(num_events, num_trials).lower


@pytest.mark.parametrize(
    ("num_first", "num_second"), [(0, 0), (0, 1), (5, 5), (1, 9), (9, 1), (59, 6), (121, 59), (400, 520), (3000, 3200)]
)
def test_the_sign_test_is_a_binomial_test_of_one_half(num_first, num_second):
    total = num_first + num_second
    one_tail = sum(math.comb(total, chosen) for chosen in range(min(num_first, num_second) + 1))
    expected = float(min(Fraction(1), Fraction(2 * one_tail, 2**total)))
    assert sign_test(num_first, num_second) == pytest.approx(expected, rel=1e-9)  # SciPy rounds; this sum is exact


def test_the_sign_test_agrees_with_counting_by_hand():
    assert sign_test(0, 5) == 2 / 32
    assert sign_test(1, 9) == 2 * (1 + 10) / 1024
    assert sign_test(3, 3) == 1.0


def test_the_sign_test_refuses_negative_counts():
    with pytest.raises(ValueError, match="must not be negative; received -1 and 2"):
        sign_test(-1, 2)
