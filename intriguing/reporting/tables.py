"""Tables of results, written as CSV and JSON, and the format of their cells."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from intriguing.statistics.estimates import Estimate
from intriguing.statistics.proportions import Proportion


class Mean(NamedTuple):
    """A mean with the standard deviation of the values, for example of the distortion of the images that succeeded."""

    mean: float
    std: float  # sample standard deviation of the values, not the error of the mean; NaN for fewer than two
    num: int

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Mean:
        """Averages the finite values; other values, such as NaN for a failed attack, are ignored, also in `num`.

        Example:
            >>> Mean.of([0.05, 0.07, float("nan")]).num
            2
        """
        array = np.asarray(values, dtype=np.float64)
        finite = array[np.isfinite(array)]
        mean = float(finite.mean()) if finite.size else math.nan
        std = float(finite.std(ddof=1)) if finite.size > 1 else math.nan
        return cls(mean, std, int(finite.size))


class MeanRate(Estimate):
    """An average of rates, or of differences of rates, which is printed in percent."""


Cell: TypeAlias = str | int | float | Proportion | Mean | Estimate | None

MISSING = "\N{EN DASH}"  # printed for None and NaN; in files, the field is empty
_PART_SUFFIXES = ("", " lower", " upper", " std", " n", " paper")
_CELL_TYPES = (str, int, float, np.number, Proportion, Mean, Estimate, type(None))


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of results, whose first column names the rows; it may include the numbers of the paper.

    Args:
        name: A file name without suffix, such as "table_2".
        title: The caption, one sentence.
        columns: The headings, from left to right.
        rows: One mapping per row, with exactly the keys `columns`. Rates are fractions in [0, 1].
        notes: Footnotes.
        published: Empty, or one mapping per row: the numbers of the paper in some columns, in the units of our cells.

    Raises:
        ValueError: If the name is not a plain file name, a column is repeated, or the keys of a row are not `columns`.
        TypeError: If a cell is not a `Cell`.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Cell], ...]
    notes: tuple[str, ...] = ()
    published: tuple[Mapping[str, float], ...] = ()

    @classmethod
    def from_rows(
        cls,
        name: str,
        title: str,
        rows: Sequence[Mapping[str, Cell]],
        *,
        notes: Sequence[str] = (),
        published: Sequence[Mapping[str, float]] = (),
    ) -> Table:
        """Returns a table whose columns are the keys of its rows. There must be at least one row.

        Example:
            >>> Table.from_rows("errors", "Test errors.", [{"Model": "FC10", "Error": 0.074}]).columns
            ('Model', 'Error')
        """
        columns = tuple(rows[0]) if rows else ()
        return cls(name=name, title=title, columns=columns, rows=tuple(rows), notes=tuple(notes), published=tuple(published))

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", self.name):
            raise ValueError(f"name must be a plain file name such as 'table_2'; received {self.name!r}.")
        if not self.columns:
            raise ValueError(f"{self.name} must have at least one column; received none. The first column names the rows.")
        for index, row in enumerate(self.rows):
            _check_row(self, index, row)
        _check_published(self)
        _check_distinct(self)

    def paper(self, index: int, column: str) -> float | None:
        """Returns the number of the paper for one cell, or None if there is none."""
        value = self.published[index].get(column) if self.published else None
        return None if value is None or math.isnan(value) else float(value)

    def values(self, column: str) -> tuple[Cell, ...]:
        """Returns the cells of one column, from top to bottom."""
        return tuple(row[column] for row in self.rows)

    def is_rate(self, column: str) -> bool:
        """Returns True if the column contains rates, which are printed in percent."""
        return any(isinstance(cell, Proportion | MeanRate) for cell in self.values(column))

    def is_numeric(self, column: str) -> bool:
        """Returns True if the column contains numbers, which are aligned on the right."""
        return any(not isinstance(cell, str | None) for cell in self.values(column))


def to_csv(table: Table) -> str:
    """Returns the table as CSV for spreadsheets and data frames, in full precision, one line per row.

    A `Proportion` or an `Estimate` has the fields "<column>", "<column> lower", "<column> upper", "<column> n"; a `Mean` has
    "<column>", "<column> std", "<column> n"; a published number has "<column> paper". Fields of None and NaN are empty. Line
    breaks in texts become spaces, and a text that a spreadsheet would interpret as a formula begins with an apostrophe.

    Example:
        >>> rows = ({"Model": "A", "Test error": 0.25},)
        >>> to_csv(Table(name="errors", title="Errors.", columns=("Model", "Test error"), rows=rows))
        'Model,Test error\\nA,0.25\\n'
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    fields = _fields(table)
    writer.writerow([_inert(column + suffix) for column, suffix in fields])
    for index in range(len(table.rows)):
        writer.writerow([_csv_value(_parts(table, index, column).get(suffix)) for column, suffix in fields])
    return buffer.getvalue()


