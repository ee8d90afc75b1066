"""Exact minimum distances for linear classifiers in float64, which no attack can be below.

The nearest image of a class solves a quadratic program: minimize `|r|**2` such that no other class has a larger logit, inside the
box. Its dual has one variable for every rival class, and every nonnegative dual vector gives a lower bound, so that the floor is
certified even if the solver stops early.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.optimize


class LinearClassifier(NamedTuple):
    kernel: np.ndarray  # [n, classes]
    bias: np.ndarray  # [classes]

    def __call__(self, images):
        import tensorflow as tf

        flat = tf.reshape(images, [tf.shape(images)[0], self.kernel.shape[0]])
        return flat @ tf.constant(self.kernel, tf.float32) + tf.constant(self.bias, tf.float32)

    def logits(self, image: np.ndarray) -> np.ndarray:
        return image.astype(np.float64) @ self.kernel.astype(np.float64) + self.bias.astype(np.float64)


class NearestImage(NamedTuple):
    image: np.ndarray  # [n]
    length: float  # |r| of that image
    floor: float  # a certified lower bound on |r|: the square root of the dual value; infinite if unreachable


def random_classifier(rng: np.random.Generator, num_pixels: int, num_classes: int, scale: float = 1.0) -> LinearClassifier:
    kernel = (scale * rng.normal(size=(num_pixels, num_classes))).astype(np.float32)
    return LinearClassifier(kernel, rng.normal(size=num_classes).astype(np.float32))


def nearest_of_class(
    classifier: LinearClassifier, image: np.ndarray, target: int, lower: float = 0.0, upper: float = 1.0
) -> NearestImage:
    """Projects `image` onto the region of the box where `target` has the largest logit."""
    kernel, bias = classifier.kernel.astype(np.float64), classifier.bias.astype(np.float64)
    image = image.astype(np.float64)
    rivals = [j for j in range(kernel.shape[1]) if j != target]
    normals = (kernel[:, [target]] - kernel[:, rivals]).T
    offsets = bias[target] - bias[rivals]
    if not _within_reach(normals, offsets, lower, upper):
        return NearestImage(np.full_like(image, np.nan), float("inf"), float("inf"))

    def primal(dual: np.ndarray) -> np.ndarray:
        return np.clip(image + normals.T @ dual, lower, upper)

    def negative_dual(dual: np.ndarray) -> tuple[float, np.ndarray]:
        x = primal(dual)
        slack = normals @ x + offsets
        return dual @ slack - 0.5 * np.sum((x - image) ** 2), slack

    solution = scipy.optimize.minimize(
        negative_dual, np.zeros(len(rivals)), jac=True, bounds=[(0, None)] * len(rivals), method="L-BFGS-B",
        options={"maxiter": 10000, "maxfun": 20000, "ftol": 1e-16, "gtol": 1e-12, "maxcor": 30},
    )  # fmt: skip
    x = primal(solution.x)
    return NearestImage(x, float(np.linalg.norm(x - image)), float(np.sqrt(max(0.0, -2.0 * solution.fun))))


def nearest_of_other_classes(classifier: LinearClassifier, image: np.ndarray, label: int, **box: float) -> NearestImage:
    """Returns the nearest image that is not classified as `label`, the best over all other classes."""
    candidates = [nearest_of_class(classifier, image, j, **box) for j in range(classifier.kernel.shape[1]) if j != label]
    return min(candidates, key=lambda nearest: nearest.floor)


def two_class_closed_form(classifier: LinearClassifier, image: np.ndarray, target: int) -> float:
    """Returns `margin / |w|`, the minimum of `|r|` without a box."""
    logits = classifier.logits(image)
    margin = logits[1 - target] - logits[target]
    return float(max(0.0, margin) / np.linalg.norm(classifier.kernel[:, 0].astype(np.float64) - classifier.kernel[:, 1]))


def _within_reach(normals: np.ndarray, offsets: np.ndarray, lower: float, upper: float) -> bool:
    n = normals.shape[1]
    program = scipy.optimize.linprog(
        np.r_[np.zeros(n), -1.0], A_ub=np.c_[-normals, np.ones(len(normals))], b_ub=offsets,
        bounds=[(lower, upper)] * n + [(None, 1.0)], method="highs",
    )  # fmt: skip
    return program.status == 0 and -program.fun >= 0.0
