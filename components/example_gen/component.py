"""ExampleGen: names a subset of a data set, prepares the data, and proves that it shares no example with others."""

from __future__ import annotations

from components.artifacts import Subset
from components.contract import Component
from components.example_gen.executor import ExampleGenExecutor


class ExampleGen(Component[Subset]):
    """Parameters: data set and folders, the split expression, and expressions that it must be disjoint from.

    Then the size to which images are scaled, [] for their own, and of what size it is the middle, 0 for its own; and `content`,
    which changes whenever the images of a folder do.
    """

    PARAMETERS = {
        "dataset": str,  # a name of TFDS, or the path of a folder
        "data_dir": str,
        "manual_dir": str,
        "subset": str,
        "disjoint_from": list,
        "image_size": list,
        "shorter_side": int,
        "content": str,
        "num_channels": int,  # of images in a folder
        "class_names": list,  # that number the classes of a folder; [] for their own order
    }
    DEFAULTS = {"num_channels": 3, "class_names": []}
    OUTPUTS = {"subset": Subset}
    EXECUTOR = ExampleGenExecutor
    ON_EVERY_WORKER = False
