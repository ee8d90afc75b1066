"""Figures that compare training variants over seeds: error rates, and losses and distortions of their pools."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from intriguing.reporting.plots.figures import DASHES, OKABE_ITO
from intriguing.reporting.plots.style import BLUE, INK, PALE, SMALL_SIZE, VERMILION, blank_figure, literal, tidy

_MOST_DOTS = 60  # maximum number of markers on a line; more would overlap


class RoundCurves(NamedTuple):
    """The losses and distortions of the pools of one training in every round."""

    num_epochs: npt.ArrayLike  # [rounds], passes over the training set at the end of each round
    losses: Mapping[str, npt.ArrayLike]  # [rounds] for clean images and every pool; NaN if missing
    distortions: Mapping[str, npt.ArrayLike]  # [rounds] for every pool; NaN if missing


def seed_dots(errors: Mapping[str, Sequence[float]], *, title: str, published: Mapping[str, float] | None = None) -> Figure:
    """Plots the error rate of every network as a dot, one row per training variant, with the mean and the number of the paper.

    Args:
        errors: For each training variant, error rates in [0, 1], one for each seed.
        title: The title, one line.
        published: The numbers of the paper, for the variants of the paper.

    Raises:
        ValueError: If there is no row.

    Example:
        >>> figure = seed_dots({"weight decay": [0.016, 0.017], "pools": [0.013, 0.014]}, title="Test error")
        >>> to_png(figure)[1:4]
        b'PNG'
    """
    published = published or {}
    if not errors:
        raise ValueError("errors must contain at least one training variant; received none.")
    figure = blank_figure(7.4, 0.36 * len(errors) + 1.3, title)
    axes = figure.add_subplot()
    for row, (name, rates) in enumerate(errors.items()):
        axes.axhline(row, color=PALE, linewidth=0.6, zorder=0)
        axes.scatter(rates, np.full(len(rates), row), s=26, color=BLUE, alpha=0.6, linewidths=0, zorder=2)
        axes.scatter([np.mean(rates)], [row], marker="D", s=34, color="none", edgecolors=INK, linewidths=1.2, zorder=3)
        if name in published:
            axes.plot([published[name]] * 2, (row - 0.32, row + 0.32), color=VERMILION, linewidth=1.8, zorder=1)
    axes.set_yticks(range(len(errors)), list(errors), parse_math=False)
    axes.set_ylim(len(errors) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    tidy(axes, xlabel="error on held-out images")
    axes.tick_params(axis="y", length=0)
    empty: list[float] = []
    axes.plot(empty, empty, "o", color=BLUE, alpha=0.6, markersize=5, label="one network")
    axes.plot(empty, empty, "D", markersize=5, markerfacecolor="none", markeredgecolor=INK, label="our mean")
    if published:
        axes.plot(empty, empty, "|", color=VERMILION, markersize=10, markeredgewidth=1.8, label="the paper")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, fontsize=SMALL_SIZE, borderaxespad=0.2)
    return figure


def round_curves(trainings: Sequence[RoundCurves], *, title: str) -> Figure:
    """Plots losses (left) and minimum distortions (right) during training; the lines of all seeds have the same style.

    Args:
        trainings: One training for each seed, with the same pools.
        title: The title, one line.

    Raises:
        ValueError: If there is no training.

    Example:
        >>> epochs = np.arange(1, 4)
        >>> curves = RoundCurves(epochs, {"clean": [0.3, 0.2, 0.1], "images": [0.9, 0.8, 0.7]}, {"images": [0.04, 0.05, 0.06]})
        >>> figure = round_curves([curves], title="Pools")
        >>> to_png(figure)[1:4]
        b'PNG'
    """
    if not trainings:
        raise ValueError("trainings must contain at least one training; received none.")
    figure = blank_figure(7.4, 3.2, title)
    left, right = figure.subplots(1, 2)
    names = list(trainings[0].losses)
    styles = dict(zip(names, zip(itertools.cycle(OKABE_ITO), itertools.cycle(DASHES)), strict=False))
    for number, training in enumerate(trainings):
        epochs = np.asarray(training.num_epochs)
        marker = "o" if len(epochs) <= _MOST_DOTS else ""
        for axes, curves in ((left, training.losses), (right, training.distortions)):
            for name, values in curves.items():
                numbers = np.asarray(values, np.float64)
                color, dash = styles[name]
                axes.plot(
                    epochs, np.where(numbers > 0, numbers, np.nan), color=color, linestyle=dash, linewidth=1.2, marker=marker,
                    markersize=2, label="" if number or axes is right else name,
                )  # fmt: skip
    left.set_yscale("log")
    right.set_ylim(bottom=0.0)
    tidy(left, xlabel="epoch", ylabel="cross-entropy")
    tidy(right, xlabel="epoch", ylabel="minimum distortion (root-mean-square)")
    for axes in (left, right):
        axes.grid(axis="y", color=PALE, linewidth=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for text in figure.legend(loc="outside lower left", ncols=len(names), frameon=False, fontsize=SMALL_SIZE).get_texts():
        literal(text)
    return figure
