"""Tests of tables and of their CSV and JSON files."""

import csv
import io
import json
import math
import os

import numpy as np
import pytest

from intriguing.reporting import tables
from intriguing.reporting.page import Section, render_page, render_section
from intriguing.reporting.tables import Mean, MeanRate, Table, format_cell, to_csv, to_json, write_table, write_whole
from intriguing.reporting.text import to_text
from intriguing.statistics.estimates import Estimate
from intriguing.statistics.proportions import Proportion


@pytest.fixture
def table():
    rows = (
        {"Model": "FC10(1)", "Test error": Proportion(74, 256), "Distortion": Mean(0.062, 0.014, 250), "Steps": 1200},
        {"Model": "AE400-10", "Test error": None, "Distortion": Mean(math.nan, math.nan, 0), "Steps": math.nan},
    )
    published = ({"Test error": 0.2, "Distortion": 0.14}, {"Test error": 0.019})
    columns = ("Model", "Test error", "Distortion", "Steps")
    return Table(name="table_1", title="Errors.", columns=columns, rows=rows, notes=("A note.",), published=published)


def _read_csv(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def _refuse(constant):
    raise AssertionError(f"{constant} is not JSON")


def _one_cell(value, name="table"):
    return Table(name=name, title="T", columns=("Name",), rows=({"Name": value},))


def test_csv_expands_rates_and_means_in_full_precision(table):
    first, _ = _read_csv(to_csv(table))
    assert list(first)[:6] == [
        "Model",
        "Test error",
        "Test error lower",
        "Test error upper",
        "Test error n",
        "Test error paper",
    ]
    assert list(first)[6:] == ["Distortion", "Distortion std", "Distortion n", "Distortion paper", "Steps"]
    assert float(first["Test error"]) == 74 / 256
    assert float(first["Test error lower"]) == Proportion(74, 256).lower
    assert float(first["Test error upper"]) == Proportion(74, 256).upper
    assert (first["Test error n"], first["Distortion std"], first["Distortion paper"]) == ("256", "0.014", "0.14")


def test_csv_leaves_unknown_numbers_empty(table):
    _, second = _read_csv(to_csv(table))
    assert (second["Test error"], second["Distortion"], second["Distortion paper"], second["Steps"]) == ("", "", "", "")
    assert (second["Distortion n"], second["Test error paper"]) == ("0", "0.019")


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\n=1"])
def test_csv_escapes_formulas(formula):
    (row,) = _read_csv(to_csv(_one_cell(formula)))
    assert row["Name"].startswith("'")
    assert row["Name"].endswith(formula.strip())


def test_csv_escapes_formulas_in_headings_but_keeps_negative_numbers():
    table = Table(name="t", title="T", columns=("=A1", "Change"), rows=({"=A1": "x", "Change": -0.5},))
    assert _read_csv(to_csv(table)) == [{"'=A1": "x", "Change": "-0.5"}]


@pytest.mark.parametrize("text", ["two\nlines", "two\r\nlines", "two\rlines", 'a "quoted", word', "two\u2028lines"])
def test_csv_keeps_one_row_on_one_line(text):
    written = to_csv(_one_cell(text))
    assert len(written.splitlines()) == 2
    assert _read_csv(written)[0]["Name"].split() == text.split()


def test_json_is_strict_and_structured(table):
    document = json.loads(to_json(table), parse_constant=_refuse)
    assert document["name"] == "table_1" and document["notes"] == ["A note."]
    rate = document["rows"][0]["Test error"]
    assert rate == {
        "rate": 74 / 256,
        "lower": Proportion(74, 256).lower,
        "upper": Proportion(74, 256).upper,
        "num_events": 74,
        "num_trials": 256,
        "paper": 0.2,
    }
    assert document["rows"][1]["Distortion"] == {"mean": None, "std": None, "num": 0}
    assert document["rows"][1]["Test error"] == {"value": None, "paper": 0.019}
    assert document["rows"][1]["Steps"] is None


def test_numpy_numbers_are_numbers():
    cells = {"a": np.float32(0.5), "b": np.int64(3), "c": Proportion(np.int64(1), np.int64(2)), "d": np.float32("nan")}
    table = Table(name="t", title="T", columns=tuple(cells), rows=(cells,))
    row = json.loads(to_json(table), parse_constant=_refuse)["rows"][0]
    assert (row["a"], row["b"], row["c"]["num_trials"], row["d"]) == (0.5, 3, 2, None)
    assert _read_csv(to_csv(table))[0]["a"] == "0.5"


def test_infinity_is_null_in_json():
    assert json.loads(to_json(_one_cell(math.inf)), parse_constant=_refuse)["rows"] == [{"Name": None}]


def test_zero_trials_have_no_rate():
    assert _read_csv(to_csv(_one_cell(Proportion(0, 0)))) == [{"Name": "", "Name lower": "", "Name upper": "", "Name n": "0"}]


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Proportion(74, 256), "28.9 %"),
        (Proportion(0, 0), "\N{EN DASH}"),
        (Mean(0.0625, 0.01, 9), "0.0625"),
        (0.1, "0.1000"),
        (2.75, "2.75"),
        (10.0, "10.0"),
        (100.0, "100"),
        (0.006508, "0.00651"),
        (792792.0, "792,792"),
        (3.62e7, "3.62e+07"),
        (0, "0"),
        (37752832, "37,752,832"),
        (0.0, "0.00"),
        (-0.5, "-0.5000"),
        (math.nan, "\N{EN DASH}"),
        (None, "\N{EN DASH}"),
        ("name", "name"),
    ],
)
def test_cells_are_formatted_for_reading(cell, text):
    assert format_cell(cell) == text


