"""The work of ExampleGen."""

from __future__ import annotations

from components.artifacts import Subset
from components.contract import Artifacts, Executor, Parameters
from intriguing.data import DatasetCard, check_disjoint, dataset_card, num_examples


class ExampleGenExecutor(Executor):
    """Prepares the data set if that was not done before, and describes the subset."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Parameters) -> None:
        """Writes a `Subset`."""
        del input_dict
        dataset, subset = exec_properties["dataset"], exec_properties["subset"]
        data_dir = exec_properties["data_dir"] or None
        card = dataset_card(dataset, data_dir=data_dir, manual_dir=exec_properties["manual_dir"] or None)
        check_disjoint(card, subset, *exec_properties["disjoint_from"])
        output_dict["subset"][0].write_json(
            "subset.json",
            {
                "dataset": dataset,
                "data_dir": data_dir,
                "subset": subset,
                "num_examples": num_examples(card, subset),
                "image_shape": list(card.image_shape),
                "num_classes": card.num_classes,
            },
        )


def card_of(subset: Subset) -> tuple[DatasetCard, str]:
    """Returns the card of the data set that a `Subset` names, and the split expression."""
    description = subset.description()
    return dataset_card(description["dataset"], data_dir=description["data_dir"]), description["subset"]
