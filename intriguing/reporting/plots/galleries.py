"""Galleries of original images and their distorted or noisy versions, with predictions.

Every function returns a new Matplotlib figure, and changes no global state.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from intriguing.reporting.plots.style import FAINT, INK, LABEL_SIZE, PALE, SMALL_SIZE, VERMILION, blank_figure, literal
from intriguing.reporting.tables import format_percent
from intriguing.statistics.proportions import Proportion

_SMALL = 0.01  # smaller distortions are printed with more digits
_COLUMNS_PER_BLOCK, _PAIRS_PER_ROW, _CAPTION_WIDTH = 10, 5, 16


def adversarial_gallery(
    originals: npt.ArrayLike,
    distorted: npt.ArrayLike,
    *,
    labels: Sequence[object],
    predictions: Sequence[object],
    title: str,
    num_images: int = _COLUMNS_PER_BLOCK,
    magnification: float | None = None,
) -> Figure:
    """Shows original images, distorted images and differences, one below the other, as in figures 5 and 7 of the paper.

    Differences of gray images have one diverging color scale around zero. Differences of color images are magnified and added
    to mid-gray; the margin shows the factor. The number below each difference is the distortion, in pixel units.

    Args:
        originals: Float `[n, height, width, channels]`, one or three channels.
        distorted: As `originals`.
        labels: The true class of each image, a number or a name.
        predictions: The prediction of the classifier for each distorted image.
        title: The title, one line.
        num_images: Maximum number of images, which are the first ones.
        magnification: Factor for differences of colors; if None, the largest factor without clipping.

    Raises:
        ValueError: If there is no image, or the numbers of images differ.

    Example:
        >>> figure = adversarial_gallery(images[:2], images[2:4], labels=[7, 4], predictions=[6, 8], title="FC10")
        >>> to_png(figure)[1:4]
        b'PNG'
    """
    before, after = _image_pairs(originals, distorted, labels, predictions, num_images)
    blocks = [slice(i, i + _COLUMNS_PER_BLOCK) for i in range(0, len(before), _COLUMNS_PER_BLOCK)]
    num_columns = min(len(before), _COLUMNS_PER_BLOCK)
    figure = blank_figure(num_columns * 0.92 + 1.5, len(blocks) * 3.25 + 0.4, title)
    scale = _difference_scale(before, after) if magnification is None else 0.5 / magnification
    grid: Any = figure.subplots(3 * len(blocks), num_columns, squeeze=False)
    for block, rows in zip(blocks, np.split(grid, len(blocks)), strict=True):
        _draw_gallery_block(rows, before[block], after[block], labels[block], predictions[block], scale)
    if before.shape[-1] == 1:
        _add_difference_bar(figure, grid[2], scale)
    return figure


def noise_panel(
    originals: npt.ArrayLike,
    noisy: npt.ArrayLike,
    *,
    labels: Sequence[object],
    predictions: Sequence[object],
    title: str,
    accuracy: float | Proportion,
    num_images: int = 3 * _PAIRS_PER_ROW,
) -> Figure:
    """Shows original images next to their noisy versions, as in figure 7(c) of the paper; errors are written as "5 → 3".

    Args:
        originals: Float `[n, height, width, channels]`, one or three channels.
        noisy: As `originals`; the values may lie outside the pixel box.
        labels: The true class of each image, a number or a name.
        predictions: The prediction of the classifier for each noisy image.
        title: The title, one line.
        accuracy: The accuracy on all noisy images, including those that are not shown.
        num_images: Maximum number of pairs, which are the first ones.

    Raises:
        ValueError: If there is no image, or the numbers of images differ.

    Example:
        >>> figure = noise_panel(images[:2], images[2:4], labels=[7, 4], predictions=[7, 4], title="FC10", accuracy=0.9)
        >>> to_png(figure)[1:4]
        b'PNG'
    """
    before, after = _image_pairs(originals, noisy, labels, predictions, num_images)
    num_rows, num_pairs = -(-len(before) // _PAIRS_PER_ROW), min(len(before), _PAIRS_PER_ROW)
    figure = blank_figure(num_pairs * 1.9 + 0.3, num_rows * 1.16 + 0.6, f"{title}\n{_accuracy_text(accuracy)}")
    grid: Any = figure.subplots(num_rows, 2 * num_pairs, squeeze=False)
    lowest, highest = _visible_range(before, after)
    for axes in grid.flat:
        axes.set_axis_off()
    for index, (left, right) in zip(range(len(before)), _pairs(grid), strict=False):
        _show(left, before[index], lowest, highest, str(labels[index]))
        _show(right, after[index], lowest, highest, *_prediction_caption(labels[index], predictions[index]))
    return figure


def _image_pairs(
    originals: npt.ArrayLike, changed: npt.ArrayLike, labels: Sequence[object], predictions: Sequence[object], num_images: int
) -> tuple[np.ndarray, np.ndarray]:
    before, after = np.asarray(originals, dtype=np.float64), np.asarray(changed, dtype=np.float64)
    if before.ndim != 4 or before.shape != after.shape or before.shape[-1] not in (1, 3):
        raise ValueError(
            "images must be two arrays of equal shape [n, height, width, 1 or 3]; "
            f"received {before.shape} and {after.shape}. Add a channel axis."
        )
    lengths = {"images": len(before), "labels": len(labels), "predictions": len(predictions)}
    if len(set(lengths.values())) != 1 or not min(len(before), num_images) > 0:
        raise ValueError(f"images, labels and predictions must have one equal length of at least 1; received {lengths}.")
    return before[:num_images], after[:num_images]


def _difference_scale(before: np.ndarray, after: np.ndarray) -> float:
    largest = float(np.max(np.abs(np.nan_to_num(after - before))))
    return largest if largest > 0 else 1.0


def _draw_gallery_block(
    rows: Any, before: np.ndarray, after: np.ndarray, labels: Sequence[object], predictions: Sequence[object], scale: float
) -> None:
    lowest, highest = min(0.0, float(before.min())), max(1.0, float(before.max()))
    for axes in rows.flat:
        axes.set_axis_off()
    for index, (top, middle, bottom) in zip(range(len(before)), rows.T, strict=False):
        _show(top, before[index], lowest, highest, str(labels[index]))
        _show(middle, after[index], lowest, highest, *_prediction_caption(labels[index], predictions[index]))
        _show_difference(bottom, after[index] - before[index], scale)
    magnified = "" if before.shape[-1] == 1 else f"\n\N{MULTIPLICATION SIGN} {0.5 / scale:.3g}"
    for axes, name in zip(rows[:, 0], ("original", "distorted", f"difference{magnified}"), strict=True):
        axes.text(-0.12, 0.5, name, transform=axes.transAxes, ha="right", va="center", fontsize=LABEL_SIZE, color=INK)


def _prediction_caption(label: object, prediction: object) -> tuple[str, str]:
    if str(prediction) == str(label):
        return str(prediction), INK
    both = f"{label} → {prediction}"
    return (both if len(both) <= _CAPTION_WIDTH else f"→ {prediction}"), VERMILION


def _show(axes: Axes, image: np.ndarray, lowest: float, highest: float, caption: str, color: str = INK) -> None:
    shown = np.clip((np.nan_to_num(image) - lowest) / (highest - lowest), 0, 1)
    axes.imshow(shown if shown.shape[-1] == 3 else shown[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    _caption(axes, caption, color)


def _show_difference(axes: Axes, difference: np.ndarray, scale: float) -> None:
    if difference.shape[-1] == 3:
        axes.imshow(np.clip(0.5 + 0.5 * difference / scale, 0, 1), interpolation="nearest")
    else:
        axes.imshow(difference[..., 0], cmap="RdBu_r", vmin=-scale, vmax=scale, interpolation="nearest")
        height, width = difference.shape[:2]
        axes.add_patch(Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor=PALE, linewidth=0.8))
    size = float(np.sqrt(np.mean(difference**2)))
    _caption(axes, f"{size:.3f}" if size >= _SMALL else f"{size:.5f}", FAINT)


def _caption(axes: Axes, text: str, color: str) -> None:
    lines = textwrap.wrap(text, _CAPTION_WIDTH, max_lines=2, placeholder=" …")
    place = axes.transAxes
    literal(axes.text(0.5, -0.05, "\n".join(lines), transform=place, ha="center", va="top", fontsize=7, color=color))


def _add_difference_bar(figure: Figure, row: Any, scale: float) -> None:
    colors = ScalarMappable(Normalize(-scale, scale), colormaps["RdBu_r"])
    bar = figure.colorbar(colors, ax=list(row), aspect=8, pad=0.01, ticks=[-scale, 0, scale])
    bar.ax.set_yticklabels([f"\N{MINUS SIGN}{scale:.2g}", "0", f"+{scale:.2g}"])
    bar.ax.tick_params(labelsize=SMALL_SIZE, length=2, colors=FAINT)
    bar.outline.set_visible(False)


def _pairs(grid: Any) -> Iterator[tuple[Axes, Axes]]:
    axes = list(grid.flat)
    return zip(axes[::2], axes[1::2], strict=True)


def _visible_range(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Returns the range from percentile 2 to 98 of the noisy images, extended to [0, 1] and to the original images."""
    lowest, highest = np.nanpercentile(after, (2, 98)) if np.isfinite(after).any() else (0.0, 1.0)
    return min(0.0, float(lowest)), max(1.0, float(highest), float(np.nanmax(np.nan_to_num(before))))


def _accuracy_text(accuracy: float | Proportion) -> str:
    if not isinstance(accuracy, Proportion):
        return f"Accuracy on the noisy images: {format_percent(accuracy)}"
    interval = f"95 % interval {100 * accuracy.lower:.1f} to {100 * accuracy.upper:.1f} %, n = {accuracy.num_trials:,}"
    return f"Accuracy on the noisy images: {format_percent(accuracy.rate)}" + (f" ({interval})" if accuracy.num_trials else "")
