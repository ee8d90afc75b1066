"""Results for people and machines: tables, figures and one self-contained page; knows NumPy arrays, not tensors."""

from intriguing.reporting.figures import (
    adversarial_gallery,
    distortion_distributions,
    noise_panel,
    to_png,
    training_curves,
    transfer_heat_map,
)
from intriguing.reporting.page import Section, render_page
from intriguing.reporting.published import PUBLISHED, published_matrix, published_rows
from intriguing.reporting.tables import Cell, Mean, Table, to_csv, to_json, to_text, write_table, write_whole

__all__ = [
    "PUBLISHED",
    "Cell",
    "Mean",
    "Section",
    "Table",
    "adversarial_gallery",
    "distortion_distributions",
    "noise_panel",
    "published_matrix",
    "published_rows",
    "render_page",
    "to_csv",
    "to_json",
    "to_png",
    "to_text",
    "training_curves",
    "transfer_heat_map",
    "write_table",
    "write_whole",
]
