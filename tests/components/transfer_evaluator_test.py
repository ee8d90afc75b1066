"""Transfer rates are computed on the successfully attacked images, even if there are few or none."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from components.artifacts import MANIFEST, Artifact, DistortedImages, TrainedModel
from components.records import AttackRecord, NetworkRecord
from components.runner import run
from components.transfer_evaluator.component import TransferEvaluator
from intriguing.evaluation import ErrorRates
from intriguing.models import build
from intriguing.statistics.proportions import Proportion

NUM_IMAGES = 3


def _sealed(artifact: Artifact) -> Artifact:
    (artifact.uri / MANIFEST).write_text(json.dumps({"type": artifact.TYPE_NAME, "files": {}}))
    return artifact


def _rates(workdir: Path, num_succeeded: int) -> dict:
    model, attack = TrainedModel(workdir / "model"), DistortedImages(workdir / "attack")
    for artifact in (model, attack):
        artifact.uri.mkdir()
    build("FC10(1)").save(model.uri / "model.keras")
    model.write_record(NetworkRecord(name="linear", model="linear"))
    succeeded = np.arange(NUM_IMAGES) < num_succeeded
    images = np.random.default_rng(0).random((NUM_IMAGES, 28, 28, 1), np.float32)
    distorted = np.clip(images + np.where(succeeded, np.float32(0.1), 0)[:, None, None, None], 0, 1).astype(np.float32)
    distortion = np.sqrt(np.mean((distorted - images) ** 2, axis=(1, 2, 3)))
    attack.write_arrays(
        {
            "images": images,
            "labels": np.arange(NUM_IMAGES, dtype=np.int32),
            "distorted": distorted,
            "succeeded": succeeded,
            "distortion": np.where(succeeded, distortion, np.float32("nan")),
        }
    )
    attack.write_record(AttackRecord(name="linear", dataset="mnist_5k", subset="test", class_names=()))
    evaluator = TransferEvaluator(
        "transfer", workdir, models=_sealed(model), distorted=_sealed(attack), subsets=[],
        amplify_to=[0.1], noise=[0.1], unclipped_noise=[], seed=0,
    )  # fmt: skip
    run([evaluator])
    return {row.kind: row for row in evaluator.output.record().changed}


def test_rates_exclude_failed_images_and_noise_includes_all(tmp_path: Path) -> None:
    rates = _rates(tmp_path, num_succeeded=2)
    assert [rates[kind].num_images for kind in ("distorted", "amplified", "noise")] == [2, 2, NUM_IMAGES]
    assert [rates[kind].errors["linear"].on_all.num_trials for kind in ("distorted", "noise")] == [2, NUM_IMAGES]
    assert rates["distorted"].mean_distortion == pytest.approx(0.1, abs=0.02)


def _model(folder: Path, shape: tuple[int, ...], num_classes: int, name: str) -> TrainedModel:
    inputs = keras.Input(shape)
    folder.mkdir()
    keras.Model(inputs, keras.layers.Dense(num_classes)(keras.layers.Flatten()(inputs))).save(folder / "model.keras")
    (model := TrainedModel(folder)).write_record(NetworkRecord(name=name, model=name))
    return _sealed(model)


@pytest.mark.parametrize(
    ("shape", "num_classes", "name", "words"),
    [
        (
            (8, 8, 3),
            10,
            "small",
            r"small takes images \[8, 8, 3\]; the images that were distorted for linear have shape \[28, 28, 1\]",
        ),
        ((28, 28), 10, "flat", r"flat takes images \[28, 28\]; the images"),
        ((28, 28, 1), 2, "short", "short has 2 classes; an image that was distorted for linear has class 2"),
        ((28, 28, 1), 10, "linear", "must have names of their own; received 'linear' more than once"),
    ],
)
def test_networks_with_other_shapes_classes_or_equal_names_are_refused(
    tmp_path: Path, shape: tuple[int, ...], num_classes: int, name: str, words: str
) -> None:
    _rates(tmp_path, num_succeeded=1)
    models = [TrainedModel(tmp_path / "model"), _model(tmp_path / "other", shape, num_classes, name)]
    evaluator = TransferEvaluator(
        "transfer", tmp_path, models=models, distorted=DistortedImages(tmp_path / "attack"), subsets=[], amplify_to=[],
        noise=[], unclipped_noise=[], seed=0,
    )  # fmt: skip
    with pytest.raises(ValueError, match=words):
        run([evaluator])


def test_single_image_has_a_mean_but_no_standard_deviation(tmp_path: Path) -> None:
    rates = _rates(tmp_path, num_succeeded=1)
    assert rates["distorted"].num_images == 1
    assert rates["distorted"].mean_distortion > 0
    assert np.isnan(rates["distorted"].std_distortion)


def test_attack_without_success_has_rates_of_zero_images(tmp_path: Path) -> None:
    rates = _rates(tmp_path, num_succeeded=0)
    assert rates["distorted"].errors["linear"] == ErrorRates(on_all=Proportion(0, 0), on_correct=Proportion(0, 0))
    assert np.isnan([rates["distorted"].mean_distortion, rates["distorted"].std_distortion]).all()
    assert rates["noise"].num_images == NUM_IMAGES
