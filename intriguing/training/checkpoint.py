"""The state of a training in one file, which is written atomically, so that an interrupted run can be resumed."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_IDENTITY = "identity"


def save_checkpoint(path: Path, tensors: Mapping[str, Any], *, identity: str) -> None:
    """Writes named tensors; the complete new file replaces an older checkpoint atomically.

    Args:
        path: The file; its folder is created if it does not exist.
        tensors: The tensors by name.
        identity: A text that must be equal when the checkpoint is loaded, such as the settings of the training.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **{_IDENTITY: np.array(identity)}, **{k: np.asarray(v) for k, v in tensors.items()})
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def load_checkpoint(path: Path, *, identity: str) -> dict[str, np.ndarray] | None:
    """Reads a file of `save_checkpoint`, without unpickling; returns None if the file does not exist.

    Raises:
        ValueError: If the file is not a checkpoint, or belongs to another run.
    """
    if not path.exists():
        return None
    try:
        # np.load also opens a file of one array, which then raises a TypeError here.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = dict(file)
        written_by = str(arrays.pop(_IDENTITY))
    except (ValueError, TypeError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} must be a checkpoint; it cannot be read: {error}. Delete it to start again.") from error
    if written_by != identity:
        raise ValueError(
            f"{path} must be a checkpoint of this training; received one of a training with other settings, another model or "
            "another seed. Delete it to start again, or name another file."
        )
    return arrays
