"""Tests of the oracle for linear classifiers."""

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the exact floor needs SciPy (extra test)")

from tests.oracles.linear_classifier import LinearClassifier, nearest_of_class, random_classifier, two_class_closed_form

WIDE_BOX = {"lower": -1e3, "upper": 1e3}
RTOL_SOLVER = 1e-6  # float64 L-BFGS-B on the dual


def test_length_equals_the_closed_form_for_two_classes_without_a_box():
    rng = np.random.default_rng(0)
    for _ in range(20):
        classifier, image = random_classifier(rng, 30, 2), rng.uniform(size=30)
        target = int(np.argmin(classifier.logits(image)))
        found = nearest_of_class(classifier, image, target, **WIDE_BOX)
        assert found.length == pytest.approx(two_class_closed_form(classifier, image, target), rel=RTOL_SOLVER)


def test_image_lies_in_the_box_and_class_and_its_length_equals_the_lower_bound():
    rng = np.random.default_rng(1)
    for _ in range(30):
        classifier, image = random_classifier(rng, 40, 5), rng.uniform(size=40).round()
        found = nearest_of_class(classifier, image, target=2)
        logits = classifier.logits(found.image)
        assert found.image.min() >= 0.0 and found.image.max() <= 1.0
        assert logits[2] >= logits.max() - 1e-6
        assert found.floor == pytest.approx(found.length, rel=RTOL_SOLVER, abs=1e-9)


def test_no_random_feasible_image_is_nearer():
    rng = np.random.default_rng(2)
    classifier, image = random_classifier(rng, 6, 3), rng.uniform(size=6)
    target = int(np.argmin(classifier.logits(image)))
    floor = nearest_of_class(classifier, image, target).floor
    others = rng.uniform(size=(200_000, 6))
    in_class = classifier.logits(others).argmax(axis=1) == target
    assert in_class.any()
    assert np.linalg.norm(others[in_class] - image, axis=1).min() >= floor


def test_class_without_images_in_the_box_has_infinite_distance():
    classifier = LinearClassifier(np.zeros((4, 2), np.float32), np.array([1.0, 0.0], np.float32))
    assert nearest_of_class(classifier, np.full(4, 0.5), target=1).floor == np.inf
