"""The work of ExampleGen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.artifacts import Subset
from components.contract import Artifacts, Executor, Parameters
from intriguing.data import DatasetCard, check_disjoint, dataset_card, num_examples


class ExampleGenExecutor(Executor):
    """Prepares the data set if that was not done before, and describes the subset."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Parameters) -> None:
        """Writes a `Subset`."""
        del input_dict
        told, subset = exec_properties, exec_properties["subset"]
        card = dataset_card(told["dataset"], manual_dir=told["manual_dir"] or None, **_options(told))
        check_disjoint(card, subset, *told["disjoint_from"])
        output_dict["subset"][0].write_json(
            "subset.json",
            {
                "dataset": told["dataset"],
                "data_dir": told["data_dir"],
                "image_size": told["image_size"],
                "shorter_side": told["shorter_side"],
                "content": told["content"],
                "num_channels": told["num_channels"],
                "class_names": told["class_names"],
                "subset": subset,
                "num_examples": num_examples(card, subset),
                "image_shape": list(card.image_shape),
                "num_classes": card.num_classes,
            },
        )


def card_of(subset: Subset) -> tuple[DatasetCard, str]:
    """Returns the card of the data set that a `Subset` names, and the split expression."""
    description = subset.description()
    return dataset_card(description["dataset"], **_options(description)), description["subset"]


def _options(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "data_dir": told["data_dir"] or None,
        "image_size": tuple(told["image_size"]) or None,
        "shorter_side": told["shorter_side"] or None,
        "num_channels": told["num_channels"],
        "class_names": tuple(told["class_names"]),
    }
