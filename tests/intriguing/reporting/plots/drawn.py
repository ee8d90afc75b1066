"""Renders figures for the tests of figures and galleries."""

import io

import matplotlib.image
from matplotlib.figure import Figure

from intriguing.reporting.plots.figures import to_png

TEST_DPI = 40  # enough to draw every element, fast


def png_shape(figure):
    assert isinstance(figure, Figure)
    png = to_png(figure, dpi=TEST_DPI)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return matplotlib.image.imread(io.BytesIO(png)).shape[:2]


def texts(figure):
    figure.canvas.draw()
    found = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return {artist.get_text() for artist in found}
