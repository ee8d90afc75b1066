"""ExampleGen writes a description from which a data set can be read; the description is stale when the data change."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from components.example_gen.component import ExampleGen
from components.example_gen.executor import card_of
from components.records import SubsetRecord
from components.runner import run
from intriguing.data import content_of, dataset_card, load_ids
from tests.intriguing.data.picture_folders import write_pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures")


def _step(workdir: Path, folder: Path, **changes: Any) -> ExampleGen:
    bindings: dict[str, Any] = {
        "dataset": str(folder), "data_dir": "", "manual_dir": "", "subset": "train[:3]", "disjoint_from": [],
        "image_size": [4, 3], "shorter_side": 5, "content": content_of(folder),
    }  # fmt: skip
    return ExampleGen("subset", workdir, **{**bindings, **changes})


def test_folder_description_restores_the_card(folder: Path, tmp_path: Path) -> None:
    step = _step(tmp_path, folder)
    run([step])
    card, subset = card_of(step.output)
    assert card == dataset_card(str(folder), image_size=(4, 3), shorter_side=5)
    assert (subset, len(load_ids(card, subset))) == ("train[:3]", 3)
    assert step.output.record() == SubsetRecord(
        dataset=str(folder), image_size=(4, 3), shorter_side=5, content=content_of(folder), subset="train[:3]", num_examples=3,
        image_shape=(4, 3, 3), num_classes=3,
    )  # fmt: skip


def test_tfds_data_set_keeps_its_image_size(digits_dir: Path, tmp_path: Path) -> None:
    parameters = {"dataset": "mnist_5k", "data_dir": str(digits_dir), "content": "", "image_size": [], "shorter_side": 0}
    step = _step(tmp_path, write_pictures(tmp_path / "unused"), **parameters)
    run([step])
    assert step.output.record().image_shape == (28, 28, 1)
    assert card_of(step.output)[0] == dataset_card("mnist_5k", data_dir=str(digits_dir))


def test_results_of_a_folder_are_stale_after_an_image_changes(folder: Path, tmp_path: Path) -> None:
    step = _step(tmp_path, folder)
    run([step])
    digest = step.output.digest()
    assert _step(tmp_path, folder).is_finished()
    os.utime(folder / "train/cat/a.png", ns=(1, 1))
    changed = _step(tmp_path, folder)
    assert not changed.is_finished()
    run([changed])
    assert changed.output.digest() != digest, "so that later steps are stale as well"


def test_overlapping_subsets_of_a_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'train\[:3\]' and 'train\[2:\]' of pictures share 1 examples"):
        run([_step(tmp_path, folder, disjoint_from=["train[2:]"])])
