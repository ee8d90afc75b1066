"""Compares the distortion of images of bytes with a lower bound for the linearized network.

    python -m tests.benchmarks.byte_floor runs/imagenet_ostrich

The network is linearized at the image that the attack of the recipe found: the logits of the target and of its largest rival,
with their gradients. For that linear network, Lagrange duality gives a lower bound of the distance to the target class, for any
pixels and for bytes: the dual has one multiplier for the margin, so that every pixel is minimized separately. The ratio of the
two bounds is the cost of bytes for a linear network, and no search among bytes could be better there. The attacks end farther
away than both bounds, because networks are nonlinear and have several rivals. Half a minute on two CPU cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from components.artifacts import DistortedImages, TrainedModel
from intriguing.models.functional import split_weights

TOP_BYTE = 255
NUM_MULTIPLIERS, NUM_REFINEMENTS = 17, 6  # each reduces the range of the multiplier to an eighth


def main(workdir: Path) -> None:
    model = TrainedModel(workdir / "model_SqueezeNet").load()
    plain, among_bytes = (DistortedImages(workdir / name).arrays() for name in ("attack_SqueezeNet", "attack_SqueezeNet_bytes"))
    gradients = margin_gradients(model, plain["distorted"], plain["targets"])
    clean = TOP_BYTE * plain["images"].reshape(gradients.shape).astype(np.float64)
    changes = TOP_BYTE * (plain["distorted"] - plain["images"]).reshape(gradients.shape).astype(np.float64)
    rows = tqdm(zip(clean, changes, gradients, strict=True), total=len(clean), desc="images", leave=False)
    floors = np.array([[floor(*row, of_bytes=False), floor(*row, of_bytes=True)] for row in rows])
    floors /= TOP_BYTE * np.sqrt(gradients.shape[1])
    both = plain["succeeded"] & among_bytes["succeeded"]
    print(f"{both.sum()} photographs for which both attacks succeeded; mean distortions")
    print(f"{'':22}{'any colors':>12}{'bytes':>12}{'ratio':>8}")
    for name, pair in (("found", (plain["distortion"], among_bytes["distortion"])), ("linearized, at least", floors.T)):
        free, limited = (values[both].mean() for values in pair)
        print(f"{name:22}{free:12.6f}{limited:12.6f}{limited / free:8.3f}")


def margin_gradients(model: keras.Model, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns the gradient of the target's logit minus the largest other logit, `[images, values]`, in float64."""
    architecture, weights = split_weights(model, images.shape[1:])

    @tf.function(autograph=False)
    def gradient(image: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        logits = architecture.apply(weights, image[tf.newaxis])[0]
        rival = tf.reduce_max(tf.where(tf.range(architecture.num_classes) == target, -float("inf"), logits))
        return tf.gradients(logits[target] - rival, image)[0]

    found = [gradient(tf.constant(image), tf.constant(target)).numpy() for image, target in zip(images, targets, strict=True)]
    return np.reshape(found, [len(images), -1]).astype(np.float64)


def floor(start: np.ndarray, change: np.ndarray, gradient: np.ndarray, *, of_bytes: bool) -> float:
    """Returns a lower bound of the length of all changes in the box with the margin of `change`, in units of a byte."""
    margin = gradient @ change

    def dual(multiplier: float) -> float:
        ideal = multiplier * gradient / 2
        step = np.clip(np.round(ideal) if of_bytes else ideal, -start, TOP_BYTE - start)
        return multiplier * margin + np.sum(step * (step - multiplier * gradient))

    # The dual is concave. Without bytes and box its maximum is at twice the margin over the squared norm of the gradient.
    center = 2 * margin / (gradient @ gradient)
    low, high = center / 16, center * 16
    for _ in range(NUM_REFINEMENTS):
        multipliers = np.geomspace(low, high, NUM_MULTIPLIERS)
        values = [dual(multiplier) for multiplier in multipliers]
        best = int(np.argmax(values))
        low, high = multipliers[max(best - 1, 0)], multipliers[min(best + 1, NUM_MULTIPLIERS - 1)]
    return float(np.sqrt(max(*values, 0.0)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
