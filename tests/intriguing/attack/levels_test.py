"""The search among quantized images finds misclassified images on the levels, close to the minimum by enumeration."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack import PHOTOGRAPH_SEARCH, QUICK_SEARCH, DistortionSearch, default_search, minimize_distortion
from intriguing.pixels import PixelBox

NUM_LEVELS = 4
SEARCH = dataclasses.replace(QUICK_SEARCH, quantization_levels=NUM_LEVELS)
RTOL_LEVELS = 0.15  # one step of one of six pixels: rounding a point does not always give the nearest point of a grid


@pytest.fixture(scope="module")
def problem() -> tuple[np.ndarray, np.ndarray]:
    """Images of six pixels on four levels, and the normal of a decision boundary."""
    random = np.random.default_rng(0)
    return random.integers(0, NUM_LEVELS, [32, 6]) / np.float32(NUM_LEVELS - 1), random.normal(size=6).astype(np.float32)


def _nearest_by_enumeration(images: np.ndarray, normal: np.ndarray, offset: float) -> np.ndarray:
    """Returns the RMS distance to the nearest of all 4096 images on the other side of the boundary."""
    every = np.array(list(itertools.product(range(NUM_LEVELS), repeat=6))) / (NUM_LEVELS - 1)
    distances = np.sqrt(np.mean((images[:, np.newaxis] - every) ** 2, axis=2))
    other_side = (images @ normal + offset > 0)[:, np.newaxis] != (every @ normal + offset > 0)
    return np.where(other_side, distances, np.inf).min(axis=1)


def test_finds_images_of_levels_nearly_as_near_as_enumeration(problem: tuple[np.ndarray, np.ndarray]) -> None:
    images, normal = problem
    offset = -float(np.median(images @ normal)) + 0.011

    def logits(pixels: tf.Tensor) -> tf.Tensor:
        score = tf.linalg.matvec(pixels, normal) + offset
        return tf.stack([tf.zeros_like(score), score], axis=1)

    labels = (images @ normal + offset > 0).astype(np.int32)
    results = minimize_distortion(logits, images, labels=labels, search=SEARCH)
    least = _nearest_by_enumeration(images, normal, offset)
    found, distorted = results.distortion.numpy(), results.distorted.numpy()
    np.testing.assert_allclose(distorted * (NUM_LEVELS - 1), np.round(distorted * (NUM_LEVELS - 1)), atol=1e-5)
    assert results.succeeded.numpy().all()
    assert np.all(found >= (1 - 1e-5) * least)
    assert found.mean() <= (1 + RTOL_LEVELS) * least.mean()


def test_distorted_images_stay_misclassified_after_a_png_round_trip() -> None:
    random = np.random.default_rng(1)
    images = random.integers(0, 256, [8, 5, 4, 3]).astype(np.float32) / 255
    weights = tf.constant(random.normal(size=[60, 3]).astype(np.float32))

    def logits(pixels: tf.Tensor) -> tf.Tensor:
        return tf.reshape(pixels, [-1, 60]) @ weights

    labels = tf.argmax(logits(tf.constant(images)), axis=1, output_type=tf.int32).numpy()
    results = minimize_distortion(
        logits, images, labels=labels, search=dataclasses.replace(QUICK_SEARCH, quantization_levels=256)
    )
    as_bytes = tf.cast(tf.round(results.distorted * 255), tf.uint8)
    reopened = tf.stack([tf.io.decode_png(tf.io.encode_png(image)) for image in as_bytes])
    again = tf.cast(reopened, tf.float32) / 255
    assert results.succeeded.numpy().all()
    assert np.all(tf.argmax(logits(again), axis=1).numpy() != labels)


def test_levels_are_evenly_spaced_between_the_bounds() -> None:
    rounded = PixelBox(-1.0, 1.0).to_levels(tf.constant([[-1.0, -0.76, -0.3, 0.1, 0.26, 1.0]]), 5)
    np.testing.assert_allclose(rounded, [[-1.0, -1.0, -0.5, 0.0, 0.5, 1.0]], atol=1e-7)


@pytest.mark.parametrize(
    "settings",
    [
        {"quantization_levels": 1},
        {"quantization_levels": 256, "boundary_search": None},
        {"quantization_levels": 4, "pixel_box": PixelBox(0.0, np.inf)},
    ],
)
def test_levels_without_a_boundary_search_or_a_bounded_box_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(
        ValueError,
        match="quantization_levels must be at least 2, and requires a boundary search and a bounded pixel box; received",
    ):
        DistortionSearch(**settings)


def test_large_images_have_their_own_default_search() -> None:
    assert default_search(28 * 28) == DistortionSearch()
    assert default_search(224 * 224 * 3) == PHOTOGRAPH_SEARCH
