"""The style of all figures: colors, font sizes, blank figures and axes."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

INK, FAINT, PALE, BLUE, VERMILION = "#1c1e21", "#6b6f76", "#e4e5e7", "#1f4e79", "#b3361b"
TITLE_SIZE, LABEL_SIZE, SMALL_SIZE = 10, 8.5, 7.5


def blank_figure(width: float, height: float, title: str) -> Figure:
    """Creates a white figure of the given size in inches, with a title and a new canvas."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    literal(figure.suptitle(title, x=0.01, ha="left", fontsize=TITLE_SIZE, color=INK))
    return figure


def literal(text: Text) -> Text:
    """Disables mathematical notation in a text, so that a dollar sign in the name of a model is printed."""
    text.set_parse_math(False)
    return text


def tidy(axes: Axes, *, xlabel: str = "", ylabel: str = "") -> None:
    """Keeps only the left and the bottom side of the frame, and labels the axes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(labelsize=LABEL_SIZE, length=3, colors=FAINT, labelcolor=INK)
    axes.set_xlabel(xlabel, fontsize=SMALL_SIZE, color=FAINT)
    literal(axes.set_ylabel(ylabel, fontsize=SMALL_SIZE, color=FAINT))
