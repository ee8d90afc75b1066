"""The work of ExampleGen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from components.artifacts import Subset
from components.contract import Artifacts, Executor, Parameters
from components.records import SubsetRecord
from intriguing.data import DatasetCard, check_disjoint, dataset_card, num_examples

_OPTIONS = ("data_dir", "image_size", "shorter_side", "content", "num_channels", "class_names")


class ExampleGenExecutor(Executor):
    """Prepares the data set if that was not done before, and describes the subset."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Parameters) -> None:
        """Writes a `Subset`."""
        del input_dict
        parameters, subset = exec_properties, exec_properties["subset"]
        card = dataset_card(parameters["dataset"], manual_dir=parameters["manual_dir"] or None, **_options(parameters))
        check_disjoint(card, subset, *parameters["disjoint_from"])
        output_dict["subset"][0].write_record(
            SubsetRecord(
                dataset=parameters["dataset"],
                subset=subset,
                num_examples=num_examples(card, subset),
                image_shape=card.image_shape,
                num_classes=card.num_classes,
                **{name: parameters[name] for name in _OPTIONS},
            )
        )


def card_of(subset: Subset) -> tuple[DatasetCard, str]:
    """Returns the card of the data set that a `Subset` names, and the split expression."""
    record = subset.record()
    return dataset_card(record.dataset, **_options(dataclasses.asdict(record))), record.subset


def _options(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "data_dir": parameters["data_dir"] or None,
        "image_size": tuple(parameters["image_size"]) or None,
        "shorter_side": parameters["shorter_side"] or None,
        "num_channels": parameters["num_channels"],
        "class_names": tuple(parameters["class_names"]),
    }
