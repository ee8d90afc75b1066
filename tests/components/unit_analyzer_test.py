"""UnitAnalyzer on an untrained network and a hundred digits: its record, and the input that it refuses."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from components.artifacts import TrainedModel, UnitAnalyses
from components.example_gen.component import ExampleGen
from components.runner import run
from components.settings import LayerChoice, to_parameters
from components.unit_analyzer.component import UnitAnalyzer
from components.unit_analyzer.executor import _untrained, read_table
from intriguing.data import dataset_card, load_examples
from intriguing.models import build, features_at
from intriguing.units import MEASURES, UnitSettings
from tests.components.toys import trained_model

SETTINGS = UnitSettings(num_top=5, num_random_bases=99, alphas=(0.5,), num_rotations=2, max_units=12, seed=3)
LAYERS = (LayerChoice(layer="conv1", pooling="max"), LayerChoice(layer="hidden1", before_activation=True))
SPLIT = "test[:100]"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    model = build("ConvNet", seed=7)
    model.set_weights([np.flip(weights, axis=0) for weights in model.get_weights()])  # other weights than the initial ones
    return trained_model(tmp_path_factory.mktemp("network") / "train_ConvNet", model, name="ConvNet")


def _analyze(workdir: Path, digits_dir: Path, network: TrainedModel, *, subset: str = SPLIT, **changes: Any) -> UnitAnalyses:
    examples = ExampleGen(
        "subset", workdir, dataset="mnist_5k", data_dir=str(digits_dir), manual_dir="", subset=subset, disjoint_from=[],
        image_size=[], shorter_side=0, content="",
    )  # fmt: skip
    bindings: dict[str, Any] = {
        "layers": [dataclasses.asdict(choice) for choice in LAYERS], "settings": to_parameters(SETTINGS),
        "controls": ["random weights", "pixels"], "attributes": {},
    }  # fmt: skip
    step = UnitAnalyzer("units", workdir, model=network, subset=examples, **{**bindings, **changes})
    run([examples, step])
    return step.output


@pytest.fixture(scope="module")
def analyses(tmp_path_factory: pytest.TempPathFactory, digits_dir: Path, network: TrainedModel) -> UnitAnalyses:
    return _analyze(tmp_path_factory.mktemp("units"), digits_dir, network)


def test_every_layer_is_analyzed_with_its_controls(analyses: UnitAnalyses) -> None:
    units = analyses.record()
    assert [(layer.layer, layer.weights) for layer in units.layers] == [
        ("conv1, max", "trained"),
        ("hidden1 before activation", "trained"),
        ("conv1, max", "random weights"),
        ("hidden1 before activation", "random weights"),
        ("pixels", "pixels"),
    ]
    assert (units.name, units.num_images, units.attributes) == ("ConvNet", 100, tuple("0123456789"))
    assert [layer.num_features for layer in units.layers] == [16, 128, 16, 128, 784]
    for layer in units.layers:
        assert layer.num_units == 12
        assert list(layer.tests) == list(MEASURES)
        assert all(0.009 < test.p_more <= 1.0 for test in layer.tests.values())
        assert np.shape(layer.along_rotations) == (3, 2, 4)
    assert units.layers[-1].num_constant > 0, "the corners of digits are black"


def test_kinds_replace_classes_as_attributes(tmp_path: Path, digits_dir: Path, network: TrainedModel) -> None:
    kinds = {"round": [[0, 0], [6, 6], [8, 9]], "other": [[0, 9]]}
    layers = [dataclasses.asdict(LAYERS[0])]
    analyses = _analyze(tmp_path, digits_dir, network, attributes={"kinds": kinds}, controls=[], layers=layers)
    assert analyses.record().attributes == ("round", "other")
    labels = load_examples(dataset_card("mnist_5k", data_dir=str(digits_dir)), SPLIT).labels.numpy()
    arrays = analyses.arrays()
    shares = np.isin(labels[arrays["0_natural_top"]], [0, 6, 8, 9]).mean(axis=1)
    np.testing.assert_allclose(arrays["0_natural_selectivity"][:, 0], np.maximum(shares, 1 - shares), rtol=1e-6)


def test_top_images_of_units_agree_with_a_full_sort(analyses: UnitAnalyses, digits_dir: Path, network: TrainedModel) -> None:
    examples = load_examples(dataset_card("mnist_5k", data_dir=str(digits_dir)), SPLIT)
    arrays = analyses.arrays()
    features = features_at(network.load(), "conv1", pooling="max")(examples.images).numpy()[:, arrays["0_units"]]
    expected = np.argsort(-features, axis=0, kind="stable")[:5].T
    np.testing.assert_array_equal(arrays["0_natural_top"], expected)
    np.testing.assert_array_equal(arrays["ids"], examples.ids.numpy().astype(np.bytes_))
    np.testing.assert_array_equal(arrays["0_natural_images"], examples.images.numpy()[expected[arrays["0_shown"]]])
    purity = [np.bincount(examples.labels.numpy()[row]).max() / 5 for row in expected]
    np.testing.assert_allclose(arrays["0_natural_selectivity"][:, 0], purity, rtol=1e-6)


def test_random_weights_equal_the_initial_weights_of_training(analyses: UnitAnalyses, digits_dir: Path) -> None:
    arrays = analyses.arrays()
    examples = load_examples(dataset_card("mnist_5k", data_dir=str(digits_dir)), SPLIT)
    features = features_at(build("ConvNet", seed=7), "conv1", pooling="max")(examples.images).numpy()[:, arrays["2_units"]]
    np.testing.assert_array_equal(arrays["2_natural_top"], np.argsort(-features, axis=0, kind="stable")[:5].T)
    assert not np.array_equal(arrays["0_natural_top"], arrays["2_natural_top"])


def _table(path: Path, digits_dir: Path, *, leave_out: int = 0) -> dict[str, str]:
    examples = load_examples(dataset_card("mnist_5k", data_dir=str(digits_dir)), SPLIT)
    rows = list(zip(examples.ids.numpy(), examples.labels.numpy(), strict=True))[leave_out:]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "even", "shape"])
        writer.writerows(
            [example.decode(), int(label % 2 == 0), "round" if label in (0, 6, 8, 9) else "open"] for example, label in rows
        )
    return {"path": str(path), "sha256": ""}


def test_table_attributes_replace_classes(tmp_path: Path, digits_dir: Path, network: TrainedModel) -> None:
    attributes = _table(tmp_path / "attributes.csv", digits_dir)
    found = _analyze(tmp_path / "run", digits_dir, network, attributes=attributes, controls=[]).record()
    assert found.attributes == ("even", "shape=open", "shape=round")
    assert len(found.layers) == 2


def test_ids_missing_from_the_table_raise(tmp_path: Path, digits_dir: Path, network: TrainedModel) -> None:
    attributes = _table(tmp_path / "attributes.csv", digits_dir, leave_out=3)
    with pytest.raises(ValueError, match="must have a row for every example; 3 of 100 are missing, such as 'mnist_5k-test"):
        _analyze(tmp_path / "run", digits_dir, network, attributes=attributes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subset": "test[:3]"}, "num_top must be at most 3, the number of images of 'test\\[:3\\]'; received 5"),
        ({"layers": [{"layer": "conv1"}]}, "layer 'conv1' have shape .* with spatial axes. Pass pooling="),
        ({"layers": [{"layer": "hiden1"}]}, "unknown layer 'hiden1'. Did you mean 'hidden1'"),
        ({"settings": {**to_parameters(SETTINGS), "num_random_bases": 5}}, "num_random_bases must be at least 99"),
    ],
)
def test_invalid_input_raises_before_the_analysis(
    tmp_path: Path, digits_dir: Path, network: TrainedModel, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _analyze(tmp_path, digits_dir, network, **changes)
    assert not (tmp_path / "units").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,even\na,1\n", "must have a column 'id' with the example ids; received"),
        ("", "must have a column 'id' with the example ids; received nothing"),
        ("id,even\na,1\na,0\n", "names an id more than once: 2 rows, 1 ids. Keep one row for each"),
    ],
)
def test_unreadable_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "attributes.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "attributes.csv")


def test_missing_table_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no table of attributes at .*missing.csv. Pass a CSV file with a column 'id'"):
        read_table(tmp_path / "missing.csv")


def test_random_weights_keep_the_preprocessing_of_the_trained_network() -> None:
    scaling = keras.layers.Normalization(name="scaling")
    scaling.adapt(np.random.default_rng(0).normal(5.0, 3.0, size=(50, 6)).astype(np.float32))
    layers = [keras.Input((6,)), scaling, keras.layers.Dense(4, name="hidden")]
    model = keras.Sequential([keras.Input((6,)), keras.Sequential(layers, name="backbone"), keras.layers.Dense(2)])
    untrained = _untrained(model)
    images = np.random.default_rng(1).normal(5.0, 3.0, size=(9, 6)).astype(np.float32)
    scaled, expected = (features_at(of, "backbone/scaling")(images) for of in (untrained, model))
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)
    hidden, trained = (features_at(of, "backbone/hidden")(images) for of in (untrained, model))
    assert np.max(np.abs(hidden - trained)) > 0.1
