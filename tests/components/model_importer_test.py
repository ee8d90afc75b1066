"""ModelImporter stores an existing model with its preprocessing, and runs again only if the files of the model change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from components.artifacts import TrainedModel, sha256_of
from components.model_importer.component import ModelImporter
from components.model_importer.executor import check_source
from components.runner import run
from intriguing.models import build, save_arrays

NO_SCALING: dict[str, Any] = {}


def _imported(workdir: Path, **changes: Any) -> TrainedModel:
    defaults = {
        "name": "imported", "weights": "", "weights_channel_order": "RGB", "files": {}, "image_shape": [], "scaling": NO_SCALING,
        "probabilities": False, "seed": 0,
    }  # fmt: skip
    importer = ModelImporter("model_imported", workdir, **{**defaults, **changes})
    run([importer])
    return importer.output


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(keras.layers.GlobalMaxPooling2D()(inputs)))
    model.save(path := tmp_path / "mine.keras")
    return path


def test_model_file_gets_the_given_scaling_and_image_size(model_file: Path, tmp_path: Path) -> None:
    scaling = {"scale": [255.0], "offset": [-1.0, -2.0, -3.0], "channel_order": "BGR"}
    trained = _imported(tmp_path, model=str(model_file), image_shape=[5, 6, 3], scaling=scaling)
    images = np.random.default_rng(0).random((2, 5, 6, 3)).astype(np.float32)
    expected = keras.saving.load_model(model_file)((255 * images - [1.0, 2.0, 3.0])[..., ::-1].astype(np.float32))
    np.testing.assert_allclose(trained.load()(images), expected, rtol=1e-4)
    record = trained.record()
    assert (record.name, record.image_shape, record.num_classes) == ("imported", (5, 6, 3), 4)


def test_zoo_network_loads_weights_from_a_file(tmp_path: Path) -> None:
    source = build("FC10(1)", seed=5)
    save_arrays(source, tmp_path / "weights.npz")
    trained = _imported(tmp_path, model="FC10(1)", weights=str(tmp_path / "weights.npz"))
    for ours, theirs in zip(trained.load().get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_random_weights_depend_on_the_seed(tmp_path: Path) -> None:
    first, second = (
        _imported(tmp_path / str(seed), model="FC10(1)", weights="random", seed=seed).load().get_weights()[0] for seed in (1, 2)
    )
    np.testing.assert_array_equal(first, build("FC10(1)", seed=1).get_weights()[0])
    assert np.any(first != second)


def test_changed_file_content_gives_another_model(model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def import_file() -> str:
        files = {str(model_file): sha256_of(model_file)}
        _imported(tmp_path, model=str(model_file), image_shape=[5, 6, 3], files=files)
        return capsys.readouterr().err

    import_file()
    assert "reused" in import_file()
    inputs = keras.Input((5, 6, 3))
    keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs))).save(model_file)
    assert "reused" not in import_file()


@pytest.mark.parametrize("size", [None, 5])
def test_model_of_images_without_channels_gets_a_channel_axis(tmp_path: Path, size: int | None) -> None:
    inputs = keras.Input((size, 6), name="lines")
    rows = keras.layers.Normalization(axis=None, mean=0.25, variance=0.5, name="normalization")(inputs)
    probabilities = keras.layers.Dense(3, activation="softmax", name="probabilities")(
        keras.layers.GlobalAveragePooling1D()(rows)
    )
    (model := keras.Model(inputs, probabilities)).save(tmp_path / "mine.keras")
    trained = _imported(tmp_path, model=str(tmp_path / "mine.keras"), image_shape=[5, 6])
    loaded, images = trained.load(), np.random.default_rng(0).random((2, 5, 6, 1)).astype(np.float32)
    np.testing.assert_allclose(loaded(images), model(images[..., 0]), rtol=1e-5)
    assert trained.record().image_shape == (5, 6, 1)
    assert {"normalization", "probabilities"} <= {layer.name for layer in loaded.layers}, "layers are found by their names"


def test_image_size_suffices_for_a_model_with_an_open_number_of_channels(tmp_path: Path) -> None:
    inputs = keras.Input((None, None, 1))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalMaxPooling2D()(inputs)))
    model.save(tmp_path / "mine.keras")
    trained = _imported(tmp_path, model=str(tmp_path / "mine.keras"), image_shape=[5, 6])
    assert trained.record().image_shape == (5, 6, 1)


def test_class_names_must_match_the_number_of_outputs(model_file: Path, tmp_path: Path) -> None:
    names = ["ant", "bee", "cat", "dog"]
    trained = _imported(tmp_path, model=str(model_file), image_shape=[5, 6], class_names=names)
    assert trained.record().class_names == tuple(names)
    with pytest.raises(ValueError, match="must name each of the 4 outputs of the network, in their order; received 3 names"):
        _imported(tmp_path, model=str(model_file), image_shape=[5, 6], class_names=names[:3])


@pytest.mark.parametrize(
    ("model", "weights", "words"),
    [
        ("FC10(2)", "random", r"unknown model 'FC10\(2\)'. Did you mean 'FC10\(1\)'"),
        ("mine.keras", "random", "a model file has weights of its own"),
        ("FC10(1)", "", "any other model needs some"),
        ("", "", "unknown model ''. "),
        ("FC10(1)", "nowhere.npz", "there is no file of weights 'nowhere.npz'; expected imagenet, random or a file"),
        ("nowhere/mine", "", "there is no model file 'nowhere/mine'"),
        ("mine.onnx", "", "there is no model file 'mine.onnx'"),
        ("FC10(2)", "", r"one of Keras is keras.applications.NAME"),
        ("keras.applications.Xeption", "random", "network of keras.applications 'Xeption'. Did you mean 'Xception'"),
    ],
)
def test_invalid_settings_are_refused_before_a_model_is_built(model: str, weights: str, words: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        check_source(model, weights)


def test_state_dict_with_other_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="the names in a state dict are known for AlexNet-OWT, SqueezeNet-torchvision; received"
    ):
        _imported(tmp_path, model="FC10(1)", weights="weights.pth")


def test_weights_for_another_network_are_refused(tmp_path: Path) -> None:
    save_arrays(build("FC100-100-10"), tmp_path / "weights.npz")
    with pytest.raises(ValueError, match="hidden1"):
        _imported(tmp_path, model="FC10(1)", weights=str(tmp_path / "weights.npz"))
