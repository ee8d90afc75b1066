"""ImageImporter: images that were distorted elsewhere and saved in a folder, and their originals."""

from __future__ import annotations

from components.artifacts import DistortedImages
from components.contract import Component
from components.image_importer.executor import ImageImporterExecutor


class ImageImporter(Component[DistortedImages]):
    """Parameters: name in tables, both folders and digests of their content, and how networks take images and classes."""

    PARAMETERS = {
        "name": str,
        "distorted": str,  # folder split/class/image
        "clean": str,  # folder with the originals under the same names
        "contents": list,
        "image_size": list,
        "num_channels": int,
        "class_names": list,  # that number the classes; [] for the order of their folders
    }
    OUTPUTS = {"distorted": DistortedImages}
    EXECUTOR = ImageImporterExecutor
    ON_EVERY_WORKER = False
