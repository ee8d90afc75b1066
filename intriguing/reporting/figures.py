"""Results as pictures: every function returns a Matplotlib figure of its own and leaves no global state behind.

Color carries nothing alone: rates darken steadily, curves differ in dash, too, and wrong answers are written as such.
"""

from __future__ import annotations

import io
import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import PercentFormatter

from intriguing.analysis.proportions import Proportion
from intriguing.reporting.tables import MISSING, format_percent

FIGURE_DPI = 192  # twice the pixels of a page, for dense screens and print
_INK, _FAINT, _PALE, _BLUE, _VERMILION = "#1c1e21", "#6b6f76", "#e4e5e7", "#1f4e79", "#b3361b"
_OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
_RATE_COLORS = LinearSegmentedColormap.from_list("rate", ("#ffffff", "#bcd2e4", "#5f93bd", "#1f5a8c", "#0b2a48"))
_TITLE_SIZE, _LABEL_SIZE, _SMALL_SIZE = 10, 8.5, 7.5
_COLUMNS_PER_BLOCK, _PAIRS_PER_ROW, _CAPTION_WIDTH = 10, 5, 16


def to_png(figure: Figure, dpi: int = FIGURE_DPI) -> bytes:
    """Draws the figure; the same figure gives the same bytes."""
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
    """Shows every model's error on every model's distorted images, each cell with its number in percent.

    Args:
        rates: Float `[rows, columns]` in [0, 1]; NaN where nothing was measured.
        row_names: The models the images were made for.
        column_names: The models the images were fed to.
        title: One line above.
        published: As `rates`, NaN where absent: the paper's numbers, in brackets beneath ours.

    Raises:
        ValueError: If a shape disagrees with the names.
    """
    ours = _matrix("rates", rates, row_names, column_names)
    paper = np.full_like(ours, np.nan) if published is None else _matrix("published", published, row_names, column_names)
    cell = float(np.clip(9.0 / len(column_names), 0.56, 0.86))
    figure = _figure(len(column_names) * cell + 2.9, len(row_names) * cell * 0.62 + 1.7, title)
    axes = figure.add_subplot()
    for row, column in np.ndindex(ours.shape):
        _draw_rate(axes, row, column, float(ours[row, column]), float(paper[row, column]))
    _frame_heat_map(axes, row_names, column_names)
    _add_rate_bar(figure, axes)
    return figure


def adversarial_gallery(
    originals: npt.ArrayLike,
    distorted: npt.ArrayLike,
    *,
    labels: Sequence[object],
    answers: Sequence[object],
    title: str,
    num_images: int = _COLUMNS_PER_BLOCK,
) -> Figure:
    """Shows images above their distorted counterparts above the difference, as figures 5 and 7 of the paper do.

    Differences of gray images share one diverging scale around zero; those of color images are magnified around mid-gray, by a
    factor told in the margin. The number beneath each is its distortion, in pixel units.

    Args:
        originals: Float `[n, height, width, channels]`, one or three channels.
        distorted: As `originals`.
        labels: The true class of each image, a number or a name.
        answers: The classifier's answer on each distorted image.
        title: One line above.
        num_images: How many to show at most, from the first on.

    Raises:
        ValueError: If there is no image, or the numbers of images disagree.
    """
    before, after = _image_pairs(originals, distorted, labels, answers, num_images)
    blocks = [slice(i, i + _COLUMNS_PER_BLOCK) for i in range(0, len(before), _COLUMNS_PER_BLOCK)]
    num_columns = min(len(before), _COLUMNS_PER_BLOCK)
    figure = _figure(num_columns * 0.92 + 1.5, len(blocks) * 3.25 + 0.4, title)
    scale = _difference_scale(before, after)
    grid: Any = figure.subplots(3 * len(blocks), num_columns, squeeze=False)
    for block, rows in zip(blocks, np.split(grid, len(blocks)), strict=True):
        _draw_gallery_block(rows, before[block], after[block], labels[block], answers[block], scale)
    if before.shape[-1] == 1:
        _add_difference_bar(figure, grid[2], scale)
    return figure


