"""The examples in the docstrings of the library run, and every public function has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import intriguing
from intriguing.data import DatasetCard, dataset_card
from intriguing.models import build
from intriguing.pixels import PixelBox
from tests.components.conftest import digits_dir as digits_dir

PACKAGES = sorted(set(intriguing.__all__) - {"__version__", "minimize_distortion", "distortion", "pixels"})
MODULES = {name: importlib.import_module(f"intriguing.{name}") for name in PACKAGES}
PUBLIC = {name: getattr(package, name) for package in MODULES.values() for name in package.__all__}
FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FINDER = doctest.DocTestFinder(recurse=True)


def _examples(value: Any, name: str) -> list[doctest.DocTest]:
    return [test for test in FINDER.find(value, name, globs={}) if test.examples]


EXAMPLES = {test.name: test for name, value in PUBLIC.items() if callable(value) for test in _examples(value, name)}


@pytest.fixture(scope="module")
def card(digits_dir: Path) -> DatasetCard:
    return dataset_card("mnist_5k", data_dir=digits_dir)


@pytest.fixture
def known_names(digits_dir: Path, card: DatasetCard, tmp_path: Path) -> dict[str, Any]:
    """Names used by the examples: all public names, a small network with images and labels, a data set, and a folder."""
    model = build("FC100-100-10", image_shape=(6, 6, 1))
    images = np.random.default_rng(0).uniform(size=(200, 6, 6, 1)).astype(np.float32)
    return {
        **PUBLIC, "PixelBox": PixelBox, "tf": tf, "np": np, "keras": keras, "model": model, "images": images,
        "labels": np.argmax(model(images), axis=1), "class_names": [str(number) for number in range(10)], "card": card,
        "data_dir": digits_dir, "folder": tmp_path,
    }  # fmt: skip


def test_every_public_function_has_an_example() -> None:
    assert [name for name in FUNCTIONS if name not in EXAMPLES] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name: str, known_names: dict[str, Any]) -> None:
    test = EXAMPLES[name]
    test.globs = known_names
    output: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=output.append)
    assert not failed, "".join(output)
