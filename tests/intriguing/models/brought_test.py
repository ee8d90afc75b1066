"""Whoever brings a model is told what is wrong with it, in words, and no code of a file is run."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from intriguing.models import application, load_model_file
from intriguing.models.brought import application_names


def _saved(model: keras.Model, path: Path) -> Path:
    model.save(path)
    return path


def _linear() -> keras.Model:
    inputs = keras.Input((4, 4, 3))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_whole_file_is_loaded(tmp_path: Path, suffix: str) -> None:
    model, images = _linear(), np.ones((2, 4, 4, 3), np.float32)
    loaded = load_model_file(_saved(model, tmp_path / f"model{suffix}"))
    np.testing.assert_array_equal(loaded(images), model(images))


@pytest.mark.parametrize("content", [b"<html>Please log in</html>", b""])
def test_a_web_page_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not what Keras saves: truncated, or another file, perhaps a web page"):
        load_model_file(path)


def test_a_truncated_file_is_no_model(tmp_path: Path) -> None:
    path = _saved(_linear(), tmp_path / "model.keras")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match="is not what Keras saves: truncated"):
        load_model_file(path)


def test_another_zip_file_is_no_model(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    (tmp_path / "arrays.npz").rename(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="cannot be loaded: it is not a whole model"):
        load_model_file(tmp_path / "model.keras")


def test_code_in_a_file_is_never_run(tmp_path: Path) -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda values: 2 * values)(inputs))
    with pytest.raises(ValueError, match="it holds code, as a Lambda layer does, which is never run from a file"):
        load_model_file(_saved(model, tmp_path / "model.keras"))


class Doubling(keras.layers.Layer):
    """Not registered."""

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return 2 * inputs


def test_a_layer_that_is_not_known_here_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = keras.Input((4,))
    path = _saved(keras.Model(inputs, Doubling()(inputs)), tmp_path / "model.keras")
    # As in a process that never saw the class: Keras finds it by its module otherwise.
    monkeypatch.delattr("tests.intriguing.models.brought_test.Doubling")
    with pytest.raises(ValueError, match="the layer 'Doubling' is not one of Keras"):
        load_model_file(path)


def test_a_missing_file_and_an_unknown_format_say_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no model file"):
        load_model_file(tmp_path / "model.keras")
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"must end in .keras or .h5; received"):
        load_model_file(tmp_path / "model.onnx")


def test_a_misspelled_network_is_answered_with_the_nearest() -> None:
    assert "MobileNetV2" in application_names()
    with pytest.raises(ValueError, match="Did you mean 'MobileNetV2'"):
        application("MobilNetV2", weights=None)


@pytest.mark.parametrize(
    ("told_by_keras", "kind", "words"),
    [
        (
            "URL fetch failure on https://example.org: None -- no such host",
            ConnectionError,
            "the weights of MobileNetV2 could not be downloaded: URL fetch failure",
        ),
        (
            "A total of 16 objects could not be loaded.\nMore of it.",
            ValueError,
            "MobileNetV2 does not take the weights 'imagenet': A total of 16 objects could not be loaded.$",
        ),
    ],
    ids=["unreachable", "of another network"],
)
def test_weights_that_cannot_be_had_are_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, told_by_keras: str, kind: type[Exception], words: str
) -> None:
    def constructor(weights: str) -> keras.Model:
        raise Exception(told_by_keras)

    constructor.__module__ = "keras.src.applications.mobilenet_v2"
    monkeypatch.setattr(keras.applications, "MobileNetV2", constructor)
    with pytest.raises(kind, match=words):
        application("MobileNetV2")