def noise_panel(
    originals: npt.ArrayLike,
    noisy: npt.ArrayLike,
    *,
    labels: Sequence[object],
    answers: Sequence[object],
    title: str,
    accuracy: float | Proportion,
    num_images: int = 3 * _PAIRS_PER_ROW,
) -> Figure:
    """Shows images beside their noisy counterparts, as figure 7(c) of the paper does; wrong answers are written "5 → 3".

    Args:
        originals: Float `[n, height, width, channels]`, one or three channels.
        noisy: As `originals`; may leave the pixel box.
        labels: The true class of each image, a number or a name.
        answers: The classifier's answer on each noisy image.
        title: One line above.
        accuracy: Share of correct answers on all noisy images, not only on those shown.
        num_images: How many pairs to show at most, from the first on.

    Raises:
        ValueError: If there is no image, or the numbers of images disagree.
    """
    before, after = _image_pairs(originals, noisy, labels, answers, num_images)
    num_rows, num_pairs = -(-len(before) // _PAIRS_PER_ROW), min(len(before), _PAIRS_PER_ROW)
    figure = _figure(num_pairs * 1.9 + 0.3, num_rows * 1.16 + 0.6, f"{title}\n{_accuracy_text(accuracy)}")
    grid: Any = figure.subplots(num_rows, 2 * num_pairs, squeeze=False)
    lowest, highest = _visible_range(before, after)
    for axes in grid.flat:
        axes.set_axis_off()
    for index, (left, right) in zip(range(len(before)), _pairs(grid), strict=False):
        _show(left, before[index], lowest, highest, str(labels[index]))
        _show(right, after[index], lowest, highest, *_answer_caption(labels[index], answers[index]))
    return figure


def distortion_distributions(
    distortions: Mapping[str, npt.ArrayLike], *, title: str, published: Mapping[str, float] | None = None
) -> Figure:
    """Shows one strip of distortions per model: every image a dot, the middle half a bar, our mean and the paper's marked.

    Args:
        distortions: Float `[images]` per model, in pixel units; NaN where the target was not reached.
        title: One line above.
        published: The paper's mean, for the models that it has.

    Raises:
        ValueError: If there is no model.
    """
    if not distortions:
        raise ValueError("distortions must hold at least one model; received none. Attack a model first.")
    figure = _figure(7.4, 0.42 * len(distortions) + 1.5, title)
    axes = figure.add_subplot()
    for row, (name, values) in enumerate(distortions.items()):
        _draw_strip(axes, row, np.asarray(values, dtype=np.float64).ravel(), (published or {}).get(name, np.nan))
    axes.set_yticks(range(len(distortions)), list(distortions), parse_math=False)
    axes.set_ylim(len(distortions) - 0.4, -0.6)
    axes.set_xlim(left=0.0, right=None if _any_finite(distortions, published or {}) else 1.0)
    _tidy(axes, xlabel="distortion (root-mean-square pixel change)")
    axes.tick_params(axis="y", length=0)
    _legend(axes, published)
    return figure


def training_curves(histories: Mapping[str, Sequence[float]], *, title: str, step: str = "epoch") -> Figure:
    """Shows the loss of every model over training, on a logarithmic scale.

    Losses that are not positive numbers leave a gap.

    Args:
        histories: One loss per step and model.
        title: One line above.
        step: What is counted from left to right.

    Raises:
        ValueError: If there is no history.
    """
    if not histories:
        raise ValueError("histories must hold at least one model; received none. Train a model first.")
    figure = _figure(7.4, max(3.6, 0.2 * len(histories) + 0.9), title)
    axes = figure.add_subplot()
    styles = zip(itertools.cycle(_OKABE_ITO), itertools.cycle(_DASHES))  # 7 and 4 have no common divisor: 28 pairs
    drawn = [
        _draw_history(axes, name, losses, *style) for (name, losses), style in zip(histories.items(), styles, strict=False)
    ]
    if any(drawn):
        axes.set_yscale("log")
    _tidy(axes, xlabel=step, ylabel="loss")
    axes.grid(axis="y", color=_PALE, linewidth=0.6)
    for text in axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=_LABEL_SIZE).get_texts():
        _literal(text)
    return figure


def _figure(width: float, height: float, title: str) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    _literal(figure.suptitle(title, x=0.01, ha="left", fontsize=_TITLE_SIZE, color=_INK))
    return figure


def _literal(text: Text) -> Text:
    """Keeps a dollar sign in a model's name from being read as mathematics."""
    text.set_parse_math(False)
    return text


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
    ink, both = _contrasting(color) if known else _FAINT, bool(np.isfinite(paper))
    text = format_percent(ours).removesuffix(" %") if known else MISSING
    axes.text(column, row - 0.13 * both, text, ha="center", va="center", fontsize=_LABEL_SIZE, color=ink)
    if both:
        axes.text(column, row + 0.25, f"({100 * paper:.4g})", ha="center", va="center", fontsize=6.5, color=ink)


