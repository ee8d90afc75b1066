"""A complete small study: four networks on 4,000 digits, eight images each. Every file that it writes is checked."""

from __future__ import annotations

import csv
import dataclasses
import html.parser
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components import contract
from components.artifacts import (
    Artifact,
    DistortedImages,
    ReportSection,
    SpectralBounds,
    Subset,
    TrainedModel,
    TransferRates,
    sha256_of,
)
from components.contract import Component
from components.folder_names import folder_name
from components.reporter.component import Reporter
from components.runner import run
from components.settings import LayerChoice
from components.source_files import source_files
from components.studies.data_sources import Dataset, Locations
from components.studies.lipschitz_bounds import LipschitzBounds
from components.studies.networks import AttackSettings, Network
from components.studies.robust_accuracy import RobustAccuracy
from components.studies.study import Study
from components.studies.training_curves import TrainingCurves, losses
from components.studies.transfer_between_halves import TransferBetweenHalves
from components.studies.transfer_between_models import TransferBetweenModels
from components.studies.unit_comparison import UnitComparison, UnitSection
from intriguing.attack import SZEGEDY_LBFGS
from intriguing.data import dataset_card, load_examples
from intriguing.evaluation import predict
from intriguing.training import FullBatchTraining, MinibatchTraining
from intriguing.units import UnitSettings

NUM_IMAGES = 8
TABLES = ("table_1", "table_2", "table_3", "table_4")
ATTACKS = ("attack_FC10_1e-2", "attack_FC100-100-10", "attack_FC100-100-10_on_halves", "attack_FC100-100-10_prime_on_halves")


def _network(name: str, model: str) -> Network:
    convex = model.startswith("FC10(")
    return Network(
        name=name, model=model,
        training=FullBatchTraining(max_iterations=20) if convex else MinibatchTraining(num_epochs=5, learning_rate=5e-3),
    )  # fmt: skip


NETWORKS = (_network("FC10(1e-2)", "FC10(1e-2)"), _network("FC100-100-10", "FC100-100-10"))
ON_SECOND = _network("FC100-100-10'", "FC100-100-10")
ATTACK = AttackSettings(num_images=NUM_IMAGES, batch_size=NUM_IMAGES, search=SZEGEDY_LBFGS)
UNITS = UnitComparison(
    layers=((NETWORKS[1], (LayerChoice(layer="hidden1"), LayerChoice(layer="hidden2"))),),
    settings=UnitSettings(num_random_bases=99, alphas=(0.5,), num_rotations=2, max_units=20),
)
STUDY = Study(
    title="A tiny study",
    data=Dataset("mnist_5k"),
    parts=(
        TransferBetweenModels(networks=NETWORKS, attack=ATTACK, illustrated=("FC10(1e-2)", "FC100-100-10")),
        TransferBetweenHalves(on_first=NETWORKS[1:], on_second=(ON_SECOND,), attack=ATTACK),
        LipschitzBounds(networks=NETWORKS, attack=ATTACK),
        UNITS,
        TrainingCurves(),
    ),
)


def _steps(workdir: Path, digits_dir: Path, seed: int = 0, study: Study = STUDY) -> list[Component]:
    facts = {"Recipe": "tiny", "Seed": str(seed)}
    return study.steps(workdir=workdir, seed=seed, locations=Locations(data_dir=str(digits_dir)), facts=facts)


