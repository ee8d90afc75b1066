"""Compares attacks and certificates with the exact nearest images of small rectifier networks.

    python -m tests.benchmarks.exact_rectifier

Random networks of 20-20-20 units, 128 images, three goals: any other class, the runner-up, and the class after the predicted one.
For each search it prints the ratio of lengths to the exact ones, on the images that the exact search solves. The exact search
starts from the images of the attack and bounds at most `--max_nodes` nodes per image.

About five minutes on two CPU cores, mostly for the last goal.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
from absl import app, flags

from intriguing.attack import minimize_distortion
from intriguing.lipschitz import certified_distortion
from tests.oracles.exact_rectifier import nearest_of_class, nearest_of_other_classes
from tests.oracles.rectifier_network import RectifierNetwork, random_network

_NUM_IMAGES = flags.DEFINE_integer("num_images", 128, "Images.", lower_bound=1)
_WIDTHS = flags.DEFINE_multi_integer("widths", [20, 20, 20, 4], "Inputs, hidden units and classes.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the network and of the images.")
_MAX_NODES = flags.DEFINE_integer("max_nodes", 5000, "Nodes of the exact search for one image.", lower_bound=1)

SEARCHES = ("fast", "default", "thorough", "szegedy_lbfgs")
SOLVED = 1e-6  # an image whose floor is within this share of its length


class Goal(NamedTuple):
    keyword: str  # argument of minimize_distortion
    classes: np.ndarray  # [images] int32


class Exact(NamedTuple):
    lengths: np.ndarray  # [images] L2 norms
    solved: np.ndarray  # [images] bool


def main(argv: Sequence[str]) -> None:
    del argv
    model, images = network(), np.random.default_rng(_SEED.value).uniform(size=(_NUM_IMAGES.value, _WIDTHS.value[0]))
    images = images.astype(np.float32)
    ranked = np.argsort(RectifierNetwork.of_model(model).logits(images), axis=1).astype(np.int32)
    goals = {
        "any other class": Goal("labels", ranked[:, -1]),
        "the runner-up": Goal("targets", ranked[:, -2]),
        "the next class": Goal("targets", (ranked[:, -1] + 1) % _WIDTHS.value[-1]),
    }
    for name, goal in goals.items():
        print(f"\n{'-'.join(map(str, _WIDTHS.value))} units, {len(images)} images, to {name}")
        show(model, images, goal)


def network() -> keras.Model:
    drawn = random_network(_WIDTHS.value, _SEED.value)
    *hidden, last = _WIDTHS.value[1:]
    layers = [keras.layers.Dense(width, "relu") for width in hidden]
    model = keras.Sequential([keras.Input((_WIDTHS.value[0],)), *layers, keras.layers.Dense(last)])
    model.set_weights([array for pair in zip(drawn.kernels, drawn.biases, strict=True) for array in pair])
    return model


def show(model: keras.Model, images: np.ndarray, goal: Goal) -> None:
    """Prints one line for each search, one for the exact search, and one for the certificate of any other class."""
    factor = np.sqrt(images.shape[1])
    lengths, starts = {}, [[] for _ in images]
    for search in SEARCHES:
        found = minimize_distortion(model, images, search=search, **{goal.keyword: goal.classes})
        lengths[search] = factor * found.distortion.numpy().astype(np.float64)
        for image in np.flatnonzero(found.succeeded):
            starts[image].append(found.distorted.numpy()[image])
    begin = time.perf_counter()
    exact = solve(model, images, goal, starts)
    print(
        f"exact: {exact.solved.sum()} solved in {time.perf_counter() - begin:.0f} s, mean length {exact.lengths[exact.solved].mean():.5f}"
    )
    print(row("", "found", "mean / mean", "mean ratio", "nearest", "farthest", "within 0.1%"), flush=True)
    for search in SEARCHES:
        print(line(search, lengths[search], exact))
    if goal.keyword == "labels":
        certified = factor * certified_distortion(model, images, goal.classes).distortion.numpy().astype(np.float64)
        print(line("certificate", certified, exact))


def solve(model: keras.Model, images: np.ndarray, goal: Goal, starts: Sequence[Sequence[np.ndarray]]) -> Exact:
    network = RectifierNetwork.of_model(model)
    oracle = nearest_of_class if goal.keyword == "targets" else nearest_of_other_classes
    nearest = [
        oracle(network, image, int(chosen), nearby=start, max_nodes=_MAX_NODES.value)
        for image, chosen, start in zip(images, goal.classes, starts, strict=True)
    ]
    lengths, floors = (np.array([getattr(one, field) for one in nearest]) for field in ("length", "floor"))
    return Exact(lengths, np.isfinite(lengths) & (floors >= (1 - SOLVED) * lengths))


def line(name: str, lengths: np.ndarray, exact: Exact) -> str:
    shared = exact.solved & np.isfinite(lengths) & (exact.lengths > 0)
    ratios = lengths[shared] / exact.lengths[shared]
    return row(
        name, f"{np.isfinite(lengths).sum()}", f"{lengths[shared].mean() / exact.lengths[shared].mean():.5f}", f"{ratios.mean():.5f}",
        f"{ratios.min():.6f}", f"{ratios.max():.4f}", f"{np.sum(np.abs(ratios - 1) <= 1e-3)}",
    )  # fmt: skip


def row(name: str, *cells: str) -> str:
    return f"{name:14}" + "".join(f"{cell:>13}" for cell in cells)


if __name__ == "__main__":
    app.run(main)
