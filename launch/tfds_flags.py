"""The flags of the scripts that read a TFDS data set: its folder, and the folder of its source files."""

from __future__ import annotations

from absl import flags

_DATA_DIR = flags.DEFINE_string("tfds_data_dir", None, "Where TensorFlow Datasets keeps its data sets.")
_MANUAL_DIR = flags.DEFINE_string("tfds_manual_dir", None, "Folder with the source files of a data set, instead of a download.")


def data_dir() -> str | None:
    """Returns the folder of TFDS's data sets; None for its default."""
    return _DATA_DIR.value


def manual_dir() -> str | None:
    """Returns the folder with source files; None to download them."""
    return _MANUAL_DIR.value
