"""The scripts that run a single step read the artifacts of earlier scripts."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from components.artifacts import DistortedImages, TrainedModel
from tests.launch.conftest import Finished, Script

NETWORKS = {"linear": "train_linear", "twin": "train_twin"}


def _train(script: Script, workdir: Path, digits_dir: Path, name: str, *more: str) -> Finished:
    return script(
        "train", "--model=FC10(1e-2)", f"--name={name}", "--num_epochs=3", "--learning_rate=0.01", "--strategy=one_device",
        f"--workdir={workdir}", f"--tfds_data_dir={digits_dir}", *more,
    )  # fmt: skip


def _attack(script: Script, workdir: Path, digits_dir: Path, name: str) -> Finished:
    return script(
        "attack", f"--trained_model={workdir / f'train_{name}'}", "--subset=test", "--num_images=8", "--strategy=one_device",
        f"--workdir={workdir}", f"--tfds_data_dir={digits_dir}", f"--tensorboard_dir={workdir / 'tensorboard'}", "--search=fast",
    )  # fmt: skip


def test_scripts_read_the_artifacts_of_earlier_scripts(script: Script, tmp_path: Path, digits_dir: Path) -> None:
    for seed, name in enumerate(("linear", "twin")):
        trained = _train(script, tmp_path, digits_dir, name, f"--seed={seed}")
        assert trained.code == 0, trained.err
        assert trained.out.startswith("Error on its training subset: ")
        assert trained.out.endswith(f"% of 4000. Trained model: {tmp_path / f'train_{name}'}\n")
        attacked = _attack(script, tmp_path, digits_dir, name)
        assert attacked.code == 0, attacked.err
        attack = DistortedImages(tmp_path / f"attack_{name}").record()
        found = attack.required_search()
        mean, folder = found.mean_distortion, tmp_path / f"attack_{name}"
        statuses = "; ".join(f"{number} {status}" for status, number in found.num_images_by_status.items() if number)
        assert sum(found.num_images_by_status.values()) == 8
        correct = DistortedImages(folder).arrays()["correct"]
        num_correct = int(correct.sum())
        assert attacked.out.startswith(f"{name} classifies {num_correct} of 8 (95 % interval: ")
        assert attacked.out.partition("\n")[2] == (
            f"Found {found.num_succeeded} of 8: {statuses}.\n"
            f"Average distortion of the {num_correct} of these that were classified correctly before: {mean:.4f}.\n"
            f"Rounded to bytes, as in a PNG file, {found.num_surviving_rounding} of 8 still succeed; "
            "--quantization_levels=256 searches among such images.\n"
            f"Gradients per image: {found.mean_num_evaluations:.0f}. Images: {folder}\n"
        )
        assert (attack.name, attack.subset) == (name, "test")
        assert len(list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))) == seed + 1

    measured = script(
        "measure_transfer", f"--trained_models={tmp_path / 'train_linear'},{tmp_path / 'train_twin'}",
        f"--distorted_images={tmp_path / 'attack_linear'},{tmp_path / 'attack_twin'}", "--noise=0.2", "--amplify_to=0.3",
        "--strategy=one_device", f"--workdir={tmp_path}",
    )  # fmt: skip
    assert measured.code == 0, measured.err
    assert "Distorted for twin" in measured.out
    assert f"Written to {tmp_path / 'transfer.csv'} {tmp_path / 'transfer.json'}" in measured.out
    rows = json.loads((tmp_path / "transfer.json").read_text())["rows"]
    assert [row["Source model"] for row in rows] == [
        "Distorted for linear",
        "Distorted for twin",
        "Distorted for linear amplified to stddev=0.3",
        "Distorted for twin amplified to stddev=0.3",
        "Gaussian noise with stddev=0.2",
    ]
    assert rows[0]["linear"]["rate"] == rows[1]["twin"]["rate"] == 1.0
    with (tmp_path / "transfer.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(rows)

    assert TrainedModel(tmp_path / "train_twin").manifest()["parameters"]["seed"] == 1
    again = _attack(script, tmp_path, digits_dir, "twin")
    assert again.out == attacked.out
    assert "attack_twin  reused" in again.err


def test_attack_refuses_images_in_place_of_a_model(script: Script, tmp_path: Path, digits_dir: Path) -> None:
    _train(script, tmp_path, digits_dir, "linear")
    folder = next(path for path in tmp_path.iterdir() if path.name.startswith("subset"))
    finished = script("attack", f"--trained_model={folder}", f"--workdir={tmp_path}", f"--tfds_data_dir={digits_dir}")
    assert finished.code == 1
    assert "must be a TrainedModel; received a Subset. Pass another folder." in finished.err.splitlines()[-1]


def _analyze(script: Script, workdir: Path, digits_dir: Path, *more: str) -> Finished:
    return script(
        "analyze_units", f"--trained_model={workdir / 'train_linear'}", "--subset=test[:200]", "--strategy=one_device",
        f"--workdir={workdir}", f"--tfds_data_dir={digits_dir}", "--max_units=10", *more,
    )  # fmt: skip


def test_analyze_units_prints_units_of_a_trained_network(script: Script, tmp_path: Path, digits_dir: Path) -> None:
    assert _train(script, tmp_path, digits_dir, "linear").code == 0
    finished = _analyze(script, tmp_path, digits_dir, "--layers=logits")
    assert finished.code == 0, finished.err
    page = tmp_path / "report_units_linear" / "index.html"
    assert finished.out.endswith(f"Open {page}\n")
    for space in ("linear, logits", "(random weights)", "raw pixels"):
        assert space in finished.out
    assert "Units and directions of linear" in page.read_text()
    assert len(list((page.parent / "figures").glob("*.png"))) == 6
    assert _analyze(script, tmp_path, digits_dir, "--layers=logits").err.count("reused") == 4


def test_invalid_analysis_raises_a_one_line_error(script: Script, tmp_path: Path, digits_dir: Path) -> None:
    assert _train(script, tmp_path, digits_dir, "linear").code == 0
    for arguments, message in (
        (("--layers=",), "--layers must name at least one layer; received none."),
        (("--layers=logit",), "unknown layer 'logit'. Did you mean 'logits'?"),
        (("--layers=logits", "--before_activation"), "requires a layer with an activation function"),
        (("--layers=logits", "--num_random_bases=20"), "num_random_bases must be at least 99"),
        (("--layers=logits", "--attributes=nowhere.csv"), "no table of attributes at nowhere.csv"),
    ):
        finished = _analyze(script, tmp_path, digits_dir, *arguments)
        assert finished.code == 1
        assert message in finished.err.splitlines()[-1]


def test_bound_spectra_prints_certificates_and_attacks(script: Script, tmp_path: Path, digits_dir: Path) -> None:
    assert _train(script, tmp_path, digits_dir, "linear").code == 0
    arguments = (
        f"--trained_model={tmp_path / 'train_linear'}", "--subset=test[:200]", "--strategy=one_device", "--search=fast",
        f"--workdir={tmp_path}", f"--tfds_data_dir={digits_dir}", "--num_images=4",
    )  # fmt: skip
    finished = script("bound_spectra", *arguments)
    assert finished.code == 0, finished.err
    page = tmp_path / "report_spectra_linear" / "index.html"
    assert finished.out.endswith(f"Open {page}\n")
    assert "linear, logits" in finished.out and "Certified" in finished.out
    assert "Certified distortion of linear" in page.read_text()
    assert {path.stem for path in (page.parent / "tables").glob("*.csv")} == {"table_5", "certificates", "certificates_images"}
    assert script("bound_spectra", *arguments).err.count("reused") == 5


def test_train_adversarially_prints_every_round(script: Script, tmp_path: Path, digits_dir: Path) -> None:
    arguments = (
        "--model=FC10(1e-2)", "--name=pooled", "--subset=train[:200]", "--num_epochs=3", "--pool_size=16", "--replaced=0.5",
        "--shares=0.5", "--to_distortion=0.25", "--rounds_per_epoch=1", "--max_evaluations=200", "--strategy=one_device",
        f"--tensorboard_dir={tmp_path / 'tensorboard'}", f"--workdir={tmp_path}", f"--tfds_data_dir={digits_dir}",
    )  # fmt: skip
    finished = script("train_adversarially", *arguments)
    assert finished.code == 0, finished.err
    assert "Training of pooled, in the last round of every epoch" in finished.out
    assert (tmp_path / "rounds_pooled.csv").is_file() and (tmp_path / "rounds_pooled.json").is_file()
    assert finished.out.endswith(f"% of 200. Trained model: {tmp_path / 'train_pooled'}\n")
    trained = TrainedModel(tmp_path / "train_pooled")
    assert [record.num_epochs for record in trained.record().rounds] == [1, 2, 3]
    training = trained.manifest()["parameters"]["training"]
    assert training["pools"] == [{"layer": "images", "size": 16, "replaced": 0.5, "share": 0.5, "to_distortion": 0.25}]
    assert training["search"]["max_evaluations"] == 200 and training["search"]["boundary_search"]["num_starts"] == 1, "quick"
    assert len(list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))) == 1
    assert script("train_adversarially", *arguments).err.count("reused") == 2
