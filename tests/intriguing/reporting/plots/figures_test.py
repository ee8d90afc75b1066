"""Charts draw all possible results without warnings, and invalid input raises."""

import matplotlib.colors
import numpy as np
import pytest
from matplotlib import pyplot

from intriguing.reporting.plots.figures import distortion_distributions, to_png, training_curves, transfer_heat_map
from tests.intriguing.reporting.plots.drawn import TEST_DPI, png_shape, texts


def _names(num):
    return [f"FC{index}" for index in range(num)]


def test_png_has_the_size_of_the_figure():
    figure = training_curves({"FC10": [1.0, 0.5]}, title="Loss")
    width, height = figure.get_size_inches()
    assert png_shape(figure) == (int(height * TEST_DPI), int(width * TEST_DPI))


def test_the_same_figure_gives_the_same_bytes():
    assert len({to_png(training_curves({"FC10": [1.0, 0.5]}, title="Loss"), dpi=TEST_DPI) for _ in range(2)}) == 1


def test_figures_are_not_kept_by_pyplot():
    before = pyplot.get_fignums()
    training_curves({"FC10": [1.0, 0.5]}, title="Loss")
    assert pyplot.get_fignums() == before


@pytest.mark.parametrize(("num_rows", "num_columns"), [(1, 1), (8, 6), (20, 20), (1, 20)])
def test_heat_map_draws_any_number_of_models(num_rows, num_columns):
    rates = np.linspace(0, 1, num_rows * num_columns).reshape(num_rows, num_columns)
    assert min(png_shape(transfer_heat_map(rates, _names(num_rows), _names(num_columns), title="Transfer"))) > TEST_DPI


def test_heat_map_shows_measured_and_published_numbers():
    figure = transfer_heat_map([[0.293, np.nan]], ["a"], ["b", "c"], title="T", published=[[0.289, np.nan]])
    assert {"29.3", "(28.9)", "\N{EN DASH}"} <= texts(figure)


def test_heat_map_draws_rows_without_a_number():
    assert png_shape(transfer_heat_map(np.full((2, 3), np.nan), _names(2), _names(3), title="T", published=np.ones((2, 3))))


def test_heat_map_text_contrasts_with_its_cell():
    figure = transfer_heat_map([[0.0, 0.3, 0.6, 1.0]], ["a"], _names(4), title="T")
    axes = figure.axes[0]
    for text, patch in zip(axes.texts, axes.patches, strict=True):
        light, dark = sorted((_luminance(text.get_color()), _luminance(patch.get_facecolor())), reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 4.5  # WCAG AA


def _luminance(color):
    channels = np.asarray(matplotlib.colors.to_rgb(color))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_heat_map_scale_is_monotone_in_lightness():
    figure = transfer_heat_map(np.linspace(0, 1, 12)[None], ["a"], _names(12), title="T")
    lightness = [_luminance(patch.get_facecolor()) for patch in figure.axes[0].patches]
    assert np.all(np.diff(lightness) < 0)


def test_heat_map_error_names_the_wrong_shape():
    with pytest.raises(ValueError, match=r"rates must have one row and column per name, \(2, 2\), .* received \(2, 3\)"):
        transfer_heat_map(np.ones((2, 3)), _names(2), _names(2), title="T")


@pytest.mark.parametrize("num", [1, 20])
def test_distributions_draw_any_number_of_models(num):
    values = np.random.default_rng(0).gamma(9, 0.01, size=(num, 30))
    distortions = dict(zip(_names(num), values, strict=True))
    assert png_shape(distortion_distributions(distortions, title="D", published={"FC0": 0.06, "unknown": 0.1}))


def test_distributions_draw_models_without_successful_attacks():
    figure = distortion_distributions({"a": [np.nan, np.nan], "b": [], "c": [0.1, np.nan]}, title="D")
    assert {"no attack succeeded", "1 of 2"} <= texts(figure)
    assert png_shape(distortion_distributions({"a": [np.nan]}, title="D"))


def test_distributions_require_a_model():
    with pytest.raises(ValueError, match="at least one model"):
        distortion_distributions({}, title="D")


@pytest.mark.parametrize("num", [1, 20])
def test_curves_draw_any_number_of_models_in_distinct_styles(num):
    figure = training_curves({name: [2.0, 1.0, 0.5] for name in _names(num)}, title="C")
    styles = {(line.get_color(), str(line._dash_pattern)) for line in figure.axes[0].lines}
    assert png_shape(figure) and len(styles) == num


@pytest.mark.parametrize("losses", [[], [0.5], [np.nan, np.nan], [0.0, -1.0], [1.0, np.nan, 0.0, np.inf, 0.1], [1.0] * 5])
def test_curves_draw_any_losses(losses):
    assert png_shape(training_curves({"FC10": losses}, title="C"))


def test_curves_require_a_history():
    with pytest.raises(ValueError, match="at least one model"):
        training_curves({}, title="C")


def test_dollar_signs_are_drawn_literally():
    name = r"$\frac$"
    figures = [
        transfer_heat_map([[0.5]], [name], [name], title=name),
        distortion_distributions({name: [0.1, 0.2]}, title=name),
        training_curves({name: [1.0, 0.5]}, title=name),
    ]
    assert all(png_shape(figure) for figure in figures)
