"""The fields of DistortionResults agree with each other, and print(results) summarizes them."""

import numpy as np
import pytest
import tensorflow as tf

import intriguing
from intriguing.attack import DistortionResults, SearchStatus, minimize_distortion
from intriguing.distortion import distortion
from tests.oracles.any_models import dense

IMAGES = np.random.default_rng(0).uniform(size=(5, 8)).astype(np.float32)
ATOL = 1e-6


@pytest.fixture(scope="module")
def model():
    return dense()


@pytest.fixture(scope="module")
def results(model):
    return minimize_distortion(model, IMAGES, labels=np.argmax(model(IMAGES), axis=1), search="fast")


def test_perturbation_distortion_and_l2_match_the_distorted_images(results):
    np.testing.assert_array_equal(results.perturbation, results.distorted.numpy() - IMAGES)
    np.testing.assert_allclose(results.distortion, distortion(IMAGES, results.distorted), atol=ATOL)
    np.testing.assert_allclose(results.l2, np.linalg.norm(results.perturbation, axis=1), atol=ATOL)
    assert np.all(results.succeeded)


def test_to_numpy_returns_the_values_of_the_tensors(results):
    arrays = results.to_numpy()
    assert type(arrays) is DistortionResults
    for array, tensor in zip(arrays, results, strict=True):
        assert type(array) is np.ndarray and array.dtype == tensor.dtype.as_numpy_dtype
        np.testing.assert_array_equal(array, tensor)


def made_up(status, distortions, num_evaluations):
    succeeded = np.isfinite(distortions)
    images = tf.zeros([len(status), 3])
    return DistortionResults(
        images, images, tf.constant(distortions), tf.constant(distortions), tf.constant(succeeded),
        tf.constant(status, tf.int32), tf.constant(num_evaluations, tf.int32), tf.zeros(len(status)),
    )  # fmt: skip


def test_a_printed_result_counts_images_by_status_and_summarizes_the_distortion():
    status = [SearchStatus.CONVERGED] * 5 + [SearchStatus.NO_GRADIENT]
    printed = str(made_up(status, [0.1, 0.2, 0.3, 0.4, 0.5, np.nan], [10, 20, 30, 40, 50, 60]))
    assert printed.splitlines() == [
        "5 of 6 images succeeded.",
        "  5 found, converged",
        "  1 not found, no gradient: the network rounds, blocks or saturates its input",
        "Distortion (RMS pixel change): mean 0.3, quartiles 0.2, 0.3, 0.4.",
        "Gradient evaluations per image: mean 35, at most 60.",
    ]


def test_the_printed_distortion_excludes_initially_adversarial_images():
    status = [SearchStatus.INITIALLY_ADVERSARIAL] * 2 + [SearchStatus.CONVERGED] * 2 + [SearchStatus.NOT_FOUND]
    lines = str(made_up(status, [0.0, 0.0, 0.1, 0.3, np.nan], [0, 0, 30, 40, 50])).splitlines()
    assert lines[0] == "4 of 5 images succeeded."
    assert lines[4] == (
        "Distortion (RMS pixel change) of the 2 found images that were not initially adversarial: mean 0.2, quartiles 0.15, 0.2, "
        "0.25."
    )


def test_no_distortion_is_printed_if_all_images_are_initially_adversarial():
    printed = str(made_up([SearchStatus.INITIALLY_ADVERSARIAL], [0.0], [0]))
    assert printed.startswith("1 of 1 images succeeded.") and "Distortion" not in printed


def test_a_result_without_success_prints_no_distortion():
    printed = str(made_up([SearchStatus.NOT_FOUND], [np.nan], [7]))
    assert printed.startswith("0 of 1 images succeeded.") and "Distortion" not in printed


def test_every_status_has_a_sentence_of_its_own():
    assert len({status.sentence for status in SearchStatus}) == len(SearchStatus)


def test_quantization_levels_argument_overrides_the_search(model):
    images = np.round(IMAGES * 15) / 15
    found = minimize_distortion(model, images, labels=np.argmax(model(images), axis=1), search="fast", quantization_levels=16)
    assert np.all(found.succeeded)
    np.testing.assert_allclose(found.distorted * 15, np.round(found.distorted * 15), atol=1e-5)


def test_max_evaluations_argument_overrides_the_search(model):
    found = minimize_distortion(model, IMAGES, labels=np.argmax(model(IMAGES), axis=1), search="fast", max_evaluations=30)
    assert np.max(found.num_evaluations) <= 30


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_evaluations": 1}, ValueError, "max_evaluations must be at least 20; received 1"),
        ({"max_evaluations": 50.5}, TypeError, "max_evaluations must be an integer; received 50.5"),
        ({"quantization_levels": True}, TypeError, "quantization_levels must be an integer; received True"),
        ({"quantization_levels": 1}, ValueError, "quantization_levels must be at least 2"),
        ({"quantization_levels": 256, "search": "szegedy_lbfgs"}, ValueError, "quantization_levels .* no boundary search"),
        ({"quantization_levels": 256, "bounds": (-np.inf, np.inf)}, ValueError, "a bounded pixel box"),
    ],
)
def test_bad_arguments_are_refused_before_the_classifier_is_called(arguments, error, message):
    def classifier(images):
        pytest.fail("the classifier was called")

    with pytest.raises(error, match=message):
        minimize_distortion(classifier, IMAGES, labels=np.zeros(5, int), **arguments)


def test_top_level_exports_minimize_distortion_and_version():
    assert intriguing.minimize_distortion is minimize_distortion
    assert intriguing.__version__.split(".")[:2] == ["0", "2"]
