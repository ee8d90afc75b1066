"""The flags of the scripts that work on one subset of a data set."""

from __future__ import annotations

from pathlib import Path

from absl import flags

from components.example_gen.component import ExampleGen
from components.pipeline import folder_name
from launch import tfds_flags

flags.adopt_module_key_flags(tfds_flags)
_DATASET = flags.DEFINE_string("dataset", "mnist_5k", "TFDS name: mnist_5k (embedded), mnist, fashion_mnist, cifar10, ...")
_SUBSET = flags.DEFINE_string("subset", "train", "A split, or a slice of one such as train[:50%].")


def subset_step(workdir: Path) -> ExampleGen:
    """Returns the step that prepares the data set and describes the subset of the flags."""
    return ExampleGen(
        f"subset_{folder_name(_DATASET.value)}_{folder_name(_SUBSET.value)}", workdir, dataset=_DATASET.value,
        data_dir=tfds_flags.data_dir() or "", manual_dir=tfds_flags.manual_dir() or "", subset=_SUBSET.value, disjoint_from=[],
    )  # fmt: skip
