"""How near an image of bytes can come at all, beside what the search among them found: is 1.24 times the plain distance much?

    python -m tests.benchmarks.byte_floor runs/imagenet_ostrich

At the image that the plain attack of the recipe found, the network is replaced by its tangent: the logits of the target and of
its strongest rival, with their gradients. For that linear network, a bound below the distance of every image of bytes that
reaches the target, by Lagrange duality: changes cost their squares, and one multiplier pays for the margin, so that every pixel
takes the byte that is cheapest for it alone. Networks are not linear; that the search among bytes ends where the bound lies says
that little is left to find. A minute on two CPU cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from components.artifacts import DistortedImages, TrainedModel
from intriguing.models.logits import split_weights

TOP_BYTE = 255
NUM_MULTIPLIERS, NUM_REFINEMENTS = 17, 6  # each narrows the multiplier down to an eighth of its range


def main(workdir: Path) -> None:
    model = TrainedModel(workdir / "model_SqueezeNet").load()
    plain, of_bytes = (DistortedImages(workdir / name).arrays() for name in ("attack_SqueezeNet", "attack_SqueezeNet_bytes"))
    gradients = margin_gradients(model, plain["distorted"], plain["targets"])
    bytes_ = TOP_BYTE * plain["images"].reshape(gradients.shape).astype(np.float64)
    changes = TOP_BYTE * (plain["distorted"] - plain["images"]).reshape(gradients.shape).astype(np.float64)
    rows = tqdm(zip(bytes_, changes, gradients, strict=True), total=len(bytes_), desc="images", leave=False)
    floor = np.array([nearest_of_bytes(*row) for row in rows]) / TOP_BYTE / np.sqrt(gradients.shape[1])
    both = plain["succeeded"] & of_bytes["succeeded"]
    print(f"{both.sum()} photographs reached by both attacks; means of their distortions")
    for name, values in (
        ("plain", plain["distortion"]),
        ("bytes, no nearer than", floor),
        ("bytes, found", of_bytes["distortion"]),
    ):
        print(f"{name:24}{values[both].mean():.6f}  {values[both].mean() / plain['distortion'][both].mean():.3f} times plain")


def margin_gradients(model: keras.Model, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns the gradient of the target's logit over the strongest other one, `[images, values]`, in float64."""
    architecture, weights = split_weights(model, images.shape[1:])

    @tf.function(autograph=False)
    def gradient(image: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        logits = architecture.apply(weights, image[tf.newaxis])[0]
        rival = tf.reduce_max(tf.where(tf.range(architecture.num_classes) == target, -float("inf"), logits))
        return tf.gradients(logits[target] - rival, image)[0]

    found = [gradient(tf.constant(image), tf.constant(target)).numpy() for image, target in zip(images, targets, strict=True)]
    return np.reshape(found, [len(images), -1]).astype(np.float64)


def nearest_of_bytes(start: np.ndarray, change: np.ndarray, gradient: np.ndarray) -> float:
    """Bounds the length of every change to other bytes that wins as much margin as `change` does, in units of a byte."""
    margin = gradient @ change

    def dual(multiplier: float) -> float:
        step = np.clip(np.round(multiplier * gradient / 2), -start, TOP_BYTE - start)
        return multiplier * margin + np.sum(step * (step - multiplier * gradient))

    # The dual is concave; without bytes and box it is greatest at twice the margin over the squared gradient.
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
