"""Adjusted p-values agree with the article, with a direct computation and with SciPy."""

import numpy as np
import pytest
from scipy import stats

from intriguing.statistics import false_discovery_rates

# Benjamini and Hochberg, 1995, section 4.1: fifteen p-values, of which their procedure rejects the first four at q = 0.05.
ARTICLE = [
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0,
]  # fmt: skip


def test_rejects_the_tests_of_the_article() -> None:
    assert (false_discovery_rates(ARTICLE) <= 0.05).tolist() == [True] * 4 + [False] * 11


@pytest.mark.parametrize("number", [0, 1, 2, 40])
def test_adjusted_p_values_are_those_of_benjamini_and_hochberg(number: int) -> None:
    p_values = np.random.default_rng(number).uniform(0, 0.2, size=number)
    p_values[: number // 3] = 0.0099
    scaled = [min(1.0, value * number / np.count_nonzero(p_values <= value)) for value in p_values]
    expected = [min(s for s, other in zip(scaled, p_values) if other >= value) for value in p_values]
    np.testing.assert_allclose(false_discovery_rates(p_values), expected, rtol=1e-12)
    np.testing.assert_allclose(false_discovery_rates(p_values), stats.false_discovery_control(p_values), rtol=1e-12)


def test_all_entries_of_an_array_are_one_family_of_tests() -> None:
    p_values = np.reshape(ARTICLE[:14], (7, 2))
    np.testing.assert_array_equal(false_discovery_rates(p_values).ravel(), false_discovery_rates(ARTICLE[:14]))


@pytest.mark.parametrize("wrong", [np.nan, -0.1, 1.1])
def test_refuses_values_that_are_not_probabilities(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"p_values must lie in \[0, 1\]; received 1 of 2 that are NaN or outside"):
        false_discovery_rates([0.5, wrong])
