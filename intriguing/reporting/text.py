"""Tables as aligned text for a terminal.

`rich.table` is not used: it breaks the numbers of a wide table over several lines, where this module continues the table below,
and it strips the spaces that align digits. `rich.cells` measures the width of a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len

from intriguing.reporting.tables import Mean, Table, format_cell, format_published, one_line
from intriguing.statistics.estimates import Estimate
from intriguing.statistics.proportions import Proportion

_CELL_WIDTH, _HEADER_WIDTH = 34, 10


def to_text(table: Table, *, width: int = 110) -> str:
    """Formats the table for a terminal: aligned columns, rates in percent, and the numbers of the paper in brackets below.

    Long names are broken into several lines, and a table that is wider than `width` is split into groups of columns, one below
    the other, each of which begins with the first column. Intervals and counts are not shown; the last line names the files
    that contain them.

    Args:
        table: The table.
        width: Number of characters per line; Chinese, Japanese and Korean characters count twice, as in terminals.

    Example:
        >>> rows = ({"Model": "A", "Test error": 0.25},)
        >>> table = Table(name="errors", title="Errors.", columns=("Model", "Test error"), rows=rows)
        >>> "Test error" in to_text(table)
        True
    """
    columns = [_text_column(table, column) for column in table.columns]
    panels = [_panel(panel) for panel in _packed(columns, width)]
    return "\n\n".join(["\n".join(_folded(table.title, width)), *panels, *_text_notes(table, width)]) + "\n"


class _TextColumn(NamedTuple):
    header: list[str]
    cells: list[list[str]]  # the lines of every cell
    numeric: bool
    width: int

    def lines(self, block: Sequence[str], height: int) -> list[str]:
        padded = [*block, *[""] * (height - len(block))]
        spaces = [" " * (self.width - cell_len(line)) for line in padded]
        return [space + line if self.numeric else line + space for line, space in zip(padded, spaces, strict=True)]


def _text_column(table: Table, column: str) -> _TextColumn:
    cells = [_text_cell(table, index, column) for index in range(len(table.rows))]
    widest = max((cell_len(line) for lines in cells for line in lines), default=0)
    header = _folded(column, max(widest, _HEADER_WIDTH))
    return _TextColumn(header, cells, table.is_numeric(column), max(widest, *(cell_len(line) for line in header)))


def _text_cell(table: Table, index: int, column: str) -> list[str]:
    cell, paper = table.rows[index][column], table.paper(index, column)
    lines = _folded(format_cell(cell), _CELL_WIDTH)
    if table.published and table.is_numeric(column):
        lines[0] += " "  # aligns the digits above those in the brackets
        lines.append("" if paper is None else f"[{format_published(paper, percent=table.is_rate(column))}]")
    return lines


def _folded(text: str, width: int) -> list[str]:
    """Breaks a text after spaces and hyphens into as few lines as possible, of similar length; "1e-4" is not broken."""
    pieces = re.split(r"(?<= )|(?<=-)(?<!\de-)|(?=\()", one_line(text))
    fewest = len(_filled(pieces, width))
    return next(lines for lines in (_filled(pieces, narrower) for narrower in range(1, width + 1)) if len(lines) == fewest)


def _filled(pieces: Iterable[str], width: int) -> list[str]:
    lines = [""]
    for piece in pieces:
        if lines[-1] and cell_len((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def _packed(columns: list[_TextColumn], width: int) -> list[list[_TextColumn]]:
    names, *others = columns
    panels = [[names]]
    for column in others:
        if len(panels[-1]) > 1 and sum(each.width + 2 for each in (*panels[-1], column)) - 2 > width:
            panels.append([names])
        panels[-1].append(column)
    return panels


def _panel(columns: list[_TextColumn]) -> str:
    rule = "-" * (sum(column.width + 2 for column in columns) - 2)
    rows = [_joined(columns, [column.cells[index] for column in columns]) for index in range(len(columns[0].cells))]
    return "\n".join([rule, _joined(columns, [column.header for column in columns]), rule, *rows, rule])


def _joined(columns: list[_TextColumn], blocks: list[list[str]]) -> str:
    height = max(len(block) for block in blocks)
    lines = zip(*(column.lines(block, height) for column, block in zip(columns, blocks, strict=True)), strict=True)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _text_notes(table: Table, width: int) -> list[str]:
    notes = list(table.notes)
    if any(table.published):
        notes.append("In brackets: the paper.")
    if any(isinstance(cell, Proportion | Mean | Estimate) for row in table.rows for cell in row.values()):
        notes.append(f"Intervals, spreads and counts: {table.name}.csv, {table.name}.json.")
    return ["\n".join(line for note in notes for line in _folded(note, width))] if notes else []
