"""Figures of units and directions show the given values, and invalid input raises."""

import itertools

import matplotlib.colors
import numpy as np
import pytest
from matplotlib import pyplot

from intriguing.reporting import Curve, GalleryRow, direction_galleries, effect_sizes, rotation_curves
from intriguing.reporting.plots.units import _moved_apart
from tests.intriguing.reporting.plots.drawn import TEST_DPI, png_shape, texts


def _row(name, num=10, size=8, channels=1, caption="9 of 10 are '3'"):
    images = np.random.default_rng(num).uniform(size=(num, size, size, channels))
    return GalleryRow(name, images, caption)


def _strips(figure):
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def _dots(figure):
    """Returns `{x: (color, filled, marker)}` of the dots in the order of their rows, without those of the legend."""
    lines = [line for line in figure.axes[0].lines if line.get_marker() != "None" and np.isfinite(line.get_xdata()).all()]
    return {
        float(np.ravel(line.get_xdata())[0]): (line.get_color(), line.get_markerfacecolor() != "white", line.get_marker())
        for line in sorted(lines, key=lambda line: float(np.ravel(line.get_ydata())[0]))
    }


def _effects(num=3, **changes):
    values = np.linspace(-1.0, 2.0, num) + 0.125
    arguments = {"effects": values, "lower": values - 0.5, "upper": values + 0.5, "significant": [True] * num, "title": "E"}
    return effect_sizes([f"FC10, layer {row}" for row in range(num)], **arguments | changes)


def _curve(start=0.9, end=0.3, num=5):
    means = np.linspace(start, end, num)
    return Curve(np.linspace(0, 1, num), means, means - 0.05, means + 0.05)


def _mean_lines(figure):
    return [line for line in figure.axes[0].lines if line.get_marker() == "o"]


def _inside(figure):
    """Returns whether all text lies inside the figure."""
    figure.canvas.draw()
    sheet, bare = figure.bbox, [axes for axes in figure.axes if not axes.axison]
    undrawn = [label for axes in bare for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    written = figure.findobj(lambda artist: hasattr(artist, "get_text") and artist.get_text() and artist not in undrawn)
    boxes = [text.get_window_extent() for text in written]
    return all(box.x0 >= sheet.x0 and box.y0 >= sheet.y0 and box.x1 <= sheet.x1 and box.y1 <= sheet.y1 for box in boxes)


# Galleries


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("num_natural", "num_random"), [(1, 1), (3, 2), (2, 0), (0, 1)])
def test_galleries_draw_gray_and_color_and_uneven_sides(num_natural, num_random, channels):
    sides = [[_row(f"row {row}", channels=channels) for row in range(num)] for num in (num_natural, num_random)]
    figure = direction_galleries(*sides, title="G")
    assert min(png_shape(figure)) > TEST_DPI
    assert len(_strips(figure)) == num_natural + num_random


def test_sides_have_headings_and_rows_have_names_and_captions():
    figure = direction_galleries([_row("unit 17")], [_row("random direction 3", caption="4 of 10 are '8'")], title="Layer 1")
    headings = {"Natural basis: single units", "Random basis: random directions"}
    assert headings | {"Layer 1", "unit 17", "9 of 10 are '3'", "random direction 3", "4 of 10 are '8'"} <= texts(figure)


def test_side_without_rows_is_omitted():
    figure = direction_galleries([], [_row("random direction 3")], title="G")
    assert "Natural basis: single units" not in texts(figure)


def test_natural_units_are_left_of_random_directions():
    figure = direction_galleries([_row("unit 17")], [_row("random direction 3")], title="G")
    figure.canvas.draw()
    left, right = (axes.get_position() for axes in figure.axes if axes.images)
    assert left.x1 < right.x0 and left.y0 == pytest.approx(right.y0)


@pytest.mark.parametrize("channels", [1, 3])
def test_strips_show_images_in_order_with_white_gaps(channels):
    row = _row("unit 17", num=4, channels=channels)
    (strip,) = _strips(direction_galleries([row], [], title="G"))
    pixels = strip.reshape(8, -1, channels)
    for index, image in enumerate(row.images):
        np.testing.assert_allclose(pixels[:, 9 * index : 9 * index + 8], image, rtol=1e-6)
    assert np.all(pixels[:, 8::9] == 1.0) and pixels.shape[1] == 4 * 8 + 3


