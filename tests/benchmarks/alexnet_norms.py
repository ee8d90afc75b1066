"""Measures how close the norm bounds of the eight layers of AlexNet with random weights are, and their time.

    python -m tests.benchmarks.alexnet_norms

The network of Krizhevsky et al., 2012, with its grids and groups. Needs Linux; two CPU cores with nothing else running.
"""

from __future__ import annotations

import resource
import time
from typing import Any

import keras
import numpy as np

from intriguing.lipschitz import operator_norm


def convolution(name: str, filters: int, window: int, **options: Any) -> keras.Layer:
    return keras.layers.Conv2D(filters, window, name=name, kernel_initializer="he_normal", **options)


def dense(name: str, units: int) -> keras.Layer:
    return keras.layers.Dense(units, name=name, kernel_initializer="he_normal")


def network() -> list[tuple[keras.Layer, tuple[int, ...]]]:
    """Returns the built layers, with the same weights in every run, and the shapes of their inputs."""
    keras.utils.set_random_seed(0)
    layers = [
        (convolution("conv1", 96, 11, strides=4), (227, 227, 3)),
        (convolution("conv2", 256, 5, padding="same", groups=2), (27, 27, 96)),
        (convolution("conv3", 384, 3, padding="same"), (13, 13, 256)),
        (convolution("conv4", 384, 3, padding="same", groups=2), (13, 13, 384)),
        (convolution("conv5", 256, 3, padding="same", groups=2), (13, 13, 384)),
        (dense("fc6", 4096), (9216,)),
        (dense("fc7", 4096), (4096,)),
        (dense("fc8", 1000), (4096,)),
    ]
    for layer, shape in layers:
        layer.build((None, *shape))
    return layers


def main() -> None:
    ratios, all_seconds = [], 0.0
    print("layer  seconds     lower     upper    ratio")
    for layer, shape in network():
        began = time.perf_counter()
        norm = operator_norm(layer, shape)
        seconds = time.perf_counter() - began
        ratios.append(norm.upper / norm.lower)
        all_seconds += seconds
        print(f"{layer.name:6}{seconds:8.1f}{norm.lower:10.5f}{norm.upper:10.5f}{ratios[-1]:9.5f}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"all   {all_seconds:8.1f}; ratio at most {np.max(ratios):.5f}; most memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()