def _contrasting(color: Any) -> str:
    """Picks black or white ink, whichever has the higher contrast by WCAG's relative luminance."""
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
    _tidy(axes, xlabel="fed to", ylabel="made for")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _add_rate_bar(figure: Figure, axes: Axes) -> None:
    colors = ScalarMappable(Normalize(0, 1), _RATE_COLORS)
    bar = figure.colorbar(colors, ax=axes, fraction=0.04, pad=0.02, aspect=24, format=PercentFormatter(1.0, symbol=" %"))
    bar.ax.tick_params(labelsize=_SMALL_SIZE, length=2, colors=_FAINT)
    bar.outline.set_visible(False)


def _image_pairs(
    originals: npt.ArrayLike, changed: npt.ArrayLike, labels: Sequence[object], answers: Sequence[object], num_images: int
) -> tuple[np.ndarray, np.ndarray]:
    before, after = np.asarray(originals, dtype=np.float64), np.asarray(changed, dtype=np.float64)
    if before.ndim != 4 or before.shape != after.shape or before.shape[-1] not in (1, 3):
        raise ValueError(
            "images must be two equal [n, height, width, 1 or 3]; "
            f"received {before.shape} and {after.shape}. Add a channel axis."
        )
    lengths = {"images": len(before), "labels": len(labels), "answers": len(answers)}
    if len(set(lengths.values())) != 1 or not min(len(before), num_images) > 0:
        raise ValueError(f"images, labels and answers must be equally many, and at least one; received {lengths}.")
    return before[:num_images], after[:num_images]


def _difference_scale(before: np.ndarray, after: np.ndarray) -> float:
    largest = float(np.max(np.abs(np.nan_to_num(after - before))))
    return largest if largest > 0 else 1.0


def _draw_gallery_block(
    rows: Any, before: np.ndarray, after: np.ndarray, labels: Sequence[object], answers: Sequence[object], scale: float
) -> None:
    lowest, highest = min(0.0, float(before.min())), max(1.0, float(before.max()))
    for axes in rows.flat:
        axes.set_axis_off()
    for index, (top, middle, bottom) in zip(range(len(before)), rows.T, strict=False):
        _show(top, before[index], lowest, highest, str(labels[index]))
        _show(middle, after[index], lowest, highest, *_answer_caption(labels[index], answers[index]))
        _show_difference(bottom, after[index] - before[index], scale)
    magnified = "" if before.shape[-1] == 1 else f"\n\N{MULTIPLICATION SIGN} {0.5 / scale:.3g}"
    for axes, name in zip(rows[:, 0], ("original", "distorted", f"difference{magnified}"), strict=True):
        axes.text(-0.12, 0.5, name, transform=axes.transAxes, ha="right", va="center", fontsize=_LABEL_SIZE, color=_INK)


def _answer_caption(label: object, answer: object) -> tuple[str, str]:
    if str(answer) == str(label):
        return str(answer), _INK
    both = f"{label} → {answer}"
    return (both if len(both) <= _CAPTION_WIDTH else f"→ {answer}"), _VERMILION