@pytest.fixture(scope="session")
def workdir(digits_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study. Tests do not modify it."""
    folder = tmp_path_factory.mktemp("study")
    run(_steps(folder, digits_dir))
    return folder


def _table(workdir: Path, name: str) -> dict[str, Any]:
    return json.loads((workdir / "report" / "tables" / f"{name}.json").read_text())


def _attacks(workdir: Path) -> dict[str, Mapping[str, np.ndarray]]:
    return {name: DistortedImages(workdir / name).arrays() for name in ATTACKS}


@pytest.mark.slow
def test_every_step_leaves_exactly_one_complete_folder(workdir: Path, digits_dir: Path) -> None:
    steps = _steps(workdir, digits_dir)
    assert sorted(path.name for path in workdir.iterdir()) == sorted(step.id for step in steps)
    for step in steps:
        files = {str(path.relative_to(step.output.uri)) for path in step.output.uri.rglob("*") if path.is_file()}
        assert files == {*step.output.manifest()["files"], "manifest.json"}


def test_steps_come_after_their_inputs(workdir: Path, digits_dir: Path) -> None:
    done: set[Path] = set()
    for step in _steps(workdir, digits_dir):
        assert {artifact.uri for artifacts in step.inputs.values() for artifact in artifacts} <= done
        done.add(step.output.uri)


class _References(html.parser.HTMLParser):
    """Collects the external resources that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.num_images = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.num_images += tag == "img"
        addresses = [value or "" for name, value in attrs if name in ("src", "srcset", "href", "data", "action")]
        # Links are not loaded with the page.
        self.found += [address for address in addresses if not address.startswith(("data:", "#")) and tag != "a"]


def test_the_page_is_one_self_contained_file(workdir: Path) -> None:
    page = (workdir / "report" / "index.html").read_text()
    references = _References()
    references.feed(page)
    assert references.found == []
    assert "@import" not in page and "url(" not in page
    assert references.num_images == len(list((workdir / "report" / "figures").glob("*.png")))
    assert "A tiny study" in page


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("table_1", ["FC10(1e-2)", "FC100-100-10"], ["Model", "Training error", "Test error", "Av. min. distortion"]),
        (
            "table_2",
            ["FC10(1e-2)", "FC100-100-10", "Gaussian noise, stddev=0.1", "Gaussian noise, stddev=0.3"],
            ["Source model", "FC10(1e-2)", "FC100-100-10", "Av. distortion"],
        ),
        (
            "table_3",
            ["FC100-100-10", "FC100-100-10'"],
            ["Model", "Trained on", "Error on P1", "Error on P2", "Error on Test", "Min Av. Distortion"],
        ),
        (
            "table_4",
            [
                "Distorted for FC100-100-10",
                "Distorted for FC100-100-10'",
                "Gaussian noise with stddev=0.06",
                "Distorted for FC100-100-10 amplified to stddev=0.1",
                "Distorted for FC100-100-10' amplified to stddev=0.1",
                "Gaussian noise with stddev=0.1",
            ],
            ["Source model", "FC100-100-10", "FC100-100-10'", "Av. distortion"],
        ),
    ],
    ids=TABLES,
)
def test_a_table_has_the_rows_and_columns_of_the_paper_in_both_formats(
    workdir: Path, name: str, rows: list[str], columns: list[str]
) -> None:
    table = _table(workdir, name)
    assert table["columns"] == columns
    assert [row[columns[0]] for row in table["rows"]] == rows
    with (workdir / "report" / "tables" / f"{name}.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line[columns[0]] for line in lines] == rows
    assert set(columns) <= set(lines[0])


def test_certificates_are_compared_with_attacks_on_the_same_images(workdir: Path) -> None:
    rows = _table(workdir, "certificates")["rows"]
    assert [row["Model"] for row in rows] == ["FC10(1e-2)", "FC100-100-10"]
    for folder in ("FC10_1e-2", "FC100-100-10"):
        bounds, attack = (kind(workdir / f"{step}_{folder}").arrays() for kind, step in
                          ((SpectralBounds, "spectra"), (DistortedImages, "attack")))  # fmt: skip
        np.testing.assert_array_equal(bounds["ids"], attack["ids"])
        assert (bounds["certified"] <= np.where(attack["succeeded"], attack["distortion"], np.inf)).all()
    assert len(_table(workdir, "table_5")["rows"]) == 4
    assert len(_table(workdir, "certificates_images")["rows"]) == 2 * NUM_IMAGES


def test_units_are_compared_with_random_weights_and_raw_pixels(workdir: Path) -> None:
    table = _table(workdir, "units")
    assert [row["Feature space"] for row in table["rows"]] == [
        "FC100-100-10, hidden1",
        "FC100-100-10, hidden2",
        "FC100-100-10, hidden1 (random weights)",
        "FC100-100-10, hidden2 (random weights)",
        "raw pixels",
    ]
    assert table["columns"][2:] == ["Purity", "Label entropy", "Class selectivity", "Best one-class AUC"]
    with (workdir / "report" / "tables" / "units_details.csv").open(newline="") as file:
        details = list(csv.DictReader(file))
    assert len(details) == 20
    for line in details:
        assert float(line["Effect from"]) <= float(line["Effect"]) <= float(line["Effect to"])
        assert not (line["Verdict"] == "more" and float(line["p more"]) > 0.05)
        assert not (line["Verdict"] == "less" and float(line["p less"]) > 0.05)
    galleries = [path.name for path in (workdir / "report" / "figures").glob("units_*.png")]
    assert len(galleries) == 4 + 1 + 2, "four measures, the rotations between the bases, and a gallery for each layer"


def test_network_shared_by_two_parts_is_trained_once(workdir: Path, digits_dir: Path) -> None:
    trainers = [step.id for step in _steps(workdir, digits_dir) if step.id.startswith("train_")]
    assert trainers.count("train_FC100-100-10") == 1


def test_study_with_only_a_unit_part_has_a_report(digits_dir: Path, tmp_path: Path) -> None:
    steps = _steps(tmp_path, digits_dir, study=Study(title="Units alone", data=Dataset("mnist_5k"), parts=(UNITS,)))
    assert [step.id for step in steps] == [
        "subset_train", "train_FC100-100-10", "subset_test", "units_FC100-100-10", "section_units", "report"
    ]  # fmt: skip
    run(steps)
    assert {path.stem for path in (tmp_path / "report" / "tables").iterdir()} == {"units", "units_details"}
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Units alone" in page and "single units are more selective" in page and "Table 1" not in page


def test_contradictory_parts_are_refused(tmp_path: Path) -> None:
    other = dataclasses.replace(NETWORKS[1], training=FullBatchTraining(max_iterations=20))
    parts = (LipschitzBounds(networks=NETWORKS), RobustAccuracy(networks=(other,)))
    with pytest.raises(ValueError, match="the study has two steps 'train_FC100-100-10' with different settings"):
        Study(title="", data=Dataset("mnist_5k"), parts=parts).steps(workdir=tmp_path, seed=0, facts={})


@pytest.mark.parametrize(
    ("parts", "error", "words"),
    [
        ((), ValueError, r"a study must have at least one part, and each kind of part once; received \[\]"),
        ((TrainingCurves(), TrainingCurves()), ValueError, "each kind of part once; received .*Give all networks of one kind"),
        (TrainingCurves(), TypeError, r"parts must be a tuple of parts, such as \(TrainingCurves\(\),\)"),
        ((TrainingCurves,), TypeError, "parts must be a tuple of parts"),
    ],
)
def test_a_study_needs_parts_of_different_kinds(parts: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Study(title="", data=Dataset("mnist_5k"), parts=parts)


def test_the_images_of_a_study_must_be_a_data_source() -> None:
    with pytest.raises(TypeError, match=r"data must be Dataset\('mnist'\) or an ImageFolder; received 'mnist_5k'"):
        Study(title="", data="mnist_5k", parts=(TrainingCurves(),))


def test_a_part_must_return_the_step_of_its_section(tmp_path: Path) -> None:
    class Forgetful(TrainingCurves):
        def add_to(self, plan):
            return None

    with pytest.raises(TypeError, match="Forgetful.add_to must return the step of its section; received None"):
        Study(title="", data=Dataset("mnist_5k"), parts=(Forgetful(),)).steps(workdir=tmp_path, seed=0, facts={})


@pytest.mark.parametrize("networks", [(), (_network("a b", "FC10(1)"), _network("a_b", "FC10(1)"))])
def test_networks_of_a_part_must_have_different_names(networks: tuple[Network, ...]) -> None:
    with pytest.raises(ValueError, match="networks must be at least 1, with different names; received"):
        LipschitzBounds(networks=networks)


def test_one_network_in_place_of_a_tuple_is_refused() -> None:
    with pytest.raises(TypeError, match="networks must be a tuple of Network or PretrainedNetwork; received Network"):
        RobustAccuracy(networks=NETWORKS[0])


def test_a_misspelled_model_or_layer_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown model 'FC7'"):
        _network("seven", "FC7")
    units = dataclasses.replace(UNITS, layers=((NETWORKS[1], (LayerChoice(layer="hiden1"),)),))
    with pytest.raises(ValueError, match="hiden1"):
        Study(title="", data=Dataset("mnist_5k"), parts=(units,)).steps(workdir=tmp_path, seed=0, facts={})


def test_the_report_lists_the_settings_of_all_parts_also_if_they_differ(tmp_path: Path) -> None:
    other = AttackSettings(num_images=4, search="fast")
    renamed = dataclasses.replace(NETWORKS[0], name="other")
    parts = (LipschitzBounds(networks=NETWORKS, attack=ATTACK), RobustAccuracy(networks=(renamed,), attack=other))
    report = Study(title="", data=Dataset("mnist_5k"), parts=parts).steps(workdir=tmp_path, seed=0, facts={})[-1]
    facts = report.parameters["facts"]
    assert (facts["Search"], facts["Search, RobustAccuracy"]) == (str(ATTACK.settings), str(other.settings))
    assert facts["Images attacked for each model, RobustAccuracy"] == "4"


def test_attack_settings_take_the_name_of_a_search() -> None:
    assert AttackSettings(search="szegedy_lbfgs").settings == SZEGEDY_LBFGS
    with pytest.raises(ValueError, match="unknown search 'fats'"):
        AttackSettings(search="fats")
    with pytest.raises(ValueError, match="num_images and batch_size must be at least 1; received 0 and 256"):
        AttackSettings(num_images=0)


def test_training_curves_without_a_trained_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no part before TrainingCurves\(\) trains a network. List it after the others"):
        Study(title="", data=Dataset("mnist_5k"), parts=(TrainingCurves(),)).steps(workdir=tmp_path, seed=0, facts={})


@pytest.mark.parametrize("illustrated", [(), ("FC10(1)",)])
def test_illustrated_networks_must_be_networks_of_the_part(illustrated: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"illustrated must name some of the networks \['FC10\(1e-2\)', 'FC100-100-10'\]"):
        TransferBetweenModels(networks=NETWORKS, illustrated=illustrated)


def test_training_curves_of_equal_names_are_distinguished_by_subset(workdir: Path) -> None:
    models = [TrainedModel(workdir / f"train_{name}") for name in ("FC10_1e-2", "FC100-100-10", "FC100-100-10_on_halves")]
    assert list(losses(models)) == ["FC10(1e-2)", "FC100-100-10, train", "FC100-100-10, train[:50%]"]


def test_two_tables_with_the_same_name_are_refused(workdir: Path, digits_dir: Path, tmp_path: Path) -> None:
    sections = [ReportSection(workdir / "section_units")] * 2
    with pytest.raises(
        ValueError, match="two sections have a file tables/units.csv. Give their tables and figures other names."
    ):
        run([Reporter("report", tmp_path, title="Twice", facts={}, sections=sections)])


def test_changing_one_section_keeps_the_others_finished(
    workdir: Path, digits_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "study"
    shutil.copytree(workdir, copy)
    digest = contract._code_digest
    monkeypatch.setattr(contract, "_code_digest", lambda kind: digest(kind) + ("changed" if kind is UnitSection else ""))
    executed = _count_executions(monkeypatch)
    run(_steps(copy, digits_dir))
    assert executed == ["section_units"], "the files of the section are the same, so the report is not written again"


def test_section_depends_only_on_its_own_file() -> None:
    root = Path(contract.__file__).parent.parent
    files = {path.name for path in source_files(UnitSection.__module__, root) if path.parent.name == "studies"}
    assert "unit_comparison.py" in files
    assert not files & {"lipschitz_bounds.py", "targeted_photographs.py", "training_comparison.py", "training_curves.py"}


def test_both_formats_of_a_table_hold_the_same_numbers(workdir: Path) -> None:
    with (workdir / "report" / "tables" / "table_1.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    for line, row in zip(lines, _table(workdir, "table_1")["rows"], strict=True):
        assert float(line["Test error"]) == row["Test error"]["rate"]
        assert int(line["Test error n"]) == row["Test error"]["num_trials"] == 1000
        assert float(line["Av. min. distortion"]) == row["Av. min. distortion"]["mean"]


@pytest.mark.parametrize(("name", "attacks"), [("table_2", ATTACKS[:2]), ("table_4", ATTACKS[2:])])
def test_the_diagonal_is_100_percent_of_the_images_whose_attack_succeeded(
    workdir: Path, name: str, attacks: tuple[str, str]
) -> None:
    table = _table(workdir, name)
    for row, network, attack in zip(table["rows"], table["columns"][1:-1], attacks, strict=False):
        assert row["Source model"].endswith(network)
        assert row[network]["rate"] == 1.0
        assert row[network]["num_events"] == DistortedImages(workdir / attack).arrays()["succeeded"].sum() > 0


def test_tables_agree_with_the_attacks(workdir: Path) -> None:
    for row in _table(workdir, "table_1")["rows"]:
        arrays = DistortedImages(workdir / f"attack_{folder_name(row['Model'])}").arrays()
        found = arrays["distortion"][arrays["succeeded"] & arrays["correct"]]
        assert row["Av. min. distortion"]["num"] == len(found)
        assert row["Av. min. distortion"]["mean"] == pytest.approx(found.mean(dtype=np.float64), rel=1e-9)


def test_networks_have_low_errors(workdir: Path) -> None:
    for row in _table(workdir, "table_1")["rows"]:
        assert row["Training error"]["rate"] <= row["Test error"]["rate"] < 0.25  # the error of guessing is 0.9


def test_halves_are_disjoint_and_complete(workdir: Path, digits_dir: Path) -> None:
    card = dataset_card("mnist_5k", data_dir=str(digits_dir))
    subsets = [json.loads((workdir / f"subset_{name}" / "subset.json").read_text()) for name in ("P1", "P2", "train")]
    first, second, whole = (set(load_examples(card, subset["subset"]).ids.numpy().tolist()) for subset in subsets)
    assert not first & second
    assert first | second == whole
    assert [subset["num_examples"] for subset in subsets] == [len(first), len(second), len(whole)] == [2000, 2000, 4000]


def test_networks_of_the_halves_are_trained_on_their_half_only(workdir: Path) -> None:
    for row in _table(workdir, "table_3")["rows"]:
        folder = workdir / f"train_{folder_name(row['Model'])}_on_halves"
        manifest, training = TrainedModel(folder).manifest(), TrainedModel(folder).record()
        subset = Subset(workdir / f"subset_{row['Trained on']}")
        assert manifest["inputs"] == {"subset": {subset.uri.name: subset.digest()}}
        train_error = row[f"Error on {row['Trained on']}"]
        assert [train_error["num_events"], train_error["num_trials"]] == list(training.train_errors)


def test_distorted_images_lie_exactly_within_the_bounds(workdir: Path) -> None:
    for arrays in _attacks(workdir).values():
        assert arrays["distorted"].shape == arrays["images"].shape == (NUM_IMAGES, 28, 28, 1)
        assert arrays["distorted"].min() >= 0.0
        assert arrays["distorted"].max() <= 1.0


def test_succeeded_agrees_with_predictions_of_the_reloaded_network(workdir: Path) -> None:
    for name, arrays in _attacks(workdir).items():
        network = TrainedModel(workdir / name.replace("attack", "train")).load()
        predictions = predict(network, arrays["distorted"]).numpy()
        np.testing.assert_array_equal(predictions == arrays["targets"], arrays["succeeded"])
        assert not (arrays["targets"] == arrays["labels"]).any()


def test_distortion_matches_the_saved_images_and_is_nan_for_failures(workdir: Path) -> None:
    for arrays in _attacks(workdir).values():
        change = np.sqrt(np.mean((arrays["distorted"] - arrays["images"]).astype(np.float64) ** 2, axis=(1, 2, 3)))
        expected = np.where(arrays["succeeded"], change, np.nan)
        np.testing.assert_allclose(arrays["distortion"], expected, rtol=1e-5)  # a float32 mean over 784 pixels


def test_attacked_images_match_their_ids(workdir: Path, digits_dir: Path) -> None:
    card = dataset_card("mnist_5k", data_dir=str(digits_dir))
    for name, subset in (("attack_FC100-100-10", "train"), ("attack_FC100-100-10_on_halves", "test")):
        examples, arrays = load_examples(card, subset), DistortedImages(workdir / name).arrays()
        rows = [examples.ids.numpy().tolist().index(example_id) for example_id in arrays["ids"]]
        np.testing.assert_array_equal(arrays["images"], examples.images.numpy()[rows])
        np.testing.assert_array_equal(arrays["labels"], examples.labels.numpy()[rows])
        assert len(set(rows)) == NUM_IMAGES


def test_all_networks_of_one_table_are_attacked_on_the_same_images_and_targets(workdir: Path) -> None:
    attacks = _attacks(workdir)
    for first, second in (ATTACKS[:2], ATTACKS[2:]):
        for name in ("ids", "targets"):
            np.testing.assert_array_equal(attacks[first][name], attacks[second][name])


def test_amplified_images_have_at_most_the_requested_distortion(workdir: Path) -> None:
    rows = TransferRates(workdir / "transfer_between_halves").record().changed
    amplified = [row.mean_distortion for row in rows if row.kind == "amplified"]
    assert len(amplified) == 2
    assert all(0.09 < distortion <= 0.1 * (1 + 1e-6) for distortion in amplified)  # clipping to the bounds reduces it


def _count_executions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    executed: list[str] = []
    execute: Callable[..., None] = Component.execute
    monkeypatch.setattr(Component, "execute", lambda step, *rest: (executed.append(step.id), execute(step, *rest))[1])
    return executed


def test_a_second_run_executes_nothing(workdir: Path, digits_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executed = _count_executions(monkeypatch)
    run(_steps(workdir, digits_dir))
    assert executed == []


def test_only_a_deleted_step_is_executed_again(
    workdir: Path, digits_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "study"
    shutil.copytree(workdir, copy)
    shutil.rmtree(copy / "attack_FC10_1e-2")
    executed = _count_executions(monkeypatch)
    run(_steps(copy, digits_dir))
    # The repeated attack writes identical bytes, so that the steps that depend on it are not stale.
    assert executed == ["attack_FC10_1e-2"]
    assert _files(copy / "report" / "tables") == _files(workdir / "report" / "tables")


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.slow
def test_same_seed_gives_identical_tables_in_another_workdir(workdir: Path, digits_dir: Path, tmp_path: Path) -> None:
    run(_steps(tmp_path, digits_dir))
    assert _files(tmp_path / "report" / "tables") == _files(workdir / "report" / "tables")
    for name, arrays in _attacks(tmp_path).items():
        for key, array in DistortedImages(workdir / name).arrays().items():
            np.testing.assert_array_equal(arrays[key], array)


@pytest.mark.slow
def test_another_seed_gives_other_tables(workdir: Path, digits_dir: Path, tmp_path: Path) -> None:
    run(_steps(tmp_path, digits_dir, seed=1))
    here, there = _files(tmp_path / "report" / "tables"), _files(workdir / "report" / "tables")
    assert here.keys() == there.keys()
    assert all(here[name] != there[name] for name in here if name.endswith(".csv"))


@pytest.mark.parametrize("num_found", [0, 1])
def test_study_with_almost_no_successful_attacks_has_a_report(
    workdir: Path, digits_dir: Path, tmp_path: Path, num_found: int
) -> None:
    copy = tmp_path / "study"
    shutil.copytree(workdir, copy)
    for name in ATTACKS:
        _forget_successes(DistortedImages(copy / name), keep=num_found)
    run(_steps(copy, digits_dir))
    for row in _table(copy, "table_1")["rows"]:
        assert row["Av. min. distortion"]["num"] == num_found
        assert (row["Av. min. distortion"]["mean"] is None) == (num_found == 0)
    assert _table(copy, "table_2")["rows"][0]["FC10(1e-2)"]["num_trials"] == num_found
    page = (copy / "report" / "index.html").read_text()
    assert "nan" not in page.partition("<main")[2].lower().replace("data:", "").split("base64")[0]


def _forget_successes(attack: DistortedImages, *, keep: int) -> None:
    arrays = attack.arrays()
    arrays["succeeded"] &= np.arange(NUM_IMAGES) < keep
    failed = ~arrays["succeeded"]
    arrays["distorted"][failed] = arrays["images"][failed]
    arrays["distortion"][failed] = arrays["c"][failed] = np.nan
    attack.write_arrays(arrays)
    manifest = attack.read_json("manifest.json")
    manifest["files"]["images.npz"] = sha256_of(attack.uri / "images.npz")
    attack.write_json("manifest.json", manifest)


def test_folder_names_of_networks_are_distinct() -> None:
    names = [network.name for network in (*NETWORKS, ON_SECOND)]
    assert [folder_name(name) for name in names] == ["FC10_1e-2", "FC100-100-10", "FC100-100-10_prime"]
    assert folder_name("../a b/c") == ".._a_b_c"


def test_artifact_with_a_flipped_bit_is_refused(workdir: Path, digits_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(workdir / "train_FC10_1e-2", tmp_path / "model")
    path = tmp_path / "model" / "model.keras"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    model: Artifact = TrainedModel(tmp_path / "model")
    with pytest.raises(RuntimeError, match="model.keras is not as it was written"):
        model.manifest()
