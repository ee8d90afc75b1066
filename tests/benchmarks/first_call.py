"""Measures the time of the first attack of a process, relative to the import of TensorFlow.

    python -m tests.benchmarks.first_call
    python -m tests.benchmarks.first_call --networks=ConvNet --num_images=4

Each network of the zoo is trained for three epochs on 4,000 digits. Then three processes attack training images with the
default search: one without a cache of traces and compiled programs, one that fills it, and one that finds it filled. Printed
are the time of the first call, as a multiple of the time of `import tensorflow`, and the time of the second call, in seconds.

Some two minutes each on two CPU cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from absl import app, flags

from intriguing.data import dataset_card, load_examples
from intriguing.models import build

_NETWORKS = flags.DEFINE_list("networks", ["FC100-100-10"], "Networks of the zoo.")
_NUM_IMAGES = flags.DEFINE_integer("num_images", 128, "Images attacked.", lower_bound=1)

_PROCESS = """
import json, sys, time
begin = time.perf_counter(); import tensorflow as tf; imported = time.perf_counter() - begin
import keras, numpy as np
from intriguing.attack import minimize_distortion
from intriguing.distribution import enable_cache
enable_cache()
model = keras.models.load_model(sys.argv[1])
images = np.load(sys.argv[2])
targets = (model(images).numpy().argmax(axis=1) + 1) % 10
seconds = []
for _ in range(2):
    begin = time.perf_counter()
    minimize_distortion(model, images, targets=targets).distortion.numpy()
    seconds.append(time.perf_counter() - begin)
print(json.dumps([imported, *seconds]))
"""


def _measure(model: Path, images: Path, cache: str) -> tuple[float, float]:
    """Measures a new process. Returns the first call in multiples of the TensorFlow import, and the second in seconds."""
    environment = {**os.environ, "INTRIGUING_XLA_CACHE": cache, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", _PROCESS, str(model), str(images)]
    process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    imported, first, second = json.loads(process.stdout.splitlines()[-1])
    return first / imported, second


def main(argv: list[str]) -> None:
    """Prints a row for each network and state of the cache."""
    del argv
    digits = load_examples(dataset_card("mnist_5k"), "train")
    print(f"{'network':16}{'cache':10}{'first call / import':>20}{'second call':>14}")
    with tempfile.TemporaryDirectory() as folder:
        images, saved = Path(folder, "images.npy"), Path(folder, "model.keras")
        np.save(images, digits.images[: _NUM_IMAGES.value])
        for network in _NETWORKS.value:
            model = build(network)
            model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
            model.fit(digits.images, digits.labels, epochs=3, verbose=0)
            model.save(saved)
            for state, cache in (("off", "off"), ("empty", folder), ("filled", folder)):
                ratio, second = _measure(saved, images, cache)
                print(f"{network:16}{state:10}{ratio:>20.2f}{second:>12.2f} s", flush=True)


if __name__ == "__main__":
    app.run(main)
