"""Finds the nearest images that a trained network gets wrong, for a random sample of a subset.

python -m launch.attack --trained_model=runs/mine/train_FC100-100-10 --dataset=mnist_5k --subset=test --workdir=runs/mine
"""

from __future__ import annotations

from absl import flags

from components.artifacts import TrainedModel
from components.attacker.component import Attacker
from components.pipeline import folder_name
from components.runner import run
from components.settings import to_parameters
from intriguing.accelerators import writes_files
from intriguing.attack.minimize_distortion import PAPERS_SEARCH, DistortionSearch
from launch import accelerator_flags, data_flags

flags.adopt_module_key_flags(accelerator_flags)
flags.adopt_module_key_flags(data_flags)
_TRAINED_MODEL = flags.DEFINE_string("trained_model", None, "Folder that launch.train wrote.", required=True)
_NUM_IMAGES = flags.DEFINE_integer("num_images", 256, "Images to sample and attack.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Images attacked at once.", lower_bound=1)
_TARGETED = flags.DEFINE_bool("targeted", True, "Drive each image to a random wrong class; otherwise to any wrong class.")
_PAPERS_METHOD = flags.DEFINE_bool("papers_method", False, "Cross-entropy alone, as in the paper: faster, and farther out.")


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
        search=to_parameters(PAPERS_SEARCH if _PAPERS_METHOD.value else DistortionSearch()),
    )  # fmt: skip
    run([subset, attacker])
    if writes_files():
        _show(attacker)


def _show(attacker: Attacker) -> None:
    found = attacker.output.attack()
    mean = "none" if found["mean_distortion"] is None else f"{found['mean_distortion']:.4f}"
    print(f"Found {found['num_succeeded']} of {found['num_images']}, average distortion {mean}. Images: {attacker.output.uri}")


if __name__ == "__main__":
    accelerator_flags.run(main)
