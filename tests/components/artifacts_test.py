"""Incomplete and altered artifacts are refused, and reading an artifact never runs code stored in it."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import keras
import numpy as np
import pytest

from components.artifacts import Artifact, CorruptArtifactError, DistortedImages, TrainedModel, sha256_of
from tests.components.toys import Constant, Number, Word


@pytest.fixture
def number(tmp_path: Path) -> Number:
    """An artifact as a step writes it: the number 7."""
    step = Constant("seven", tmp_path, plus=7)
    step.output.uri.mkdir()
    step.execute(step.output.uri, lambda done, total, remark: None)
    return step.output


def _alter_manifest(artifact: Artifact, **changes: object) -> None:
    path = artifact.uri / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_manifest_records_how_the_artifact_was_made(number: Number) -> None:
    manifest = number.manifest()
    assert (manifest["type"], manifest["step"], manifest["parameters"]) == ("Number", "seven", {"plus": 7})
    assert set(manifest["files"]) == {"number.json", "half.json"}
    assert {"tensorflow", "keras", "numpy"} <= set(manifest["versions"])


def test_altered_byte_error_shows_both_hashes(number: Number) -> None:
    path = number.uri / "number.json"
    written = sha256_of(path)
    path.write_bytes(path.read_bytes().replace(b"7", b"8"))
    with pytest.raises(
        CorruptArtifactError, match=f"number.json is not as it was written: expected SHA-256 {written}, found {sha256_of(path)}"
    ):
        number.manifest()


def test_missing_file_error_says_what_to_do(number: Number) -> None:
    (number.uri / "number.json").unlink()
    with pytest.raises(
        CorruptArtifactError,
        match=r"number.json is not as it was written.*found no file. Delete .*seven and run its step again",
    ):
        number.manifest()


def test_artifact_of_another_type_error_names_both_types(number: Number) -> None:
    with pytest.raises(CorruptArtifactError, match="seven must be a Word; received a Number. Pass another folder"):
        Word(number.uri).manifest()


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"type": "Number"}', '{"type": "Number", "files": 7}'])
def test_unreadable_manifest_error_says_what_to_do(number: Number, text: str) -> None:
    (number.uri / "manifest.json").write_text(text)
    with pytest.raises(CorruptArtifactError, match=r"manifest.json cannot be read: .* Delete .*seven and run its step again"):
        number.manifest()


def test_manifest_that_is_not_text_is_refused(number: Number) -> None:
    (number.uri / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorruptArtifactError, match="manifest.json cannot be read"):
        number.manifest()


@pytest.mark.parametrize("exists", [True, False])
def test_folder_without_a_manifest_is_not_an_artifact(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "photos"
    if exists:
        folder.mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"photos is not an artifact: expected manifest.json in it, found none. Pass a folder"
    ):
        Number(folder).manifest()


def test_digest_depends_on_the_content_but_not_on_the_duration(number: Number) -> None:
    digest = number.digest()
    _alter_manifest(number, seconds=1e6)
    assert number.digest() == digest
    (number.uri / "number.json").write_text("8\n")
    _alter_manifest(number, files={name: sha256_of(number.uri / name) for name in ("number.json", "half.json")})
    assert number.digest() != digest


def test_non_finite_numbers_are_refused_in_json(number: Number) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        number.write_json("rates.json", {"rate": float("nan")})


def test_arrays_are_read_as_written(tmp_path: Path) -> None:
    artifact = DistortedImages(tmp_path)
    arrays = {"images": np.random.default_rng(0).random((3, 2, 2, 1), np.float32), "ids": np.array([b"a", b"bc", b"d"])}
    artifact.write_arrays(arrays)
    read = artifact.arrays()
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


class _Explosive:
    """Raises when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("images.npz was unpickled",))


def test_arrays_are_never_unpickled(tmp_path: Path) -> None:
    bomb = np.array([_Explosive()], dtype=object)
    with pytest.raises(pytest.fail.Exception, match="was unpickled"):  # unpickling does raise
        pickle.loads(pickle.dumps(bomb))
    np.savez(tmp_path / "images.npz", images=bomb)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        DistortedImages(tmp_path).arrays()


def test_model_with_python_code_is_not_loaded(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda values: values + 1)])
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="it contains code, such as a Lambda layer, which is never run from a file"):
        TrainedModel(tmp_path).load()


def test_reloaded_model_has_the_same_predictions(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(TrainedModel(tmp_path).load()(np.eye(2)), model(np.eye(2)))
