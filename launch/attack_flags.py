"""The flags of the scripts that attack a trained network."""

from __future__ import annotations

from pathlib import Path

from absl import flags

from components.artifacts import TrainedModel
from components.attacker.component import Attacker
from components.example_gen.component import ExampleGen
from components.pipeline import folder_name
from components.settings import to_parameters
from launch import model_flags, search_flags

flags.adopt_module_key_flags(search_flags)
_NUM_IMAGES = flags.DEFINE_integer("num_images", 256, "Images to sample and attack.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 256, "Images attacked at once; fewer where more do not fit into memory.", lower_bound=1
)
_TARGETED = flags.DEFINE_bool("targeted", True, "Drive each image to a random wrong class; otherwise to any wrong class.")
_TARGET = flags.DEFINE_integer("target", -1, "Drive every image to this class, instead of a random one.", lower_bound=-1)
_ONLY_CORRECT = flags.DEFINE_bool("only_correct", False, "Draw among the images that the network gets right.")
_TENSORBOARD_DIR = flags.DEFINE_string(
    "tensorboard_dir", "", "Where to write c, distortion and evaluations for TensorBoard; nowhere if omitted."
)


def attack_step(workdir: Path, model: TrainedModel, subset: ExampleGen) -> Attacker:
    """Returns the step that attacks a network as the flags say."""
    if _TARGET.value >= 0 and not _TARGETED.value:
        raise ValueError("--target names a class to reach, and --notargeted asks for any; leave one of them out.")
    return Attacker(
        f"attack_{folder_name(model.training()['name'])}", workdir, model=model, subset=subset, num_images=_NUM_IMAGES.value,
        batch_size=min(_BATCH_SIZE.value, _NUM_IMAGES.value), targeted=_TARGETED.value, target=_TARGET.value,
        only_correct=_ONLY_CORRECT.value, seed=flags.FLAGS.seed,
        search=to_parameters(search_flags.search_for(model_flags.image_shape(model))), log_dir=_TENSORBOARD_DIR.value,
    )  # fmt: skip
