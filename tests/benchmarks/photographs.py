"""Compares distortion and time of the search for photographs with Foolbox on the same network converted to PyTorch.

    python -m tests.benchmarks.photographs runs/imagenet_ostrich

It attacks the first photographs of the recipe `imagenet_ostrich` toward the same class, with the search of the recipe and with DDN
and C&W of Foolbox, in batches of four. After each batch it prints a table of all finished photographs, so that an interrupted run
has results. Requires `pip install -e ".[peers]"` and idle CPU cores for hours. `--quick_peers` omits C&W, which takes most time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import torch
from absl import app, flags, logging

from components.artifacts import DistortedImages, TrainedModel
from intriguing.attack import PHOTOGRAPH_SEARCH, minimize_distortion
from intriguing.models import SQUEEZENET_IN_TORCHVISION
from tests.benchmarks import peers
from tests.benchmarks.peers import Outcome, Problem
from tests.oracles.torch_networks import SqueezeNet

flags.adopt_module_key_flags(peers)
NAMES = ("ours", "DDN 1000", "C&W 9x1000")
NUM_CLASSES, FINAL_PADDING = 1000, 1
DEFAULT_NUM_IMAGES = 16
BATCH_SIZE = 4


def main(argv: Sequence[str]) -> None:
    if len(argv) != 2:
        raise app.UsageError("pass the folder that the recipe imagenet_ostrich was run in, such as runs/imagenet_ostrich.")
    logging.set_verbosity(logging.WARNING)
    num_images = flags.FLAGS.num_images if flags.FLAGS["num_images"].present else DEFAULT_NUM_IMAGES
    model = TrainedModel(Path(argv[1]) / "model_SqueezeNet").load()
    arrays = DistortedImages(Path(argv[1]) / "attack_SqueezeNet").arrays()
    problem = Problem(arrays["images"][:num_images], arrays["targets"][:num_images], NUM_CLASSES, targeted=True)
    network = convert_to_torch(model)
    peers.check_logits(model, network, problem.images)
    threads = peers.choose_torch_threads(network, problem.rows(0, BATCH_SIZE))
    print(f"{len(problem.images)} photographs, PyTorch on {threads} threads, its fastest", flush=True)
    run_ours(model, problem.rows(0, BATCH_SIZE))  # compiles
    outcomes: dict[str, list[Outcome]] = {name: [] for name in (NAMES[:-1] if flags.FLAGS.quick_peers else NAMES)}
    for start in range(0, len(problem.images), BATCH_SIZE):
        few = problem.rows(start, start + BATCH_SIZE)
        for name, parts in outcomes.items():
            parts.append(run_ours(model, few) if name == "ours" else peers.run_peer(network, few, peers.ATTACKS[name]))
        show(outcomes)


def convert_to_torch(model: keras.Model) -> torch.nn.Module:
    """Builds SqueezeNet for colors in [0, 1] in PyTorch, with the weights of the Keras model."""
    network = SqueezeNet(NUM_CLASSES, FINAL_PADDING)
    state = {}
    for layer, name in SQUEEZENET_IN_TORCHVISION.items():
        kernel, bias = model.get_layer(layer).get_weights()
        state |= {f"{name}.weight": torch.tensor(kernel.transpose(3, 2, 0, 1).copy()), f"{name}.bias": torch.tensor(bias)}
    network.load_state_dict(state)
    scaling = model.get_layer("scaling")
    return torch.nn.Sequential(Scaling(scaling.scale, scaling.offset), network).eval().requires_grad_(False)


class Scaling(torch.nn.Module):
    """Scales and shifts colors like the Keras layer of the same name."""

    def __init__(self, scale: float, offset: Sequence[float]):
        super().__init__()
        self.scale, self.offset = scale, torch.tensor(offset).reshape(1, -1, 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scale * images + self.offset


def run_ours(model: keras.Model, problem: Problem) -> Outcome:
    def attack() -> tuple[np.ndarray, np.ndarray]:
        results = minimize_distortion(model, problem.images, search=PHOTOGRAPH_SEARCH, **problem.goal)
        return results.distortion.numpy(), results.num_evaluations.numpy()

    (distortion, evaluations), seconds = peers.timed(attack)
    return Outcome(distortion, seconds, num_evaluations=float(evaluations.mean()))


def show(outcomes: Mapping[str, Sequence[Outcome]]) -> None:
    """Prints a line for each method over all finished images. Ratios are those of this library to the method."""
    distortion = {name: np.concatenate([part.distortion for part in parts]) for name, parts in outcomes.items()}
    seconds = {name: sum(part.seconds for part in parts) for name, parts in outcomes.items()}
    shared = np.all([np.isfinite(values) for values in distortion.values()], axis=0)
    ours, our_seconds = distortion["ours"][shared], seconds["ours"]
    print(f"\n{len(shared)} photographs; all methods succeed on {shared.sum()}, over which means and ratios are computed")
    print(peers.row("", "found", "mean", "ours / it", "ours nearer", "seconds", "ours / it"))
    for name, values in distortion.items():
        print(
            peers.row(
                name,
                f"{np.isfinite(values).sum()}",
                peers.number(peers.mean(values[shared]), ".6f"),
                peers.number(peers.mean(ours) / peers.mean(values[shared]), ".4f"),
                f"{(ours < values[shared]).sum()}",
                f"{seconds[name]:.1f}",
                f"{our_seconds / seconds[name]:.4f}",
            ),
            flush=True,
        )


if __name__ == "__main__":
    app.run(main)
