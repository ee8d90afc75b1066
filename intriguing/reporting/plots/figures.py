"""Figures of results. Every function returns a Matplotlib figure, and changes no global state.

No information is encoded by color alone: rates are also written as numbers, and curves have different dash patterns.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from intriguing.reporting.plots.style import (
    BLUE,
    FAINT,
    INK,
    LABEL_SIZE,
    PALE,
    SMALL_SIZE,
    VERMILION,
    blank_figure,
    literal,
    tidy,
)
from intriguing.reporting.tables import MISSING, format_percent

FIGURE_DPI = 192  # twice the resolution of a page, for high-resolution screens and print
OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
_RATE_COLORS = LinearSegmentedColormap.from_list("rate", ("#ffffff", "#bcd2e4", "#5f93bd", "#1f5a8c", "#0b2a48"))


def to_png(figure: Figure, dpi: int = FIGURE_DPI) -> bytes:
    """Renders a figure as a PNG file; equal figures result in equal bytes.

    Example:
        >>> figure = training_curves({"FC10": [1.0, 0.5, 0.25]}, title="Training")
        >>> to_png(figure)[1:4]
        b'PNG'
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def transfer_heat_map(
    rates: npt.ArrayLike,
    row_names: Sequence[str],
    column_names: Sequence[str],
    *,
    title: str,
    published: npt.ArrayLike | None = None,
) -> Figure:
    """Plots the error rates of all evaluated models on the distorted images of all source models, in percent.

    Args:
        rates: Float `[rows, columns]` in [0, 1]; NaN for missing values.
        row_names: The source models.
        column_names: The evaluated models.
        title: The title, one line.
        published: As `rates`: the numbers of the paper, shown in brackets below ours; NaN for missing values.

    Raises:
        ValueError: If a shape does not match the names.

    Example:
        >>> figure = transfer_heat_map([[1.0, 0.2], [0.3, 1.0]], ["A", "B"], ["A", "B"], title="Transfer")
        >>> to_png(figure)[1:4]
        b'PNG'
    """
    ours = _matrix("rates", rates, row_names, column_names)
    paper = np.full_like(ours, np.nan) if published is None else _matrix("published", published, row_names, column_names)
    cell = float(np.clip(9.0 / len(column_names), 0.56, 0.86))
    figure = blank_figure(len(column_names) * cell + 2.9, len(row_names) * cell * 0.62 + 1.7, title)
    axes = figure.add_subplot()
    for row, column in np.ndindex(ours.shape):
        _draw_rate(axes, row, column, float(ours[row, column]), float(paper[row, column]))
    _frame_heat_map(axes, row_names, column_names)
    _add_rate_bar(figure, axes)
    return figure


def distortion_distributions(
    distortions: Mapping[str, npt.ArrayLike], *, title: str, published: Mapping[str, float] | None = None
) -> Figure:
    """Plots one row of distortions per model: a dot per image, a bar from the first to the third quartile, and the means.

    Args:
        distortions: Float `[images]` per model, in pixel units; NaN if the attack failed.
        title: The title, one line.
        published: The mean in the paper, for the models of the paper.

    Raises:
        ValueError: If there is no model.

    Example:
        >>> figure = distortion_distributions({"FC10": [0.05, 0.06, np.nan]}, title="Distortion")
        >>> to_png(figure)[1:4]
        b'PNG'
    """
    if not distortions:
        raise ValueError("distortions must contain at least one model; received none. Attack a model first.")
    figure = blank_figure(7.4, 0.42 * len(distortions) + 1.5, title)
    axes = figure.add_subplot()
    for row, (name, values) in enumerate(distortions.items()):
        _draw_strip(axes, row, np.asarray(values, dtype=np.float64).ravel(), (published or {}).get(name, np.nan))
    axes.set_yticks(range(len(distortions)), list(distortions), parse_math=False)
    axes.set_ylim(len(distortions) - 0.4, -0.6)
    axes.set_xlim(left=0.0, right=None if _any_finite(distortions, published or {}) else 1.0)
    tidy(axes, xlabel="distortion (root-mean-square pixel change)")
    axes.tick_params(axis="y", length=0)
    _legend(axes, published)
    return figure


def training_curves(histories: Mapping[str, Sequence[float]], *, title: str, step: str = "epoch") -> Figure:
    """Plots the loss of every model during training, on a logarithmic scale.

    Losses that are not positive numbers are omitted.

    Args:
        histories: One loss per step and model.
        title: The title, one line.
        step: The unit of the horizontal axis.

    Raises:
        ValueError: If there is no history.

    Example:
        >>> figure = training_curves({"FC10": [1.0, 0.5, 0.25]}, title="Training")
        >>> to_png(figure)[1:4]
        b'PNG'
    """
    if not histories:
        raise ValueError("histories must contain at least one model; received none. Train a model first.")
    figure = blank_figure(7.4, max(3.6, 0.2 * len(histories) + 0.9), title)
    axes = figure.add_subplot()
    styles = zip(itertools.cycle(OKABE_ITO), itertools.cycle(DASHES))  # 7 and 4 are coprime: 28 different pairs
    drawn = [
        _draw_history(axes, name, losses, *style) for (name, losses), style in zip(histories.items(), styles, strict=False)
    ]
    if any(drawn):
        axes.set_yscale("log")
    tidy(axes, xlabel=step, ylabel="loss")
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    for text in axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=LABEL_SIZE).get_texts():
        literal(text)
    return figure


