"""Figures that compare units with random directions: galleries, effect sizes, and rotations between both bases.

No function changes global state. No information is encoded by color alone: groups have different markers, and curves have
different dash patterns.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from intriguing.reporting.plots.style import FAINT, INK, LABEL_SIZE, PALE, SMALL_SIZE, TITLE_SIZE, blank_figure, literal, tidy
from intriguing.reporting.tables import MISSING

_HEADINGS = ("Natural basis: single units", "Random basis: random directions")
_THUMBNAIL, _LARGEST_THUMBNAIL, _NARROWEST_PANEL = 0.46, 0.9, 2.8  # inches
_LETTERS_PER_INCH, _TITLE_LETTERS_PER_INCH = 16, 13  # average for LABEL_SIZE and TITLE_SIZE
_LABEL_SPACING = 0.18  # inches between the labels of two curves
_COLORS = (
    "#0072b2",
    "#d55e00",
    "#000000",
    "#cc79a7",
    "#009e73",
    "#e69f00",
)  # Okabe and Ito, ordered so that neighbors differ in lightness
_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (2.5, 1)))
_MARKERS = ("o", "s", "D", "^", "v")


class GalleryRow(NamedTuple):
    """One direction with its top images, in decreasing order of the projection."""

    name: str  # such as "unit 17" or "random direction 3"
    images: np.ndarray  # float [images, height, width, channels], one or three channels, in [0, 1]
    caption: str  # a description of its selectivity, such as "9 of 10 are '3'"


class Curve(NamedTuple):
    """The selectivity of bases between the natural basis and a random one, with confidence intervals."""

    alphas: np.ndarray  # [points], 0 natural .. 1 random
    means: np.ndarray  # [points]
    lower: np.ndarray  # [points]
    upper: np.ndarray  # [points]


def direction_galleries(
    natural: Sequence[GalleryRow], random: Sequence[GalleryRow], *, title: str, images_per_row: int = 10
) -> Figure:
    """Shows the top images of each direction: units on the left, random directions on the right.

    The figure corresponds to figures 1 to 4 of the paper; both sides can be compared directly. A side without rows is omitted.

    Args:
        natural: The units.
        random: The random directions.
        title: The title, one line.
        images_per_row: Maximum number of images in a row, which are the first ones.

    Raises:
        ValueError: If there is no row, a row has no image, or its images are not `[n, height, width, 1 or 3]` in [0, 1].

    Example:
        >>> row = GalleryRow("unit 17", images[:5], "9 of 10 are '3'")
        >>> figure = direction_galleries([row], [row._replace(name="random direction 1")], title="hidden1")
        >>> to_png(figure)[1:4]
        b'PNG'
    """
    if not natural and not random:
        raise ValueError("natural or random must contain at least one row; received none. Pass the top images of a direction.")
    if images_per_row < 1:
        raise ValueError(f"images_per_row must be at least 1; received {images_per_row}.")
    panels = {heading: rows for heading, rows in zip(_HEADINGS, (natural, random), strict=True) if rows}
    shown = [[_checked_images(row)[:images_per_row] for row in rows] for rows in panels.values()]
    num_columns = max(len(images) for panel in shown for images in panel)
    strips = [[_strip(images, num_columns) for images in panel] for panel in shown]
    panel_width = max(_NARROWEST_PANEL, num_columns * _THUMBNAIL)
    grid = _gallery_grid(strips, panel_width, title)
    for column, (heading, rows), panel in zip(grid.T, panels.items(), strips, strict=True):
        column[0].text(0, 0.35, heading, va="bottom", fontsize=TITLE_SIZE - 0.5, color=INK)
        column[0].axhline(0, color=PALE, linewidth=1.5)
        for axes, row, strip in zip(column[1:], rows, panel, strict=False):
            _draw_strip(axes, row, strip, num_letters=int(panel_width * _LETTERS_PER_INCH))
    return grid[0, 0].figure


def effect_sizes(
    names: Sequence[str],
    effects: npt.ArrayLike,
    lower: npt.ArrayLike,
    upper: npt.ArrayLike,
    *,
    significant: Sequence[bool],
    title: str,
    groups: Sequence[str] | None = None,
) -> Figure:
    """Plots effect sizes, the difference between the natural basis and random bases: a marker and a 95 % interval per row.

    The marker is filled if the difference is significant, and hollow otherwise; the numbers are in the margin.

    Args:
        names: The name of each row, such as the network, the layer and the measure.
        effects: Float `[rows]`, in standard deviations of random directions; NaN for an empty row.
        lower: As `effects`, the lower ends of the intervals; NaN if there is no interval.
        upper: As `lower`, the upper ends.
        significant: Whether each effect differs significantly from zero.
        title: The title, one line.
        groups: The group of each row, such as "trained" or "random weights"; each group has a color and a marker.

    Raises:
        ValueError: If there is no row, lengths differ, or a lower end exceeds the upper end.

    Example:
        >>> figure = effect_sizes(["hidden1"], [1.6], [1.1], [2.1], significant=[True], title="Purity")
        >>> to_png(figure)[1:4]
        b'PNG'
    """
    columns = {"effects": effects, "lower": lower, "upper": upper, "significant": significant, "groups": groups}
    intervals = _checked_intervals(names, {name: np.asarray(column) for name, column in columns.items() if column is not None})
    kinds = groups or [""] * len(names)
    styles = dict(zip(dict.fromkeys(kinds), zip(itertools.cycle(_COLORS), itertools.cycle(_MARKERS)), strict=False))
    width = float(np.clip(4.6 + 0.07 * max(map(len, names)), 7.4, 11))
    axes = _titled_figure(title, width, 0.24 * len(names) + 1.4).add_subplot()
    for row, (interval, filled, kind) in enumerate(zip(intervals, significant, kinds, strict=True)):
        _draw_effect(axes, row, interval, filled=filled, style=styles[kind])
    axes.set_yticks(range(len(names)), names, parse_math=False)
    _frame_effects(axes, intervals)
    return _with_legend(axes, {name: style for name, style in styles.items() if groups})


def rotation_curves(curves: Mapping[str, Curve], *, measure: str, title: str) -> Figure:
    """Plots the selectivity of the bases Q**alpha, from the natural basis (alpha 0) to a random basis (alpha 1).

    Args:
        curves: One curve per layer, with its interval as a pale band; NaN for a gap.
        measure: The name of the measure, for the vertical axis.
        title: The title, one line.

    Raises:
        ValueError: If there is no curve, or the arrays of a curve have different lengths.

    Example:
        >>> curve = Curve(np.array([0.0, 1.0]), np.array([0.9, 0.7]), np.array([0.8, 0.6]), np.array([1.0, 0.8]))
        >>> figure = rotation_curves({"hidden1": curve}, measure="Purity", title="FC100-100-10")
        >>> to_png(figure)[1:4]
        b'PNG'
    """
    if not curves:
        raise ValueError("curves must contain at least one layer; received none. Measure rotated bases first.")
    checked = {name: _checked_curve(name, curve) for name, curve in curves.items()}
    height = max(3.6, _LABEL_SPACING * len(curves) + 1.2)
    figure = _titled_figure(title, float(np.clip(5.6 + 0.07 * max(map(len, curves)), 7.4, 11)), height)
    axes = figure.add_subplot()
    styles = list(itertools.islice(zip(itertools.cycle(_COLORS), itertools.cycle(_DASHES)), len(curves)))
    for curve, (color, dash) in zip(checked.values(), styles, strict=True):
        axes.fill_between(
            curve.alphas, curve.lower, curve.upper, color=color, alpha=min(0.13, 0.8 / len(curves)), linewidth=0, zorder=1
        )
        axes.plot(curve.alphas, curve.means, color=color, linestyle=dash, linewidth=1.5, marker="o", markersize=2.6)
    axes.margins(x=0.02)
    axes.set_xticks((0, 0.25, 0.5, 0.75, 1), ("0\nnatural", "0.25", "0.5", "0.75", "1\nrandom"))
    tidy(axes, xlabel="rotation of the basis, alpha in Q**alpha", ylabel=textwrap.fill(measure, 45))
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    _label_curves(axes, checked, styles, spacing=_LABEL_SPACING / (height - 1.0))
    return figure


def _titled_figure(title: str, width: float, height: float) -> Figure:
    lines = textwrap.wrap(title, int(width * _TITLE_LETTERS_PER_INCH)) or [""]
    return blank_figure(width, height + 0.17 * (len(lines) - 1), "\n".join(lines))


def _checked_images(row: GalleryRow) -> np.ndarray:
    images = np.asarray(row.images, dtype=np.float32)
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"{row.name!r} requires images [n, height, width, 1 or 3]; received {images.shape}. Add a channel axis."
        )
    if not images.size:
        raise ValueError(f"{row.name!r} requires at least one image; received {images.shape}.")
    low, high = images.min(), images.max()
    if not -1e-6 <= low <= high <= 1 + 1e-6:
        raise ValueError(
            f"{row.name!r} requires images in [0.0, 1.0]; received {low:.2f} to {high:.2f}. Call PixelBox.rescale."
        )
    return np.clip(images, 0, 1)


def _strip(images: np.ndarray, num_columns: int) -> np.ndarray:
    """Arranges `[n, height, width, channels]` in one row on white, of the width of `num_columns` images with gaps.

    A row is one picture, because the time of the layout grows with the number of axes.
    """
    _, height, width, channels = images.shape
    gap = max(1, round(0.06 * width))
    cells = np.ones((num_columns, height, width + gap, channels), images.dtype)
    cells[: len(images), :, :width] = images
    return np.concatenate(list(cells), axis=1)[:, :-gap]


def _gallery_grid(strips: Sequence[Sequence[np.ndarray]], panel_width: float, title: str) -> Any:
    """Creates a figure with one column per panel: a cell for the heading, then one cell for each strip."""
    tallest = max(strip.shape[0] / strip.shape[1] for panel in strips for strip in panel)
    num_rows, row_height = max(map(len, strips)), min(panel_width * tallest, _LARGEST_THUMBNAIL)
    figure = _titled_figure(title, (panel_width + 0.3) * len(strips), 0.75 + num_rows * (row_height + 0.25))
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.03, hspace=0)
    grid: Any = figure.subplots(1 + num_rows, len(strips), squeeze=False, height_ratios=[0.2] + num_rows * [row_height])
    for axes in grid.flat:
        axes.set_axis_off()
    return grid


def _draw_strip(axes: Axes, row: GalleryRow, strip: np.ndarray, *, num_letters: int) -> None:
    axes.imshow(strip if strip.shape[-1] == 3 else strip[..., 0], cmap="gray", vmin=0, vmax=1)
    axes.set_anchor("NW")
    name = _shortened(row.name, num_letters // 2)
    heading = literal(axes.set_title(name, loc="left", fontsize=LABEL_SIZE, color=INK, pad=2.5))
    caption = axes.annotate(
        _shortened(row.caption, num_letters - len(name) - 2),
        (1, 0), xycoords=heading, xytext=(7, 0), textcoords="offset points", va="bottom", fontsize=LABEL_SIZE, color=FAINT,
    )  # fmt: skip
    literal(caption).set_in_layout(False)  # it is on the line of the name, whose height is already in the layout


def _shortened(text: str, num_letters: int) -> str:
    return text if len(text) <= num_letters else f"{text[: num_letters - 1].rstrip()}…"


def _checked_intervals(names: Sequence[str], columns: Mapping[str, np.ndarray]) -> np.ndarray:
    shapes = {name: column.shape for name, column in columns.items()}
    if not names or set(shapes.values()) != {(len(names),)}:
        raise ValueError(
            f"names must not be empty, and all arrays must have one entry for each of {len(names)} names; received {shapes}."
        )
    intervals = np.stack([columns[name].astype(np.float64) for name in ("effects", "lower", "upper")], axis=-1)
    if reversed_rows := [name for name, (_, lower, upper) in zip(names, intervals, strict=True) if lower > upper]:
        raise ValueError(f"lower must not exceed upper; received a larger lower for {', '.join(reversed_rows)}.")
    return intervals


def _draw_effect(axes: Axes, row: int, interval: np.ndarray, *, filled: bool, style: tuple[str, str]) -> None:
    (effect, lower, upper), (color, marker), note = interval, style, MISSING
    axes.axhline(row, color=PALE, linewidth=0.6, zorder=0)
    if np.isfinite(effect):
        note = _signed(effect) + (f"  ({_signed(lower)} to {_signed(upper)})" if np.isfinite(upper - lower) else "")
        axes.plot((lower, upper), (row, row), color=color, linewidth=1.4, solid_capstyle="butt", zorder=2)
        axes.plot(effect, row, marker, markersize=5.5, color=color, markerfacecolor=color if filled else "white", zorder=3)
    place = axes.get_yaxis_transform()
    axes.text(1.02, row, note, transform=place, va="center", fontsize=SMALL_SIZE, color=FAINT)


def _signed(number: float) -> str:
    return f"{round(number, 2) + 0.0:+.2f}".replace("-", "\N{MINUS SIGN}")


def _frame_effects(axes: Axes, intervals: np.ndarray) -> None:
    shown = np.append(intervals[np.isfinite(intervals) & np.isfinite(intervals[:, :1])], 0.0)
    margin = 0.06 * np.ptp(shown) or 1.0
    axes.set_xlim(shown.min() - margin, shown.max() + margin)
    axes.set_ylim(len(intervals) - 0.4, -0.6)
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    tidy(axes, xlabel="natural basis more selective than random →\n(standard deviations of random directions)")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _with_legend(axes: Axes, styles: Mapping[str, tuple[str, str]]) -> Figure:
    figure: Any = axes.figure
    entries = [(name, *style, style[0]) for name, style in styles.items()]
    entries += [("significant", FAINT, "o", FAINT), ("not significant", FAINT, "o", "white")]
    for name, color, marker, face in entries:
        axes.plot(np.nan, np.nan, marker, markersize=5.5, color=color, markerfacecolor=face, label=name)
    place = blended_transform_factory(figure.transFigure, axes.transAxes)
    legend = axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), bbox_transform=place, ncols=5, frameon=False, fontsize=SMALL_SIZE
    )
    legend.set_in_layout(False)  # it is as wide as the figure; in the layout, it would shrink the axes
    axes.set_title(" " + "\n" * ((len(entries) - 1) // 5), fontsize=LABEL_SIZE)  # reserves space for the legend
    for text in legend.get_texts():
        literal(text).set_color(INK)
    return figure


def _checked_curve(name: str, curve: Curve) -> Curve:
    arrays = [np.asarray(values, dtype=np.float64) for values in curve]
    shapes = dict(zip(Curve._fields, (array.shape for array in arrays), strict=True))
    if len(set(shapes.values())) != 1 or arrays[0].ndim != 1 or not arrays[0].size:
        raise ValueError(f"the arrays of curve {name!r} must have one equal length of at least 1; received {shapes}.")
    return Curve(*(array[np.argsort(arrays[0])] for array in arrays))


def _label_curves(axes: Axes, curves: Mapping[str, Curve], styles: Sequence[tuple[str, Any]], *, spacing: float) -> None:
    """Labels each curve at its end, with a sample of its line; a thin line connects them if labels are moved apart."""
    axes.set_ylim(axes.get_ylim())  # fixes the limits, which the samples must not change
    (bottom, top), place = axes.get_ylim(), axes.transAxes
    ends = [curve.means[np.isfinite(curve.means)][-1:] for curve in curves.values()]
    wanted = np.array([(end[0] - bottom) / (top - bottom) if end.size else 0.0 for end in ends])
    places = zip(curves, styles, ends, wanted, _moved_apart(wanted, spacing), strict=True)
    for name, (color, dash), end, start, height in places:
        if end.size:
            axes.plot((0.985, 1.03), (start, height), transform=place, color=PALE, linewidth=0.9, clip_on=False, zorder=0)
        axes.plot((1.03, 1.09), (height, height), transform=place, color=color, linestyle=dash, linewidth=1.5, clip_on=False)
        text = name if end.size else f"{name} {MISSING}"
        literal(axes.text(1.1, height, text, transform=place, va="center", fontsize=LABEL_SIZE, color=INK))


def _moved_apart(heights: np.ndarray, spacing: float) -> np.ndarray:
    """Returns the nearest `[n]` heights that are `spacing` apart: least squares, by the min-max form of an isotonic fit."""
    order = np.argsort(heights, kind="stable")
    steps = spacing * np.arange(len(heights))
    loose, n = heights[order] - steps, len(heights)
    fitted = [max(min(loose[i:j].mean() for j in range(k + 1, n + 1)) for i in range(k + 1)) for k in range(n)]
    return (np.clip(fitted, 0, max(0.0, 1 - steps[-1])) + steps)[np.argsort(order)]
