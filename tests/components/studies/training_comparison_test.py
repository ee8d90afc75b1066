"""A comparison of two training variants of a linear network with two seeds and eight images: its steps, run and report."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from components.adversarial_trainer.component import AdversarialTrainer
from components.artifacts import DistortedImages, SpectralBounds, TrainedModel, TransferRates
from components.contract import Component
from components.runner import run
from components.studies.data_sources import Dataset, Locations
from components.studies.networks import AttackSettings, Network
from components.studies.study import Study
from components.studies.training_comparison import TrainingComparison
from components.studies.training_curves import TrainingCurves
from components.trainer.component import Trainer
from intriguing.attack import SZEGEDY_LBFGS
from intriguing.data import dataset_card, load_examples
from intriguing.evaluation import predict
from tests.components.toys import TINY_POOLS

NUM_IMAGES = 8
COMPARISON = TrainingComparison(
    variants=(
        Network(name="weight decay", model="FC10(1e-2)", training=TINY_POOLS.minibatches),
        Network(name="pools", model="FC10(1e-2)", training=TINY_POOLS),
    ),
    num_seeds=2,
    trained_on="train[:200]",
    # tests/components/studies/study_test.py has the same search, so that both use one compiled program.
    attack=AttackSettings(num_images=NUM_IMAGES, batch_size=NUM_IMAGES, search=SZEGEDY_LBFGS),
)
NAMES = [f"{variant}_seed{seed}" for seed in (3, 4) for variant in ("weight_decay", "pools")]


def _steps(workdir: Path, digits_dir: Path, comparison: TrainingComparison = COMPARISON) -> list[Component]:
    study = Study(title="Two variants", data=Dataset("mnist_5k"), parts=(comparison, TrainingCurves()))
    return study.steps(workdir=workdir, seed=3, locations=Locations(data_dir=str(digits_dir)), facts={"Recipe": "variants"})


@pytest.fixture(scope="module")
def workdir(digits_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study. Tests do not modify it."""
    folder = tmp_path_factory.mktemp("variants")
    run(_steps(folder, digits_dir))
    return folder


def test_every_seed_and_variant_has_steps_with_readable_names(tmp_path: Path, digits_dir: Path) -> None:
    steps = _steps(tmp_path, digits_dir)
    assert {step.id for step in steps} == {
        "subset_variants_train", "subset_variants_test",
        *(
            f"{kind}_seed{seed}" for seed in (3, 4) for kind in (
                "train_weight_decay", "train_pools", "attack_weight_decay", "attack_pools", "spectra_weight_decay",
                "spectra_pools", "errors_of_variants",
            )
        ),
        "section_training_variants", "section_training", "report",
    }  # fmt: skip
    kinds = {step.id: type(step) for step in steps}
    assert (kinds["train_weight_decay_seed3"], kinds["train_pools_seed3"]) == (Trainer, AdversarialTrainer)
    assert {step.parameters["seed"] for step in steps if step.id.endswith("_seed4") and "seed" in step.parameters} == {4}


def test_comparison_without_robustness_reports_only_errors(tmp_path: Path, digits_dir: Path) -> None:
    comparison = dataclasses.replace(COMPARISON, attack=None, num_seeds=1)
    ids = {step.id for step in _steps(tmp_path, digits_dir, comparison)}
    assert ids == {
        "subset_variants_train", "subset_variants_test", *(f"train_{name}" for name in NAMES[:2]),
        "errors_of_variants_seed3", "section_training_variants", "section_training", "report",
    }  # fmt: skip


def test_all_variants_of_a_seed_are_attacked_on_the_same_images_and_targets(workdir: Path) -> None:
    arrays = {name: DistortedImages(workdir / f"attack_{name}").arrays() for name in NAMES}
    for first, second in (NAMES[:2], NAMES[2:]):
        for key in ("ids", "targets"):
            np.testing.assert_array_equal(arrays[first][key], arrays[second][key])
    assert (arrays[NAMES[0]]["ids"] != arrays[NAMES[2]]["ids"]).any()


def test_all_variants_are_evaluated_on_the_images_distorted_for_the_baseline(workdir: Path) -> None:
    (changed,) = TransferRates(workdir / "errors_of_variants_seed4").record().changed
    assert (changed.source_model, changed.kind) == ("weight decay", "distorted")
    assert changed.errors["weight decay"].on_all.num_events == changed.num_images > 0
    assert set(changed.errors) == {"weight decay", "pools"}


