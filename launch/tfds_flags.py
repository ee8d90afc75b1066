"""The flags of the scripts that read a TFDS data set: where it is kept, and where it comes from."""

from __future__ import annotations

from absl import flags

_DATA_DIR = flags.DEFINE_string("tfds_data_dir", None, "Where TensorFlow Datasets keeps its data sets.")
_MANUAL_DIR = flags.DEFINE_string("tfds_manual_dir", None, "Folder with a data set's source files, instead of a download.")


def data_dir() -> str | None:
    """Returns where TFDS keeps its data sets; None is its own place."""
    return _DATA_DIR.value


def manual_dir() -> str | None:
    """Returns the folder with source files; None is a download."""
    return _MANUAL_DIR.value
