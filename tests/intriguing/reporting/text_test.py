"""Tables in a terminal are aligned and complete, and show the published numbers below the measured ones."""

import math

import numpy as np
from rich.cells import cell_len

from intriguing.reporting.published import published_rows
from intriguing.reporting.tables import Mean, Table
from intriguing.reporting.text import to_text
from intriguing.statistics.proportions import Proportion

MODELS = ("FC10(1e-4)", "FC10(1e-2)", "FC10(1)", "FC100-100-10", "FC200-200-10", "AE400-10", "FC123-456-10", "FC100-100-10'")


def _table():
    row = {"Model": "FC10(1)", "Test error": Proportion(74, 256), "Distortion": Mean(0.062, 0.014, 250), "Steps": 1200}
    unknown = {"Model": "AE400-10", "Test error": None, "Distortion": Mean(math.nan, math.nan, 0), "Steps": math.nan}
    published = ({"Test error": 0.2, "Distortion": 0.14}, {"Test error": 0.019})
    return Table(name="table_1", title="Errors.", columns=tuple(row), rows=(row, unknown), published=published)


def _transfer_table(models=MODELS, published=()):
    columns = ("Source model", *models, "Av. distortion")
    rows = tuple(
        {"Source model": name} | {model: Proportion(74, 256) for model in models} | {"Av. distortion": Mean(0.062, 0.01, 256)}
        for name in (*models, "Gaussian noise, stddev=0.1")
    )
    return Table(name="table_2", title="Transfer.", columns=columns, rows=rows, published=published)


def _one_cell(value):
    return Table(name="table", title="T", columns=("Name",), rows=({"Name": value},))


def test_transfer_table_fits_a_terminal_without_truncation():
    text = to_text(_transfer_table(), width=120)
    assert max(map(len, text.splitlines())) <= 120
    assert text.count("28.9 %") == 9 * 8
    assert "Gaussian noise, stddev=0.1" in text and "…" not in text


def test_text_shows_the_paper_in_brackets():
    rows = published_rows("table_2", (*MODELS, "Gaussian noise, stddev=0.1"))
    text = to_text(_transfer_table(published=rows))
    assert "[87.1 %]" in text and "[0.062]" in text and "In brackets: the paper." in text


def test_text_names_the_files_with_intervals_and_counts():
    assert "table_1.csv" in to_text(_table())
    assert "csv" not in to_text(_one_cell("no numbers"))


def test_a_wide_table_is_split_into_groups_of_columns():
    models = tuple(f"FC{index}00-{index}00-10" for index in range(1, 21))
    text = to_text(_transfer_table(models), width=100)
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("28.9 %") == 21 * 20
    assert text.count("Source model") > 1


def test_digits_are_aligned():
    lines = to_text(_table()).splitlines()
    ours = next(line for line in lines if "28.9 %" in line)
    paper = lines[lines.index(ours) + 1]
    assert ours.index(" %") == paper.index(" %")


def test_characters_of_double_width_are_aligned():
    rows = ({"Name": "\N{CJK UNIFIED IDEOGRAPH-732B}", "Error": 0.5}, {"Name": "dog", "Error": 0.25})
    lines = to_text(Table(name="t", title="T", columns=("Name", "Error"), rows=rows)).splitlines()
    cat, dog = (next(line for line in lines if number in line) for number in ("0.5000", "0.2500"))
    assert cell_len(cat) == len(dog) == len(cat) + 1


def test_text_holds_no_control_characters():
    assert "\x1b" not in to_text(_one_cell("\x1b[31mred\x1b[0m"))


def test_numpy_numbers_are_numbers():
    assert "50.0 %" in to_text(_one_cell(Proportion(np.int64(1), np.int64(2))))
    assert "0.5000" in to_text(_one_cell(np.float32(0.5))) and "\N{EN DASH}" in to_text(_one_cell(np.float32("nan")))


def test_infinity_is_written_as_inf():
    assert "inf" in to_text(_one_cell(math.inf))


def test_a_proportion_without_trials_is_written_as_a_dash():
    assert "\N{EN DASH}" in to_text(_one_cell(Proportion(0, 0)))


def test_empty_table_has_its_headings():
    assert "Model" in to_text(Table(name="t", title="T", columns=("Model", "Error"), rows=()))
