"""Data sets as tensors: descriptions of data sets, disjoint subsets, and batches of fixed shape."""

from intriguing.data import embedded as embedded  # registers mnist_5k with TFDS
from intriguing.data.catalog import DatasetCard, dataset_card, is_folder
from intriguing.data.class_numbers import numbering_of
from intriguing.data.image_folder import content_of
from intriguing.data.input_layer import (
    Examples,
    batches,
    load_examples,
    load_ids,
    load_labels,
    random_targets,
    sample_examples,
)
from intriguing.data.resizing import ImageResizing
from intriguing.data.subsets import check_disjoint, disjoint_halves, disjoint_subsets, num_examples, num_shared_examples

__all__ = [
    "DatasetCard",
    "Examples",
    "ImageResizing",
    "batches",
    "check_disjoint",
    "content_of",
    "dataset_card",
    "disjoint_halves",
    "disjoint_subsets",
    "is_folder",
    "load_examples",
    "load_ids",
    "load_labels",
    "num_examples",
    "num_shared_examples",
    "numbering_of",
    "random_targets",
    "sample_examples",
]
