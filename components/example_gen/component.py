"""ExampleGen: names a subset of a data set, prepares the data, and proves that it shares no example with others."""

from __future__ import annotations

from components.artifacts import Subset
from components.contract import Component
from components.example_gen.executor import ExampleGenExecutor


class ExampleGen(Component[Subset]):
    """Parameters: TFDS name and folders, the split expression, and expressions that it must be disjoint from."""

    PARAMETERS = {"dataset": str, "data_dir": str, "manual_dir": str, "subset": str, "disjoint_from": list}
    OUTPUTS = {"subset": Subset}
    EXECUTOR = ExampleGenExecutor
    LIBRARY = ("pixels.py", "data")
    ON_EVERY_WORKER = False
