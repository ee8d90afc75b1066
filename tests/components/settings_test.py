"""Settings that are written to the JSON of a manifest are read back with equal values and types."""

from __future__ import annotations

import dataclasses
import json

import pytest

from components.settings import Training, search_from, to_parameters, training_from
from intriguing.attack import (
    PHOTOGRAPH_SEARCH,
    SZEGEDY_LBFGS,
    THOROUGH_SEARCH,
    Bisection,
    BoundarySearch,
    BoxMinimization,
    DistortionSearch,
)
from intriguing.pixels import PixelBox
from intriguing.training import AdversarialTraining, AutoencoderTraining, FullBatchTraining, LayerPool, MinibatchTraining

TRAININGS = [
    MinibatchTraining(),
    MinibatchTraining(num_epochs=3, batch_size=7, learning_rate=0.125),
    MinibatchTraining(spectral_penalty=1e-4),
    FullBatchTraining(),
    FullBatchTraining(max_iterations=5, tolerance=1e-7),
    AutoencoderTraining(),
    AutoencoderTraining(
        features=MinibatchTraining(num_epochs=2), sparsity=0.1, sparsity_weight=0.0, softmax=FullBatchTraining(max_iterations=9)
    ),
    AdversarialTraining(),
    AdversarialTraining(
        minibatches=MinibatchTraining(num_epochs=3, warmup=0.25),
        pools=(LayerPool(size=7, replaced=1.0), LayerPool(layer="hidden1", share=0.125, to_distortion=0.5)),
        rounds_per_epoch=1,
        search=DistortionSearch(
            pixel_box=PixelBox(-1.0, 3.0), boundary_search=BoundarySearch(num_starts=1), max_evaluations=30
        ),
        attack_batch_size=3,
    ),
    AdversarialTraining(search=SZEGEDY_LBFGS),
]
SEARCHES = [
    DistortionSearch(),
    DistortionSearch(pixel_box=PixelBox(-1.0, 3.0)),
    DistortionSearch(bisection=Bisection(bracket_ratio=1.5), minimization=BoxMinimization(max_rounds=7)),
    SZEGEDY_LBFGS,
    THOROUGH_SEARCH,
]


@pytest.mark.parametrize("training", TRAININGS, ids=lambda training: type(training).__name__)
def test_training_settings_survive_json(training: Training) -> None:
    parameters = json.loads(json.dumps(to_parameters(training)))
    assert parameters["kind"] == type(training).__name__
    read = training_from(parameters)
    assert read == training
    assert hash(read) == hash(training)
    assert training_from(to_parameters(training)) == training  # parameters of a step before they are written as JSON


@pytest.mark.parametrize("search", SEARCHES, ids=["default", "another box", "another budget", "paper's", "thorough"])
def test_search_settings_survive_json(search: DistortionSearch) -> None:
    read = search_from(json.loads(json.dumps(to_parameters(search))))
    assert read == search
    assert hash(read) == hash(search)  # compiled programs are cached by settings
    assert isinstance(read.pixel_box, PixelBox)


def test_parameters_without_a_kind_override_the_default() -> None:
    assert search_from({}, PHOTOGRAPH_SEARCH) == PHOTOGRAPH_SEARCH
    expected = dataclasses.replace(PHOTOGRAPH_SEARCH, quantization_levels=256, max_evaluations=50)
    assert search_from({"quantization_levels": 256, "max_evaluations": 50}, PHOTOGRAPH_SEARCH) == expected


def test_settings_without_a_spectral_penalty_default_to_no_penalty() -> None:
    parameters = to_parameters(MinibatchTraining(num_epochs=3))
    del parameters["spectral_penalty"]
    assert training_from(parameters) == MinibatchTraining(num_epochs=3, spectral_penalty=0.0)


def test_settings_read_from_json_are_validated() -> None:
    with pytest.raises(ValueError, match="num_epochs must be positive; received 0"):
        training_from({**to_parameters(MinibatchTraining()), "num_epochs": 0})
