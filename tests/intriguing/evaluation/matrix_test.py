"""The transfer matrix on classifiers whose errors are counted by hand."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack import minimize_distortion
from intriguing.distortion import add_gaussian_noise, amplify
from intriguing.evaluation import AttackedImages, TransferMatrix, predict, transfer_matrix, transfer_rates
from intriguing.statistics import Proportion

NUM_IMAGES = 4


def threshold_classifier(threshold: float) -> Any:
    """Returns a classifier that predicts class 1 if the mean pixel exceeds a threshold."""

    def classifier(images: tf.Tensor) -> tf.Tensor:
        return 100.0 * (tf.reduce_mean(images, axis=1, keepdims=True) - threshold) * [[-1.0, 1.0]]

    return classifier


MODELS = {"low": threshold_classifier(0.25), "high": threshold_classifier(0.75)}
LABELS = np.array([0, 0, 1, 1])


@pytest.fixture
def images() -> np.ndarray:
    """Images of constant brightness: `low` classifies three of them correctly, `high` three others."""
    return np.repeat(np.float32([[0.1], [0.4], [0.6], [0.9]]), 3, axis=1)


class Results(NamedTuple):
    """The fields of `DistortionResults` that are read."""

    distorted: Any
    distortion: Any
    succeeded: Any


@pytest.fixture
def brightened(images: np.ndarray) -> np.ndarray:
    return images + np.float32([[0.2], [0.4], [0.0], [0.0]])


def test_counts_errors_on_all_and_on_correctly_classified_images(images: np.ndarray, brightened: np.ndarray) -> None:
    matrix = transfer_matrix(MODELS, {"low": (images, brightened)}, LABELS, noise=())
    assert len(matrix.rows) == 1
    rates = matrix.rows[0].rates
    # The pixels are 0.3, 0.8, 0.6 and 0.9.
    assert rates["low"] == (Proportion(2, 4), Proportion(1, 3))  # the second image was wrong before
    assert rates["high"] == (Proportion(2, 4), Proportion(1, 3))  # the third image was wrong before
    np.testing.assert_array_equal(matrix.rows[0].predictions["high"], [0, 1, 0, 1])


def test_agrees_with_transfer_rates_for_every_kind_of_images(images: np.ndarray, brightened: np.ndarray) -> None:
    matrix = transfer_matrix(
        MODELS, {"low": (images, brightened)}, LABELS, amplify_to=(0.3,), noise=(0.2,), unclipped_noise=(0.4,), seed=5
    )
    changed = {
        "distorted": brightened,
        "amplified": amplify(images, brightened, to_distortion=0.3).images,
        "noise": add_gaussian_noise(tf.constant(images), standard_deviation=0.2, seed=5).images,
        "unclipped noise": add_gaussian_noise(tf.constant(images), standard_deviation=0.4, seed=5, pixel_box=None).images,
    }
    assert [row.kind for row in matrix.rows] == list(changed)
    assert [row.amount for row in matrix.rows] == [None, 0.3, 0.2, 0.4]
    assert [row.source_model for row in matrix.rows] == ["low", "low", "", ""]
    for row in matrix.rows:
        for name, model in MODELS.items():
            expected = transfer_rates(predict(model, changed[row.kind]), predict(model, images), LABELS)
            assert row.rates[name] == expected


def test_mean_distortions_match_the_images(images: np.ndarray, brightened: np.ndarray) -> None:
    row = transfer_matrix(MODELS, {"low": (images, brightened)}, LABELS, noise=()).rows[0]
    assert row.mean_distortion == pytest.approx(0.15, rel=1e-5)
    assert row.std_distortion == pytest.approx(np.std([0.2, 0.4, 0.0, 0.0], ddof=1), rel=1e-5)


def test_attacks_exclude_failed_images_and_noise_includes_all(images: np.ndarray, brightened: np.ndarray) -> None:
    results = Results(brightened, [0.2, 0.4, math.nan, math.nan], [True, True, False, False])
    distorted, noisy = transfer_matrix(MODELS, {"low": results}, LABELS, images=images).rows
    assert (distorted.num_images, noisy.num_images) == (2, NUM_IMAGES)
    assert distorted.rates["low"].on_all == Proportion(2, 2)
    assert distorted.mean_distortion == pytest.approx(0.3)
    assert distorted.predictions["low"].shape == (2,)


def test_attack_without_success_has_a_row_with_zero_images(images: np.ndarray) -> None:
    results = Results(images, np.full(NUM_IMAGES, np.nan), np.zeros(NUM_IMAGES, bool))
    matrix = transfer_matrix(MODELS, {"low": results}, LABELS, images=images, noise=(), amplify_to=(0.1,))
    for row in matrix.rows:
        assert row.num_images == 0 and math.isnan(row.mean_distortion) and math.isnan(row.std_distortion)
        assert row.rates["high"] == (Proportion(0, 0), Proportion(0, 0))
    assert " - " in str(matrix)


def test_attack_results_are_accepted_directly() -> None:
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    pixels = np.random.default_rng(0).uniform(size=(5, 6)).astype(np.float32)
    labels = np.asarray(model(pixels)).argmax(axis=1)
    results = minimize_distortion(model, pixels, labels=labels, search="fast")
    row = transfer_matrix({"own": model}, {"own": results}, labels, images=pixels, noise=()).rows[0]
    assert row.rates["own"].on_all == Proportion(row.num_images, row.num_images)
    assert row.num_images == int(tf.math.count_nonzero(results.succeeded)) > 0
    assert row.mean_distortion == pytest.approx(float(np.nanmean(results.distortion)), rel=1e-6)


def test_each_attack_may_have_images_and_labels_of_its_own(images: np.ndarray, brightened: np.ndarray) -> None:
    attacks = [("low", AttackedImages(images, brightened, LABELS)), ("low", AttackedImages(images[2:], images[2:], LABELS[2:]))]
    first, second, noisy = transfer_matrix(MODELS, attacks).rows
    assert (first.source_model, second.source_model) == ("low", "low")
    assert (first.num_images, second.num_images, noisy.num_images) == (4, 2, 4)


def test_noise_requires_no_attack(images: np.ndarray) -> None:
    rows = transfer_matrix(MODELS, {}, LABELS, images=images, noise=(0.1, 0.3)).rows
    assert [(row.kind, row.amount) for row in rows] == [("noise", 0.1), ("noise", 0.3)]
    assert transfer_matrix(MODELS, {}).rows == ()


def test_seed_determines_the_noise(images: np.ndarray) -> None:
    first, again, other = (transfer_matrix(MODELS, {}, LABELS, images=images, seed=seed).rows[0] for seed in (0, 0, 1))
    assert first.mean_distortion == again.mean_distortion != other.mean_distortion


def test_images_stay_within_given_bounds(images: np.ndarray) -> None:
    models = {"bytes": threshold_classifier(128.0)}
    row = transfer_matrix(models, {}, LABELS, images=255.0 * images, bounds=(0.0, 255.0), noise=(2000.0,)).rows[0]
    assert 0.0 < row.mean_distortion <= 255.0


def test_every_completed_row_is_reported(images: np.ndarray, brightened: np.ndarray) -> None:
    seen: list[Any] = []
    matrix = transfer_matrix(MODELS, {"low": (images, brightened)}, LABELS, amplify_to=(0.1,), on_row=seen.append)
    assert all(one is other for one, other in zip(seen, matrix.rows, strict=True))


def test_records_have_a_row_for_each_evaluated_model(images: np.ndarray, brightened: np.ndarray) -> None:
    first, second = transfer_matrix(MODELS, {"low": (images, brightened)}, LABELS, noise=()).to_rows()
    assert (first["evaluated_model"], second["evaluated_model"]) == ("low", "high")
    assert first["source_model"] == "low" and first["kind"] == "distorted" and first["amount"] is None
    assert (first["num_images"], first["num_errors"], first["error_rate"]) == (4, 2, 0.5)
    assert (first["lower"], first["upper"]) == (Proportion(2, 4).lower, Proportion(2, 4).upper)
    assert (first["num_images_on_correct"], first["num_errors_on_correct"]) == (3, 1)


def test_text_has_two_aligned_tables(images: np.ndarray, brightened: np.ndarray) -> None:
    text = str(transfer_matrix(MODELS, {"low": (images, brightened)}, LABELS, noise=(0.1,)))
    tables = [part.splitlines() for part in text.split("\n\n")]
    assert [lines[0] for lines in tables] == [
        "Error rates in percent with 95 % intervals, on all images",
        "Error rates among images that the evaluated model classified correctly before",
    ]
    for _, header, *lines in tables:
        assert header.split() == ["Source", "model", "Images", "Amount", "Distortion", "Number", "low", "high"]
        assert all(
            line[header.index("Images") :].startswith(kind) for line, kind in zip(lines, ("distorted", "noise"), strict=True)
        )
        assert all(line[header.index("high") - 1] == " " for line in lines)
    assert "50.0 [15.0, 85.0]" in tables[0][2]


def test_a_matrix_without_rows_has_a_header() -> None:
    assert "Source model" in str(TransferMatrix(()))


def small_model(shape: tuple[int, ...], num_classes: int) -> keras.Model:
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(num_classes)])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"models": {}}, ValueError, "models must name at least one model to evaluate; received none"),
        (
            {"models": {"wide": small_model((5,), 2)}},
            ValueError,
            r"the network wide takes images \[5\]; the images that were distorted for low have shape \[3\]",
        ),
        (
            {"labels": np.array([0, 1, 2, 7])},
            ValueError,
            "the network low has 2 classes; an image that was distorted for low has class 7. Compare networks",
        ),
        ({"labels": None}, ValueError, "the attack 'low' contains no labels. Pass labels"),
        (
            {"labels": np.zeros(3, int)},
            ValueError,
            r"labels of the attack 'low' must have one class for each of the 4 images; received shape \(3,\)",
        ),
        ({"labels": np.zeros(4)}, TypeError, "labels of the attack 'low' must be integers; received float64"),
        (
            {"attacks": {"low": np.zeros((4, 3))}},
            TypeError,
            "the attack 'low' must be results of minimize_distortion, a pair of",
        ),
        (
            {"attacks": {"low": (np.zeros((4, 3), np.float32), np.zeros((4, 2), np.float32))}},
            ValueError,
            r"clean and distorted images of the attack 'low' must have one shape; received \[4, 3\] and \[4, 2\]",
        ),
        (
            {"attacks": {"low": (np.full((4, 3), 200.0), np.full((4, 3), 200.0))}},
            ValueError,
            r"images must lie within bounds \(0.0, 1.0\); received values from 200.0 to 200.0",
        ),
        (
            {"attacks": {"low": Results(np.zeros((4, 3), np.float32), np.zeros(4), np.ones(4, bool))}},
            ValueError,
            "the attack 'low' contains no clean images. Pass images=",
        ),
        (
            {"attacks": {"low": AttackedImages(np.zeros((4, 3)), np.zeros((4, 3)), succeeded=[1, 1, 1, 0])}},
            ValueError,
            r"succeeded of the attack 'low' must be a bool for each of 4 images; received int64 of shape \[4\]",
        ),
        (
            {"attacks": {"low": AttackedImages(np.zeros((4, 3)), np.zeros((4, 3)), distortion=[0.1])}},
            ValueError,
            r"distortion of the attack 'low' must be a number for each of 4 images; received shape \[1\]",
        ),
    ],
)
def test_wrong_arguments_are_refused(
    images: np.ndarray, brightened: np.ndarray, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    arguments: dict[str, Any] = {"models": MODELS, "attacks": {"low": (images, brightened)}, "labels": LABELS, **change}
    with pytest.raises(error, match=words):
        transfer_matrix(**arguments)


def test_one_output_counts_as_two_classes(images: np.ndarray) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, "sigmoid")])
    assert transfer_matrix({"one": model}, {}, LABELS, images=images).rows[0].num_images == NUM_IMAGES
