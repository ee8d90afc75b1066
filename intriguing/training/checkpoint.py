"""The state of a training in one file, written atomically, so that an interrupted run can be resumed."""

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
    """Writes named tensors; an older checkpoint is replaced at once, when the new one is complete.

    Args:
        path: The file; its folder is made if there is none.
        tensors: What to keep.
        identity: Tells runs apart that must not continue one another.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **{_IDENTITY: np.array(identity)}, **{k: np.asarray(v) for k, v in tensors.items()})
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def load_checkpoint(path: Path, *, identity: str) -> dict[str, np.ndarray] | None:
    """Reads what `save_checkpoint` wrote, or returns None if there is no such file. Nothing is unpickled.

    Raises:
        ValueError: If the file is not a checkpoint, or one of another run.
    """
    if not path.exists():
        return None
    try:
        # A file of one array opens, too, but is no archive: a TypeError.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = dict(file)
        written_by = str(arrays.pop(_IDENTITY))
    except (ValueError, TypeError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a checkpoint of this training: {error}. Delete it to begin anew.") from error
    if written_by != identity:
        raise ValueError(
            f"{path} was written by a training with other settings, another model or another seed. Delete it to begin anew, or "
            "name another file."
        )
    return arrays
