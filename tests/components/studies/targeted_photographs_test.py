"""The report section about photographs, with successful attacks and with attacks that all failed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.artifacts import DistortedImages
from components.records import AttackRecord, SearchRecord
from components.studies import targeted_photographs as photographs
from intriguing.pixels import PixelBox
from intriguing.statistics.proportions import Proportion

NAMES = ("bus", "ostrich")


def _attack(
    folder: Path, *, quantization_levels: int | None, found: list[bool], survives: list[bool], size: float
) -> DistortedImages:
    folder.mkdir()
    images = np.random.default_rng(0).random((len(found), 6, 5, 3)).astype(np.float32)
    succeeded = np.array(found)
    artifact = DistortedImages(folder)
    artifact.write_arrays(
        {
            "images": images,
            "distorted": np.clip(images + size, 0, 1),
            "labels": np.zeros(len(found), np.int32),
            "ids": np.array([f"validation/0/yellow_bus_{row}.jpg".encode() for row in range(len(found))]),
            "targets": np.ones(len(found), np.int32),
            "distortion": np.where(succeeded, np.float32(size), np.nan),
            "succeeded": succeeded,
            "survives_rounding": np.array(survives),
        }
    )
    search = SearchRecord(
        pixel_box=PixelBox(), quantization_levels=quantization_levels, num_classes=2, clean_accuracy=Proportion(4, 4),
        num_images=len(found), num_succeeded=sum(found), num_succeeded_among_correct=sum(found),
        num_surviving_rounding=sum(survives), mean_distortion=size, mean_num_evaluations=98.5, num_images_by_status={},
    )  # fmt: skip
    artifact.write_record(AttackRecord(name="Net", dataset="folder", subset="validation", class_names=NAMES, search=search))
    return artifact


@pytest.fixture
def attacks(tmp_path: Path) -> list[photographs.Attack]:
    free = _attack(
        tmp_path / "a",
        quantization_levels=None,
        found=[True, True, False, True],
        survives=[True, False, False, False],
        size=0.01,
    )
    levels = _attack(tmp_path / "b", quantization_levels=256, found=[True] * 4, survives=[True] * 4, size=0.012)
    return photographs.read([free, levels])


def test_table_counts_successes_before_and_after_rounding(attacks: list[photographs.Attack]) -> None:
    table = photographs.photograph_table(attacks)
    assert [row["Search"] for row in table.rows] == ["Net, any colors", "Net, 256 levels of a color"]
    assert [tuple(row["Reached"]) for row in table.rows] == [(3, 4), (4, 4)]
    assert [tuple(row["Still so as PNG"]) for row in table.rows] == [(1, 4), (4, 4)]
    assert table.rows[0]["Av. distortion"].mean == pytest.approx(0.01)
    assert "class 1, ostrich" in table.title
    assert any("over that among all images: 1.20" in note for note in table.notes)


def test_lead_reports_the_numbers(attacks: list[photographs.Attack]) -> None:
    lead = photographs.photograph_lead(attacks)
    assert "3 of 4 photographs are classified as class 1, ostrich after a change of 0.01000 on average" in lead
    assert "0.006508 for AlexNet. Saved as PNG files, 1 of them still are." in lead


def test_every_search_has_a_figure(attacks: list[photographs.Attack]) -> None:
    figures = photographs.photograph_figures(attacks)
    assert list(figures) == ["figure_5_1", "figure_5_2", "photograph_distortion"]
    assert all(png.startswith(b"\x89PNG") for png, _ in figures.values())


def test_failed_attacks_have_no_figure(tmp_path: Path) -> None:
    nothing = photographs.read(
        [_attack(tmp_path / "a", quantization_levels=None, found=[False, False], survives=[False] * 2, size=0.1)]
    )
    assert photographs.photograph_lead(nothing) == "No attack on 2 photographs succeeded within the budget of the search."
    assert photographs.photograph_figures(nothing) == {}
    assert photographs.photograph_table(nothing).rows[0]["Median"] is None
