"""SpectralAnalyzer records bounds and certificates, and raises if an attack contradicts a certificate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from components.artifacts import DistortedImages, SpectralBounds, TrainedModel
from components.contract import Component, Executor
from components.records import AttackRecord, BoundsRecord, SearchRecord
from components.runner import run
from components.spectral_analyzer import executor
from components.spectral_analyzer.component import SpectralAnalyzer
from components.studies import lipschitz_bounds as spectra
from intriguing.lipschitz import lipschitz_bound
from intriguing.pixels import PixelBox
from intriguing.statistics.proportions import Proportion
from tests.components.toys import trained_model

NUM_IMAGES = 5
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(NUM_IMAGES, 28, 28, 1)).astype(np.float32)


class GivenAttackExecutor(Executor):
    arrays: dict[str, np.ndarray] = {}

    def Do(self, input_dict, output_dict, exec_properties):
        output_dict["distorted"][0].write_arrays(self.arrays)
        search = SearchRecord(
            pixel_box=PixelBox(), quantization_levels=None, num_classes=10, clean_accuracy=Proportion(5, 5), num_images=5,
            num_succeeded=4, num_succeeded_among_correct=4, num_surviving_rounding=4, mean_distortion=0.1,
            mean_num_evaluations=1.0, num_images_by_status={},
        )  # fmt: skip
        output_dict["distorted"][0].write_record(
            AttackRecord(name=exec_properties["name"], dataset="mnist_5k", subset="test", class_names=(), search=search)
        )


class GivenAttack(Component):
    PARAMETERS = {"name": str}
    OUTPUTS = {"distorted": DistortedImages}
    EXECUTOR = GivenAttackExecutor


def _network() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(2, 5, strides=4, activation="relu", name="conv1"),
            keras.layers.Flatten(name="features"),
            keras.layers.Dense(10, name="logits"),
        ]
    )


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    keras.utils.set_random_seed(2)  # with some seeds both filters are dead and all logits equal
    return trained_model(tmp_path_factory.mktemp("network") / "train_toy", _network(), name="toy")


def _bounds(
    workdir: Path, network: TrainedModel, *, source_model: str = "toy", distortion: float = 10.0, targeted: bool = True
) -> SpectralBounds:
    labels = np.argmax(network.load().predict(IMAGES, verbose=0), axis=1).astype(np.int32)
    GivenAttackExecutor.arrays = {
        "images": IMAGES,
        "labels": labels,
        "ids": np.array([f"example {index}" for index in range(NUM_IMAGES)]).astype(np.bytes_),
        "targets": (labels + 1) % 10 if targeted else np.full_like(labels, -1),
        "distortion": np.full(NUM_IMAGES, distortion, np.float32),
        "succeeded": np.arange(NUM_IMAGES) > 0,
    }
    attack = GivenAttack("attack", workdir, name=source_model)
    step = SpectralAnalyzer("spectra", workdir, model=network, distorted=attack)
    run([attack, step])
    return step.output


def test_bounds_are_recorded_for_every_layer_and_image(tmp_path: Path, network: TrainedModel) -> None:
    artifact = _bounds(tmp_path, network)
    bounds, arrays = artifact.record(), artifact.arrays()
    assert bounds.upper == lipschitz_bound(network.load()).upper
    conv, flat, dense = bounds.layers
    assert (conv.size, conv.strides, conv.activation_lipschitz) == ((5, 5, 1, 2), (4, 4), 1.0)
    assert (flat.size, dense.size, dense.strides) == (None, (72, 10), None)
    assert all(layer.lower <= layer.upper for layer in bounds.layers)
    assert np.isnan(arrays["attacked"]).tolist() == [True] + [False] * (NUM_IMAGES - 1)
    assert (arrays["certified"] >= arrays["by_product"]).all() and (arrays["by_product"] > 0).all()


def test_untargeted_certificates_do_not_exceed_targeted_ones(tmp_path: Path, network: TrainedModel) -> None:
    to_a_class, to_any = _bounds(tmp_path / "one", network), _bounds(tmp_path / "any", network, targeted=False)
    assert to_a_class.record().targeted and not to_any.record().targeted
    assert (to_any.arrays()["certified"] <= to_a_class.arrays()["certified"]).all()


def test_attack_nearer_than_its_certificate_raises(tmp_path: Path, network: TrainedModel) -> None:
    with pytest.raises(
        ArithmeticError, match=r"4 of 5 images distorted for 'toy' are nearer than .* allow, such as example \d: found"
    ):
        _bounds(tmp_path, network, distortion=1e-7)


def test_images_distorted_for_another_network_are_refused(tmp_path: Path, network: TrainedModel) -> None:
    with pytest.raises(ValueError, match="must have been distorted for 'toy'; received some distorted for 'other'"):
        _bounds(tmp_path, network, source_model="other")


def test_tables_list_layers_certificates_and_images(tmp_path: Path, network: TrainedModel) -> None:
    networks = spectra.read([_bounds(tmp_path, network)])
    layers = spectra.layer_table(networks)
    assert [(row["Layer"], row["Size"], row["Stride"]) for row in layers.rows] == [
        ("toy, conv1", "5 x 5 x 1 x 2", "4 x 4"), ("toy, logits", "72 x 10", None),
    ]  # fmt: skip
    assert layers.rows[-1]["Cumulative bound"] == pytest.approx(networks[0].bounds.upper)
    (row,) = spectra.certificate_table(networks).rows
    assert row["Attack"].num == NUM_IMAGES - 1
    assert row["Certified / attack"] == pytest.approx(networks[0].arrays["certified"][1:].mean() / 10.0, rel=1e-5)
    assert len(spectra.image_table(networks).rows) == NUM_IMAGES
    assert "No attack is nearer than its certificate" in spectra.spectral_lead(networks)


def test_bounds_of_branches_are_added(tmp_path: Path) -> None:
    images = keras.Input((28, 28, 1))
    flat = keras.layers.Flatten()(images)
    logits = keras.layers.Add()([keras.layers.Dense(10, name="left")(flat), keras.layers.Dense(10, name="right")(flat)])
    network = trained_model(tmp_path / "train_branches", keras.Model(images, logits), name="toy")
    left, right, output = spectra.layer_table(spectra.read([_bounds(tmp_path, network)])).rows
    assert (left["Cumulative bound"], right["Cumulative bound"]) == (left["Upper bound"], right["Upper bound"])
    assert output["Layer"] == "toy, output"
    assert output["Cumulative bound"] == pytest.approx(left["Upper bound"] + right["Upper bound"])


def test_layers_of_nested_models_are_listed(tmp_path: Path) -> None:
    inner = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Conv2D(2, 5, strides=4, name="within"), keras.layers.Flatten()]
    )
    model = keras.Sequential([keras.Input((28, 28, 1)), inner, keras.layers.Dense(10, "softmax", name="probabilities")])
    network = trained_model(tmp_path / "train_nested", model, name="toy")
    bounds = _bounds(tmp_path, network)
    assert [(row["Layer"], row["Size"]) for row in spectra.layer_table(spectra.read([bounds])).rows] == [
        ("toy, within", "5 x 5 x 1 x 2"), ("toy, probabilities", "72 x 10"),
    ]  # fmt: skip
    assert (bounds.arrays()["certified"] > 0).all()


def test_network_without_a_bound_raises_before_norms_are_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "lipschitz_bound", lambda *arguments, **options: pytest.fail("norms were computed"))
    images = keras.Input((28, 28, 1))
    flat = keras.layers.Flatten()(images)
    product = keras.layers.Multiply(name="gate")([flat, keras.layers.Dense(784, name="left")(flat)])
    network = trained_model(tmp_path / "train_product", keras.Model(images, keras.layers.Dense(10)(product)), name="toy")
    with pytest.raises(ValueError, match="the layer 'gate', a Multiply, multiplies or divides 2 branches"):
        _bounds(tmp_path, network)
    half = [keras.layers.Flatten(), keras.layers.Dense(10, dtype="mixed_float16")]
    network = trained_model(tmp_path / "train_half", keras.Sequential([keras.Input((28, 28, 1)), *half]), name="toy")
    with pytest.raises(ValueError, match="computes in float16"):
        _bounds(tmp_path / "half", network)


def test_lead_is_empty_when_no_attack_succeeded() -> None:
    nothing: dict[str, Any] = {"certified": np.zeros(2), "by_product": np.zeros(2), "attacked": np.full(2, np.nan)}
    network = spectra.BoundedNetwork(BoundsRecord(name="toy", upper=1.0, layers=()), {**nothing, "ids": np.array([b"a", b"b"])})
    assert spectra.spectral_lead([network]) == ""
    assert spectra.certificate_table([network]).rows[0]["Certified / attack"] is None
