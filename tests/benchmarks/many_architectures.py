"""Two hundred architectures in one process: XLA on a CPU never frees a program, and must not exhaust the memory mappings.

    python -m tests.benchmarks.many_architectures

Attacks sixteen images with each of two hundred small networks, no two of one shape. Every twenty networks it prints the memory
mappings of the process, as a share of what Linux allows, the median time of an attack, and whether all images have been fooled.
From 80 % on, further searches run without XLA: `intriguing.compilation` logs a warning, and they take longer.

Some twenty minutes on two CPU cores.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import keras
import numpy as np
from absl import app, flags

from intriguing.attack import minimize_distortion

_NUM_NETWORKS = flags.DEFINE_integer("num_networks", 200, "Networks, each of another shape.", lower_bound=1)
_GROUP = flags.DEFINE_integer("group", 20, "Networks to a row.", lower_bound=1)

_NUM_IMAGES, _NUM_PIXELS, _NUM_CLASSES = 16, 64, 10


def _network(number: int) -> keras.Model:
    """Returns an untrained network whose widths no other number has."""
    keras.utils.set_random_seed(number)
    layers = [keras.layers.Dense(8 + number // 20, "relu"), keras.layers.Dense(8 + number % 20, "relu")]
    return keras.Sequential([keras.Input((_NUM_PIXELS,)), *layers, keras.layers.Dense(_NUM_CLASSES)])


def _share_of_mappings() -> float:
    """Returns the memory mappings of this process as a share of the limit; NaN where there is no such limit."""
    maps, limit = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
    if not maps.is_file() or not limit.is_file():
        return float("nan")
    return len(maps.read_bytes().splitlines()) / int(limit.read_text())


def main(argv: list[str]) -> None:
    """Prints a row for each group of networks."""
    del argv
    images = np.random.default_rng(0).random((_NUM_IMAGES, _NUM_PIXELS), dtype=np.float32)
    print(f"{'networks':>8}{'mappings':>12}{'an attack':>14}{'fooled':>10}")
    seconds, fooled = [], []
    for number in range(_NUM_NETWORKS.value):
        model = _network(number)
        labels = model(images).numpy().argmax(axis=1)
        begin = time.perf_counter()
        results = minimize_distortion(model, images, labels=labels)
        seconds.append(time.perf_counter() - begin)
        fooled.append(results.succeeded.numpy().mean())
        if (number + 1) % _GROUP.value == 0 or number + 1 == _NUM_NETWORKS.value:
            median, share = statistics.median(seconds), np.mean(fooled)
            print(f"{number + 1:>8}{_share_of_mappings():>12.0%}{median:>12.2f} s{share:>10.1%}", flush=True)
            seconds, fooled = [], []


if __name__ == "__main__":
    app.run(main)
