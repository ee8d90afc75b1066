"""Shows every network the images made against every other, and counts the errors.

    python -m launch.measure_transfer --trained_models=runs/mine/train_A,runs/mine/train_B \\
        --distorted_images=runs/mine/attack_A,runs/mine/attack_B --workdir=runs/mine
"""

from __future__ import annotations

from absl import flags

from components.artifacts import DistortedImages, TrainedModel
from components.reporter.study import Experiment, transfer_table
from components.runner import run
from components.transfer_evaluator.component import TransferEvaluator
from intriguing.accelerators import writes_files
from intriguing.reporting import to_text, write_table
from launch import accelerator_flags

flags.adopt_module_key_flags(accelerator_flags)
_TRAINED_MODELS = flags.DEFINE_list(
    "trained_models", None, "Folders that launch.train wrote, separated by commas.", required=True
)
_DISTORTED = flags.DEFINE_list(
    "distorted_images", None, "Folders that launch.attack wrote, separated by commas.", required=True
)
_AMPLIFY_TO = flags.DEFINE_multi_float("amplify_to", [], "Also move the images along their perturbation to this distortion.")
_NOISE = flags.DEFINE_multi_float("noise", [0.1, 0.3], "Standard deviations of the Gaussian noise to compare with.")


def main() -> None:
    """Evaluates, saves the rates, and prints the table."""
    workdir = accelerator_flags.workdir(default="runs/steps")
    models = [TrainedModel(folder) for folder in _TRAINED_MODELS.value]
    attacks = [DistortedImages(folder) for folder in _DISTORTED.value]
    evaluator = TransferEvaluator(
        "transfer", workdir, models=models, distorted=attacks, subsets=[], amplify_to=_AMPLIFY_TO.value,
        noise=_NOISE.value, unclipped_noise=[], seed=flags.FLAGS.seed,
    )  # fmt: skip
    run([evaluator])
    if writes_files():
        table = transfer_table(Experiment.read(models, attacks, [evaluator.output]))
        print(to_text(table))
        print("Written to", *write_table(table, workdir))


if __name__ == "__main__":
    accelerator_flags.run(main)
