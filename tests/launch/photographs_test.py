"""The scripts attack a model file on a folder of photographs, and raise a one-line error for every mistake."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.artifacts import DistortedImages, UnitAnalyses
from components.runner import run
from components.studies.data_sources import Locations
from components.studies.plan import Split
from intriguing.attack import SmoothDescent
from intriguing.data import dataset_card, load_examples
from intriguing.units import UnitSettings
from launch.recipes.imagenet_ostrich import RECIPE
from tests.launch.conftest import Finished, Script

COLORS = ("1_red", "2_green", "3_blue")
IMAGES_OF_A_COLOR = 4


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of 14x11 pixels, each of them slightly red, green or blue."""
    folder, random = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for label, color in enumerate(COLORS):
        place = folder / "test" / color
        place.mkdir(parents=True)
        for number in range(IMAGES_OF_A_COLOR):
            pixels = random.integers(60, 120, [14, 11, 3])
            pixels[..., label] += 40
            (place / f"{color}_{number}.png").write_bytes(tf.io.encode_png(pixels.astype(np.uint8)).numpy())
    return folder


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predicts probabilities of the strongest color of 8x8 images, whose pixels are bytes in the order BGR."""
    inputs = keras.Input((8, 8, 3), name="colors")
    means = keras.layers.GlobalAveragePooling2D(name="means")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="probabilities")(means))
    model.set_weights([0.3 * np.eye(3, dtype=np.float32)[::-1], np.zeros(3, np.float32)])
    model.save(path := tmp_path_factory.mktemp("model") / "strongest.keras")
    return path


def _attack(script: Script, model_file: Path, photographs: Path, workdir: Path, *more: str) -> Finished:
    return script(
        "attack", f"--model={model_file}", "--preprocess_input=resnet50", f"--dataset={photographs}", "--subset=test",
        "--num_images=6", f"--workdir={workdir}", "--strategy=one_device", "--search=fast", *more,
    )  # fmt: skip


def test_attack_needs_only_a_model_file_and_an_image_folder(
    script: Script, model_file: Path, photographs: Path, tmp_path: Path
) -> None:
    finished = _attack(script, model_file, photographs, tmp_path, "--target=2", "--only_correct", "--quantization_levels=256")
    assert finished.code == 0, finished.err
    assert "Found 6 of 6" in finished.out
    attacked = DistortedImages(tmp_path / "attack_strongest")
    attacked.manifest()
    arrays = attacked.arrays()
    assert arrays["images"].shape == (6, 8, 8, 3)
    assert np.all(arrays["targets"] == 2) and not np.any(arrays["labels"] == 2)
    np.testing.assert_array_equal(_strongest(arrays["images"]), arrays["labels"])
    np.testing.assert_array_equal(_strongest(arrays["distorted"]), 2)
    assert arrays["survives_rounding"].all()
    np.testing.assert_allclose(255 * arrays["distorted"], np.round(255 * arrays["distorted"]), atol=1e-3)
    assert attacked.record().class_names == tuple(COLORS) and attacked.record().search.num_surviving_rounding == 6


def _strongest(images: np.ndarray) -> np.ndarray:
    """Returns the color that most exceeds its ImageNet mean, which `preprocess_input` of resnet50 subtracts."""
    return (255 * images.mean(axis=(1, 2)) - [123.68, 116.779, 103.939]).argmax(axis=1)


def test_changed_folder_is_attacked_again(script: Script, model_file: Path, photographs: Path, tmp_path: Path) -> None:
    _attack(script, model_file, photographs, tmp_path)
    assert "reused" in _attack(script, model_file, photographs, tmp_path).err
    first = next((photographs / "test" / COLORS[0]).iterdir())
    os.utime(first, ns=(1, 1))
    again = _attack(script, model_file, photographs, tmp_path).err
    assert "subset_" in again and "attack_strongest  reused" not in again and "model_strongest  reused" in again


@pytest.mark.slow
def test_keras_applications_network_is_attacked_by_name(script: Script, photographs: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join([*COLORS, *map(str, range(997))]))
    arguments = ("--model=keras.applications.MobileNetV2", "--weights=random", f"--dataset={photographs}", "--subset=test")
    refused = script("attack", *arguments, f"--workdir={tmp_path}", "--strategy=one_device")
    assert "has 3 classes, and the network 1000: numbered by" in refused.err.splitlines()[-1]
    finished = script(
        "attack", *arguments, f"--class_names={names}", "--num_images=2", f"--workdir={tmp_path}", "--strategy=one_device", "--search=training", "--max_evaluations=20",
    )  # fmt: skip
    assert finished.code == 0, finished.err
    assert finished.out.startswith("MobileNetV2 classifies 0 of 2 (95 % interval: 0 % to 66 %) clean images correctly.\nFound ")
    assert "Warning: that is no better than guessing one of 1000 classes" in finished.err
    assert DistortedImages(tmp_path / "attack_MobileNetV2").arrays()["images"].shape == (2, 224, 224, 3)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model=keras.applications.MobilNetV2"], "unknown network of keras.applications 'MobilNetV2'. Did you mean 'MobileNetV2'?"),
        (["--model=SqueezNet", "--weights=random"], "unknown model 'SqueezNet'. Did you mean 'SqueezeNet'?"),
        (["--model=SqueezeNet"], "any other model needs some; received the model 'SqueezeNet' and the weights ''"),
        (["--model=nowhere.keras"], "there is no model file 'nowhere.keras'"),
        (["--model=SqueezeNet", "--weights=imagenet"], "no weights of SqueezeNet can be downloaded"),
    ],
)  # fmt: skip
def test_missing_model_file_is_named(script: Script, tmp_path: Path, flags: list[str], words: str) -> None:
    finished = script("attack", *flags, f"--workdir={tmp_path}")
    assert finished.code == 1
    assert words in finished.err and "Traceback" not in finished.err


def test_attack_requires_exactly_one_model_flag(script: Script, model_file: Path) -> None:
    for flags in ([], ["--trained_model=nowhere", f"--model={model_file}"]):
        finished = script("attack", *flags)
        assert finished.code != 0
        assert "trained_model" in finished.out + finished.err and "model" in finished.out + finished.err


def test_images_of_another_size_are_refused(script: Script, model_file: Path, photographs: Path, tmp_path: Path) -> None:
    finished = _attack(script, model_file, photographs, tmp_path, "--image_size=9x8")
    assert finished.code == 1
    assert "takes images [8, 8, 3]; received image_shape (9, 8, 3)" in finished.err


def test_stray_file_error_names_the_file(script: Script, model_file: Path, tmp_path: Path) -> None:
    place = tmp_path / "photographs" / "test" / "1_red"
    place.mkdir(parents=True)
    (place / "notes.txt").write_text("red")
    finished = _attack(script, model_file, tmp_path / "photographs", tmp_path / "work")
    assert finished.code == 1
    assert "notes.txt' is not an image file" in finished.err and "Remove it." in finished.err


def test_photograph_recipe_names_its_required_flags(script: Script, tmp_path: Path) -> None:
    finished = script("reproduce", "--recipe=imagenet_ostrich", f"--workdir={tmp_path}")
    assert finished.code == 1
    assert "this study needs a file of weights; received none. Pass --weights=FILE." in finished.err
    finished = script("reproduce", "--recipe=imagenet_ostrich", f"--workdir={tmp_path}", f"--weights={__file__}")
    assert finished.code == 1
    assert "this study needs a folder of photographs; received none. Pass --photographs=FOLDER" in finished.err


@pytest.mark.slow
@pytest.mark.skipif(
    not {"INTRIGUING_SQUEEZENET_DIR", "INTRIGUING_IMAGENET_SAMPLE_DIR"} <= set(os.environ),
    reason="INTRIGUING_SQUEEZENET_DIR and INTRIGUING_IMAGENET_SAMPLE_DIR name no weights and photographs",
)
def test_two_photographs_become_ostriches(tmp_path: Path) -> None:
    photographs, _, units = RECIPE.parts
    search = dataclasses.replace(
        photographs.attack.search, descent=SmoothDescent(num_steps=50), restart_evaluations=0, max_evaluations=80
    )
    attack = dataclasses.replace(photographs.attack, num_images=2, batch_size=2, search=search)
    split = Split("validation[:100]")
    parts = (
        dataclasses.replace(photographs, split=split, attack=attack),
        dataclasses.replace(units, split=split, settings=UnitSettings(num_random_bases=99, max_units=16, num_rotations=2)),
    )
    folder = Path(os.environ["INTRIGUING_IMAGENET_SAMPLE_DIR"])
    weights = next(Path(os.environ["INTRIGUING_SQUEEZENET_DIR"]).glob("*.npz"))
    study, locations = dataclasses.replace(RECIPE, parts=parts), Locations(images=folder, weights=weights)
    steps = study.steps(workdir=tmp_path, seed=0, facts={}, locations=locations)
    run(steps)
    page = (tmp_path / "report" / "index.html").read_text()
    assert "2 of 2 photographs are classified as class 9, n01518878" in page
    analyses = UnitAnalyses(tmp_path / "units_SqueezeNet").record()
    assert [layer.layer for layer in analyses.layers] == ["fire9, max", "conv_final, mean"]
    assert "fish" in analyses.attributes and "fire9, max" in page
    free, levels = (DistortedImages(tmp_path / name).arrays() for name in ("attack_SqueezeNet", "attack_SqueezeNet_bytes"))
    assert levels["survives_rounding"].all()
    assert np.all(free["distortion"] < 0.0065)  # the mean of the paper for AlexNet
    card = dataset_card(str(folder), image_size=(227, 227), shorter_side=256)
    assert set(free["ids"]) <= set(load_examples(card, "validation").ids.numpy())
