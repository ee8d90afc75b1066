"""The work of TransferEvaluator."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from components.artifacts import DistortedImages, Subset, TrainedModel
from components.contract import Artifacts, Executor, Parameters
from components.example_gen.executor import card_of
from components.records import ChangedImagesRecord, TransferRecord
from intriguing.data import load_examples
from intriguing.evaluation import AttackedImages, TransferRow, predict, transfer_matrix
from intriguing.statistics.proportions import Proportion


class TransferEvaluatorExecutor(Executor):
    """Counts errors of all networks on the subsets, and those of `transfer_matrix`."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Parameters) -> None:
        """Writes `TransferRates`."""
        networks = _networks(input_dict["models"])
        rows = self._changed(networks, input_dict, exec_properties)
        errors, wrong = {}, {}
        for subset in input_dict["subsets"]:
            split, mistakes, num_examples = _mistakes(networks, subset)
            wrong[split] = mistakes
            errors[split] = {name: Proportion(len(found), num_examples) for name, found in mistakes.items()}
            self.progress(len(rows) + len(errors), len(rows) + len(input_dict["subsets"]), "clean images")
        output_dict["rates"][0].write_record(
            TransferRecord(
                num_classes={name: model.output_shape[-1] for name, model in networks.items()},
                errors=errors,
                wrong=wrong,
                changed=tuple(_record(row) for row in rows),
                noise_seed=exec_properties["seed"],
            )
        )

    def _changed(
        self, networks: Mapping[str, keras.Model], input_dict: Artifacts, parameters: Parameters
    ) -> tuple[TransferRow, ...]:
        """Evaluates the networks on the changed images."""
        attacks = [(artifact.record().name, _attacked_images(artifact)) for artifact in input_dict["distorted"]]
        amounts = {name: parameters[name] for name in ("amplify_to", "noise", "unclipped_noise")}
        num_noises = len(amounts["noise"]) + len(amounts["unclipped_noise"]) if attacks else 0
        total = len(input_dict["subsets"]) + len(attacks) * (1 + len(amounts["amplify_to"])) + num_noises
        numbers = itertools.count(1)
        return transfer_matrix(
            networks, attacks, **amounts, seed=parameters["seed"],
            on_row=lambda row: self.progress(next(numbers), total, row.kind),
        ).rows  # fmt: skip


def _networks(models: Sequence[TrainedModel]) -> dict[str, keras.Model]:
    names = [trained.record().name for trained in models]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(
            f"networks that are compared must have names of their own; received {repeated[0]!r} more than once. Train one of "
            "them with another --name, or give its file another name."
        )
    return {name: trained.load() for name, trained in zip(names, models, strict=True)}


def _attacked_images(artifact: DistortedImages) -> AttackedImages:
    arrays = artifact.arrays()
    return AttackedImages(**{field: arrays[field] for field in AttackedImages._fields})


def _mistakes(networks: Mapping[str, keras.Model], subset: Subset) -> tuple[str, dict[str, tuple[int, ...]], int]:
    """Returns the rows of a subset that each network misclassifies, and how many rows there are."""
    card, split = card_of(subset)
    examples = load_examples(card, split)
    wrong = {name: predict(model, examples.images).numpy() != examples.labels.numpy() for name, model in networks.items()}
    return split, {name: tuple(np.flatnonzero(rows).tolist()) for name, rows in wrong.items()}, len(examples.labels)


def _record(row: TransferRow) -> ChangedImagesRecord:
    return ChangedImagesRecord(
        kind=row.kind,
        source_model=row.source_model,
        amount=row.amount,
        mean_distortion=row.mean_distortion,
        std_distortion=row.std_distortion,
        num_images=row.num_images,
        errors=dict(row.rates),
        predictions={name: tuple(predictions.numpy().tolist()) for name, predictions in row.predictions.items()},
    )
