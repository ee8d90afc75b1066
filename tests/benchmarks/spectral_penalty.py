"""Measures the cost and the effect of the spectral penalty for FC100-100-10 on full MNIST.

    python -m tests.benchmarks.spectral_penalty --tfds_manual_dir=DIR

It measures the time of a training step with and without the penalty, alternately. It then chooses the largest weight of the
penalty that does not increase the error on the last sixth of the training set, trains both networks on the whole training set,
and evaluates them on the test set. A quarter of an hour on two CPU cores. `--num_epochs=60` is the training of the recipe `mnist`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import app, flags, logging

from intriguing.data import DatasetCard, batches, dataset_card, load_examples, num_examples
from intriguing.evaluation.predictions import predict
from intriguing.evaluation.transfer import error_rate
from intriguing.lipschitz.network_bound import lipschitz_bound
from intriguing.models.networks import zoo
from intriguing.statistics.proportions import Proportion
from intriguing.training import MinibatchTraining, fit_minibatches
from launch import tfds_flags

flags.adopt_module_key_flags(tfds_flags)
_NUM_EPOCHS = flags.DEFINE_integer("num_epochs", 20, "Epochs of every training.", lower_bound=1)
_PARTS = flags.DEFINE_list("parts", ["time", "gain"], "What to measure.")

MODEL = "FC100-100-10"
BATCH_SIZE = 50
FACTORS = (0.0, 1e-4, 3e-4, 1e-3)
LEARNED, HELD_OUT = "train[:50000]", "train[50000:]"
TURNS, EPOCHS_PER_TURN, STEPS_PER_EPOCH = 5, 6, 400


class Outcome(NamedTuple):
    errors: Proportion
    bound: float
    norms: tuple[float, ...]  # of the layers with kernels


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"stray arguments {' '.join(argv[1:])!r}; every setting is a flag. Try --help.")
    logging.set_verbosity(logging.WARNING)  # TFDS logs every read
    card = dataset_card("mnist", data_dir=tfds_flags.data_dir(), manual_dir=tfds_flags.manual_dir())
    if "time" in _PARTS.value:
        print_times(card)
    if "gain" in _PARTS.value:
        print_gain(card)


def print_times(card: DatasetCard) -> None:
    """Prints the time of a step in training, and on one fixed batch without reading data."""
    examples = load_examples(card, f"train[:{BATCH_SIZE}]")
    streams = {
        "in training": batches(card, "train", batch_size=BATCH_SIZE, shuffle_seed=0),
        "without reading data": tf.data.Dataset.from_tensors((examples.images, examples.labels)).repeat(),
    }
    for title, stream in streams.items():
        seconds: dict[float, list[float]] = {0.0: [], 1e-4: []}
        for _ in range(TURNS):
            for factor, found in seconds.items():
                found += _seconds_of_steps(stream, factor)
        for name, statistic in (("least", np.min), ("median", np.median)):
            plain, penalized = (1e3 * statistic(found) for found in seconds.values())
            print(
                f"a step {title}, {name} of {len(seconds[0.0])} epochs: {plain:.2f} ms without, {penalized:.2f} ms with the "
                f"penalty; ratio {penalized / plain:.2f}",
                flush=True,
            )


def _seconds_of_steps(stream: tf.data.Dataset, factor: float) -> list[float]:
    """Returns the seconds of a step for every epoch after the first, which compiles."""
    ends: list[float] = []
    fit_minibatches(
        zoo.build(MODEL), stream, steps_per_epoch=STEPS_PER_EPOCH,
        settings=MinibatchTraining(num_epochs=EPOCHS_PER_TURN, batch_size=BATCH_SIZE, spectral_penalty=factor),
        report=lambda *_: ends.append(time.perf_counter()),
    )  # fmt: skip
    return (np.diff(ends) / STEPS_PER_EPOCH).tolist()


def print_gain(card: DatasetCard) -> None:
    """Prints errors and bounds on the held-out part, and on the test set for the chosen weight."""
    print(f"{'penalty':>8} {'trained on':14} {'errors on':14} {'error':>7} {'bound':>9}  norms")
    tried = {factor: _trained(card, LEARNED, HELD_OUT, factor) for factor in FACTORS}
    free = [factor for factor, outcome in tried.items() if outcome.errors.num_events <= tried[0.0].errors.num_events]
    if max(free) == 0.0:
        print("Every weight increases the error on the held-out part. The smallest is shown.")
    chosen = max(free) or FACTORS[1]
    plain, penalized = (_trained(card, "train", "test", factor) for factor in (0.0, chosen))
    points = 100 * (penalized.errors.rate - plain.errors.rate)
    print(f"penalty {chosen:g}: bound {plain.bound / penalized.bound:.1f} times lower, test error {points:+.2f} points")


def _trained(card: DatasetCard, subset: str, shown: str, factor: float) -> Outcome:
    model = zoo.build(MODEL)
    settings = MinibatchTraining(num_epochs=_NUM_EPOCHS.value, batch_size=BATCH_SIZE, spectral_penalty=factor)
    stream = batches(card, subset, batch_size=BATCH_SIZE, shuffle_seed=0)
    fit_minibatches(model, stream, steps_per_epoch=num_examples(card, subset) // BATCH_SIZE, settings=settings)
    examples = load_examples(card, shown)
    bound = lipschitz_bound(model)
    norms = tuple(layer.norm.upper for layer in bound.layers if layer.kind == "Dense")
    found = Outcome(error_rate(predict(model, examples.images), examples.labels), bound.upper, norms)
    print(
        f"{factor:8g} {subset:14} {shown:14} {100 * found.errors.rate:6.2f}% {found.bound:9.3f}  "
        f"{', '.join(f'{norm:.2f}' for norm in norms)}",
        flush=True,
    )
    return found


if __name__ == "__main__":
    app.run(main)
