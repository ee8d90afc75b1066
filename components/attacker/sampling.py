"""Which images are attacked, and what they shall be taken for."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from components.contract import Parameters
from intriguing.analysis.predictions import predict
from intriguing.data import DatasetCard, Examples, num_examples, random_targets, sample_examples


def check_fits(model: keras.Model, card: DatasetCard) -> None:
    """Raises a `ValueError` if a network takes other images than those of a data set, or has fewer classes."""
    wanted, num_classes = tuple(model.input_shape[1:]), model.output_shape[-1]
    if any(want not in (None, size) for want, size in zip(wanted, card.image_shape, strict=True)):
        raise ValueError(
            f"the network takes images {list(wanted)}; those of {card.name} are {list(card.image_shape)}. Bring them to its "
            "size with --image_size, or take another data set."
        )
    if card.num_classes > num_classes:
        raise ValueError(
            f"the network has {num_classes} classes; {card.name} has {card.num_classes}. Take a data set whose classes are "
            "those of the network, in the same order."
        )


def sample(model: keras.Model, card: DatasetCard, split: str, parameters: Parameters) -> Examples:
    """Draws the images to attack: at random, and if asked for, only such as the network gets right, and not of the target."""
    wanted, size = parameters["num_images"], num_examples(card, split)
    if not parameters["only_correct"]:
        return sample_examples(card, split, num_images=wanted, seed=parameters["seed"])
    num_drawn = min(2 * wanted, size)
    while True:
        drawn = sample_examples(card, split, num_images=num_drawn, seed=parameters["seed"])  # begins as every smaller one
        answers = predict(model, drawn.images, batch_size=parameters["batch_size"])
        rows = np.flatnonzero((answers == drawn.labels) & (drawn.labels != parameters["target"]))
        if len(rows) >= wanted:
            return Examples(*(tf.gather(values, rows[:wanted]) for values in drawn))
        if num_drawn == size:
            raise ValueError(
                f"num_images must be at most {len(rows)}, the images of {split!r} that the network gets right; received "
                f"{wanted}. Ask for fewer."
            )
        num_drawn = min(2 * num_drawn, size)


def targets_of(examples: Examples, card: DatasetCard, parameters: Parameters) -> np.ndarray:
    """Returns the class that each image shall be taken for, int32 `[images]`; -1 where any wrong one will do."""
    if parameters["targeted"] and parameters["target"] < 0:
        targets: np.ndarray = random_targets(examples.labels, card.num_classes, seed=parameters["seed"]).numpy()
        return targets
    return np.full(len(examples.labels), parameters["target"] if parameters["targeted"] else -1, np.int32)
