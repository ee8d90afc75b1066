"""Attacks two hundred architectures in one process, where XLA could exhaust the memory mappings: it never frees a program.

    python -m tests.benchmarks.many_architectures

Each of two hundred small networks has other widths, and is attacked on sixteen images. After every twenty networks, the benchmark
prints the memory mappings of the process as a share of the limit of Linux, the median time of an attack, and the share of images
for which it succeeded. At 80 % of the limit, `intriguing.distribution.compilation` logs a warning, and further searches run without XLA.

Half an hour on two CPU cores.
"""

from __future__ import annotations

import statistics
import time

import keras
import numpy as np
from absl import app, flags

from intriguing.attack import minimize_distortion
from intriguing.distribution import compilation

_NUM_NETWORKS = flags.DEFINE_integer("num_networks", 200, "Networks, each of another shape.", lower_bound=1)
_GROUP = flags.DEFINE_integer("group", 20, "Networks to a row.", lower_bound=1)

_NUM_IMAGES, _NUM_PIXELS, _NUM_CLASSES = 16, 64, 10


def _network(number: int) -> keras.Model:
    """Returns an untrained network whose widths no other number has."""
    keras.utils.set_random_seed(number)
    layers = [keras.layers.Dense(8 + number // 20, "relu"), keras.layers.Dense(8 + number % 20, "relu")]
    return keras.Sequential([keras.Input((_NUM_PIXELS,)), *layers, keras.layers.Dense(_NUM_CLASSES)])


def main(argv: list[str]) -> None:
    """Prints a row for each group of networks."""
    del argv
    images = np.random.default_rng(0).random((_NUM_IMAGES, _NUM_PIXELS), dtype=np.float32)
    print(f"{'networks':>8}{'mappings':>12}{'an attack':>14}{'succeeded':>10}")
    seconds, succeeded = [], []
    for number in range(_NUM_NETWORKS.value):
        model = _network(number)
        labels = model(images).numpy().argmax(axis=1)
        begin = time.perf_counter()
        results = minimize_distortion(model, images, labels=labels)
        seconds.append(time.perf_counter() - begin)
        succeeded.append(results.succeeded.numpy().mean())
        if (number + 1) % _GROUP.value == 0 or number + 1 == _NUM_NETWORKS.value:
            median, share = statistics.median(seconds), np.mean(succeeded)
            print(
                f"{number + 1:>8}{compilation._num_mappings() / compilation._mapping_limit():>12.0%}{median:>12.2f} s{share:>10.1%}",
                flush=True,
            )
            seconds, succeeded = [], []


if __name__ == "__main__":
    app.run(main)
