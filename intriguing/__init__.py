"""The intriguing properties of neural networks: minimum-distortion adversarial examples, transfer, units, and guarantees.

Example:
    >>> import intriguing
    >>> results = intriguing.minimize_distortion(model, images, labels=labels)
    >>> print(results)

References:
    Szegedy et al., Intriguing properties of neural networks, 2014. https://arxiv.org/abs/1312.6199
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

# These register layers and a regularizer with Keras: `import intriguing` is enough to load a model that was saved with them.
from intriguing import (
    attack,
    distortion,
    distribution,
    evaluation,
    lipschitz,
    models,
    optimize,
    pixels,
    statistics,
    training,
    units,
)
from intriguing.attack import minimize_distortion

if TYPE_CHECKING:
    from intriguing import data, reporting

__version__ = "0.2.0"

__all__ = [
    "__version__", "attack", "data", "distortion", "distribution", "evaluation", "lipschitz", "minimize_distortion", "models",
    "optimize", "pixels", "reporting", "statistics", "training", "units",
]  # fmt: skip


def __getattr__(name: str) -> ModuleType:
    """Imports `data` (TensorFlow Datasets) and `reporting` (Matplotlib, Jinja) at their first use."""
    if name not in ("data", "reporting"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