def _matrix(name: str, values: npt.ArrayLike, row_names: Sequence[str], column_names: Sequence[str]) -> np.ndarray:
    matrix, expected = np.asarray(values, dtype=np.float64), (len(row_names), len(column_names))
    if matrix.shape != expected or 0 in expected:
        raise ValueError(
            f"{name} must have one row and column per name, {expected}, and at least one; received {matrix.shape}."
        )
    return matrix


def _draw_rate(axes: Axes, row: int, column: int, ours: float, paper: float) -> None:
    known = bool(np.isfinite(ours))
    color = _RATE_COLORS(float(np.clip(ours, 0, 1))) if known else "white"
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=color, edgecolor="white", linewidth=1.2))
    ink, both = _contrasting(color) if known else FAINT, bool(np.isfinite(paper))
    text = format_percent(ours).removesuffix(" %") if known else MISSING
    axes.text(column, row - 0.13 * both, text, ha="center", va="center", fontsize=LABEL_SIZE, color=ink)
    if both:
        axes.text(column, row + 0.25, f"({100 * paper:.4g})", ha="center", va="center", fontsize=6.5, color=ink)


def _contrasting(color: Any) -> str:
    """Returns black or white, whichever has the higher contrast by the relative luminance of WCAG."""
    channels = np.asarray(color[:3])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "#000000" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "#ffffff"


def _frame_heat_map(axes: Axes, row_names: Sequence[str], column_names: Sequence[str]) -> None:
    axes.set_xlim(-0.5, len(column_names) - 0.5)
    axes.set_ylim(len(row_names) - 0.5, -0.5)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(range(len(column_names)), column_names, rotation=35, ha="left", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(len(row_names)), row_names, parse_math=False)
    tidy(axes, xlabel="evaluated model", ylabel="source model")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _add_rate_bar(figure: Figure, axes: Axes) -> None:
    colors = ScalarMappable(Normalize(0, 1), _RATE_COLORS)
    bar = figure.colorbar(colors, ax=axes, fraction=0.04, pad=0.02, aspect=24, format=PercentFormatter(1.0, symbol=" %"))
    bar.ax.tick_params(labelsize=SMALL_SIZE, length=2, colors=FAINT)
    bar.outline.set_visible(False)


def _draw_strip(axes: Axes, row: int, values: np.ndarray, paper: float) -> None:
    finite = values[np.isfinite(values)]
    axes.axhline(row, color=PALE, linewidth=0.6, zorder=0)
    if finite.size:
        # Jitter by the golden ratio is even and reproducible.
        jitter = (np.arange(finite.size) * 0.618034) % 1 - 0.5
        opacity = float(np.clip(40 / finite.size, 0.06, 0.55))
        axes.scatter(finite, row + 0.55 * jitter, s=7, color=BLUE, alpha=opacity, linewidths=0, zorder=1)
        axes.plot(np.percentile(finite, (25, 75)), (row, row), color=INK, linewidth=3, solid_capstyle="butt", zorder=2)
        axes.scatter([finite.mean()], [row], marker="D", s=30, color="white", edgecolors=INK, linewidths=1.2, zorder=4)
    if np.isfinite(paper):
        axes.plot((paper, paper), (row - 0.36, row + 0.36), color=VERMILION, linewidth=1.8, zorder=3)
    note = f"{finite.size:,} of {values.size:,}" if finite.size else "no attack succeeded"
    axes.text(1.01, row, note, transform=axes.get_yaxis_transform(), va="center", fontsize=SMALL_SIZE, color=FAINT)


def _any_finite(distortions: Mapping[str, npt.ArrayLike], published: Mapping[str, float]) -> bool:
    means = [published.get(name, np.nan) for name in distortions]
    return any(np.isfinite(np.asarray(values, dtype=np.float64)).any() for values in (*distortions.values(), means))


def _legend(axes: Axes, published: Mapping[str, float] | None) -> None:
    empty: list[float] = []
    axes.plot(empty, empty, "D", markersize=5, markerfacecolor="white", markeredgecolor=INK, label="our mean")
    axes.plot(empty, empty, color=INK, linewidth=3, label="first to third quartile")
    if published:
        axes.plot(empty, empty, "|", color=VERMILION, markersize=10, markeredgewidth=1.8, label="mean in the paper")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, fontsize=SMALL_SIZE, borderaxespad=0.2)


def _draw_history(axes: Axes, name: str, losses: Sequence[float], color: str, dash: Any) -> bool:
    values = np.asarray(losses, dtype=np.float64).ravel()
    visible = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    marker = "o" if np.isfinite(visible).sum() == 1 else ""
    axes.plot(
        np.arange(1, len(values) + 1), visible, color=color, linestyle=dash, marker=marker, linewidth=1.3, label=f" {name}"
    )
    return bool(np.isfinite(visible).any())
