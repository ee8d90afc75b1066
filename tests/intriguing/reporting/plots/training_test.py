"""Figures of errors by seed and of pool rounds for all possible values."""

import numpy as np
import pytest

from intriguing.reporting import RoundCurves, round_curves, seed_dots
from tests.intriguing.reporting.plots.drawn import TEST_DPI, png_shape, texts


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_draws_any_number_of_seeds_and_labels_every_training_variant(num_seeds):
    figure = seed_dots({"a $b$": [0.016] * num_seeds, "c": [0.013] * num_seeds}, title="Errors", published={"c": 0.012})
    assert {"a $b$", "c", "our mean", "the paper", "Errors"} <= texts(figure)
    assert min(png_shape(figure)) > TEST_DPI


def test_the_mean_of_the_seeds_is_marked():
    figure = seed_dots({"a": [0.01, 0.03]}, title="Errors")
    dots, mean = (collection.get_offsets() for collection in figure.axes[0].collections)
    np.testing.assert_allclose(dots[:, 0], [0.01, 0.03])
    np.testing.assert_allclose(mean, [[0.02, 0.0]])
    assert "the paper" not in texts(figure)


@pytest.mark.parametrize("num_trainings", [1, 2])
def test_draws_rounds_with_gaps_and_one_legend(num_trainings):
    nan = float("nan")
    curves = RoundCurves([2, 4, 5], {"clean images": [0.5, 0.2, 0.1], "images": [nan, 1.0, 0.8]}, {"images": [nan, nan, 0.06]})
    figure = round_curves([curves] * num_trainings, title="Rounds")
    assert {"clean images", "images", "Rounds"} <= texts(figure)
    assert len(figure.legends[0].get_texts()) == 2
    assert min(png_shape(figure)) > TEST_DPI


def test_training_with_one_round_is_drawn():
    curves = RoundCurves([2], {"clean images": [0.5], "images": [float("nan")]}, {"images": [float("nan")]})
    assert min(png_shape(round_curves([curves], title="Rounds"))) > TEST_DPI


@pytest.mark.parametrize("draw", [lambda: seed_dots({}, title="t"), lambda: round_curves([], title="t")])
def test_empty_input_is_refused(draw):
    with pytest.raises(ValueError, match="must contain at least one"):
        draw()
