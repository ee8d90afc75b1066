"""Models are loaded from files and from `keras.applications` with clear errors, and code in files is never run."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from intriguing.models import load_application, load_model
from intriguing.models.loading import application_names


def _saved(model: keras.Model, path: Path) -> Path:
    model.save(path)
    return path


def _linear() -> keras.Model:
    inputs = keras.Input((4, 4, 3))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_complete_file_is_loaded(tmp_path: Path, suffix: str) -> None:
    model, images = _linear(), np.ones((2, 4, 4, 3), np.float32)
    loaded = load_model(_saved(model, tmp_path / f"model{suffix}"))
    np.testing.assert_array_equal(loaded(images), model(images))


def test_file_without_preprocessing_is_the_stored_model(tmp_path: Path) -> None:
    loaded = load_model(_saved(_linear(), tmp_path / "model.keras"))
    assert [type(layer).__name__ for layer in loaded.layers] == ["InputLayer", "Flatten", "Dense"]


@pytest.mark.parametrize(("scale", "offset"), [(255.0, -3.0), ((1.0, 2.0, 3.0), (0.1, 0.2, 0.3))])
@pytest.mark.parametrize("channel_order", ["RGB", "BGR"])
def test_preprocessing_is_part_of_the_loaded_model(
    tmp_path: Path, scale: float | tuple[float, ...], offset: float | tuple[float, ...], channel_order: str
) -> None:
    model, images = _linear(), np.random.default_rng(0).random((2, 4, 4, 3)).astype(np.float32)
    path = _saved(model, tmp_path / "model.keras")
    loaded = load_model(path, scale=scale, offset=offset, channel_order=channel_order)
    scaled = np.array(scale) * images + np.array(offset)
    expected = model((scaled[..., ::-1] if channel_order == "BGR" else scaled).astype(np.float32))
    np.testing.assert_allclose(loaded(images), expected, rtol=1e-4, atol=1e-4)


def test_preprocessing_function_is_part_of_the_loaded_model(tmp_path: Path) -> None:
    model, images = _linear(), np.random.default_rng(0).random((2, 4, 4, 3)).astype(np.float32)
    preprocess_input = keras.applications.mobilenet_v2.preprocess_input
    loaded = load_model(_saved(model, tmp_path / "model.keras"), preprocess_input=preprocess_input)
    np.testing.assert_allclose(loaded(images), model(preprocess_input(255.0 * images)), rtol=1e-4, atol=1e-5)


def test_open_image_size_is_set_by_image_shape(tmp_path: Path) -> None:
    inputs = keras.Input((None, None, 3))
    path = _saved(keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs)), tmp_path / "model.keras")
    assert load_model(path, scale=2.0, image_shape=(8, 9, 3)).input_shape == (None, 8, 9, 3)
    assert load_model(path, image_shape=(8, 9, 3)).input_shape == (None, 8, 9, 3)
    with pytest.raises(ValueError, match="whose size is not fixed. Pass image_shape"):
        load_model(path, scale=2.0)


def test_invalid_preprocessing_raises_before_the_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="scale must not be zero"):
        load_model(tmp_path / "missing.keras", scale=0.0)


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


def test_keras_2_layers_are_loaded_as_keras_3_layers(tmp_path: Path) -> None:
    model, images = _with_old_layers(), np.random.default_rng(0).random((2, 6, 6, 3)).astype(np.float32)
    loaded = load_model(_in_words_of_keras_2(_saved(model, tmp_path / "model.h5"), KERAS_2))
    np.testing.assert_array_equal(loaded(images, training=False), model(images, training=False))
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    again = load_model(_saved(loaded, tmp_path / "again.keras"))
    np.testing.assert_array_equal(again(images, training=False), model(images, training=False))


def test_unsupported_keras_2_setting_is_named(tmp_path: Path) -> None:
    path = _in_words_of_keras_2(_saved(_with_old_layers(), tmp_path / "model.h5"), {"DepthwiseConv2D": {"groups": 3}})
    with pytest.raises(ValueError, match="has groups=3, which a DepthwiseConv2D of Keras 3 does not support; expected 1"):
        load_model(path)


def test_keras_2_operations_error_says_what_to_do(tmp_path: Path) -> None:
    path = _saved(_linear(), tmp_path / "model.h5")
    with h5py.File(path, mode="r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace("Flatten", "TFOpLambda")
    with pytest.raises(ValueError, match="Keras 2 saved it with TensorFlow operations .* with tf_keras.models.load_model"):
        load_model(path)


def test_error_shows_the_last_line_of_the_keras_error(tmp_path: Path) -> None:
    path = _in_words_of_keras_2(_saved(_linear(), tmp_path / "model.h5"), {"Dense": {"colour": "red"}})
    with pytest.raises(ValueError, match="as a model: Unrecognized keyword arguments passed to Dense: {'colour': 'red'}$"):
        load_model(path)


@pytest.mark.parametrize("content", [b"<html>Please log in</html>", b""])
def test_web_page_is_not_a_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match="must be a file that Keras saved; it is truncated or another file, such as a web page"
    ):
        load_model(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_truncated_file_is_not_a_model(tmp_path: Path, suffix: str) -> None:
    path = _saved(_linear(), tmp_path / f"model{suffix}")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(
        ValueError, match="must be a file that Keras saved; it is truncated|cannot be loaded: Keras cannot read it"
    ):
        load_model(path)


def test_other_zip_file_is_not_a_model(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    (tmp_path / "arrays.npz").rename(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="cannot be loaded: Keras cannot read it as a model: "):
        load_model(tmp_path / "model.keras")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_in_a_file_is_never_run(tmp_path: Path, suffix: str) -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda values: 2 * values)(inputs))
    with pytest.raises(ValueError, match="it contains code, such as a Lambda layer, which is never run from a file"):
        load_model(_saved(model, tmp_path / f"model{suffix}"))


class Doubling(keras.layers.Layer):
    """A layer that is not registered."""

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return 2 * inputs


def test_unregistered_layer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = keras.Input((4,))
    path = _saved(keras.Model(inputs, Doubling()(inputs)), tmp_path / "model.keras")
    # As in a process without the class. Otherwise Keras finds it by its module.
    monkeypatch.delattr("tests.intriguing.models.loading_test.Doubling")
    with pytest.raises(ValueError, match="the layer 'Doubling' is not a layer of Keras. .* --import_module=mine in a script"):
        load_model(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no model file"):
        load_model(tmp_path / "model.keras")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.onnx", r"must end in .keras, .h5 or .hdf5, .* It was not written by Keras. Convert the network to Keras"),
        ("model.pth", "It was not written by Keras"),
        ("model.weights.h5", "It contains weights without a network. Build the network in Python, call load_weights"),
        ("model.tflite", "has no gradients. Take the Keras model that it was converted from"),
        ("model.txt", r"received .*model.txt'. Save it with model.save\('model.keras'\)"),
        ("folder/saved_model.pb", "It is a part of a TensorFlow SavedModel. Save the Keras model"),
    ],
)
def test_unsupported_file_type_error_says_what_to_do(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=words):
        load_model(tmp_path / name)


def test_weights_file_is_not_a_model(tmp_path: Path) -> None:
    _linear().save_weights(tmp_path / "model.weights.h5")
    (tmp_path / "model.weights.h5").rename(tmp_path / "model.h5")
    with pytest.raises(ValueError, match="it contains weights without a network. Build the network in Python"):
        load_model(tmp_path / "model.h5")


def test_folder_error_says_what_to_do(tmp_path: Path) -> None:
    for file, words in (
        (None, "is a folder; expected a model file"),
        ("manifest.json", "is a folder that a pipeline step wrote; expected a model file. Pass it as --trained_model"),
        ("saved_model.pb", r"is a TensorFlow SavedModel, .* keras.layers.TFSMLayer\(.*, call_endpoint='serve'\)"),
    ):
        if file:
            (tmp_path / file).write_bytes(b"")
        with pytest.raises(ValueError, match=words):
            load_model(tmp_path)


def test_unknown_application_error_names_the_nearest_name() -> None:
    assert "MobileNetV2" in application_names()
    with pytest.raises(ValueError, match="Did you mean 'MobileNetV2'"):
        load_application("MobilNetV2", weights=None)


def test_an_application_name_that_is_not_a_string_is_refused() -> None:
    with pytest.raises(TypeError, match="the network of keras.applications must be a string; received None. Known: "):
        load_application(None)


@pytest.mark.parametrize(
    ("message_of_keras", "kind", "words"),
    [
        (
            "URL fetch failure on https://example.org: None -- no such host",
            ConnectionError,
            "the weights of MobileNetV2 could not be downloaded: URL fetch failure",
        ),
        (
            "A total of 16 objects could not be loaded.\nMore of it.",
            ValueError,
            "MobileNetV2 does not accept the weights 'imagenet': A total of 16 objects could not be loaded.$",
        ),
    ],
    ids=["unreachable", "of another network"],
)
def test_unavailable_weights_raise_a_one_line_error(
    monkeypatch: pytest.MonkeyPatch, message_of_keras: str, kind: type[Exception], words: str
) -> None:
    def constructor(weights: str) -> keras.Model:
        raise Exception(message_of_keras)

    constructor.__module__ = "keras.src.applications.mobilenet_v2"
    monkeypatch.setattr(keras.applications, "MobileNetV2", constructor)
    with pytest.raises(kind, match=words):
        load_application("MobileNetV2")


def test_application_contains_its_preprocessing(monkeypatch: pytest.MonkeyPatch) -> None:
    network = _linear()

    def constructor(weights: str | None) -> keras.Model:
        return network

    constructor.__module__ = "keras.src.applications.mobilenet_v2"
    monkeypatch.setattr(keras.applications, "MobileNetV2", constructor)
    images = np.random.default_rng(0).random((2, 4, 4, 3)).astype(np.float32)
    model = load_application("MobileNetV2", weights=None)
    expected = network(keras.applications.mobilenet_v2.preprocess_input(255.0 * images))
    np.testing.assert_allclose(model(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_application_predictions_equal_those_of_keras() -> None:
    keras.utils.set_random_seed(0)
    network = keras.applications.MobileNetV2(weights=None)
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).random((1, 224, 224, 3)).astype(np.float32)
    expected = network(keras.applications.mobilenet_v2.preprocess_input(255.0 * images), training=False)
    np.testing.assert_allclose(
        load_application("MobileNetV2", weights=None)(images, training=False), expected, rtol=1e-3, atol=1e-6
    )
