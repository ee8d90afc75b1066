"""Compares the attack with the exact minimum on the linear networks of a finished study.

    python -m tests.benchmarks.linear_floor runs/mnist

For each softmax network, targeted and untargeted, it prints the ratio of the mean distortion to the mean exact minimum (a
quadratic program with bounds, in float64), for the method of the paper and for the default search, on the images and targets of
the study. Two minutes on two CPU cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from components.artifacts import DistortedImages, TrainedModel
from intriguing.attack import SZEGEDY_LBFGS, DistortionSearch, minimize_distortion
from tests.oracles.linear_classifier import LinearClassifier, nearest_of_class, nearest_of_other_classes

NETWORKS = ("FC10_1e-4", "FC10_1e-2", "FC10_1")
SEARCHES = {"the paper's": SZEGEDY_LBFGS, "the default": DistortionSearch()}


def main(workdir: Path) -> None:
    for name in NETWORKS:
        model = TrainedModel(workdir / f"train_{name}").load()
        attacked = DistortedImages(workdir / f"attack_{name}").arrays()
        flat = attacked["images"].reshape(len(attacked["images"]), -1)
        classifier = LinearClassifier(*model.get_layer("logits").get_weights())
        predictions = classifier.logits(flat).argmax(axis=1)
        for goal, classes, oracle in (
            ("targets", attacked["targets"], nearest_of_class),
            ("labels", predictions, nearest_of_other_classes),
        ):
            floor = np.array([oracle(classifier, *pair).floor for pair in zip(flat, classes, strict=True)])
            for search_name, search in SEARCHES.items():
                found = minimize_distortion(model, attacked["images"], **{goal: classes}, search=search)
                lengths = found.distortion.numpy() * np.sqrt(flat.shape[1])
                moved = floor > 0
                print(
                    f"{name:10} {goal:8} {search_name:12} found {found.succeeded.numpy().mean():.1%}  "
                    f"mean / mean floor {lengths[moved].mean() / floor[moved].mean():.5f}  "
                    f"nearest {np.min(lengths[moved] / floor[moved]):.5f}  farthest {np.max(lengths[moved] / floor[moved]):.4f}  "
                    f"evaluations {found.num_evaluations.numpy().mean():.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
