"""Draws the images that are attacked, and their target classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from components.contract import Parameters
from intriguing.data import DatasetCard, Examples, num_examples, random_targets, sample_examples
from intriguing.evaluation.predictions import predict
from intriguing.names import suggestion
from intriguing.statistics.proportions import Proportion

_MOST_NAMES = 20  # in a message


class Sample(NamedTuple):
    """Images to attack, and whether the network classifies them correctly."""

    examples: Examples
    correct: np.ndarray  # [images] bool: classified as their labels
    accuracy: Proportion  # of all images that were drawn, also of those that were left out then


def check_fits(model: keras.Model, card: DatasetCard) -> None:
    """Raises a `ValueError` if a network takes other images than those of a data set, or has fewer classes."""
    wanted, found, num_classes = list(model.input_shape[1:]), list(card.image_shape), model.output_shape[-1]
    if len(wanted) != len(found) or any(want not in (None, size) for want, size in zip(wanted, found)):
        same_channels = wanted[2:] == found[2:]
        way_out = "Bring them to its size with --image_size, or take" if same_channels else "Take"
        raise ValueError(
            f"the network takes images {wanted}; those of {card.name} are {found}. {way_out} another data set, or a folder of "
            "images, whose channels are made those of the network."
        )
    if card.num_classes > num_classes:
        raise ValueError(
            f"the network has {num_classes} classes; {card.name} has {card.num_classes}. Take a data set whose classes are "
            "those of the network, in the same order."
        )


def sample(model: keras.Model, card: DatasetCard, split: str, parameters: Parameters) -> Sample:
    """Draws the images to attack: at random; with `only_correct`, correctly classified images not of the target."""
    wanted, size = parameters["num_images"], num_examples(card, split)
    num_drawn = min(2 * wanted, size) if parameters["only_correct"] else wanted
    while True:
        drawn = sample_examples(card, split, num_images=num_drawn, seed=parameters["seed"])  # begins as every smaller one
        correct = (predict(model, drawn.images, batch_size=parameters["batch_size"]) == drawn.labels).numpy()
        accuracy = Proportion(int(correct.sum()), num_drawn)
        if not parameters["only_correct"]:
            return Sample(drawn, correct, accuracy)
        rows = np.flatnonzero(correct & (drawn.labels.numpy() != parameters["target"]))[:wanted]
        if len(rows) == wanted:
            return Sample(Examples(*(tf.gather(values, rows) for values in drawn)), correct[rows], accuracy)
        if num_drawn == size:
            raise ValueError(_too_few(split, len(rows), wanted, accuracy))
        num_drawn = min(2 * num_drawn, size)


def _too_few(split: str, num_correct: int, wanted: int, accuracy: Proportion) -> str:
    right = f"{num_correct}, the images of {split!r} that the network classifies correctly"
    if num_correct:
        return f"num_images must be at most {right}; received {wanted}. Ask for fewer."
    return (
        f"the network classifies {accuracy.num_events} of {accuracy.num_trials} images of {split!r} correctly, and none can be "
        "attacked. Check the scale of pixels that it takes, and the order of its classes."
    )


def class_number(text: str, class_names: Sequence[str], num_classes: int) -> int:
    """Returns the class that a name stands for, or where no class is named so, a number.

    Raises:
        ValueError: If there is no such class, the message offering the nearest name.
    """
    if text in class_names:
        return list(class_names).index(text)
    if text.isdecimal() and int(text) < num_classes:
        return int(text)
    known = ", ".join(class_names[:_MOST_NAMES]) + (", ..." if len(class_names) > _MOST_NAMES else "")
    raise ValueError(
        f"there is no class {text!r}; expected a name, or a number from 0 to {num_classes - 1}."
        f"{suggestion(text, class_names)} Known: {known}."
    )


def targets_of(examples: Examples, card: DatasetCard, parameters: Parameters) -> np.ndarray:
    """Returns the target class of each image, int32 `[images]`; -1 if any wrong class is a success."""
    if parameters["targeted"] and parameters["target"] < 0:
        targets: np.ndarray = random_targets(examples.labels, card.num_classes, seed=parameters["seed"]).numpy()
        return targets
    return np.full(len(examples.labels), parameters["target"] if parameters["targeted"] else -1, np.int32)