def test_strokes_are_white_on_black():
    figure = direction_galleries([_row("unit 17")], [], title="G")
    (picture,) = (axes.images[0] for axes in figure.axes if axes.images)
    assert picture.get_cmap()(picture.norm([0.0, 1.0]))[:, :3].tolist() == [[0, 0, 0], [1, 1, 1]]


def test_rows_show_at_most_the_requested_number_of_images():
    rows = [_row("unit 17", num=12), _row("unit 18", num=2)]
    long, short = _strips(direction_galleries(rows, [], title="G", images_per_row=3))
    np.testing.assert_allclose(long[:, 18:26], rows[0].images[2, ..., 0], rtol=1e-6)
    assert long.shape == short.shape == (8, 3 * 8 + 2)
    assert np.all(short[:, 17:] == 1.0), "the position of a missing image is white"


def test_long_captions_are_truncated_before_the_next_row():
    figure = direction_galleries([_row("unit 17", caption="purity " * 40)], [_row("random direction 3")], title="G")
    figure.canvas.draw()
    (caption,) = (text for axes in figure.axes for text in axes.texts if text.get_text().startswith("purity"))
    right = next(axes for axes in figure.axes if axes.get_title("left") == "random direction 3")
    assert caption.get_text().endswith("…")
    assert caption.get_window_extent().x1 < right.get_window_extent().x0


def test_galleries_require_a_row():
    with pytest.raises(
        ValueError, match=r"natural or random must contain at least one row; received none\. Pass the top images"
    ):
        direction_galleries([], [], title="G")


def test_gallery_rows_require_an_image():
    with pytest.raises(ValueError, match=r"'unit 18' requires at least one image; received \(0, 8, 8, 1\)\."):
        direction_galleries([_row("unit 17")], [_row("unit 18", num=0)], title="G")


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 8, 8, 2), (8, 8)])
def test_galleries_error_names_the_wrong_shape(shape):
    with pytest.raises(
        ValueError, match=r"'unit 17' requires images \[n, height, width, 1 or 3\]; received \(.*Add a channel axis"
    ):
        direction_galleries([GalleryRow("unit 17", np.ones(shape), "")], [], title="G")


def test_galleries_error_names_pixels_outside_the_bounds():
    images = np.array([0.0, 255.0]).reshape(1, 1, 2, 1)
    with pytest.raises(
        ValueError, match=r"'unit 17' requires images in \[0\.0, 1\.0\]; received 0\.00 to 255\.00\. Call PixelBox"
    ):
        direction_galleries([GalleryRow("unit 17", images, "")], [], title="G")
    with pytest.raises(ValueError, match="received nan to nan"):
        direction_galleries([GalleryRow("unit 17", images * np.nan, "")], [], title="G")


def test_galleries_show_at_least_one_image_per_row():
    with pytest.raises(ValueError, match="images_per_row must be at least 1; received 0"):
        direction_galleries([_row("unit 17")], [], title="G", images_per_row=0)


# Effect sizes


@pytest.mark.parametrize("num", [1, 20])
def test_effect_figure_grows_with_the_number_of_rows(num):
    figure = _effects(num)
    assert min(png_shape(figure)) > TEST_DPI
    assert len(_dots(figure)) == num
    assert _effects(num + 1).get_figheight() > figure.get_figheight()


def test_effects_are_drawn_at_their_values_in_order():
    figure = effect_sizes(["a", "b"], [1.5, -0.25], [1, -1], [2, 0.5], significant=[True, False], title="E")
    axes = figure.axes[0]
    segments = [line.get_xydata().tolist() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_xdata()[0] != 0]
    assert list(_dots(figure)) == [1.5, -0.25]
    assert [[1, 0], [2, 0]] in segments and [[-1, 1], [0.5, 1]] in segments
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first row is on top"
    assert {"+1.50  (+1.00 to +2.00)", "\N{MINUS SIGN}0.25  (\N{MINUS SIGN}1.00 to +0.50)"} <= texts(figure)


def test_dots_are_filled_only_where_significant():
    figure = _effects(significant=[True, False, True])
    assert [filled for _, filled, _ in _dots(figure).values()] == [True, False, True]
    assert {"significant", "not significant"} <= texts(figure)