def test_mean_ignores_non_finite_numbers():
    assert Mean.of([0.05, math.nan, 0.07, math.inf]) == pytest.approx((0.06, math.sqrt(2e-4), 2))


def test_mean_without_numbers_is_unknown():
    assert math.isnan(Mean.of([]).mean) and math.isnan(Mean.of([math.nan]).std) and Mean.of([math.nan]).num == 0
    assert Mean.of([0.5]).mean == 0.5 and math.isnan(Mean.of([0.5]).std)


def test_empty_table_has_its_headings():
    table = Table(name="t", title="T", columns=("Model", "Error"), rows=())
    assert to_csv(table) == "Model,Error\n"


@pytest.mark.parametrize("row", [{"Model": "a"}, {"Model": "a", "Error": 1, "More": 2}])
def test_rows_must_have_exactly_the_columns(row):
    with pytest.raises(ValueError, match="row 0 of t must have the columns"):
        Table(name="t", title="T", columns=("Model", "Error"), rows=(row,))


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b"])
def test_names_must_be_file_names(name):
    with pytest.raises(ValueError, match="plain file name"):
        _one_cell("x", name=name)


def test_cells_must_be_of_a_known_kind():
    with pytest.raises(TypeError, match="received ndarray"):
        _one_cell(np.zeros(3))


def test_published_numbers_must_fit_the_rows_and_columns():
    with pytest.raises(ValueError, match="one mapping for each of the 1 rows"):
        Table(name="t", title="T", columns=("A",), rows=({"A": 1},), published=({}, {}))
    with pytest.raises(ValueError, match="received also \\['B'\\]"):
        Table(name="t", title="T", columns=("A",), rows=({"A": 1},), published=({"B": 1.0},))


def test_columns_must_be_distinct_in_the_file():
    with pytest.raises(ValueError, match="repeated: \\['A'\\]"):
        Table(name="t", title="T", columns=("A", "A"), rows=())
    with pytest.raises(ValueError, match="repeated: \\['A n'\\]"):
        Table(name="t", title="T", columns=("A", "A n"), rows=({"A": Proportion(1, 2), "A n": 2},))


def test_table_requires_a_column():
    with pytest.raises(ValueError, match="at least one column"):
        Table(name="t", title="T", columns=(), rows=())


def test_exactly_two_files_are_written(table, tmp_path):
    paths = write_table(table, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["table_1.csv", "table_1.json"]
    assert sorted(os.listdir(tmp_path / "new" / "folder")) == ["table_1.csv", "table_1.json"]
    assert paths[0].read_bytes().decode() == to_csv(table)
    assert paths[1].read_bytes().decode() == to_json(table)


def test_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    write_whole(path, "old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(tables.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, "new")
    assert os.listdir(tmp_path) == ["table.csv"] and path.read_text() == "old"


def test_averages_over_seeds_keep_their_interval_in_every_format():
    row = {"Training variant": "a", "Error": MeanRate(0.0163, 0.0151, 0.0175, 3), "Distance": Estimate(0.062, 0.058, 0.066, 3)}
    table = Table(name="variants", title="Training variants.", columns=tuple(row), rows=(row,))
    assert table.is_rate("Error") and not table.is_rate("Distance")
    line = next(csv.DictReader(io.StringIO(to_csv(table))))
    assert [line[f"Error{part}"] for part in ("", " lower", " upper", " n")] == ["0.0163", "0.0151", "0.0175", "3"]
    assert json.loads(to_json(table))["rows"][0]["Distance"] == {"value": 0.062, "lower": 0.058, "upper": 0.066, "num": 3}
    assert "1.63 %" in to_text(table) and "0.0620" in to_text(table)
    page = render_page(title="t", lead="l", sections=[render_section(Section(title="s", tables=(table,)))], facts={})
    assert "1.51 \N{EN DASH} 1.75" in page and "0.0580 \N{EN DASH} 0.0660" in page and "3 seeds" in page


@pytest.mark.parametrize(("counts", "text"), [((164, 10_000), "1.64 %"), ((19, 1000), "1.9 %"), ((2000, 10_000), "20.0 %")])
def test_small_shares_of_many_trials_have_two_decimals_as_in_the_paper(counts, text):
    row = {"Model": "a", "Error": Proportion(*counts)}
    assert text in to_text(Table(name="t", title="T.", columns=tuple(row), rows=(row,)))


def test_columns_of_rows_are_their_keys():
    rows = [{"Model": "FC10", "Error": 0.5}, {"Model": "FC100", "Error": 0.25}]
    assert Table.from_rows("errors", "Errors.", rows) == Table(
        name="errors", title="Errors.", columns=("Model", "Error"), rows=tuple(rows)
    )
    with pytest.raises(ValueError, match="errors must have at least one column; received none"):
        Table.from_rows("errors", "Errors.", [])
