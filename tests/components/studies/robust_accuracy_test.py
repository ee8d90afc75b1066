"""Accuracy at growing distortions: counts of made-up images, and the curves."""

from __future__ import annotations

import numpy as np
import pytest

from components.studies.robust_accuracy import NetworkAccuracy, accuracy_table
from intriguing.reporting import to_png
from intriguing.reporting.plots.accuracy import ImageBounds, _steps, accuracy_curves
from intriguing.statistics.proportions import Proportion

# Two images between their bounds, one whose attack failed, and one that is misclassified.
BOUNDS = ImageBounds(attack=np.array([0.05, 0.2, np.inf, 0.0]), certified=np.array([0.02, 0.01, 0.3, 0.0]))


def test_table_counts_images_beyond_each_distortion() -> None:
    (row,) = accuracy_table([NetworkAccuracy("FC10", BOUNDS)], [0.015, 0.1]).rows
    assert row == {
        "Model": "FC10", "Accuracy": Proportion(3, 4),
        "Attack, 0.015": Proportion(3, 4), "Certified, 0.015": Proportion(2, 4),
        "Attack, 0.1": Proportion(2, 4), "Certified, 0.1": Proportion(1, 4),
    }  # fmt: skip


def test_curves_fall_at_the_distortion_of_each_image_and_never_cross() -> None:
    edges, shares = _steps(BOUNDS.attack, end=0.25)
    np.testing.assert_array_equal(edges, [0.0, 0.05, 0.2, 0.25])
    np.testing.assert_array_equal(shares, [0.75, 0.5, 0.25, 0.25])
    axes = accuracy_curves({"FC10": BOUNDS}, title="Accuracy").axes[0]
    attack, certified = (line.get_xydata() for line in axes.get_lines()[:2])
    grid = np.linspace(0.0, 0.2, 50)
    upper, lower = (steps[np.searchsorted(steps[:, 0], grid, side="right") - 1, 1] for steps in (attack, certified))
    assert (lower <= upper).all() and (lower < upper).any()


def test_networks_whose_attacks_all_failed_have_a_figure() -> None:
    bounds = ImageBounds(attack=[np.inf, np.inf], certified=[0.0, 0.0])
    assert to_png(accuracy_curves({"FC10": bounds}, title="Accuracy")).startswith(b"\x89PNG")


@pytest.mark.parametrize("bounds", [{}, {"FC10": ImageBounds([], [])}, {"FC10": ImageBounds([0.1], [0.1, 0.2])}])
def test_missing_or_mismatched_images_are_refused(bounds: dict[str, ImageBounds]) -> None:
    with pytest.raises(ValueError, match="two columns of the same images; received"):
        accuracy_curves(bounds, title="Accuracy")
