"""How near the search for photographs comes, and how fast, beside Foolbox on the same network carried to PyTorch.

    python -m tests.benchmarks.photographs runs/imagenet_ostrich

Attacks the first photographs that the recipe `imagenet_ostrich` drew, toward the same class, with the search of the recipe and
with Foolbox's DDN and C&W; a line for each as soon as it is done. Needs `pip install -e ".[peers]"`, and some two hours of two idle
CPU cores for C&W on 16 photographs; `--quick_peers` leaves it out.
"""

from __future__ import annotations

from collections.abc import Sequence
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
ATTACKS = ("DDN 1000", "C&W 9x1000")
NUM_CLASSES, FINAL_PADDING = 1000, 1
DEFAULT_NUM_IMAGES = 16


def main(argv: Sequence[str]) -> None:
    if len(argv) != 2:
        raise app.UsageError("pass the folder that the recipe imagenet_ostrich was run in, such as runs/imagenet_ostrich.")
    logging.set_verbosity(logging.WARNING)
    num_images = flags.FLAGS.num_images if flags.FLAGS["num_images"].present else DEFAULT_NUM_IMAGES
    model = TrainedModel(Path(argv[1]) / "model_SqueezeNet").load()
    arrays = DistortedImages(Path(argv[1]) / "attack_SqueezeNet").arrays()
    problem = Problem(arrays["images"][:num_images], arrays["targets"][:num_images], NUM_CLASSES, targeted=True)
    network = carry_to_torch(model)
    peers.check_logits(model, network, problem.images)
    threads = peers.choose_torch_threads(network, problem.rows(0, 2))
    print(f"{len(problem.images)} photographs, PyTorch on {threads} threads, its fastest", flush=True)
    print(peers.row("", "found", "mean", "seconds", "compiling", "evaluations"))
    show("ours", run_ours(model, problem))
    for name in ATTACKS[:1] if flags.FLAGS.quick_peers else ATTACKS:
        show(name, peers.run_peer(network, problem, peers.ATTACKS[name]))


def carry_to_torch(model: keras.Model) -> torch.nn.Module:
    """Builds SqueezeNet of colors in [0, 1] in PyTorch, with the weights of ours."""
    network = SqueezeNet(NUM_CLASSES, FINAL_PADDING)
    state = {}
    for layer, name in SQUEEZENET_IN_TORCHVISION.items():
        kernel, bias = model.get_layer(layer).get_weights()
        state |= {f"{name}.weight": torch.tensor(kernel.transpose(3, 2, 0, 1).copy()), f"{name}.bias": torch.tensor(bias)}
    network.load_state_dict(state)
    scaling = model.get_layer("scaling")
    return torch.nn.Sequential(Scaling(scaling.scale, scaling.offset), network).eval().requires_grad_(False)


class Scaling(torch.nn.Module):
    """As the layer of the same name."""

    def __init__(self, scale: float, offset: Sequence[float]):
        super().__init__()
        self.scale, self.offset = scale, torch.tensor(offset).reshape(1, -1, 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scale * images + self.offset


def run_ours(model: keras.Model, problem: Problem) -> Outcome:
    """Attacks once with what compiles, and once more."""

    def attack() -> tuple[np.ndarray, np.ndarray]:
        results = minimize_distortion(model, problem.images, search=PHOTOGRAPH_SEARCH, **problem.goal)
        return results.distortion.numpy(), results.num_evaluations.numpy()

    _, first = peers.timed(attack)
    (distortion, evaluations), seconds = peers.timed(attack)
    return Outcome(distortion, seconds, first - seconds, float(evaluations.mean()))


def show(name: str, outcome: Outcome) -> None:
    found = outcome.distortion[np.isfinite(outcome.distortion)]
    print(
        peers.row(
            name,
            f"{len(found) / len(outcome.distortion):.1%}",
            peers.number(peers.mean(found), ".6f"),
            peers.number(outcome.seconds, ".1f"),
            peers.number(outcome.compile_seconds, ".1f"),
            peers.number(outcome.num_evaluations, ".0f"),
        ),
        flush=True,
    )


if __name__ == "__main__":
    app.run(main)
