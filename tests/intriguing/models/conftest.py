"""Fixtures for real weights and photographs. Tests are skipped if their environment variables are not set."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def squeezenet_file() -> Path:
    folder = os.environ.get("INTRIGUING_SQUEEZENET_DIR")
    if not folder:
        pytest.skip("INTRIGUING_SQUEEZENET_DIR is unset; point it at the folder with squeezenet_v1.0_imagenet.npz")
    return Path(folder) / "squeezenet_v1.0_imagenet.npz"


@pytest.fixture(scope="session")
def photograph_files() -> list[Path]:
    """One photograph of each ImageNet class, in the order of the classes."""
    folder = os.environ.get("INTRIGUING_IMAGENET_SAMPLE_DIR")
    if not folder:
        pytest.skip("INTRIGUING_IMAGENET_SAMPLE_DIR is unset; point it at the folder above validation/<wnid>/*.jpg")
    return sorted(Path(folder).glob("validation/*/*.jpg"))
