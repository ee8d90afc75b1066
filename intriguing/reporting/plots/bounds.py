"""A figure of the certified distortion and the attack distortion of each image; the minimum distortion lies between them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from intriguing.reporting.plots.style import BLUE, FAINT, PALE, SMALL_SIZE, VERMILION, blank_figure, tidy


def certified_versus_attack(
    certified: npt.ArrayLike, by_product: npt.ArrayLike, attacked: npt.ArrayLike, *, title: str
) -> Figure:
    """Plots every image as a column from its certified distortion to its attack distortion.

    Args:
        certified: Float `[images]`, certified distortions, in pixel units; 0 if the image is misclassified.
        by_product: Float `[images]`, the certified distortions from the product of norms alone.
        attacked: Float `[images]`, distortions of the attack; NaN if the attack failed.
        title: The title, one line.

    Raises:
        ValueError: If the arrays have different lengths, or there is no image.

    Example:
        >>> figure = certified_versus_attack([0.02, 0.03], [0.01, 0.01], [0.05, 0.06], title="FC100-100-10")
        >>> to_png(figure)[1:4]
        b'PNG'
    """
    columns = [np.asarray(values, np.float64).ravel() for values in (certified, by_product, attacked)]
    if len({len(values) for values in columns}) != 1 or not len(columns[0]):
        raise ValueError(
            "certified, by_product and attacked must have one number for each image, and at least one image; received "
            f"{[len(values) for values in columns]}."
        )
    order = np.argsort(columns[2])  # images without an attack come last
    below, product, above = (np.where(values[order] > 0, values[order], np.nan) for values in columns)
    places = np.arange(1, len(order) + 1)
    figure = blank_figure(7.4, 3.4, title)
    axes = figure.add_subplot()
    axes.vlines(places, below, above, color=PALE, linewidth=max(0.6, 300 / len(order)), zorder=0)
    for values, color, marker, label in (
        (above, VERMILION, "v", "found by the attack"),
        (below, BLUE, "^", "certified"),
        (product, FAINT, ".", "certified by the product of norms"),
    ):
        axes.plot(places, values, marker, color=color, markersize=3.5, markeredgewidth=0, label=label)
    if np.isfinite([below, product, above]).any():
        axes.set_yscale("log")
    tidy(axes, xlabel="images, in the order of the attack's distortion", ylabel="distortion (root-mean-square pixel change)")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, fontsize=SMALL_SIZE, borderaxespad=0.2)
    return figure
