"""Claims about tables and the three forms in which they are written."""

import csv
import io
import json
import math
import os

import numpy as np
import pytest

from intriguing.analysis.proportions import Proportion
from intriguing.reporting import tables
from intriguing.reporting.published import published_rows
from intriguing.reporting.tables import Mean, Table, format_cell, to_csv, to_json, to_text, write_table, write_whole

MODELS = ("FC10(1e-4)", "FC10(1e-2)", "FC10(1)", "FC100-100-10", "FC200-200-10", "AE400-10", "FC123-456-10", "FC100-100-10'")


@pytest.fixture
def table():
    rows = (
        {"Model": "FC10(1)", "Test error": Proportion(74, 256), "Distortion": Mean(0.062, 0.014, 250), "Steps": 1200},
        {"Model": "AE400-10", "Test error": None, "Distortion": Mean(math.nan, math.nan, 0), "Steps": math.nan},
    )
    published = ({"Test error": 0.2, "Distortion": 0.14}, {"Test error": 0.019})
    columns = ("Model", "Test error", "Distortion", "Steps")
    return Table(name="table_1", title="Errors.", columns=columns, rows=rows, notes=("A note.",), published=published)


def _transfer_table(models=MODELS, published=()):
    columns = ("Made for", *models, "Av. distortion")
    rows = tuple(
        {"Made for": name} | {model: Proportion(74, 256) for model in models} | {"Av. distortion": Mean(0.062, 0.01, 256)}
        for name in (*models, "Gaussian noise, stddev=0.1")
    )
    return Table(name="table_2", title="Transfer.", columns=columns, rows=rows, published=published)


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
def test_csv_disarms_formulas(formula):
    (row,) = _read_csv(to_csv(_one_cell(formula)))
    assert row["Name"].startswith("'")
    assert row["Name"].endswith(formula.strip())


def test_csv_disarms_formulas_in_headings_but_keeps_negative_numbers():
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
    assert "50.0 %" in to_text(table)


def test_infinity_is_null_in_json_and_said_in_text():
    assert json.loads(to_json(_one_cell(math.inf)), parse_constant=_refuse)["rows"] == [{"Name": None}]
    assert "inf" in to_text(_one_cell(math.inf))


def test_no_trials_are_no_rate():
    table = _one_cell(Proportion(0, 0))
    assert _read_csv(to_csv(table)) == [{"Name": "", "Name lower": "", "Name upper": "", "Name n": "0"}]
    assert "\N{EN DASH}" in to_text(table)


def test_text_of_the_transfer_table_fits_a_terminal_uncut():
    text = to_text(_transfer_table(), width=120)
    assert max(map(len, text.splitlines())) <= 120
    assert text.count("28.9 %") == 9 * 8
    assert "Gaussian noise, stddev=0.1" in text and "…" not in text


def test_text_shows_the_paper_in_brackets():
    rows = published_rows("table_2", (*MODELS, "Gaussian noise, stddev=0.1"))
    text = to_text(_transfer_table(published=rows))
    assert "[87.1 %]" in text and "[0.062]" in text and "In brackets: the paper." in text


def test_text_says_where_the_rest_is(table):
    assert "table_1.csv" in to_text(table)
    assert "csv" not in to_text(_one_cell("no numbers"))


def test_text_continues_below_when_too_wide():
    models = tuple(f"FC{index}00-{index}00-10" for index in range(1, 21))
    text = to_text(_transfer_table(models), width=100)
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("28.9 %") == 21 * 20
    assert text.count("Made for") > 1


def test_text_aligns_digits_under_digits(table):
    lines = to_text(table).splitlines()
    ours = next(line for line in lines if "28.9 %" in line)
    paper = lines[lines.index(ours) + 1]
    assert ours.index(" %") == paper.index(" %")


def test_text_holds_no_control_characters():
    assert "\x1b" not in to_text(_one_cell("\x1b[31mred\x1b[0m"))


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
def test_cells_are_written_for_the_eye(cell, text):
    assert format_cell(cell) == text


def test_mean_ignores_images_without_an_answer():
    assert Mean.of([0.05, math.nan, 0.07, math.inf]) == pytest.approx((0.06, math.sqrt(2e-4), 2))


def test_mean_of_nothing_is_unknown():
    assert math.isnan(Mean.of([]).mean) and math.isnan(Mean.of([math.nan]).std) and Mean.of([math.nan]).num == 0
    assert Mean.of([0.5]).mean == 0.5 and math.isnan(Mean.of([0.5]).std)


def test_an_empty_table_still_has_its_headings():
    table = Table(name="t", title="T", columns=("Model", "Error"), rows=())
    assert to_csv(table) == "Model,Error\n"
    assert "Model" in to_text(table)


@pytest.mark.parametrize("row", [{"Model": "a"}, {"Model": "a", "Error": 1, "More": 2}])
def test_rows_must_have_just_the_columns(row):
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
    with pytest.raises(ValueError, match="parallel to the 1 rows"):
        Table(name="t", title="T", columns=("A",), rows=({"A": 1},), published=({}, {}))
    with pytest.raises(ValueError, match="received also \\['B'\\]"):
        Table(name="t", title="T", columns=("A",), rows=({"A": 1},), published=({"B": 1.0},))


def test_columns_must_stay_distinct_in_the_file():
    with pytest.raises(ValueError, match="repeated: \\['A'\\]"):
        Table(name="t", title="T", columns=("A", "A"), rows=())
    with pytest.raises(ValueError, match="repeated: \\['A n'\\]"):
        Table(name="t", title="T", columns=("A", "A n"), rows=({"A": Proportion(1, 2), "A n": 2},))


def test_there_must_be_a_column():
    with pytest.raises(ValueError, match="at least one column"):
        Table(name="t", title="T", columns=(), rows=())


def test_writes_both_files_and_nothing_else(table, tmp_path):
    paths = write_table(table, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["table_1.csv", "table_1.json"]
    assert sorted(os.listdir(tmp_path / "new" / "folder")) == ["table_1.csv", "table_1.json"]
    assert paths[0].read_bytes().decode() == to_csv(table)
    assert paths[1].read_bytes().decode() == to_json(table)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    write_whole(path, "old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(tables.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, "new")
    assert os.listdir(tmp_path) == ["table.csv"] and path.read_text() == "old"