def to_json(table: Table) -> str:
    """Returns the table as strict JSON: cells keep their structure, and numbers that are not finite become null.

    A `Proportion` becomes `{"rate", "lower", "upper", "num_events", "num_trials"}`, a `Mean` `{"mean", "std", "num"}`, an
    `Estimate` `{"value", "lower", "upper", "num"}`; a published number is added as "paper", and a plain cell then becomes
    `{"value", "paper"}`.

    Example:
        >>> rows = ({"Model": "A", "Test error": 0.25},)
        >>> table = Table(name="errors", title="Errors.", columns=("Model", "Test error"), rows=rows)
        >>> '"Test error": 0.25' in to_json(table)
        True
    """
    document = {
        "name": table.name,
        "title": table.title,
        "columns": list(table.columns),
        "rows": [{column: _json_cell(table, index, column) for column in table.columns} for index in range(len(table.rows))],
        "notes": list(table.notes),
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_table(table: Table, directory: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Writes `<name>.csv` and `<name>.json` to the directory, which is created if necessary, and returns both paths.

    Example:
        >>> rows = ({"Model": "A", "Test error": 0.25},)
        >>> table = Table(name="errors", title="Errors.", columns=("Model", "Test error"), rows=rows)
        >>> sorted(path.name for path in write_table(table, folder))
        ['errors.csv', 'errors.json']
    """
    csv_path, json_path = (Path(directory) / f"{table.name}.{ending}" for ending in ("csv", "json"))
    write_whole(csv_path, to_csv(table))
    write_whole(json_path, to_json(table))
    return csv_path, json_path


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes a file atomically: it never contains only a part of the content, even if the run is interrupted.

    Example:
        >>> write_whole(folder / "note.txt", "whole")
        >>> (folder / "note.txt").read_text()
        'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # tempfile is not used, because its files are private to the user, also after os.replace.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def format_cell(cell: Cell) -> str:
    """Formats a cell for display: rates as "28.9 %", other numbers with three or four digits, `MISSING` for None and NaN."""
    if isinstance(cell, Proportion):
        return format_percent(cell.rate, decimals=decimals_of(cell))
    if isinstance(cell, MeanRate):
        return format_percent(cell.value, decimals=decimals_of(cell))
    if isinstance(cell, Mean | Estimate):
        return _format_number(cell[0])
    if isinstance(cell, str):
        return one_line(cell)
    return MISSING if cell is None else _format_number(cell)


def format_interval(cell: Proportion | Estimate) -> str:
    """Formats the ends of an interval as its cell, without the percent sign; an empty text if there is no interval."""
    if math.isnan(cell.lower):
        return ""
    if isinstance(cell, Proportion | MeanRate):
        ends = [f"{100 * end:.{decimals_of(cell)}f}" for end in (cell.lower, cell.upper)]
    else:
        ends = [_format_number(end) for end in (cell.lower, cell.upper)]
    return f" {MISSING} ".join(ends)


def format_percent(rate: float, *, decimals: int = 1) -> str:
    """Formats a fraction in [0, 1] in percent; `MISSING` for NaN."""
    return MISSING if math.isnan(rate) else f"{100 * rate:.{decimals}f} %"


def decimals_of(cell: Proportion | MeanRate) -> int:
    """Returns the number of decimals of a percentage: two for averages and for small rates of many images, as in the paper."""
    if isinstance(cell, MeanRate):
        return 2
    return 2 if cell.num_trials >= 10_000 and cell.num_events < 0.1 * cell.num_trials else 1


def format_published(value: float, *, percent: bool) -> str:
    """Formats a number with the digits of the paper: "6.25 %", "100 %", "0.062"."""
    return f"{100 * value:.4g} %" if percent else f"{value:g}"


def one_line(text: str) -> str:
    """Replaces line breaks and other control characters by spaces."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _format_number(value: float) -> str:
    if isinstance(value, int | np.integer):
        return f"{int(value):,}"
    if not math.isfinite(value):
        return MISSING if math.isnan(value) else f"{value}"
    if value and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.2e}"
    if 0.01 <= abs(value) < 1:
        return f"{value:.4f}"  # typical distortions, which are then aligned
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".removesuffix(".")


def _check_row(table: Table, index: int, row: Mapping[str, Cell]) -> None:
    if set(row) != set(table.columns):
        raise ValueError(
            f"row {index} of {table.name} must have the columns {table.columns}; "
            f"missing {sorted(set(table.columns) - set(row))}, unexpected {sorted(set(row) - set(table.columns))}."
        )
    for column, cell in row.items():
        if not isinstance(cell, _CELL_TYPES):
            raise TypeError(
                f"row {index}, column {column!r} of {table.name} must be a text, number, Proportion, Mean, Estimate or None; "
                f"received {type(cell).__name__}. Convert tensors and arrays with float(...)."
            )


def _check_published(table: Table) -> None:
    if table.published and len(table.published) != len(table.rows):
        raise ValueError(
            f"published must have one mapping for each of the {len(table.rows)} rows of {table.name}; "
            f"received {len(table.published)}. Pass an empty mapping for a row without published numbers."
        )
    unknown = sorted({column for row in table.published for column in row} - set(table.columns))
    if unknown:
        raise ValueError(f"published must use the columns {table.columns} of {table.name}; received also {unknown}.")


def _check_distinct(table: Table) -> None:
    headings = (
        [*table.columns] if len(set(table.columns)) < len(table.columns) else ["".join(field) for field in _fields(table)]
    )
    repeated = sorted({heading for heading in headings if headings.count(heading) > 1})
    if repeated:
        raise ValueError(f"columns of {table.name} must be distinct in the CSV file; repeated: {repeated}. Rename one.")


def _fields(table: Table) -> list[tuple[str, str]]:
    """Lists the CSV fields as (column, suffix): the parts that occur in at least one row."""
    present = {(column, part) for column in table.columns for i in range(len(table.rows)) for part in _parts(table, i, column)}
    return [(column, part) for column in table.columns for part in _PART_SUFFIXES if not part or (column, part) in present]


def _parts(table: Table, index: int, column: str) -> dict[str, str | float | None]:
    cell, paper = table.rows[index][column], table.paper(index, column)
    parts: dict[str, str | float | None] = {"": None}
    if isinstance(cell, Proportion):
        parts = {"": cell.rate, " lower": cell.lower, " upper": cell.upper, " n": cell.num_trials}
    elif isinstance(cell, Mean):
        parts = {"": cell.mean, " std": cell.std, " n": cell.num}
    elif isinstance(cell, Estimate):
        parts = {"": cell.value, " lower": cell.lower, " upper": cell.upper, " n": cell.num}
    else:
        parts[""] = cell
    return parts if paper is None else parts | {" paper": paper}


def _csv_value(value: str | float | None) -> str | float | None:
    value = _plain(value)
    if isinstance(value, str):
        return _inert(value)
    return None if value is None or math.isnan(value) else value


def _inert(text: str) -> str:
    """Returns a text on one line that a spreadsheet does not interpret as a formula."""
    line = one_line(text)
    return f"'{line}" if line.lstrip()[:1] in ("=", "+", "-", "@") else line


def _json_cell(table: Table, index: int, column: str) -> Any:
    cell, paper = table.rows[index][column], table.paper(index, column)
    if isinstance(cell, Proportion):
        structure: Any = {"rate": cell.rate, "lower": cell.lower, "upper": cell.upper} | cell._asdict()
    else:
        structure = cell._asdict() if isinstance(cell, Mean | Estimate) else cell
    if paper is not None:
        structure = (structure if isinstance(structure, dict) else {"value": structure}) | {"paper": paper}
    return {key: _finite(value) for key, value in structure.items()} if isinstance(structure, dict) else _finite(structure)


def _finite(value: Any) -> Any:
    value = _plain(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    """Converts a NumPy scalar to a Python number."""
    return value.item() if isinstance(value, np.generic) else value
