"""ModelImporter: a model that was trained elsewhere, as a network of pixels in [0, 1]."""

from __future__ import annotations

from components.artifacts import TrainedModel
from components.contract import Component
from components.model_importer.executor import ModelImporterExecutor


class ModelImporter(Component[TrainedModel]):
    """Parameters: name in tables, the model's own, its weights, digests of both files, shape, scaling, outputs, and a seed."""

    PARAMETERS = {
        "name": str,
        "model": str,  # a `.keras` file, keras.applications.NAME, or a name of the zoo
        "weights": str,  # "imagenet", "random", or a file; a `.keras` file has its own: ""
        "weights_channel_order": str,
        "files": dict,  # from each file of these to its SHA-256: another content is another model
        "image_shape": list,  # [] for the model's own; height and width are enough
        "scaling": dict,  # {} for that of the network
        "probabilities": bool,
        "seed": int,
        "class_names": list,  # in the order of the outputs; [] if they were not given
        "modules": dict,  # from each module that registers layers to the SHA-256 of its file
    }
    DEFAULTS = {"class_names": [], "modules": {}}
    OUTPUTS = {"model": TrainedModel}
    EXECUTOR = ModelImporterExecutor
    ON_EVERY_WORKER = False
