"""The flags of the scripts that read a data set and write one step: which subset, and where to."""

from __future__ import annotations

from pathlib import Path

from absl import flags

from components.example_gen.component import ExampleGen
from components.pipeline import folder_name

_DATASET = flags.DEFINE_string(
    "dataset", "mnist_5k", "TFDS name: mnist_5k (embedded digits), mnist, fashion_mnist, cifar10, ..."
)
_SUBSET = flags.DEFINE_string("subset", "train", "A split, or a slice of one such as train[:50%].")
_DATA_DIR = flags.DEFINE_string("tfds_data_dir", None, "Where TensorFlow Datasets keeps its data sets.")
_MANUAL_DIR = flags.DEFINE_string("tfds_manual_dir", None, "Folder with a data set's source files, instead of a download.")
_WORKDIR = flags.DEFINE_string("workdir", "runs/steps", "Folder that the step's own folder is written to.")


def workdir() -> Path:
    """Returns the folder that steps are written to."""
    return Path(_WORKDIR.value)


def subset_step() -> ExampleGen:
    """Returns the step that prepares the data set and describes the subset of the flags."""
    return ExampleGen(
        f"subset_{folder_name(_DATASET.value)}_{folder_name(_SUBSET.value)}", workdir(), dataset=_DATASET.value,
        data_dir=_DATA_DIR.value or "", manual_dir=_MANUAL_DIR.value or "", subset=_SUBSET.value, disjoint_from=[],
    )  # fmt: skip
