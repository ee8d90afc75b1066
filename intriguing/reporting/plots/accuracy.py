"""Accuracy of networks at growing distortions: an upper bound from an attack, a lower bound from certificates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from intriguing.reporting.plots.figures import OKABE_ITO
from intriguing.reporting.plots.style import INK, SMALL_SIZE, blank_figure, literal, tidy


class ImageBounds(NamedTuple):
    """For every image of one network, between which distortions its nearest error lies."""

    attack: np.ndarray  # [images], distortion of the attack; infinite if it failed, 0 for a misclassified image
    certified: np.ndarray  # [images], certified distortion; 0 for a misclassified image


def accuracy_curves(bounds: Mapping[str, ImageBounds], *, title: str) -> Figure:
    """Draws for each network the accuracy that an attack leaves, and the accuracy that is certified, at each distortion.

    Args:
        bounds: From the name of each network to the bounds of its images.
        title: One line above.

    Raises:
        ValueError: If there is no network, a network without images, or two columns of different length.

    Example:
        >>> bounds = {"FC10": ImageBounds(attack=np.array([0.05, 0.1, 0.0]), certified=np.array([0.02, 0.04, 0.0]))}
        >>> to_png(accuracy_curves(bounds, title="Accuracy"))[1:4]
        b'PNG'
    """
    columns = {name: [np.asarray(values, np.float64) for values in both] for name, both in bounds.items()}
    if not columns or any(len(attack) != len(certified) or not len(attack) for attack, certified in columns.values()):
        raise ValueError(
            "bounds must have at least one network, and for each network two columns of the same images; received "
            f"{ {name: [len(values) for values in both] for name, both in columns.items()} }."
        )
    figure = blank_figure(7.4, 3.6, title)
    axes = figure.add_subplot()
    finite = np.concatenate([attack[np.isfinite(attack)] for attack, _ in columns.values()])
    end = 1.05 * float(finite.max(initial=0.0)) or 1.0
    for color, (name, both) in zip(_colors(len(columns)), columns.items(), strict=True):
        for values, dash in zip(both, ("solid", "dashed"), strict=True):
            axes.step(*_steps(values, end), where="post", color=color, linestyle=dash, linewidth=1.4)
        axes.plot([], [], color=color, label=name)
    axes.set_xlim(0.0, end)
    axes.set_ylim(0.0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    tidy(axes, xlabel="distortion (root-mean-square pixel change)", ylabel="accuracy")
    styles = [
        Line2D([], [], color=INK, linestyle="solid", label="under the attack"),
        Line2D([], [], color=INK, linestyle="dashed", label="certified"),
    ]
    legend = axes.legend(
        handles=[*styles, *axes.get_legend_handles_labels()[0]], loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False,
        fontsize=SMALL_SIZE,
    )  # fmt: skip
    for text in legend.get_texts():
        literal(text)
    return figure


def _colors(number: int) -> list[str]:
    return [OKABE_ITO[index % len(OKABE_ITO)] for index in range(number)]


def _steps(distortions: np.ndarray, end: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns distortions in increasing order, and the share of images whose distortion is larger."""
    edges = np.append(np.unique(np.append(distortions[distortions < end], 0.0)), end)
    return edges, np.mean(distortions > edges[:, np.newaxis], axis=1)
