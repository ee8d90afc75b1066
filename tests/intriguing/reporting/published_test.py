"""Tests of the published numbers of the paper."""

import numpy as np
import pytest

from intriguing.reporting.published import PUBLISHED, published_matrix, published_rows


def test_published_tables_have_every_row_and_column():
    shapes = {name: (len(rows), {len(row) for row in rows.values()}) for name, rows in PUBLISHED.items()}
    assert shapes == {
        "table_1": (6, {3}),
        "table_2": (8, {7}),
        "table_3": (3, {4}),
        "table_4": (8, {4}),
        "variant_errors": (3, {1}),
    }


@pytest.mark.parametrize(
    ("table", "row", "column", "number"),
    [
        ("table_1", "FC10(1e-4)", "Test error", 0.074),
        ("table_1", "FC200-200-10", "Test error", 0.0154),
        ("table_1", "AE400-10", "Av. min. distortion", 0.086),
        ("table_2", "FC100-100-10", "FC200-200-10", 0.066),
        ("table_2", "FC200-200-10", "FC100-100-10", 0.203),
        ("table_2", "Gaussian noise, stddev=0.1", "FC10(1e-4)", 0.05),
        ("table_2", "FC10(1)", "Av. distortion", 0.14),
        ("table_3", "FC100-100-10'", "Error on P1", 0.023),
        ("table_3", "FC123-456-10", "Min Av. Distortion", 0.059),
        ("table_4", "Distorted for FC123-456-10", "FC100-100-10", 0.0625),
        ("table_4", "Distorted for FC100-100-10 amplified to stddev=0.1", "FC100-100-10'", 0.43),
        ("variant_errors", "FC100-100-10 dropout", "Mean error", 0.013),
        ("table_4", "Gaussian noise with stddev=0.06", "FC100-100-10'", 0.024),
    ],
)
def test_published_cells_match_the_paper(table, row, column, number):
    assert PUBLISHED[table][row][column] == number


def test_every_model_always_fails_on_its_own_images():
    own = [(name.removeprefix("Distorted for ").split(" amplified")[0], row) for t in (2, 4) for name, row in _rows(t)]
    diagonal = [row[model] for model, row in own if model in row]
    assert diagonal == [1.0] * 12


def _rows(number):
    return PUBLISHED[f"table_{number}"].items()


def test_published_tables_are_immutable():
    with pytest.raises(TypeError):
        PUBLISHED["table_1"]["FC10(1)"]["Test error"] = 0.0


def test_rows_follow_the_requested_order_and_columns():
    rows = published_rows("table_1", ["FC10(1)", "ours alone", "FC10(1e-4)"], ["Model", "Test error"])
    assert rows == ({"Test error": 0.2}, {}, {"Test error": 0.074})
    assert published_rows("table_1", ["FC10(1)"])[0] == PUBLISHED["table_1"]["FC10(1)"]


def test_matrix_is_nan_where_the_paper_prints_nothing():
    matrix = published_matrix("table_2", ["FC10(1)", "ours alone"], ["AE400-10", "ConvNet"])
    np.testing.assert_array_equal(matrix, [[0.344, np.nan], [np.nan, np.nan]])
    assert published_matrix("table_2", [], ["AE400-10"]).shape == (0, 1)


def test_unknown_table_error_lists_the_known_tables():
    with pytest.raises(
        ValueError, match=r"unknown table 'table_9'. Known: table_1, table_2, table_3, table_4, variant_errors."
    ):
        published_rows("table_9", [])