def test_recorded_errors_are_those_of_the_reloaded_network(workdir: Path, digits_dir: Path) -> None:
    examples = load_examples(dataset_card("mnist_5k", data_dir=str(digits_dir)), "test")
    rates = TransferRates(workdir / "errors_of_variants_seed3").record()
    for variant, name in (("weight decay", NAMES[0]), ("pools", NAMES[1])):
        predictions = predict(TrainedModel(workdir / f"train_{name}").load(), examples.images).numpy()
        wrong = np.flatnonzero(predictions != examples.labels.numpy()).tolist()
        assert rates.wrong["test"][variant] == tuple(wrong)
        assert rates.errors["test"][variant] == (len(wrong), 1000)


def test_tables_agree_with_the_artifacts(workdir: Path) -> None:
    errors, robustness, seeds = (
        json.loads((workdir / "report" / "tables" / f"{name}.json").read_text())["rows"]
        for name in ("variant_errors", "variant_robustness", "variant_seeds")
    )
    wrong = [TransferRates(workdir / f"errors_of_variants_seed{seed}").record().wrong["test"] for seed in (3, 4)]
    assert [row["Training"] for row in errors] == ["weight decay", "pools"]
    for row in errors:
        rates = [len(counted[row["Training"]]) / 1000 for counted in wrong]
        assert [row[f"Seed {seed}"]["rate"] for seed in (3, 4)] == rates
        assert row["Mean error"]["value"] == pytest.approx(np.mean(rates))
    newly_wrong = sum(len(set(counted["pools"]) - set(counted["weight decay"])) for counted in wrong)
    newly_correct = sum(len(set(counted["weight decay"]) - set(counted["pools"])) for counted in wrong)
    assert (errors[1]["Newly wrong"], errors[1]["Newly correct"]) == (newly_wrong, newly_correct)
    assert errors[1]["Change"]["value"] == pytest.approx((newly_wrong - newly_correct) / 2000)
    assert errors[0]["p"] is None and 0 < errors[1]["p"] <= 1

    for row, names in zip(robustness, (NAMES[::2], NAMES[1::2]), strict=True):
        attacks = [DistortedImages(workdir / f"attack_{name}").arrays() for name in names]
        means = [np.nanmean(arrays["distortion"][arrays["correct"]]) for arrays in attacks]
        certified = [SpectralBounds(workdir / f"spectra_{name}").arrays()["certified"].mean() for name in names]
        assert row["Least distortion"]["value"] == pytest.approx(np.mean(means), rel=1e-5)
        assert row["Certified"]["value"] == pytest.approx(np.mean(certified), rel=1e-5)
        assert row["Certified"]["value"] <= row["Least distortion"]["value"]
    assert robustness[0]["Ratio to baseline"] is None and robustness[1]["Ratio to baseline"]["value"] > 0
    assert len(seeds) == 4 and seeds[0]["Network"] == "weight decay, seed 3"


def test_page_reports_errors_and_draws_errors_distortions_and_rounds(workdir: Path) -> None:
    page = (workdir / "report" / "index.html").read_text()
    assert "weight decay errs on " in page and "averaged over 2 seeds" in page and "95 % interval" in page
    assert {path.stem for path in (workdir / "report" / "figures").glob("*.png")} == {
        "variant_errors", "variant_distortion", "variant_rounds_2", "training",
    }  # fmt: skip
    with (workdir / "report" / "tables" / "variant_errors.csv").open(newline="") as file:
        assert {"Mean error lower", "Change upper", "Seed 3 n"} <= set(next(csv.DictReader(file)))


def test_a_comparison_without_attacks_reuses_the_networks(
    workdir: Path, digits_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "variants"
    shutil.copytree(workdir, copy)
    capsys.readouterr()
    run(_steps(copy, digits_dir, dataclasses.replace(COMPARISON, attack=None)))
    assert capsys.readouterr().err.count("reused") == 7, "two subsets, four networks, their training curves"
    tables = copy / "report" / "tables"
    assert {path.stem for path in tables.glob("*.csv")} == {"variant_errors", "variant_seeds"}
    assert (tables / "variant_errors.csv").read_bytes() == (workdir / "report" / "tables" / "variant_errors.csv").read_bytes()


@pytest.mark.parametrize("names", [["alone"], ["twin", "twin"], ["a b", "a_b"]])
def test_variants_with_the_same_folder_name_are_refused(names: list[str]) -> None:
    variants = tuple(Network(name=name, model="FC10(1)", training=TINY_POOLS.minibatches) for name in names)
    with pytest.raises(ValueError, match="variants must be at least 2, with different names; received"):
        TrainingComparison(variants=variants)


def test_zero_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="num_seeds must be positive; received 0"):
        dataclasses.replace(COMPARISON, num_seeds=0)
