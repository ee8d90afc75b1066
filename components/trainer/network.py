"""Builds the network of a training step, and saves it with its errors."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from components.artifacts import TrainedModel
from components.contract import Parameters
from components.records import NetworkRecord
from intriguing.data import DatasetCard, batches, load_examples, num_examples
from intriguing.evaluation.predictions import predict
from intriguing.evaluation.transfer import error_rate
from intriguing.models.networks import zoo
from intriguing.training.adversarial import Round


def build_network(parameters: Parameters, card: DatasetCard) -> keras.Model:
    """Builds the network that the parameters name, for the images of a data set."""
    return zoo.build(parameters["model"], image_shape=card.image_shape, num_classes=card.num_classes, seed=parameters["seed"])


def stream(card: DatasetCard, split: str, *, batch_size: int, seed: int) -> tuple[tf.data.Dataset, int]:
    """Returns endless shuffled batches of a subset, and how many of them make an epoch."""
    return batches(card, split, batch_size=batch_size, shuffle_seed=seed), num_examples(card, split) // batch_size


def write_network(
    output: TrainedModel,
    model: keras.Model,
    parameters: Parameters,
    card: DatasetCard,
    split: str,
    *,
    losses: Sequence[float],
    converged: bool | None,
    rounds: Sequence[Round] = (),
) -> None:
    """Saves a trained network with its record.

    Args:
        output: The folder.
        model: The network.
        parameters: Of the step.
        card: The data set.
        split: The subset that it was trained on, on which its errors are counted.
        losses: Of each epoch, round or report.
        converged: Whether training ended by itself; None where there is no such end.
        rounds: What happened in every round of adversarial training.
    """
    examples = load_examples(card, split)
    errors = error_rate(predict(model, examples.images), examples.labels)
    model.save(output.uri / "model.keras")
    output.write_record(
        NetworkRecord(
            name=parameters["name"],
            model=parameters["model"],
            dataset=card.name,
            subset=split,
            image_shape=card.image_shape,
            num_classes=card.num_classes,
            class_names=card.class_names,
            seed=parameters["seed"],
            losses=tuple(losses),
            converged=converged,
            train_errors=errors,
            rounds=tuple(rounds),
        )
    )
