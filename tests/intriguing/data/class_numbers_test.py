"""Classes of a folder are numbered like the outputs of a network, and a mismatch is reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intriguing.data import dataset_card, load_examples, load_labels, numbering_of
from intriguing.data.class_numbers import imagenet_class_names
from intriguing.data.image_folder import brightness
from tests.intriguing.data.picture_folders import write_picture, write_pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures")


def test_imagenet_names_are_in_the_order_of_the_outputs() -> None:
    names = imagenet_class_names()
    assert len(names) == 1000
    assert (names[0], names[9], names[999]) == ("n01440764", "n01518878", "n15075141")  # a tench, an ostrich, toilet tissue


def test_labels_follow_the_given_class_names(folder: Path) -> None:
    names = ("dog", "cow", "cat", "ant")
    card = dataset_card(str(folder), image_size=(2, 2), class_names=names)
    assert (card.num_classes, card.class_names) == (4, names)
    ids = [example.decode().split("/")[1] for example in load_examples(card, "all").ids.numpy()]
    assert load_labels(card, "all").tolist() == [names.index(name) for name in ids]


def test_unnamed_class_error_names_the_nearest_name(folder: Path) -> None:
    with pytest.raises(ValueError, match="unknown class of the folder .* 'dog'. Did you mean 'dogs'"):
        dataset_card(str(folder), image_size=(2, 2), class_names=("ant", "cat", "dogs"))


def test_class_names_number_a_folder_with_fewer_classes(folder: Path) -> None:
    names = ("dog", "cow", "cat", "ant")
    assert numbering_of(folder, num_classes=4, class_names=names) == (names, True)
    assert numbering_of(folder, num_classes=3, class_names=("ant", "cat", "dog")) == ((), True), "their own order"
    assert numbering_of(folder) == numbering_of(folder, num_classes=3) == ((), True)
    assert numbering_of(folder, num_classes=3, class_names=("1", "2", "3")) == ((), False), "the order cannot be verified"


def test_imagenet_folder_names_are_numbered_for_networks_with_1000_classes(tmp_path: Path) -> None:
    write_picture(tmp_path / "photographs/test/n01518878/a.png", np.zeros((2, 2, 3), np.uint8))
    numbering, by_name = numbering_of(tmp_path / "photographs", num_classes=1000)
    assert by_name
    card = dataset_card(str(tmp_path / "photographs"), image_size=(2, 2), class_names=numbering)
    assert load_labels(card, "test").tolist() == [9]


@pytest.mark.parametrize(
    ("num_classes", "names", "words"),
    [
        (
            10,
            (),
            "has 3 classes, and the network 10: .* --class_names=FILE .*, or create an empty folder for each missing class",
        ),
        (1000, (), "has 3 classes, and the network 1000"),
        (
            3,
            ("ant", "cat", "dogs"),
            "class 'dog' of .* is not a class of the network. Did you mean 'dogs'. Rename that folder, or",
        ),
        (4, ("a", "b", "c", "d"), "class 'ant' of .* is not a class of the network"),
    ],
)
def test_folder_with_other_classes_is_refused(folder: Path, num_classes: int, names: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        numbering_of(folder, num_classes=num_classes, class_names=names)


def test_gray_folder_has_one_channel_with_unchanged_levels(folder: Path) -> None:
    gray = dataset_card(str(folder), image_size=(2, 2), num_channels=1)
    assert gray.image_shape == (2, 2, 1)
    colors = load_examples(dataset_card(str(folder), image_size=(2, 2)), "all")
    np.testing.assert_array_equal(load_examples(gray, "all").images, colors.images[..., :1])
    with pytest.raises(ValueError, match="num_channels must be 1 for gray or 3 for colors; received 4"):
        dataset_card(str(folder), image_size=(2, 2), num_channels=4)


def test_brightness_follows_the_standard_and_keeps_gray_levels() -> None:
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(brightness(np.stack([levels] * 3, axis=-1))[:, 0], levels)
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 200, 30]], np.uint8)
    assert brightness(colors)[:, 0].numpy().tolist() == [76, 150, 29, 124]
