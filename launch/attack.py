"""Finds the nearest images that a trained network gets wrong, for a random sample of a subset.

    python -m launch.attack --trained_model=runs/mine/train_FC100-100-10 --dataset=mnist_5k --subset=test --workdir=runs/mine
    python -m launch.attack --model=mine.keras --dataset=FOLDER --subset=test --num_images=16

The second takes a model that was trained elsewhere, and images of a folder split/class/image, brought to the model's size.
"""

from __future__ import annotations

from absl import flags

from components.attacker.component import Attacker
from components.runner import run
from intriguing.accelerators import writes_files
from launch import accelerator_flags, attack_flags, data_flags, model_flags

for module in (accelerator_flags, attack_flags, data_flags, model_flags):
    flags.adopt_module_key_flags(module)


def main() -> None:
    """Attacks, saves the images, and prints how many were found and how near."""
    workdir = accelerator_flags.workdir(default="runs/steps")
    trained = model_flags.network(workdir)
    subset = data_flags.subset_step(workdir, model_flags.image_shape(trained))
    attacker = attack_flags.attack_step(workdir, trained, subset)
    run([subset, attacker])
    if writes_files():
        _show(attacker)


def _show(attacker: Attacker) -> None:
    found = attacker.output.attack()
    mean = "none" if found["mean_distortion"] is None else f"{found['mean_distortion']:.4f}"
    statuses = ", ".join(f"{number} {status}" for status, number in found["num_images_by_status"].items() if number)
    print(f"Found {found['num_succeeded']} of {found['num_images']}, average distortion {mean}: {statuses}.")
    print(f"Gradients per image: {found['mean_num_evaluations']:.0f}. Images: {attacker.output.uri}")


if __name__ == "__main__":
    accelerator_flags.run(main)
