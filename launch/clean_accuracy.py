"""Prints the accuracy of a network on clean images, and warns if it is near chance."""

from __future__ import annotations

import sys

from components.records import AttackRecord
from intriguing.statistics.proportions import Proportion


def show_clean_accuracy(attack: AttackRecord) -> None:
    """Prints how many of the images of an attack its network classified correctly before."""
    found = attack.required_search()
    show_accuracy(attack.name, found.clean_accuracy, found.num_classes)


def show_accuracy(name: str, accuracy: Proportion, num_classes: int) -> None:
    """Prints how many clean images a network classifies correctly, and warns if that is no better than guessing."""
    print(f"{name} classifies {in_words(accuracy)} clean images correctly.")
    if is_near_chance(accuracy, num_classes):
        print(
            f"Warning: that is no better than guessing one of {num_classes} classes, so a distortion has no meaning for this "
            "network. Pixels are in [0, 1]: if it takes other values, pass --pixel_scale=255 or --preprocess_input=MODULE "
            "together with its file. The classes must be in the order of its outputs. If both are right, take more images.",
            file=sys.stderr,
        )


def in_words(accuracy: Proportion) -> str:
    """Returns a count and its interval, such as "15 of 16 (95 % interval: 72 % to 99 %)"."""
    interval = f"95 % interval: {100 * accuracy.lower:.0f} % to {100 * accuracy.upper:.0f} %"
    return f"{accuracy.num_events} of {accuracy.num_trials} ({interval})"


def is_near_chance(accuracy: Proportion, num_classes: int) -> bool:
    """True if the 95 % Wilson interval of the accuracy includes 1 / num_classes, unless every image is classified correctly."""
    return accuracy.num_events < accuracy.num_trials and accuracy.lower <= 1 / num_classes
