"""The flags of the scripts that attack a trained network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from absl import flags

from components.artifacts import TrainedModel
from components.attacker.component import Attacker
from components.example_gen.component import ExampleGen
from components.pipeline import folder_name
from components.settings import to_parameters
from intriguing.attack import PAPERS_SEARCH, QUICK_SEARCH, THOROUGH_SEARCH, DistortionSearch

SEARCHES = {
    "quick": QUICK_SEARCH,
    "default": DistortionSearch(),
    "thorough": THOROUGH_SEARCH,
    "paper": PAPERS_SEARCH,
}

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


def attack_step(workdir: Path, model: TrainedModel, subset: ExampleGen) -> Attacker:
    """Returns the step that attacks a network as the flags say."""
    return Attacker(
        f"attack_{folder_name(model.training()['name'])}", workdir, model=model, subset=subset, num_images=_NUM_IMAGES.value,
        batch_size=min(_BATCH_SIZE.value, _NUM_IMAGES.value), targeted=_TARGETED.value, seed=flags.FLAGS.seed,
        search=to_parameters(_search()), log_dir=_TENSORBOARD_DIR.value,
    )  # fmt: skip


def _search() -> DistortionSearch:
    search = SEARCHES[_SEARCH.value]
    if _MAX_EVALUATIONS.value is None:
        return search
    return dataclasses.replace(search, max_evaluations=_MAX_EVALUATIONS.value)
