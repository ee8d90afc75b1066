"""Finds the nearest images that a trained network misclassifies, for a random sample of a subset.

    python -m launch.attack --trained_model=runs/mine/train_FC100-100-10 --dataset=mnist_5k --subset=test --workdir=runs/mine
    python -m launch.attack --model=mine.keras --dataset=FOLDER --subset=test --num_images=16

The second takes a model that was trained elsewhere, and images of a folder split/class/image, scaled to the model's size.
"""

from __future__ import annotations

from absl import flags

from components.attacker.component import Attacker
from components.runner import run
from intriguing.distribution.strategy import writes_files
from launch import accelerator_flags, attack_flags, data_flags, model_flags
from launch.clean_accuracy import show_clean_accuracy

for module in (accelerator_flags, attack_flags, data_flags, model_flags):
    flags.adopt_module_key_flags(module)


def main() -> None:
    """Attacks, saves the images, and prints how many attacks succeeded and their distortion."""
    workdir = accelerator_flags.workdir(default="runs/steps")
    trained = model_flags.network(workdir)
    subset = data_flags.subset_step(workdir, **model_flags.expected_data(trained))
    run([subset])
    attacker = attack_flags.attack_step(workdir, trained, subset)
    run([attacker])
    if writes_files():
        _show(attacker)


def _show(attacker: Attacker) -> None:
    record = attacker.output.record()
    show_clean_accuracy(record)
    found = record.required_search()
    statuses = "; ".join(f"{number} {status}" for status, number in found.num_images_by_status.items() if number)
    print(f"Found {found.num_succeeded} of {found.num_images}: {statuses}.")
    if found.num_succeeded_among_correct:
        among = f"the {found.num_succeeded_among_correct} of these that were classified correctly before"
        print(f"Average distortion of {among}: {found.mean_distortion:.4f}.")
    if found.quantization_levels is None and found.num_succeeded:
        print(
            f"Rounded to bytes, as in a PNG file, {found.num_surviving_rounding} of {found.num_succeeded} still succeed; "
            "--quantization_levels=256 searches among such images."
        )
    print(f"Gradients per image: {found.mean_num_evaluations:.0f}. Images: {attacker.output.uri}")


if __name__ == "__main__":
    accelerator_flags.run(main)
