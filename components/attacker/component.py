"""Attacker: the nearest images that one network gets wrong, for a random sample of one subset."""

from __future__ import annotations

from components.artifacts import DistortedImages, Subset, TrainedModel
from components.attacker.executor import AttackerExecutor
from components.contract import Component


class Attacker(Component[DistortedImages]):
    """Parameters: sample size, seed of sample and targets, targeted or not, images per batch, search, TensorBoard's folder."""

    PARAMETERS = {"num_images": int, "seed": int, "targeted": bool, "batch_size": int, "search": dict, "log_dir": str}
    INPUTS = {"model": TrainedModel, "subset": Subset}
    OUTPUTS = {"distorted": DistortedImages}
    EXECUTOR = AttackerExecutor
    LIBRARY = ("accelerators.py", "pixels.py", "distortion.py", "data", "models", "attack")
