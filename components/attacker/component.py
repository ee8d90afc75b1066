"""Attacker: the nearest images that one network misclassifies, for a random sample of one subset."""

from __future__ import annotations

from components.artifacts import DistortedImages, Subset, TrainedModel
from components.attacker.executor import AttackerExecutor
from components.contract import Component


class Attacker(Component[DistortedImages]):
    """Parameters: how many images and which, seed of sample and targets, goal, batch, search, and TensorBoard's folder."""

    PARAMETERS = {
        "num_images": int,
        "only_correct": bool,  # draw among the images that the network classifies correctly
        "seed": int,
        "targeted": bool,
        "target": int,  # the class of all; -1 for a random wrong one each
        "batch_size": int,
        "search": dict,  # all settings and their kind; or changes of the search that the library chooses, {} for none
        "log_dir": str,
    }
    INPUTS = {"model": TrainedModel, "subset": Subset}
    OUTPUTS = {"distorted": DistortedImages}
    EXECUTOR = AttackerExecutor
