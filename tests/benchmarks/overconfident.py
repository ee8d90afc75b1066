"""Compares the attack with simple methods on overconfident networks, whose cross-entropy has vanishing gradients.

    python -m tests.benchmarks.overconfident --tfds_manual_dir=/data/mnist --cache=/tmp/overconfident

It trains two networks: rectifiers 784-256-256-10 for 40 epochs of Adam at 5e-3, with logits of several hundred, and sigmoids
784-100-100-10 whose first layer is multiplied by a thousand. It attacks training images with the next class as target. The
simple methods are steps along the gradient of the margin, and straight lines to images of the target class. For each search it
prints the number of successes, the number of failures where a simple method succeeds, and the ratio of distortions to the
smaller distortion of the simple methods.

About eight minutes on two CPU cores, and less if `--cache` holds the networks of an earlier run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

from intriguing.attack import minimize_distortion
from intriguing.data import dataset_card, load_examples
from launch import tfds_flags

flags.adopt_module_key_flags(tfds_flags)
_CACHE = flags.DEFINE_string("cache", None, "Folder that keeps the trained networks. If omitted, they are trained each time.")
_NUM_IMAGES = flags.DEFINE_integer("num_images", 256, "Images attacked; a quarter of them on the sigmoids.", lower_bound=4)

SEARCHES = ("default", "fast", "szegedy_lbfgs")
NUM_EPOCHS, LEARNING_RATE, BATCH_SIZE = 40, 5e-3, 128
SIGMOID_EPOCHS, SATURATION = 5, 1000.0
STEP_LENGTHS, NUM_STEPS = (0.05, 0.2, 1.0), 150  # L2 norms; the distance between two random images is 16
NUM_LINES = 10  # to the nearest images that the network classifies as the target
NUM_HALVINGS = 25


class Problem(NamedTuple):
    images: np.ndarray  # [images, 28, 28, 1]
    targets: np.ndarray  # [images] int32
    others: np.ndarray  # [others, 28, 28, 1], ends of the straight lines


def main(argv: Sequence[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)
    card = dataset_card("mnist", data_dir=tfds_flags.data_dir(), manual_dir=tfds_flags.manual_dir())
    examples = load_examples(card, "train")
    images, labels = examples.images.numpy(), examples.labels.numpy()
    for name, number in (("rectifiers", _NUM_IMAGES.value), ("saturated sigmoids", _NUM_IMAGES.value // 4)):
        model = trained(name, images, labels)
        logits = model.predict(images[:number], verbose=0)
        print(f"\n{name}: {number} training images, the next class as target; logits up to {np.max(np.abs(logits)):.0f}")
        show(model, Problem(images[:number], ((labels[:number] + 1) % 10).astype(np.int32), images[number : number + 5000]))


def trained(name: str, images: np.ndarray, labels: np.ndarray) -> keras.Model:
    """Returns the named network, from the cache if it exists."""
    keras.utils.set_random_seed(0)
    rectifiers = name == "rectifiers"
    widths, activation = ((256, 256), "relu") if rectifiers else ((100, 100), "sigmoid")
    hidden = [keras.layers.Dense(width, activation) for width in widths]
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), *hidden, keras.layers.Dense(10)])
    file = Path(_CACHE.value or ".") / f"{name.replace(' ', '_')}.weights.h5"
    if _CACHE.value and file.exists():
        model.load_weights(file)
        return model
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(LEARNING_RATE), loss, jit_compile=True)
    model.fit(images, labels, batch_size=BATCH_SIZE, epochs=NUM_EPOCHS if rectifiers else SIGMOID_EPOCHS, verbose=0)
    if not rectifiers:
        hidden[0].set_weights([SATURATION * weight for weight in hidden[0].get_weights()])
    if _CACHE.value:
        file.parent.mkdir(parents=True, exist_ok=True)
        model.save_weights(file)
    return model


def show(model: keras.Model, problem: Problem) -> None:
    """Prints one line for each simple method and each search."""
    simple = {"gradient steps": gradient_steps(model, problem), "straight lines": straight_lines(model, problem)}
    nearest = np.fmin(*simple.values())
    print(row("", "found", "missed", "mean", "/ simple", "worst"), flush=True)
    for name, distortion in simple.items():
        print(outcome(name, distortion, nearest), flush=True)
    for name in SEARCHES:
        found = minimize_distortion(model, problem.images, targets=problem.targets, search=name)
        print(outcome(name, found.distortion.numpy(), nearest), flush=True)
    print("missed: failures where a simple method succeeds. / simple: mean relative to the smaller simple distortion.")


def outcome(name: str, distortion: np.ndarray, nearest: np.ndarray) -> str:
    found = np.isfinite(distortion)
    both = found & np.isfinite(nearest) & (nearest > 0)
    ratios = distortion[both] / nearest[both]
    return row(
        name, f"{found.sum()} / {len(found)}", f"{np.sum(~found & np.isfinite(nearest))}",
        f"{np.mean(distortion[found]) if found.any() else np.nan:.5f}",
        f"{np.mean(distortion[both]) / np.mean(nearest[both]) if both.any() else np.nan:.4f}",
        f"{np.max(ratios, initial=-np.inf):.3f}",
    )  # fmt: skip


def row(name: str, *cells: str) -> str:
    return f"{name:18}" + "".join(f"{cell:>13}" for cell in cells)


def gradient_steps(model: keras.Model, problem: Problem) -> np.ndarray:
    """Returns the distortion after steps of fixed length along the gradient of the margin, followed by a bisection."""

    @tf.function
    def step(position: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(position)
            logits = model(position, training=False)
            wanted = tf.gather(logits, problem.targets, batch_dims=1)
            margin = wanted - tf.reduce_max(logits - 1e9 * tf.one_hot(problem.targets, 10), axis=1)
        gradient = tape.gradient(margin, position)
        size = tf.sqrt(tf.reduce_sum(gradient**2, axis=[1, 2, 3], keepdims=True))
        return tf.clip_by_value(position + length * tf.math.divide_no_nan(gradient, size), 0.0, 1.0)

    best = np.full(len(problem.images), np.nan)
    for length in STEP_LENGTHS:
        position = tf.constant(problem.images)
        ends, open_rows = problem.images.copy(), np.ones(len(best), bool)
        for _ in range(NUM_STEPS):
            succeeded = is_target(model, position, problem.targets) & open_rows
            ends[succeeded], open_rows = position.numpy()[succeeded], open_rows & ~succeeded
            position = step(position, tf.constant(length))
        best = np.fmin(best, halved(model, problem, ends))
    return best


def straight_lines(model: keras.Model, problem: Problem) -> np.ndarray:
    """Returns the distortion on straight lines to the nearest images that the network classifies as the target."""
    classes = np.argmax(model.predict(problem.others, verbose=0), axis=1)
    flat, others = (array.reshape(len(array), -1) for array in (problem.images, problem.others))
    ends = np.empty((NUM_LINES, *problem.images.shape), np.float32)
    for index, target in enumerate(problem.targets):
        candidates = np.flatnonzero(classes == target)
        order = np.argsort(np.linalg.norm(others[candidates] - flat[index], axis=1))[:NUM_LINES]
        ends[:, index] = problem.others[candidates[np.resize(order, NUM_LINES)]]
    return np.fmin.reduce([halved(model, problem, end) for end in ends])


def halved(model: keras.Model, problem: Problem, ends: np.ndarray) -> np.ndarray:
    """Returns the distortion of the nearest success found by bisection toward `ends`. NaN if an end is no success."""
    successful = is_target(model, ends, problem.targets)
    low, high = np.zeros([len(ends), 1, 1, 1], np.float32), np.ones([len(ends), 1, 1, 1], np.float32)
    low[is_target(model, problem.images, problem.targets)] = high[is_target(model, problem.images, problem.targets)] = 0.0
    for _ in range(NUM_HALVINGS):
        middle = (low + high) / 2
        succeeded = is_target(model, between(problem.images, ends, middle), problem.targets).reshape(low.shape)
        low, high = np.where(succeeded, low, middle), np.where(succeeded, middle, high)
    nearest = between(problem.images, ends, high)
    assert np.all(is_target(model, nearest, problem.targets)[successful])
    return np.where(successful, np.sqrt(np.mean((nearest - problem.images) ** 2, axis=(1, 2, 3))), np.nan)


def between(starts: np.ndarray, ends: np.ndarray, share: np.ndarray) -> np.ndarray:
    return np.clip(starts + share * (ends - starts), 0.0, 1.0)


def is_target(model: keras.Model, images: np.ndarray | tf.Tensor, targets: np.ndarray) -> np.ndarray:
    return np.argmax(model(images, training=False), axis=1) == targets


if __name__ == "__main__":
    app.run(main)
