"""Checkpoints are restored exactly and written atomically, and invalid checkpoints are refused."""

import numpy as np
import pytest
import tensorflow as tf

from intriguing.training import checkpoint
from intriguing.training.checkpoint import load_checkpoint, save_checkpoint

TENSORS = {
    "weights": tf.constant([[1.5, -2.0]]), "seeds": tf.constant([3, 4294967295], tf.uint32), "count": tf.constant(7),
    "losses": np.array([0.1, 1 / 3]), "text": np.array('{"a": [1, null]}'), "empty": tf.zeros([0, 3]),
}  # fmt: skip


def test_checkpoint_restores_exact_values_and_types(tmp_path):
    save_checkpoint(tmp_path / "new" / "file.npz", TENSORS, identity="mine")
    loaded = load_checkpoint(tmp_path / "new" / "file.npz", identity="mine")
    assert set(loaded) == set(TENSORS)
    for name, value in TENSORS.items():
        assert loaded[name].dtype == np.asarray(value).dtype
        np.testing.assert_array_equal(loaded[name], value)


def test_missing_checkpoint_loads_as_none(tmp_path):
    assert load_checkpoint(tmp_path / "file", identity="mine") is None


def test_new_checkpoint_replaces_the_old_one(tmp_path):
    for value in (1, 2):
        save_checkpoint(tmp_path / "file", {"value": tf.constant(value)}, identity="mine")
    assert load_checkpoint(tmp_path / "file", identity="mine")["value"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


class FullDiskError(OSError):
    pass


@pytest.mark.parametrize("fails", ["while writing", "before renaming"])
def test_failed_write_keeps_the_old_checkpoint(fails, tmp_path, monkeypatch):
    path = tmp_path / "file"
    save_checkpoint(path, {"value": tf.constant(1)}, identity="mine")
    written = path.read_bytes()

    def half(file, **tensors):
        file.write(written[: len(written) // 2])
        raise FullDiskError

    def fail(*args):
        raise FullDiskError

    with monkeypatch.context() as patch:
        patch.setattr(*((np, "savez", half) if fails == "while writing" else (checkpoint.os, "fsync", fail)))
        with pytest.raises(FullDiskError):
            save_checkpoint(path, {"value": tf.constant(2)}, identity="mine")
    assert path.read_bytes() == written
    save_checkpoint(path, {"value": tf.constant(3)}, identity="mine")  # the incomplete file does not block a new checkpoint
    assert load_checkpoint(path, identity="mine")["value"] == 3


def test_checkpoint_with_another_identity_is_refused(tmp_path):
    save_checkpoint(tmp_path / "file", TENSORS, identity="mine")
    with pytest.raises(
        ValueError, match="received one of a training with other settings, another model or another seed. Delete it"
    ):
        load_checkpoint(tmp_path / "file", identity="yours")


def whole(tmp_path):
    save_checkpoint(tmp_path / "whole", TENSORS, identity="mine")
    return (tmp_path / "whole").read_bytes()


def an_array(tmp_path):
    np.save(tmp_path / "array.npy", np.zeros(3))
    return (tmp_path / "array.npy").read_bytes()


def without_identity(tmp_path):
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    return (tmp_path / "other.npz").read_bytes()


def pickled(tmp_path):
    np.savez(tmp_path / "pickled.npz", identity=np.array([object()]), allow_pickle=True)
    return (tmp_path / "pickled.npz").read_bytes()


BROKEN = {
    "empty": lambda folder: b"", "text": lambda folder: b"no checkpoint", "truncated": lambda folder: whole(folder)[:-100],
    "half": lambda folder: whole(folder)[: len(whole(folder)) // 2], "an array": an_array, "of others": without_identity,
    "a pickle": pickled, "flipped": lambda folder: whole(folder).replace(b"\x00\x00\xc0?", b"\x00\x00\xd0?"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_invalid_checkpoint_files_are_refused(kind, tmp_path):
    (tmp_path / "file").write_bytes(BROKEN[kind](tmp_path))
    with pytest.raises(ValueError, match="file must be a checkpoint; it cannot be read: .*Delete it to start again"):
        load_checkpoint(tmp_path / "file", identity="mine")