def _show(axes: Axes, image: np.ndarray, lowest: float, highest: float, caption: str, color: str = _INK) -> None:
    shown = np.clip((np.nan_to_num(image) - lowest) / (highest - lowest), 0, 1)
    axes.imshow(shown if shown.shape[-1] == 3 else shown[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    _caption(axes, caption, color)


def _show_difference(axes: Axes, difference: np.ndarray, scale: float) -> None:
    if difference.shape[-1] == 3:
        axes.imshow(np.clip(0.5 + 0.5 * difference / scale, 0, 1), interpolation="nearest")
    else:
        axes.imshow(difference[..., 0], cmap="RdBu_r", vmin=-scale, vmax=scale, interpolation="nearest")
        height, width = difference.shape[:2]
        axes.add_patch(Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor=_PALE, linewidth=0.8))
    _caption(axes, f"{np.sqrt(np.mean(difference**2)):.3f}", _FAINT)


def _caption(axes: Axes, text: str, color: str) -> None:
    lines = textwrap.wrap(text, _CAPTION_WIDTH, max_lines=2, placeholder=" …")
    place = axes.transAxes
    _literal(axes.text(0.5, -0.05, "\n".join(lines), transform=place, ha="center", va="top", fontsize=7, color=color))


def _add_difference_bar(figure: Figure, row: Any, scale: float) -> None:
    colors = ScalarMappable(Normalize(-scale, scale), colormaps["RdBu_r"])
    bar = figure.colorbar(colors, ax=list(row), aspect=8, pad=0.01, ticks=[-scale, 0, scale])
    bar.ax.set_yticklabels([f"\N{MINUS SIGN}{scale:.2g}", "0", f"+{scale:.2g}"])
    bar.ax.tick_params(labelsize=_SMALL_SIZE, length=2, colors=_FAINT)
    bar.outline.set_visible(False)


def _pairs(grid: Any) -> Iterator[tuple[Axes, Axes]]:
    axes = list(grid.flat)
    return zip(axes[::2], axes[1::2], strict=True)


def _visible_range(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Spans the noise except its rarest values, so that zero becomes mid-gray and both signs show."""
    lowest, highest = np.nanpercentile(after, (2, 98)) if np.isfinite(after).any() else (0.0, 1.0)
    return min(0.0, float(lowest)), max(1.0, float(highest), float(np.nanmax(np.nan_to_num(before))))


def _accuracy_text(accuracy: float | Proportion) -> str:
    if not isinstance(accuracy, Proportion):
        return f"Accuracy on the noisy images: {format_percent(accuracy)}"
    interval = f"95 % interval {100 * accuracy.lower:.1f} to {100 * accuracy.upper:.1f} %, n = {accuracy.num_trials:,}"
    return f"Accuracy on the noisy images: {format_percent(accuracy.rate)}" + (f" ({interval})" if accuracy.num_trials else "")


def _draw_strip(axes: Axes, row: int, values: np.ndarray, paper: float) -> None:
    finite = values[np.isfinite(values)]
    axes.axhline(row, color=_PALE, linewidth=0.6, zorder=0)
    if finite.size:
        # Golden-ratio jitter spreads neighbors evenly and is the same on every run.
        jitter = (np.arange(finite.size) * 0.618034) % 1 - 0.5
        opacity = float(np.clip(40 / finite.size, 0.06, 0.55))
        axes.scatter(finite, row + 0.55 * jitter, s=7, color=_BLUE, alpha=opacity, linewidths=0, zorder=1)
        axes.plot(np.percentile(finite, (25, 75)), (row, row), color=_INK, linewidth=3, solid_capstyle="butt", zorder=2)
        axes.scatter([finite.mean()], [row], marker="D", s=30, color="white", edgecolors=_INK, linewidths=1.2, zorder=4)
    if np.isfinite(paper):
        axes.plot((paper, paper), (row - 0.36, row + 0.36), color=_VERMILION, linewidth=1.8, zorder=3)
    note = f"{finite.size:,} of {values.size:,}" if finite.size else "target not reached"
    axes.text(1.01, row, note, transform=axes.get_yaxis_transform(), va="center", fontsize=_SMALL_SIZE, color=_FAINT)


def _any_finite(distortions: Mapping[str, npt.ArrayLike], published: Mapping[str, float]) -> bool:
    means = [published.get(name, np.nan) for name in distortions]
    return any(np.isfinite(np.asarray(values, dtype=np.float64)).any() for values in (*distortions.values(), means))


def _legend(axes: Axes, published: Mapping[str, float] | None) -> None:
    empty: list[float] = []
    axes.plot(empty, empty, "D", markersize=5, markerfacecolor="white", markeredgecolor=_INK, label="our mean")
    axes.plot(empty, empty, color=_INK, linewidth=3, label="middle half of the images")
    if published:
        axes.plot(empty, empty, "|", color=_VERMILION, markersize=10, markeredgewidth=1.8, label="mean in the paper")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, fontsize=_SMALL_SIZE, borderaxespad=0.2)


def _draw_history(axes: Axes, name: str, losses: Sequence[float], color: str, dash: Any) -> bool:
    values = np.asarray(losses, dtype=np.float64).ravel()
    visible = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    marker = "o" if np.isfinite(visible).sum() == 1 else ""
    axes.plot(
        np.arange(1, len(values) + 1), visible, color=color, linestyle=dash, marker=marker, linewidth=1.3, label=f" {name}"
    )
    return bool(np.isfinite(visible).any())


def _tidy(axes: Axes, *, xlabel: str = "", ylabel: str = "") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(labelsize=_LABEL_SIZE, length=3, colors=_FAINT, labelcolor=_INK)
    axes.set_xlabel(xlabel, fontsize=_SMALL_SIZE, color=_FAINT)
    axes.set_ylabel(ylabel, fontsize=_SMALL_SIZE, color=_FAINT)
