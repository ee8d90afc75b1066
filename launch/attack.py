"""Finds the nearest images that a trained network gets wrong, for a random sample of a subset.

python -m launch.attack --trained_model=runs/mine/train_FC100-100-10 --dataset=mnist_5k --subset=test --workdir=runs/mine
"""

from __future__ import annotations

import dataclasses

from absl import flags

from components.artifacts import TrainedModel
from components.attacker.component import Attacker
from components.pipeline import folder_name
from components.runner import run
from components.settings import SEARCHES, to_parameters
from intriguing.accelerators import writes_files
from intriguing.attack import DistortionSearch
from launch import accelerator_flags, data_flags

flags.adopt_module_key_flags(accelerator_flags)
flags.adopt_module_key_flags(data_flags)
_TRAINED_MODEL = flags.DEFINE_string("trained_model", None, "Folder that launch.train wrote.", required=True)
_NUM_IMAGES = flags.DEFINE_integer("num_images", 256, "Images to sample and attack.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Images attacked at once.", lower_bound=1)
_TARGETED = flags.DEFINE_bool("targeted", True, "Drive each image to a random wrong class; otherwise to any wrong class.")
_SEARCH = flags.DEFINE_enum(
    "search", "default", list(SEARCHES), "How to search: quick, default and thorough end at the decision boundary; paper is "
    "L-BFGS on cross-entropy alone, and ends farther out.",
)  # fmt: skip
_MAX_EVALUATIONS = flags.DEFINE_integer("max_evaluations", None, "Gradients per image at most; the search's own if omitted.")
_TENSORBOARD_DIR = flags.DEFINE_string(
    "tensorboard_dir", "", "Where to write c, distortion and evaluations for TensorBoard; nowhere if omitted."
)


def main() -> None:
    """Attacks, saves the images, and prints how many were found and how near."""
    trained = TrainedModel(_TRAINED_MODEL.value)
    trained.manifest()  # what is not a whole trained model is refused before anything runs
    name = trained.training()["name"]
    workdir = accelerator_flags.workdir(default="runs/steps")
    subset = data_flags.subset_step(workdir)
    attacker = Attacker(
        f"attack_{folder_name(name)}", workdir, model=trained, subset=subset, num_images=_NUM_IMAGES.value,
        batch_size=min(_BATCH_SIZE.value, _NUM_IMAGES.value), targeted=_TARGETED.value, seed=flags.FLAGS.seed,
        search=to_parameters(_search()), log_dir=_TENSORBOARD_DIR.value,
    )  # fmt: skip
    run([subset, attacker])
    if writes_files():
        _show(attacker)


def _search() -> DistortionSearch:
    search = SEARCHES[_SEARCH.value]
    if _MAX_EVALUATIONS.value is None:
        return search
    return dataclasses.replace(search, max_evaluations=_MAX_EVALUATIONS.value)


def _show(attacker: Attacker) -> None:
    found = attacker.output.attack()
    mean = "none" if found["mean_distortion"] is None else f"{found['mean_distortion']:.4f}"
    statuses = ", ".join(f"{number} {status}" for status, number in found["num_images_by_status"].items() if number)
    print(f"Found {found['num_succeeded']} of {found['num_images']}, average distortion {mean}: {statuses}.")
    print(f"Gradients per image: {found['mean_num_evaluations']:.0f}. Images: {attacker.output.uri}")


if __name__ == "__main__":
    accelerator_flags.run(main)
