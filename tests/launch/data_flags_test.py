"""The data flags select a TFDS data set or a folder, or raise a one-line error that says what to do."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from absl import flags

from components.example_gen.component import ExampleGen
from intriguing.data import content_of
from tests.intriguing.data.picture_folders import truncate, write_pictures
from tests.launch.conftest import Script, _own_flags


@pytest.fixture
def step_of(tmp_path: Path) -> Iterator[Callable[..., ExampleGen]]:
    """Returns a function that takes the input shape of a model and command-line arguments, and returns the step."""
    with _own_flags():
        data_flags: ModuleType = importlib.import_module("launch.data_flags")

        def step(image_shape: Any, *arguments: str, **of_model: Any) -> ExampleGen:
            flags.FLAGS.unparse_flags()
            for name in ("dataset", "image_size", "num_channels", "shorter_side", "subset"):
                flags.FLAGS[name].unparse()
            flags.FLAGS(["script", *arguments])
            made: ExampleGen = data_flags.subset_step(tmp_path, image_shape, **of_model)
            return made

        yield step


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "my pictures")


def test_folder_images_get_the_size_of_the_model_unless_a_flag_overrides_it(step_of, folder: Path) -> None:
    step = step_of([6, 7, 3], f"--dataset={folder}", "--subset=train[:2]")
    assert step.id == "subset_my_pictures_train__2_"
    assert step.parameters == {
        "dataset": str(folder.resolve()), "data_dir": "", "manual_dir": "", "subset": "train[:2]", "disjoint_from": [],
        "image_size": [6, 7], "shorter_side": 0, "content": content_of(folder), "num_channels": 3, "class_names": [],
    }  # fmt: skip
    step = step_of([6, 7, 3], f"--dataset={folder}", "--image_size=5", "--shorter_side=8")
    assert (step.parameters["image_size"], step.parameters["shorter_side"]) == ([5, 5], 8)
    assert step_of((), f"--dataset={folder}", "--image_size=4x9").parameters["image_size"] == [4, 9]


def test_folder_paths_may_begin_with_a_tilde(step_of, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert step_of([2, 2, 3], "--dataset=~/my pictures").parameters["dataset"] == str(folder.resolve())


def test_tfds_images_keep_their_size_unless_a_flag_overrides_it(step_of) -> None:
    step = step_of([6, 7, 3])
    assert step.id == "subset_mnist_5k_train"
    assert [step.parameters[name] for name in ("image_size", "shorter_side", "content")] == [[], 0, ""]
    assert step_of([6, 7, 3], "--image_size=32").parameters["image_size"] == [32, 32]


def test_folder_images_are_gray_for_a_model_with_one_channel(step_of, folder: Path) -> None:
    assert step_of([6, 7, 1], f"--dataset={folder}").parameters["num_channels"] == 1
    assert step_of([6, 7, 1], f"--dataset={folder}", "--num_channels=3").parameters["num_channels"] == 3
    assert step_of([], f"--dataset={folder}", "--image_size=5", "--num_channels=1").parameters["num_channels"] == 1


def test_folder_classes_are_numbered_by_the_class_names_of_the_model(step_of, folder: Path, capsys: Any) -> None:
    names = ["dog", "cow", "cat", "ant"]
    step = step_of([6, 7, 3], f"--dataset={folder}", num_classes=4, class_names=names)
    assert step.parameters["class_names"] == names
    step = step_of([6, 7, 3], f"--dataset={folder}", num_classes=3, class_names=["ant", "cat", "dog"])
    assert step.parameters["class_names"] == []
    assert capsys.readouterr().err == ""
    step_of([6, 7, 3], f"--dataset={folder}", num_classes=3, class_names=["a", "b", "c"])
    assert f"Warning: no class of {folder} has the name of a class of the network, so they are numbered by" in (
        capsys.readouterr().err
    )


def test_folder_with_classes_unknown_to_the_model_is_refused(step_of, folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"has 3 classes, and the network 10: .* Pass --class_names=FILE .*, or create an empty"
    ):
        step_of([6, 7, 3], f"--dataset={folder}", num_classes=10)
    with pytest.raises(
        ValueError, match="the class 'dog' of .* is not a class of the network. Did you mean 'dogs'. Rename that folder"
    ):
        step_of([6, 7, 3], f"--dataset={folder}", num_classes=3, class_names=["ant", "cat", "dogs"])


@pytest.mark.parametrize("size", ["224x", "224x224x3", "-3", "big", ""])
def test_invalid_image_size_is_refused(step_of, size: str) -> None:
    with pytest.raises(ValueError, match=f"--image_size must be a number or HEIGHTxWIDTH, such as 224.*received '{size}'"):
        step_of((), f"--image_size={size}")


def test_network_is_trained_on_a_folder(script: Script, folder: Path, tmp_path: Path) -> None:
    arguments = (
        "--model=FC10(1e-2)", f"--dataset={folder}", "--num_epochs=1", "--batch_size=2", "--strategy=one_device",
        f"--workdir={tmp_path / 'runs'}",
    )  # fmt: skip
    finished = script("train", *arguments, "--image_size=3")
    assert finished.code == 0, finished.err
    assert "% of 5. Trained model:" in finished.out
    assert "reused" in script("train", *arguments, "--image_size=3").err
    for more, message in (
        ((), "may have different sizes. Pass image_size, the height and width to which they are resized, or --image_size"),
        (("--image_size=3", "--subset=test"), "unknown split of my pictures 'test'"),
        (("--image_size=3", "--dataset=./nowhere"), "there is no folder "),
        (("--image_size=0",), "height and width of an image must be at least 1; received 0x0"),
    ):
        refused = script("train", *arguments, *more)
        assert (refused.code, refused.out) == (1, "")
        assert message in refused.err.splitlines()[-1]


def test_broken_image_file_raises_a_one_line_error(script: Script, folder: Path, tmp_path: Path) -> None:
    truncate(folder / "train/cat/b.PNG")
    refused = script(
        "train", "--model=FC10(1)", f"--dataset={folder}", "--image_size=3", "--num_epochs=1", "--batch_size=2",
        "--strategy=one_device", f"--workdir={tmp_path / 'runs'}",
    )  # fmt: skip
    assert refused.code == 1
    assert "train/cat/b.PNG' cannot be read: Invalid PNG" in refused.err.splitlines()[-1]
