"""Whoever brings a model is told what is wrong with it, in words, and no code of a file is run."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from intriguing.models import application, load_model_file
from intriguing.models.loading import application_names


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


def _in_words_of_keras_2(path: Path, settings: dict[str, dict[str, object]]) -> Path:
    """Adds settings that Keras 2 wrote to the layers of a model in HDF5."""
    with h5py.File(path, mode="r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            layer["config"] |= settings.get(layer["class_name"], {})
        file.attrs["model_config"] = json.dumps(config)
    return path


KERAS_2 = {
    "DepthwiseConv2D": {"groups": 1},
    "SeparableConv2D": {"groups": 1, "kernel_initializer": None, "kernel_regularizer": None, "kernel_constraint": None},
    "Conv2DTranspose": {"groups": 1},
    "RandomFlip": {"rng_type": "stateful"},
    "SpatialDropout2D": {"trainable": True, "noise_shape": None},
}


def _with_old_layers() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6, 6, 3)), layers.RandomFlip(), layers.DepthwiseConv2D(3, activation="relu"), layers.SpatialDropout2D(0.5),
            layers.SeparableConv2D(4, 3), layers.Conv2DTranspose(2, 3), layers.Flatten(), layers.Dense(3),
        ]
    )  # fmt: skip


def test_layers_of_keras_2_are_read_and_are_those_of_keras(tmp_path: Path) -> None:
    model, images = _with_old_layers(), np.random.default_rng(0).random((2, 6, 6, 3)).astype(np.float32)
    loaded = load_model_file(_in_words_of_keras_2(_saved(model, tmp_path / "model.h5"), KERAS_2))
    np.testing.assert_array_equal(loaded(images, training=False), model(images, training=False))
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    again = load_model_file(_saved(loaded, tmp_path / "again.keras"))
    np.testing.assert_array_equal(again(images, training=False), model(images, training=False))


def test_a_setting_of_keras_2_that_keras_3_cannot_have_is_named(tmp_path: Path) -> None:
    path = _in_words_of_keras_2(_saved(_with_old_layers(), tmp_path / "model.h5"), {"DepthwiseConv2D": {"groups": 3}})
    with pytest.raises(ValueError, match="has groups=3, which a DepthwiseConv2D of Keras 3 cannot have; expected 1"):
        load_model_file(path)


def test_operations_of_keras_2_are_named_with_the_way_out(tmp_path: Path) -> None:
    path = _saved(_linear(), tmp_path / "model.h5")
    with h5py.File(path, mode="r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace("Flatten", "TFOpLambda")
    with pytest.raises(ValueError, match="Keras 2 wrote it, with operations of TensorFlow .* with tf_keras.models.load_model"):
        load_model_file(path)


def test_the_last_line_of_what_keras_says_is_shown(tmp_path: Path) -> None:
    path = _in_words_of_keras_2(_saved(_linear(), tmp_path / "model.h5"), {"Dense": {"colour": "red"}})
    with pytest.raises(ValueError, match="as a model: Unrecognized keyword arguments passed to Dense: {'colour': 'red'}$"):
        load_model_file(path)


@pytest.mark.parametrize("content", [b"<html>Please log in</html>", b""])
def test_a_web_page_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not what Keras saves: truncated, or another file, perhaps a web page"):
        load_model_file(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_truncated_file_is_no_model(tmp_path: Path, suffix: str) -> None:
    path = _saved(_linear(), tmp_path / f"model{suffix}")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match="is not what Keras saves: truncated|cannot be loaded: Keras does not read it"):
        load_model_file(path)


def test_another_zip_file_is_no_model(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    (tmp_path / "arrays.npz").rename(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="cannot be loaded: Keras does not read it as a model: "):
        load_model_file(tmp_path / "model.keras")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_in_a_file_is_never_run(tmp_path: Path, suffix: str) -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda values: 2 * values)(inputs))
    with pytest.raises(ValueError, match="it holds code, as a Lambda layer does, which is never run from a file"):
        load_model_file(_saved(model, tmp_path / f"model{suffix}"))


class Doubling(keras.layers.Layer):
    """Not registered."""

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return 2 * inputs


def test_a_layer_that_is_not_known_here_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = keras.Input((4,))
    path = _saved(keras.Model(inputs, Doubling()(inputs)), tmp_path / "model.keras")
    # As in a process that never saw the class: Keras finds it by its module otherwise.
    monkeypatch.delattr("tests.intriguing.models.loading_test.Doubling")
    with pytest.raises(ValueError, match="the layer 'Doubling' is not one of Keras. .* --import_module=mine in a script"):
        load_model_file(path)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no model file"):
        load_model_file(tmp_path / "model.keras")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.onnx", r"must end in .keras, .h5 or .hdf5, .* It was not written by Keras. Convert the network to Keras"),
        ("model.pth", "It was not written by Keras"),
        ("model.weights.h5", "It holds weights without a network. Build the network in Python, call load_weights"),
        ("model.tflite", "has no gradients. Take the Keras model that it was converted from"),
        ("model.txt", r"received .*model.txt'. Save it with model.save\('model.keras'\)"),
        ("folder/saved_model.pb", "It is a part of a TensorFlow SavedModel. Save the Keras model"),
    ],
)
def test_another_kind_of_file_is_named_with_the_way_out(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=words):
        load_model_file(tmp_path / name)


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    _linear().save_weights(tmp_path / "model.weights.h5")
    (tmp_path / "model.weights.h5").rename(tmp_path / "model.h5")
    with pytest.raises(ValueError, match="it holds weights without a network. Build the network in Python"):
        load_model_file(tmp_path / "model.h5")


def test_a_folder_is_named_with_the_way_out(tmp_path: Path) -> None:
    for file, words in (
        (None, "is a folder; expected a model file"),
        ("manifest.json", "is a folder that a step wrote, and no model file. Pass it as --trained_model"),
        ("saved_model.pb", r"is a TensorFlow SavedModel, .* keras.layers.TFSMLayer\(.*, call_endpoint='serve'\)"),
    ):
        if file:
            (tmp_path / file).write_bytes(b"")
        with pytest.raises(ValueError, match=words):
            load_model_file(tmp_path)


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
