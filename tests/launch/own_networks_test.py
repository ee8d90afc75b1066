"""The scripts work with the user's own networks and images, or raise a one-line error that says what to do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from components.artifacts import DistortedImages, TrainedModel
from tests.intriguing.data.picture_folders import write_picture
from tests.launch.conftest import Finished, Script

MODULE = """
import keras

@keras.saving.register_keras_serializable(package="tests")
class Darker(keras.layers.Layer):
    def call(self, inputs):
        return inputs - 0.5
"""
NAMES = ("bright", "cyan", "dark", "gray")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that registers a layer and that no earlier test has imported."""
    name = f"layers_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.fixture
def model_file(tmp_path: Path, module: str) -> Path:
    """Classifies gray 6x7 images without a channel axis as one of `NAMES` by their mean."""
    layer = __import__(module).Darker()
    model = keras.Sequential([keras.Input((6, 7)), layer, keras.layers.Flatten(), keras.layers.Dense(4, activation="softmax")])
    kernel, offsets = np.array([[9.0, 3.0, -9.0, 0.0]]) / 42, np.array([0.0, 0.5, 0.0, 0.0])
    model.set_weights([np.repeat(kernel, 42, axis=0), offsets])
    model.save(path := tmp_path / "levels.keras")
    del keras.saving.get_custom_objects()["tests>Darker"]
    del sys.modules[module]
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Color images of two of the four classes, whose brightness determines the class."""
    random = np.random.default_rng(0)
    for name, level in (("bright", 190), ("dark", 60)):
        for number in range(4):
            pixels = random.integers(level - 20, level + 20, [9, 9, 3]).astype(np.uint8)
            write_picture(tmp_path / "pictures" / "test" / name / f"{number}.png", pixels)
    return tmp_path / "pictures"


def _attack(script: Script, model_file: Path, folder: Path, workdir: Path, *more: str) -> Finished:
    return script(
        "attack", f"--model={model_file}", f"--dataset={folder}", "--subset=test", "--num_images=8", f"--workdir={workdir}",
        "--strategy=one_device", "--search=training", *more,
    )  # fmt: skip


def _last_line(finished: Finished) -> str:
    assert finished.code == 1 and "Traceback" not in finished.err
    return finished.err.splitlines()[-1]


def test_custom_layers_gray_images_and_class_names_are_supported(
    script: Script, module: str, model_file: Path, folder: Path, tmp_path: Path
) -> None:
    flags = (f"--import_module={module}", f"--class_names={','.join(NAMES)}", "--target=cyan")
    finished = _attack(script, model_file, folder, tmp_path / "runs", *flags)
    assert finished.code == 0, finished.err
    assert finished.out.startswith(
        "levels classifies 8 of 8 (95 % interval: 68 % to 100 %) clean images correctly.\nFound 8 of 8"
    )
    assert "Average distortion of the 8 of these that were classified correctly before: 0." in finished.out
    assert "Rounded to bytes, as in a PNG file, " in finished.out and "Warning" not in finished.err
    arrays = DistortedImages(tmp_path / "runs" / "attack_levels").arrays()
    assert arrays["images"].shape == (8, 6, 7, 1)
    expected = [NAMES.index(example.decode().split("/")[1]) for example in arrays["ids"]]
    np.testing.assert_array_equal(arrays["labels"], expected)
    assert set(expected) == {0, 2} and np.all(arrays["targets"] == 1) and arrays["correct"].all()
    own = keras.saving.load_model(model_file)
    np.testing.assert_array_equal(np.argmax(own(arrays["distorted"][..., 0]), axis=1), 1)
    assert TrainedModel(tmp_path / "runs" / "model_levels").record().class_names == tuple(NAMES)
    refused = _attack(script, model_file, folder, tmp_path / "runs", *flags[:2], "--target=cyam")
    assert "there is no class 'cyam'; expected a name, or a number from 0 to 3. Did you mean 'cyan'? Known: bright, cyan" in (
        _last_line(refused)
    )


def test_model_without_its_module_or_class_names_is_refused(
    script: Script, module: str, model_file: Path, folder: Path, tmp_path: Path
) -> None:
    refused = script("attack", f"--trained_model={model_file}", f"--workdir={tmp_path / 'runs'}")
    assert "is a file; expected a folder that launch.train wrote. Pass a file as --model." in _last_line(refused)
    for flags, words in (
        (
            (),
            "the layer 'Darker' is not a layer of Keras. Name the module that registers it, as --import_module=mine in a script",
        ),
        (("--import_module=mine.py",), "takes the name of a module, such as mine for mine.py; received 'mine.py'"),
        (("--import_module=nowhere_at_all",), "there is no module 'nowhere_at_all'. Expected nowhere_at_all.py in the current"),
        (("--class_names=nowhere.txt",), "there is no file of class names 'nowhere.txt'. Pass a file with one name a line"),
        (("--class_names=a,b,a",), "--class_names must name each class once; received 'a' more than once"),
        ((f"--import_module={module}", "--class_names=a,b"), "must name each of the 4 outputs of the network"),
        ((f"--import_module={module}",), "has 2 classes, and the network 4: numbered by the sorted names of their folders"),
        (
            ("--pixel_scale=wide",),
            "--pixel_scale must be a number, or one for each channel, separated by commas; received 'wide'",
        ),
    ):
        assert words in _last_line(_attack(script, model_file, folder, tmp_path / "runs", *flags)), flags


def test_failing_module_is_named_with_its_error(script: Script, model_file: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "fails_at_once.py").write_text("import json\njson.loads('{')\n")
    line = _last_line(_attack(script, model_file, folder, tmp_path / "runs", "--import_module=fails_at_once"))
    assert "the module 'fails_at_once' cannot be imported: JSONDecodeError: Expecting property name" in line


@pytest.fixture
def bytes_model(tmp_path: Path) -> Path:
    """Classifies images with pixels from 0 to 255 as bright or dark."""
    inputs = keras.Input((9, 9, 3))
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(keras.layers.GlobalAveragePooling2D()(inputs)))
    model.set_weights([np.array([[0.03, -0.03]] * 3), np.array([-10.0, 10.0])])
    model.save(path := tmp_path / "bytes.keras")
    return path


def test_wrong_pixel_scale_warns_and_misclassified_images_are_excluded_from_the_mean(
    script: Script, bytes_model: Path, folder: Path, tmp_path: Path
) -> None:
    finished = _attack(script, bytes_model, folder, tmp_path / "runs", "--notargeted")
    assert finished.code == 0, finished.err
    assert finished.out.startswith("bytes classifies 4 of 8 (95 % interval: 22 % to 78 %) clean images correctly.\n")
    assert "Warning: that is no better than guessing one of 2 classes" in finished.err
    assert "pass --pixel_scale=255 or --preprocess_input=MODULE" in finished.err
    attacked = DistortedImages(tmp_path / "runs" / "attack_bytes")
    arrays, summary = attacked.arrays(), attacked.record().search
    np.testing.assert_array_equal(arrays["correct"], arrays["labels"] == 1)
    assert np.all(arrays["distortion"][~arrays["correct"]] == 0)
    assert np.isnan(summary.mean_distortion) or summary.mean_distortion == pytest.approx(
        arrays["distortion"][arrays["correct"] & arrays["succeeded"]].mean()
    )


@pytest.fixture
def saved(folder: Path, tmp_path: Path) -> Path:
    """Darker versions of half of the images, in the size of `bytes_model`."""
    random = np.random.default_rng(1)
    for name in ("bright", "dark"):
        for number in range(2):
            pixels = random.integers(20, 90, [9, 9, 3]).astype(np.uint8)
            write_picture(tmp_path / "saved" / "test" / name / f"{number}.png", pixels)
    return tmp_path / "saved"


def test_transfer_of_saved_images_is_measured_between_model_files(
    script: Script, bytes_model: Path, folder: Path, saved: Path, tmp_path: Path
) -> None:
    (other := tmp_path / "other.keras").write_bytes(bytes_model.read_bytes())
    arguments = (
        f"--models={bytes_model}", f"--trained_models={other}", "--pixel_scale=255", f"--distorted_images={saved}", "--noise=0.1",
        f"--workdir={tmp_path / 'runs'}", "--strategy=one_device",
    )  # fmt: skip
    finished = script("measure_transfer", *arguments, f"--clean_images={folder}")
    assert finished.code == 0, finished.err
    assert "bytes classifies 4 of 4 (95 % interval: 51 % to 100 %) clean images correctly.\n" in finished.out
    rows = json.loads((tmp_path / "runs" / "transfer.json").read_text())["rows"]
    assert [row["Source model"] for row in rows] == ["Distorted for saved", "Gaussian noise with stddev=0.1"]
    assert rows[0]["bytes"]["num_events"] == rows[0]["other"]["num_events"] == 2, "the bright images were darkened"
    arrays = DistortedImages(tmp_path / "runs" / "images_saved").arrays()
    change = np.sqrt(np.mean((arrays["distorted"] - arrays["images"]) ** 2, axis=(1, 2, 3)))
    np.testing.assert_allclose(arrays["distortion"], change, rtol=1e-5)
    assert rows[0]["Av. distortion"]["mean"] == pytest.approx(change.mean(), rel=1e-5)
    assert "reused" in script("measure_transfer", *arguments, f"--clean_images={folder}").err

    assert "pass the folder of their originals as --clean_images" in _last_line(script("measure_transfer", *arguments))
    write_picture(saved / "test" / "dark" / "9.png", np.zeros((9, 9, 3), np.uint8))
    line = _last_line(script("measure_transfer", *arguments, f"--clean_images={folder}"))
    assert "1 of 5 images of " in line and "have no original in " in line and "'test/dark/9.png'" in line
    write_picture(saved / "test" / "dark" / "9.png", np.zeros((8, 9, 3), np.uint8))
    line = _last_line(script("measure_transfer", *arguments, f"--clean_images={folder}"))
    assert "9.png' has 8x9 pixels; the networks take 9x9. Distorted images are not resized" in line


def test_measure_transfer_requires_distinct_networks(script: Script, bytes_model: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (again := tmp_path / "b" / "bytes.keras").write_bytes(bytes_model.read_bytes())
    for models, words in (
        ("", "no network was named; pass --trained_models, folders that launch.train wrote, or --models, files"),
        (f"--models={bytes_model},{again}", "model files must have names of their own; received "),
        (f"--models={tmp_path}", "is a folder; expected a model file"),
        ("--models=byts", "unknown model 'byts'. "),
    ):
        flags = [models] if models else []
        line = _last_line(
            script("measure_transfer", *flags, f"--distorted_images={tmp_path}", f"--workdir={tmp_path / 'runs'}")
        )
        assert words in line
    empty = script("measure_transfer", "--distorted_images=", f"--models={bytes_model}")
    assert "--distorted_images must name at least one folder; received none." in _last_line(empty)
