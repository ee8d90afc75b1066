"""Figures of certified and attack distortions for all possible values."""

import numpy as np
import pytest

from intriguing.reporting import certified_versus_attack
from tests.intriguing.reporting.plots.drawn import TEST_DPI, png_shape, texts


@pytest.mark.parametrize("num_images", [1, 2, 300])
def test_draws_any_number_of_images(num_images):
    attacked = np.linspace(0.02, 0.1, num_images)
    assert min(png_shape(certified_versus_attack(attacked / 3, attacked / 9, attacked, title="Two sides"))) > TEST_DPI


@pytest.mark.parametrize("attacked", [[np.nan, np.nan], [0.0, 0.1]], ids=["no success", "initially misclassified"])
def test_draws_images_without_attack_or_certificate(attacked):
    assert min(png_shape(certified_versus_attack([0.0, 0.0], [0.0, 0.0], attacked, title="No sides"))) > TEST_DPI


def test_images_are_sorted_by_attack_and_both_series_are_labeled():
    figure = certified_versus_attack([0.01, 0.02], [0.001, 0.002], [0.09, 0.04], title="Two sides")
    assert {"found by the attack", "certified", "certified by the product of norms", "Two sides"} <= texts(figure)
    found, certain, product = (line.get_ydata() for line in figure.axes[0].lines[:3])
    assert list(found) == [0.04, 0.09]
    assert list(certain) == [0.02, 0.01]
    assert list(product) == [0.002, 0.001]


@pytest.mark.parametrize("columns", [([0.1], [0.1], [0.1, 0.2]), ([], [], [])])
def test_refuses_columns_that_do_not_match(columns):
    with pytest.raises(ValueError, match=r"must have one number for each image, and at least one image; received \["):
        certified_versus_attack(*columns, title="Two sides")