def test_zero_is_marked_and_always_visible():
    figure = _effects(effects=[5, 6, 7], lower=[4, 5, 6], upper=[6, 7, 8])
    low, high = figure.axes[0].get_xlim()
    assert low < 0 and high > 8
    assert any(list(line.get_xdata()) == [0, 0] for line in figure.axes[0].lines)


def test_axis_label_names_direction_and_unit():
    label = _effects().axes[0].get_xlabel()
    assert label == "natural basis more selective than random →\n(standard deviations of random directions)"


def test_missing_effects_leave_their_row_empty_with_a_dash():
    figure = _effects(effects=[1.0, np.nan, 3.0])
    assert list(_dots(figure)) == [1.0, 3.0]
    assert [text.get_text() for text in figure.axes[0].texts][1] == "\N{EN DASH}"
    assert png_shape(_effects(effects=[np.nan] * 3, lower=[np.nan] * 3, upper=[np.nan] * 3))


def test_effects_without_an_interval_show_their_dot():
    figure = _effects(1, effects=[1.0], lower=[np.nan], upper=[np.nan])
    assert list(_dots(figure)) == [1.0] and "+1.00" in texts(figure)


def test_groups_differ_in_color_and_marker_and_have_a_legend():
    groups = ["trained", "random weights", "pixels", "trained"]
    figure = _effects(4, groups=groups)
    styles = [(color, marker) for color, _, marker in _dots(figure).values()]
    assert styles[0] == styles[3] and len({color for color, _ in styles}) == len({marker for _, marker in styles}) == 3
    assert set(groups) <= {text.get_text() for text in figure.axes[0].get_legend().get_texts()}


@pytest.mark.parametrize("num_groups", [0, 1, 3, 6])
def test_legend_is_between_title_and_rows(num_groups):
    groups = [f"group {row % num_groups}" for row in range(6)] if num_groups else None
    figure = _effects(6, groups=groups)
    figure.canvas.draw()
    legend = figure.axes[0].get_legend().get_window_extent()
    assert figure.axes[0].get_window_extent().y1 <= legend.y0 + 1  # a pixel of rounding
    assert legend.y1 <= figure._suptitle.get_window_extent().y0 + 4  # the frame of the legend has a margin


def test_effects_require_a_number_for_every_name():
    words = r"names must not be empty, and all arrays must have one entry for each of 3 names; received .*'lower': \(2,\)"
    with pytest.raises(ValueError, match=words):
        _effects(lower=[0, 1])
    with pytest.raises(ValueError, match=r"'significant': \(1,\)"):
        _effects(significant=[True])
    with pytest.raises(ValueError, match=r"'groups': \(2,\)"):
        _effects(groups=["trained", "pixels"])
    with pytest.raises(ValueError, match="names must not be empty"):
        effect_sizes([], [], [], [], significant=[], title="E")


def test_reversed_interval_error_names_the_row():
    with pytest.raises(ValueError, match=r"lower must not exceed upper; received a larger lower for FC10, layer 1\."):
        _effects(lower=[-2, 3, 1], upper=[2, 2, 3])


# Rotation curves


@pytest.mark.parametrize("num", [1, 6, 20])
def test_curves_draw_any_number_of_layers_in_distinct_styles(num):
    figure = rotation_curves({f"layer {index}": _curve() for index in range(num)}, measure="label purity", title="C")
    lines = _mean_lines(figure)
    assert png_shape(figure)
    assert len({(line.get_color(), str(line._dash_pattern)) for line in lines}) == len(lines) == num
    assert len({line.get_color() for line in lines}) <= 6


def test_neighboring_colors_differ_in_gray():
    figure = rotation_curves({f"layer {index}": _curve() for index in range(6)}, measure="m", title="C")
    gray = [float(np.dot(matplotlib.colors.to_rgb(line.get_color()), (0.299, 0.587, 0.114))) for line in _mean_lines(figure)]
    assert np.all(np.abs(np.diff(gray)) > 0.05)


def test_curves_run_from_natural_to_random_and_name_their_measure():
    figure = rotation_curves({"hidden_1": _curve()}, measure="label purity", title="C")
    axes = figure.axes[0]
    np.testing.assert_allclose(_mean_lines(figure)[0].get_xydata().T, _curve()[:2])
    assert axes.get_ylabel() == "label purity"
    assert {"0\nnatural", "1\nrandom", "hidden_1"} <= texts(figure)


