"""transfer_matrix checks its attacks and amounts before it evaluates a model."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack import DistortionResults, minimize_distortion
from intriguing.evaluation import AttackedImages, transfer_matrix

LABELS = np.array([0, 1, 2, 1, 0])
IMAGES = np.random.default_rng(0).uniform(size=(5, 6)).astype(np.float32)


def _never_called(images: tf.Tensor) -> tf.Tensor:
    pytest.fail("a model was evaluated")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])


@pytest.fixture(scope="module")
def results(model: keras.Model) -> DistortionResults:
    return minimize_distortion(model, IMAGES, labels=np.asarray(model(IMAGES)).argmax(axis=1), search="fast")


def test_images_other_than_those_attacked_are_refused(results: DistortionResults) -> None:
    for given in (results, results.to_numpy()):
        with pytest.raises(
            ValueError, match="images must be the clean images of the attack 'own', in the same order; received 4 images other"
        ):
            transfer_matrix({"own": _never_called}, {"own": given}, LABELS, images=IMAGES[::-1])


def test_other_images_are_accepted_where_the_attack_failed(model: keras.Model, results: DistortionResults) -> None:
    succeeded = np.array([False, True, True, True, True])
    others = np.concatenate([1.0 - IMAGES[:1], IMAGES[1:]])
    failed = results._replace(succeeded=tf.constant(succeeded))
    row = transfer_matrix({"own": model}, {"own": failed}, LABELS, images=others, noise=()).rows[0]
    assert row.num_images == 4


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, 255.0), (-1000.0, 1.0)])
def test_images_that_were_attacked_are_accepted_within_rounding(model: keras.Model, bounds: tuple[float, float]) -> None:
    images = (bounds[0] + IMAGES * (bounds[1] - bounds[0])).astype(np.float64)
    labels = np.asarray(model(images)).argmax(axis=1)
    results = minimize_distortion(model, images, labels=labels, search="fast", bounds=bounds)
    assert np.all(results.succeeded)
    matrix = transfer_matrix({"own": model}, {"own": results}, labels, images=images, bounds=bounds, noise=())
    assert matrix.rows[0].num_images == 5


def _attacked(distorted: Any, succeeded: Any = None) -> dict[str, Any]:
    return {"attacks": {"own": AttackedImages(IMAGES, distorted, LABELS, succeeded)}}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"noise": (0.1, -0.1)}, ValueError, r"noise must be finite and not negative; received \(0.1, -0.1\)"),
        ({"noise": (np.nan,)}, ValueError, r"noise must be finite and not negative; received \(nan,\)"),
        ({"unclipped_noise": (np.inf,)}, ValueError, "unclipped_noise must be finite and not negative"),
        ({"amplify_to": (-0.1,)}, ValueError, "amplify_to must be finite and not negative"),
        ({"amplify_to": (np.nan,)}, ValueError, "amplify_to must be finite and not negative"),
        ({"noise": "0.1"}, TypeError, "noise must be one number, or a sequence of numbers; received '0.1'. Pass noise=()"),
        ({"amplify_to": None}, TypeError, "amplify_to must be one number, or a sequence of numbers; received None"),
        ({"seed": -1}, ValueError, r"seed must lie in \[0, 2\*\*31\); received -1"),
        ({"seed": 0.5}, TypeError, "seed must be an integer; received 0.5"),
        (
            _attacked(IMAGES + np.float32(0.7)),
            ValueError,
            r"distorted images of the attack 'own' must lie within bounds \(0.0, 1.0\); received values from",
        ),
        (
            {"models": [_never_called]},
            TypeError,
            "models must be a dictionary from names to classifiers; received a list. Pass",
        ),
        ({"models": _never_called}, TypeError, "models must be a dictionary from names to classifiers; received a function"),
        ({"models": {1: _never_called}}, TypeError, "names in models must be strings; received a int. Pass models="),
        ({"attacks": None}, TypeError, "attacks must be a dictionary from names to attacks, .*; received a NoneType. Pass"),
        (
            {"attacks": "own"},
            TypeError,
            "attacks must be a dictionary from names to attacks, .*; received a str. Pass attacks=",
        ),
        ({"attacks": [IMAGES]}, TypeError, "received a list that contains a ndarray. Pass attacks={'name of the source"),
        ({"attacks": [(IMAGES, IMAGES)]}, TypeError, "names in attacks must be strings; received a ndarray. Pass attacks="),
        ({"attacks": {1: (IMAGES, IMAGES)}}, TypeError, "names in attacks must be strings; received a int"),
    ],
)
def test_wrong_arguments_are_refused_before_a_model_is_evaluated(
    change: dict[str, Any], error: type[Exception], words: str
) -> None:
    arguments: dict[str, Any] = {"models": {"own": _never_called}, "attacks": {"own": (IMAGES, IMAGES)}, **change}
    with pytest.raises(error, match=words):
        transfer_matrix(**arguments, labels=LABELS)


def test_results_in_a_list_or_alone_are_refused(results: DistortionResults) -> None:
    with pytest.raises(TypeError, match="attacks must be .*; received a list that contains a DistortionResults. Pass attacks="):
        transfer_matrix({"own": _never_called}, [results], LABELS, images=IMAGES)
    with pytest.raises(TypeError, match="attacks must be .*; received a DistortionResults that contains a EagerTensor"):
        transfer_matrix({"own": _never_called}, results, LABELS, images=IMAGES)


def test_distorted_images_outside_the_bounds_are_accepted_where_the_attack_failed(model: keras.Model) -> None:
    distorted, succeeded = IMAGES.copy(), np.array([True] * 4 + [False])
    distorted[4] = 7.0
    assert transfer_matrix({"own": model}, **_attacked(distorted, succeeded)).rows[0].num_images == 4


def test_one_number_is_a_sequence_of_one(model: keras.Model) -> None:
    matrix = transfer_matrix({"own": model}, {"own": (IMAGES, IMAGES)}, LABELS, noise=0.1, unclipped_noise=0.2, amplify_to=0)
    assert [row.amount for row in matrix.rows] == [None, 0.0, 0.1, 0.2]


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
def test_one_hot_labels_equal_their_class_numbers(model: keras.Model, dtype: type) -> None:
    attacks = {"own": (IMAGES, 1.0 - IMAGES)}
    expected = transfer_matrix({"own": model}, attacks, LABELS, noise=())
    received = transfer_matrix({"own": model}, attacks, np.eye(3, dtype=dtype)[LABELS], noise=())
    assert received.rows[0].rates == expected.rows[0].rates


def test_one_hot_labels_with_another_number_of_columns_are_refused(model: keras.Model) -> None:
    with pytest.raises(
        ValueError, match="one-hot labels must have 3 columns, one for each class of the network own; received 4"
    ):
        transfer_matrix({"own": model}, {"own": (IMAGES, IMAGES)}, np.eye(4)[LABELS])
