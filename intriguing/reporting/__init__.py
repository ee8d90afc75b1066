"""Tables, figures and a self-contained HTML page of results, from NumPy arrays."""

from intriguing.reporting.page import RenderedSection, Section, render_page, render_section
from intriguing.reporting.plots.bounds import certified_versus_attack
from intriguing.reporting.plots.figures import distortion_distributions, to_png, training_curves, transfer_heat_map
from intriguing.reporting.plots.galleries import adversarial_gallery, noise_panel
from intriguing.reporting.plots.training import RoundCurves, round_curves, seed_dots
from intriguing.reporting.plots.units import Curve, GalleryRow, direction_galleries, effect_sizes, rotation_curves
from intriguing.reporting.published import PUBLISHED, published_matrix, published_rows
from intriguing.reporting.tables import Cell, Mean, MeanRate, Table, to_csv, to_json, write_table, write_whole
from intriguing.reporting.text import to_text
from intriguing.statistics.estimates import Estimate

__all__ = [
    "PUBLISHED",
    "Cell",
    "Curve",
    "Estimate",
    "GalleryRow",
    "Mean",
    "MeanRate",
    "RenderedSection",
    "RoundCurves",
    "Section",
    "Table",
    "adversarial_gallery",
    "certified_versus_attack",
    "direction_galleries",
    "distortion_distributions",
    "effect_sizes",
    "noise_panel",
    "published_matrix",
    "published_rows",
    "render_page",
    "render_section",
    "rotation_curves",
    "round_curves",
    "seed_dots",
    "to_csv",
    "to_json",
    "to_png",
    "to_text",
    "training_curves",
    "transfer_heat_map",
    "write_table",
    "write_whole",
]
