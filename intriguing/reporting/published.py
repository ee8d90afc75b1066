"""The numbers of the paper, by table, row and column.

Rates are fractions in [0, 1], and distortions are root-mean-square pixel changes, as in our tables. Tables 2 and 4 appear to be
based on about 256 attacked images (their percentages are multiples of 1/256). The standard error of such rates is two to three
percentage points in the middle of the range: differences of that size are not significant.

References:
    Szegedy et al., Intriguing properties of neural networks, 2014, tables 1 to 4 and section 4. https://arxiv.org/abs/1312.6199v4
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

_ERRORS_AND_DISTORTION = ("Training error", "Test error", "Av. min. distortion")
_SIX_MODELS = ("FC10(1e-4)", "FC10(1e-2)", "FC10(1)", "FC100-100-10", "FC200-200-10", "AE400-10", "Av. distortion")
_ERRORS_ON_PARTS = ("Error on P1", "Error on P2", "Error on Test", "Min Av. Distortion")
_THREE_MODELS = ("FC100-100-10", "FC123-456-10", "FC100-100-10'", "Av. distortion")


def _rows(columns: Sequence[str], numbers: Mapping[str, Sequence[float]]) -> Mapping[str, Mapping[str, float]]:
    return MappingProxyType({row: MappingProxyType(dict(zip(columns, cells, strict=True))) for row, cells in numbers.items()})


_TABLE_1 = {
    "FC10(1e-4)": (0.067, 0.074, 0.062),
    "FC10(1e-2)": (0.10, 0.094, 0.1),
    "FC10(1)": (0.212, 0.20, 0.14),
    "FC100-100-10": (0.0, 0.0164, 0.058),
    "FC200-200-10": (0.0, 0.0154, 0.065),
    "AE400-10": (0.0057, 0.019, 0.086),
}

_TABLE_2 = {
    "FC10(1e-4)": (1.0, 0.117, 0.227, 0.02, 0.039, 0.027, 0.062),
    "FC10(1e-2)": (0.871, 1.0, 0.352, 0.359, 0.273, 0.098, 0.1),
    "FC10(1)": (0.719, 0.762, 1.0, 0.481, 0.47, 0.344, 0.14),
    "FC100-100-10": (0.289, 0.137, 0.211, 1.0, 0.066, 0.02, 0.058),
    "FC200-200-10": (0.382, 0.14, 0.238, 0.203, 1.0, 0.027, 0.065),
    "AE400-10": (0.234, 0.16, 0.248, 0.094, 0.066, 1.0, 0.086),
    "Gaussian noise, stddev=0.1": (0.05, 0.101, 0.183, 0.0, 0.0, 0.008, 0.1),
    "Gaussian noise, stddev=0.3": (0.156, 0.113, 0.227, 0.05, 0.043, 0.031, 0.3),
}

_TABLE_3 = {
    "FC100-100-10": (0.0, 0.024, 0.02, 0.062),
    "FC123-456-10": (0.0, 0.025, 0.021, 0.059),
    "FC100-100-10'": (0.023, 0.0, 0.021, 0.058),
}

_TABLE_4 = {
    "Distorted for FC100-100-10": (1.0, 0.262, 0.059, 0.062),
    "Distorted for FC123-456-10": (0.0625, 1.0, 0.051, 0.059),
    "Distorted for FC100-100-10'": (0.082, 0.082, 1.0, 0.058),
    "Gaussian noise with stddev=0.06": (0.022, 0.026, 0.024, 0.06),
    "Distorted for FC100-100-10 amplified to stddev=0.1": (1.0, 0.98, 0.43, 0.1),
    "Distorted for FC123-456-10 amplified to stddev=0.1": (0.96, 1.0, 0.22, 0.1),
    "Distorted for FC100-100-10' amplified to stddev=0.1": (0.27, 0.50, 1.0, 0.1),
    "Gaussian noise with stddev=0.1": (0.026, 0.028, 0.027, 0.1),
}

# From the text of section 4: weight decay alone, with "carefully applied dropout", with pools at every layer ("below 1.2 %").
_VARIANTS = {"FC100-100-10": (0.016,), "FC100-100-10 dropout": (0.013,), "FC100-100-10 pools": (0.012,)}

PUBLISHED: Mapping[str, Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "table_1": _rows(_ERRORS_AND_DISTORTION, _TABLE_1),
        "table_2": _rows(_SIX_MODELS, _TABLE_2),
        "table_3": _rows(_ERRORS_ON_PARTS, _TABLE_3),
        "table_4": _rows(_THREE_MODELS, _TABLE_4),
        "variant_errors": _rows(("Mean error",), _VARIANTS),
    }
)


def published_rows(
    table_name: str, row_names: Iterable[str], columns: Iterable[str] | None = None
) -> tuple[Mapping[str, float], ...]:
    """Returns the numbers of the paper for some rows, for `Table(published=...)`.

    Args:
        table_name: A key of `PUBLISHED`, "table_1" to "table_4" or "variant_errors".
        row_names: The rows of our table; a row that is not in the paper has an empty mapping.
        columns: The columns of our table; other columns are omitted. If None, all columns.

    Raises:
        ValueError: If the table is unknown.

    Example:
        >>> published_rows("table_1", ["FC100-100-10"])[0]["Test error"]
        0.0164
    """
    known = _known_table(table_name)
    wanted = None if columns is None else set(columns)
    rows = (known.get(name, {}) for name in row_names)
    return tuple({column: rate for column, rate in row.items() if wanted is None or column in wanted} for row in rows)


def published_matrix(table_name: str, row_names: Iterable[str], column_names: Iterable[str]) -> np.ndarray:
    """Returns the numbers of the paper as float64 `[rows, columns]`; NaN for missing numbers.

    Example:
        >>> published_matrix("table_2", ["FC100-100-10"], ["FC200-200-10"])
        array([[0.066]])
    """
    known, columns = _known_table(table_name), tuple(column_names)
    rows = [[known.get(row, {}).get(column, np.nan) for column in columns] for row in row_names]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(columns))


def _known_table(table_name: str) -> Mapping[str, Mapping[str, float]]:
    if table_name not in PUBLISHED:
        raise ValueError(f"unknown table {table_name!r}. Known: {', '.join(PUBLISHED)}.")
    return PUBLISHED[table_name]
