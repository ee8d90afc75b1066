"""A self-contained HTML page of results, without scripts and external resources."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jinja2

from intriguing.reporting.tables import MISSING, Mean, Table, format_cell, format_interval, format_published
from intriguing.statistics.estimates import Estimate
from intriguing.statistics.proportions import Proportion

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS_PER_CSS_PIXEL = 2  # figures.FIGURE_DPI over the 96 of a page


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the page: a heading, then paragraphs, tables and figures, in this order.

    Args:
        title: The heading.
        paragraphs: Plain text; markup is escaped.
        tables: Tables, shown with their notes and their published numbers.
        figures: Pairs of a PNG file, as `figures.to_png` writes it, and its caption, which is also the alternative text.

    Raises:
        ValueError: If a figure is not a PNG file or has no caption.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[tuple[bytes, str], ...] = ()

    def __post_init__(self) -> None:
        for png, caption in self.figures:
            if png[:8] != _PNG_SIGNATURE:
                raise ValueError(f"figures must be PNG files; received {png[:8]!r} for {caption!r}. Write them with to_png.")
            if not caption.strip():
                raise ValueError("figures must have captions, which are their alternative text; received an empty one.")


class RenderedSection(NamedTuple):
    """A section as HTML, ready for `render_page`."""

    title: str
    html: str


def render_section(section: Section) -> RenderedSection:
    """Renders a section as an HTML fragment, so that a page can be assembled from stored sections.

    Args:
        section: The section. All its texts are escaped.

    Returns:
        The title, and the fragment without the heading.

    Example:
        >>> render_section(Section(title="Transfer", paragraphs=("FC10 & FC100",))).html.strip()
        '<p>FC10 &amp; FC100</p>'
    """
    return RenderedSection(section.title, _template("section.html").render(section=_section_view(section)))


def render_page(*, title: str, lead: str, sections: Sequence[RenderedSection], facts: Mapping[str, str]) -> str:
    """Renders the results as one self-contained page for screens of all sizes, dark mode and print.

    Args:
        title: What was reproduced.
        lead: The main result, in one or two sentences.
        sections: The sections from `render_section`, in order.
        facts: The information to reproduce the run: recipe, seed, versions, machine, timings.

    Returns:
        The text of an HTML file. All texts are escaped, except the HTML of the sections.

    Example:
        >>> sections = [render_section(Section(title="Transfer"))]
        >>> page = render_page(title="MNIST", lead="Images transfer.", sections=sections, facts={"Seed": "0"})
        >>> "Images transfer." in page
        True
    """
    return _template("page.html").render(title=title, lead=lead, facts=facts, sections=sections)


def _template(name: str) -> jinja2.Template:
    # A loader of a folder works for every installation by pip.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


class _CellView(NamedTuple):
    text: str
    small: str  # the second line: interval or standard deviation
    paper: str
    tooltip: str
    numeric: bool


class _TableView(NamedTuple):
    name: str
    label: str
    title: str
    columns: list[tuple[str, bool]]  # heading, whether numeric
    rows: list[list[_CellView]]
    notes: list[str]


class _FigureView(NamedTuple):
    data: str
    width: int
    height: int
    caption: str


class _SectionView(NamedTuple):
    paragraphs: tuple[str, ...]
    tables: list[_TableView]
    figures: list[_FigureView]


def _section_view(section: Section) -> _SectionView:
    tables = [_table_view(table) for table in section.tables]
    return _SectionView(section.paragraphs, tables, [_figure_view(*figure) for figure in section.figures])


def _table_view(table: Table) -> _TableView:
    rows = [[_cell_view(table, index, column) for column in table.columns] for index in range(len(table.rows))]
    columns = [(column, table.is_numeric(column)) for column in table.columns]
    label = table.name.replace("_", " ").capitalize()
    return _TableView(table.name, label, table.title, columns, rows, [*table.notes, *_explanations(table)])


def _cell_view(table: Table, index: int, column: str) -> _CellView:
    cell, paper, small, tooltip = table.rows[index][column], table.paper(index, column), "", ""
    if isinstance(cell, Proportion):
        small = format_interval(cell)
        tooltip = f"{cell.num_events:,} of {cell.num_trials:,}"
    elif isinstance(cell, Mean):
        deviation = format_cell(cell.std)
        small = "" if deviation == MISSING else f"sd {deviation}"
        tooltip = f"n = {cell.num:,}"
    elif isinstance(cell, Estimate):
        small = format_interval(cell)
        tooltip = f"{cell.num:,} repetitions"
    printed = "" if paper is None else format_published(paper, percent=table.is_rate(column))
    return _CellView(format_cell(cell), small, printed, tooltip, table.is_numeric(column))


def _explanations(table: Table) -> list[str]:
    """Returns notes that explain the second lines, with the counts, because print and phones show no tooltips."""
    cells = [cell for row in table.rows for cell in row.values()]
    notes = []
    if trials := sorted({cell.num_trials for cell in cells if isinstance(cell, Proportion)}):
        counts = f"{trials[0]:,}" if len(trials) == 1 else f"{trials[0]:,} to {trials[-1]:,}"
        notes.append(f"Beneath each rate: 95 % Wilson interval, in percent; n = {counts} per cell.")
    if repetitions := sorted({cell.num for cell in cells if isinstance(cell, Estimate) and cell.num > 1}):
        counts = str(repetitions[0]) if len(repetitions) == 1 else f"{repetitions[0]} to {repetitions[-1]}"
        notes.append(f"Beneath each average over seeds: 95 % interval of Student's t; {counts} seeds.")
    if any(isinstance(cell, Mean) for cell in cells):
        notes.append("sd: standard deviation over the images.")
    if any(table.published):
        notes.append("Paper: the number printed by Szegedy et al.")
    return notes


def _figure_view(png: bytes, caption: str) -> _FigureView:
    width, height = struct.unpack(">II", png[16:24])
    data = base64.b64encode(png).decode("ascii")
    return _FigureView(data, max(1, width // _PIXELS_PER_CSS_PIXEL), max(1, height // _PIXELS_PER_CSS_PIXEL), caption)
