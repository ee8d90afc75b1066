"""Measures the time and memory of the unit analysis, compared with the forward pass.

    python -m tests.benchmarks.unit_pass runs/mnist_units/train_FC200-200-10

It measures the natural basis alone, a hundred random bases, and the memory for more images. Requires Linux, full MNIST prepared
by TFDS, two CPU cores without other load, 3 GB of memory, and some minutes.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence

import tensorflow as tf
from absl import app, flags, logging

from components.artifacts import TrainedModel
from intriguing.data import batches, dataset_card, load_labels
from intriguing.models import features_at, split_weights
from intriguing.units import UnitSettings, analyze_units, attributes_of_classes, record_directions
from launch import tfds_flags

flags.adopt_module_key_flags(tfds_flags)
_LAYER = flags.DEFINE_string("layer", "hidden1", "The layer whose units are analyzed.")

BATCH_SIZE = 500
ROWS = 1024  # the batch size of the pass
REPEATS = 5


def main(argv: Sequence[str]) -> None:
    if len(argv) != 2:
        raise app.UsageError("pass the folder of a trained model, such as runs/mnist_units/train_FC200-200-10.")
    logging.set_verbosity(logging.WARNING)  # TFDS logs every read
    card = dataset_card("mnist", data_dir=tfds_flags.data_dir(), manual_dir=tfds_flags.manual_dir())
    features = features_at(TrainedModel(argv[1]).load(), _LAYER.value, pooling="max")
    test = batches(card, "test", batch_size=BATCH_SIZE)
    forward = forward_pass(features, card.image_shape)
    natural = best_of(lambda: record_directions(features, test, None, num_groups=card.num_classes))
    alone = best_of(lambda: forward(test))
    print(f"natural basis alone: {natural:.3f} s; the forward pass: {alone:.3f} s; ratio {natural / alone:.2f}", flush=True)
    for split in ("test", "train", "test", "train"):
        attributes = attributes_of_classes(load_labels(card, split), card.class_names)
        examples = batches(card, split, batch_size=BATCH_SIZE)
        began = time.perf_counter()
        found = analyze_units(features, examples, attributes, settings=UnitSettings(alphas=(0.5,), num_rotations=1))
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{found.units.shape[0]} units and 100 random bases, {len(attributes.groups)} images: {seconds:.1f} s; peak "
            f"memory {peak:.2f} GiB",
            flush=True,
        )


def forward_pass(features: tf.keras.Model, image_shape: Sequence[int]) -> Callable[[tf.data.Dataset], None]:
    """Returns a function that computes and discards the features of all images, compiled and batched like the analysis."""
    architecture, weights = split_weights(features, image_shape, scores="outputs")
    program = tf.function(architecture.apply, autograph=False, jit_compile=not architecture.convolves)

    def run(examples: tf.data.Dataset) -> None:
        for images, _ in examples.rebatch(ROWS, drop_remainder=True).prefetch(1):
            last = program(weights, images)
        tf.reduce_sum(last).numpy()

    return run


def best_of(call: Callable[[], object]) -> float:
    """Returns the smallest of several durations, after one call that compiles."""
    call()
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


if __name__ == "__main__":
    app.run(main)
