"""Tests of compare_bases: p-values computed by hand, the coverage of the interval, and t-test tails against SciPy."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from intriguing.units.basis_test import check_num_bases, compare_bases


@pytest.fixture
def random():
    return np.random.default_rng(0).normal(size=(99, 20)).astype(np.float32)


def test_p_value_is_the_rank_among_the_bases(random):
    means = np.sort(random.mean(axis=1))
    for num_above in (0, 1, 10, 98):
        between = np.mean(means[[-num_above - 1, -num_above]]) if num_above else means[-1] + 0.01
        test = compare_bases(np.full(20, between, np.float32), random)
        np.testing.assert_allclose(test.p_more, (1 + num_above) / 100, rtol=1e-6)
        np.testing.assert_allclose(test.p_less, (100 - num_above) / 100, rtol=1e-6)


def test_ties_count_against_both_alternatives(random):
    test = compare_bases(np.full(20, 0.5, np.float32), np.full((99, 20), 0.5, np.float32))
    assert test.p_more == test.p_less == test.tail_more == test.tail_less == 1.0
    assert test.effect == test.effect_lower == test.effect_upper == 0.0


def test_effect_is_in_standard_deviations_of_random_directions(random):
    natural = np.linspace(0.0, 3.0, 20, dtype=np.float32)
    test = compare_bases(natural, random)
    np.testing.assert_allclose(test.effect, (natural.mean() - random.mean()) / random.std(), rtol=1e-4)
    # The standard error of a mean of 20 values. The random bases add almost nothing.
    error = 1.96 * natural.std() / np.sqrt(20) / random.std()
    np.testing.assert_allclose(test.effect_upper - test.effect_lower, 2 * error, rtol=0.15)
    assert test.effect_lower < test.effect < test.effect_upper


def test_interval_has_its_nominal_coverage():
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        natural = rng.normal(1.0, 1.0, size=40).astype(np.float32)
        test = compare_bases(natural, rng.normal(size=(99, 40)).astype(np.float32), seed=seed)
        covered += bool(test.effect_lower <= 1.0 <= test.effect_upper)
    assert 180 <= covered <= 199  # 95 % of 200, minus the bias of a bootstrap of 40 values, within chance


def test_smaller_entropy_is_more_selective(random):
    low = compare_bases(np.full(20, -1.0, np.float32), random, larger_is_selective=False)
    high = compare_bases(np.full(20, 1.0, np.float32), -random)
    np.testing.assert_allclose([low.p_more, high.p_more], 0.01)
    np.testing.assert_allclose([low.p_less, high.p_less], 1.0)
    np.testing.assert_allclose(low.effect, high.effect, rtol=1e-5)
    assert low.natural == -1.0


def test_equal_directions_give_no_nan():
    test = compare_bases(np.full(20, 0.7, np.float32), np.full((99, 20), 0.5, np.float32))
    assert np.isposinf(test.effect)
    np.testing.assert_allclose(test.p_more, 0.01)


@pytest.mark.parametrize("lead", [-0.5, -0.1, 0.02, 0.3, 1.0])
def test_tails_equal_those_of_a_t_test_for_one_additional_mean(random, lead):
    natural = np.full(20, random.mean() + lead, np.float32)
    means = random.mean(axis=1).astype(np.float64)
    expected = stats.ttest_ind([natural.mean(dtype=np.float64)], means, alternative="greater").pvalue
    test = compare_bases(natural, random)
    np.testing.assert_allclose(test.tail_more, expected, rtol=2e-3, atol=1e-7)
    np.testing.assert_allclose(test.tail_less, 1.0 - expected, rtol=2e-3, atol=1e-7)


def test_too_few_bases_for_the_p_value_are_refused():
    check_num_bases(99)
    with pytest.raises(
        ValueError, match="num_random_bases must be at least 99; received 50, for which no p-value can be below 0.0196"
    ):
        compare_bases(tf.zeros([3]), tf.zeros([50, 3]))


def test_bases_of_other_dimensions_are_refused(random):
    with pytest.raises(ValueError, match="must have equally many directions; received 19 and 20"):
        compare_bases(tf.zeros([19]), random)