def test_points_are_connected_in_the_order_of_alpha():
    figure = rotation_curves({"hidden_1": Curve(*(values[::-1] for values in _curve()))}, measure="m", title="C")
    np.testing.assert_allclose(_mean_lines(figure)[0].get_xydata().T, _curve()[:2])


def test_band_spans_lower_to_upper():
    figure = rotation_curves({"hidden_1": _curve(0.9, 0.3)}, measure="m", title="C")
    (band,) = figure.axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.25, 0.95))
    assert band.get_alpha() < 0.2


def test_curve_names_are_next_to_a_sample_of_their_line():
    curves = {"low": _curve(end=0.2), "high": _curve(end=0.8), "middle": _curve(end=0.5)}
    figure = rotation_curves(curves, measure="m", title="C")
    names = {text.get_position()[1]: text.get_text() for text in figure.axes[0].texts}
    samples = {line.get_ydata()[0]: line.get_color() for line in figure.axes[0].lines if line.get_xdata()[0] == 1.03}
    drawn = dict(zip(curves, (line.get_color() for line in _mean_lines(figure)), strict=True))
    assert [name for _, name in sorted(names.items())] == ["low", "middle", "high"]
    assert {name: samples[height] for height, name in names.items()} == drawn


def test_names_of_curves_that_end_together_do_not_overlap():
    figure = rotation_curves({f"layer {index}": _curve() for index in range(15)}, measure="m", title="C")
    figure.canvas.draw()
    boxes = sorted((text.get_window_extent() for text in figure.axes[0].texts), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 for below, above in itertools.pairwise(boxes))


def test_curves_draw_gaps_and_layers_without_a_number():
    gap, empty = _curve(), _curve()
    gap.means[2], empty.means[:] = np.nan, np.nan
    figure = rotation_curves({"gap": gap, "empty": empty}, measure="m", title="C")
    assert {"gap", "empty \N{EN DASH}"} <= texts(figure)
    assert png_shape(rotation_curves({"empty": empty}, measure="m", title="C"))


def test_curves_require_a_layer():
    with pytest.raises(
        ValueError, match=r"curves must contain at least one layer; received none\. Measure rotated bases first\."
    ):
        rotation_curves({}, measure="m", title="C")


def test_length_mismatch_error_names_the_layer():
    words = r"the arrays of curve 'hidden_1' must have one equal length of at least 1; received .*'lower': \(4,\)"
    with pytest.raises(ValueError, match=words):
        rotation_curves({"hidden_1": _curve()._replace(lower=np.zeros(4))}, measure="m", title="C")
    with pytest.raises(ValueError, match="of at least 1"):
        rotation_curves({"hidden_1": Curve(*np.zeros((4, 0)))}, measure="m", title="C")


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([0.5], [0.5]),
        ([0.2, 0.8], [0.2, 0.8]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.9, 0.1, 0.5, 0.5], [0.9, 0.1, 0.45, 0.55]),
        ([0.0, 0.0, 0.0], [0.0, 0.1, 0.2]),
        ([1.0, 1.0], [0.9, 1.0]),
    ],
)
def test_labels_are_separated_by_the_minimum_distance(heights, expected):
    assert _moved_apart(np.array(heights), 0.1) == pytest.approx(expected)


# All figures


def _one_of_each(name="FC10", title="T"):
    return [
        direction_galleries([_row(name, caption=name)], [_row(name)], title=title),
        effect_sizes([name, name], [1, -1], [0, -2], [2, 0], significant=[True, False], title=title, groups=[name, name]),
        rotation_curves({name: _curve()}, measure=name, title=title),
    ]


def test_dollar_signs_are_drawn_literally():
    assert all(png_shape(figure) for figure in _one_of_each(r"$\frac$", r"$\frac$"))


def test_long_names_and_titles_stay_on_the_figure():
    figures = _one_of_each(
        "FC100-100-10, hidden layer 2, random weights", "A long title that describes its figure in detail " * 4
    )
    assert [_inside(figure) for figure in figures] == [True, True, True]


def test_figures_are_not_kept_by_pyplot():
    before = pyplot.get_fignums()
    _one_of_each()
    assert pyplot.get_fignums() == before
