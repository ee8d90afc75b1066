"""The flags of the scripts that attack a trained network."""

from __future__ import annotations

from math import prod
from pathlib import Path

from absl import flags

from components.artifacts import TrainedModel
from components.attacker.component import Attacker
from components.attacker.sampling import class_number
from components.example_gen.component import ExampleGen
from components.example_gen.executor import card_of
from components.folder_names import folder_name
from launch import model_flags, search_flags

flags.adopt_module_key_flags(search_flags)
_NUM_IMAGES = flags.DEFINE_integer("num_images", 256, "Number of images to sample and attack.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", None, "Number of images attacked at once. If omitted, 256 small or 32 large ones; fewer if memory is short.",
    lower_bound=1,
)  # fmt: skip
_TARGETED = flags.DEFINE_bool("targeted", True, "Search for a random wrong class of each image; otherwise for any wrong class.")
_TARGET = flags.DEFINE_string(
    "target", None, "Search for this class for every image, by name or number, instead of a random one."
)
_ONLY_CORRECT = flags.DEFINE_bool("only_correct", False, "Draw among the images that the network classifies correctly.")
_TENSORBOARD_DIR = flags.DEFINE_string(
    "tensorboard_dir", "", "Where to write c, distortion and evaluations for TensorBoard; nowhere if omitted."
)

_LARGE_IMAGE = 64 * 64 * 3  # values; batches of larger images take long, so the progress bar counts single images
_AT_ONCE, _LARGE_AT_ONCE = 256, 32


def attack_step(workdir: Path, model: TrainedModel, subset: ExampleGen) -> Attacker:
    """Returns the step that attacks a network with the settings of the flags, on a finished subset."""
    if _TARGET.value is not None and not _TARGETED.value:
        raise ValueError("--target names a class to reach, and --notargeted asks for any; leave one of them out.")
    return Attacker(
        f"attack_{folder_name(model.record().name)}", workdir, model=model, subset=subset, num_images=_NUM_IMAGES.value,
        batch_size=_batch_size(subset), targeted=_TARGETED.value, target=_target(model, subset),
        only_correct=_ONLY_CORRECT.value, seed=flags.FLAGS.seed, search=search_flags.parameters(),
        log_dir=_TENSORBOARD_DIR.value,
    )  # fmt: skip


def _batch_size(subset: ExampleGen) -> int:
    if _BATCH_SIZE.value is not None:
        return min(_BATCH_SIZE.value, _NUM_IMAGES.value)
    at_once = _LARGE_AT_ONCE if prod(subset.output.record().image_shape) > _LARGE_IMAGE else _AT_ONCE
    num_batches = -(-_NUM_IMAGES.value // at_once)
    return -(-_NUM_IMAGES.value // num_batches)  # equal batches: copies fill the last one


def _target(model: TrainedModel, subset: ExampleGen) -> int:
    if _TARGET.value is None:
        return -1
    expected = model_flags.expected_data(model)
    names = expected["class_names"] or card_of(subset.output)[0].class_names
    return class_number(_TARGET.value, names, expected["num_classes"] or len(names))
