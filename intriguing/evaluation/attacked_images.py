"""The images of attacks whose transfer is measured, and their checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from intriguing.distortion import distortion
from intriguing.models.functional import integer_classes
from intriguing.pixels import PixelBox, as_tensor, checked_images

_ANY_VALUE = PixelBox(float("-inf"), float("inf"))
_USAGE = "attacks={'name of the source model': results}"
_ROUNDING = 1e-5  # tolerance for `distorted - perturbation`, relative to the largest pixel value


class AttackedImages(NamedTuple):
    """The images of one attack: arrays or tensors, one row per image."""

    images: Any  # [n, ...] floating, the clean images
    distorted: Any  # as `images`
    labels: Any = None  # [n] integer, the true classes; None for the argument `labels` of `transfer_matrix`
    succeeded: Any = None  # [n] bool; None if all succeeded
    distortion: Any = None  # [n], the RMS pixel change; computed if None


class AttackResults(Protocol):
    """The results of an attack on the images of `transfer_matrix`, such as the `DistortionResults` of `minimize_distortion`."""

    @property
    def distorted(self) -> Any:
        """`[n, ...]`, the distorted images."""

    @property
    def distortion(self) -> Any:
        """`[n]`, their RMS pixel change."""

    @property
    def succeeded(self) -> Any:
        """Bool `[n]`; rows that are False are excluded."""


Attack = AttackedImages | AttackResults | tuple[Any, Any]
"""The images of one attack: `AttackedImages`, results of an attack, or a pair of clean and distorted images."""


class CheckedAttack(NamedTuple):
    """The checked images of an attack, or of the noise control."""

    source_model: str
    images: tf.Tensor
    distorted: tf.Tensor
    labels: np.ndarray
    num_columns: int | None  # of labels that are one-hot rows; otherwise None
    succeeded: np.ndarray
    distortion: tf.Tensor


def checked_attacks(
    attacks: Mapping[str, Attack] | Sequence[tuple[str, Attack]], images: Any, labels: Any, box: PixelBox
) -> list[CheckedAttack]:
    """Returns the checked images of all attacks.

    Raises:
        ValueError: If shapes do not match, pixels lie outside the box, or images or labels are missing or not those attacked.
        TypeError: If names or attacks have another type, or a dtype is wrong.
    """
    if isinstance(attacks, str | bytes) or not isinstance(attacks, Iterable):
        raise _not_attacks(f"a {type(attacks).__name__}")
    pairs = list(attacks.items() if isinstance(attacks, Mapping) else attacks)
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != len(("name", "attack")):
            raise _not_attacks(f"a {type(attacks).__name__} that contains a {type(pair).__name__}")
        if not isinstance(pair[0], str):
            raise TypeError(f"names in attacks must be strings; received a {type(pair[0]).__name__}. Pass {_USAGE}.")
    return [checked_attack(name, attack, images, labels, box) for name, attack in pairs]


def _not_attacks(received: str) -> TypeError:
    return TypeError(
        f"attacks must be a dictionary from names to attacks, or pairs of name and attack; received {received}. Pass {_USAGE}."
    )


def checked_attack(name: str, attack: Attack, images: Any, labels: Any, box: PixelBox) -> CheckedAttack:
    """Returns the checked images of one attack; the errors are those of `checked_attacks`."""
    given = _as_attacked_images(name, attack, images)
    clean, distorted = checked_images(given.images, box), checked_images(given.distorted, _ANY_VALUE)
    if clean.shape != distorted.shape:
        raise ValueError(
            f"clean and distorted images of the attack {name!r} must have one shape; received {clean.shape.as_list()} and "
            f"{distorted.shape.as_list()}."
        )
    num_images = clean.shape[0]
    succeeded = np.ones(num_images, bool) if given.succeeded is None else np.asarray(given.succeeded)
    if succeeded.dtype != np.bool_ or succeeded.shape != (num_images,):
        raise ValueError(
            f"succeeded of the attack {name!r} must be a bool for each of {num_images} images; received {succeeded.dtype} of "
            f"shape {list(succeeded.shape)}."
        )
    box.check(tf.boolean_mask(as_tensor(given.distorted), succeeded), f"distorted images of the attack {name!r}")
    _check_were_attacked(name, attack, clean, distorted, succeeded)
    checked_labels, num_columns = _checked_labels(given.labels if given.labels is not None else labels, name, num_images)
    change = distortion(clean, distorted) if given.distortion is None else tf.convert_to_tensor(given.distortion)
    if change.shape != (num_images,):
        raise ValueError(
            f"distortion of the attack {name!r} must be a number for each of {num_images} images; received shape "
            f"{change.shape.as_list()}."
        )
    return CheckedAttack(name, clean, distorted, checked_labels, num_columns, succeeded, change)


def _as_attacked_images(name: str, attack: Attack, images: Any) -> AttackedImages:
    if isinstance(attack, AttackedImages):
        return attack
    if isinstance(attack, tuple) and len(attack) == len(("clean", "distorted")):
        return AttackedImages(*attack)
    if not all(hasattr(attack, field) for field in ("distorted", "distortion", "succeeded")):
        raise TypeError(
            f"the attack {name!r} must be results of minimize_distortion, a pair of clean and distorted images, or "
            f"AttackedImages; received a {type(attack).__name__}."
        )
    results: Any = attack
    if images is None:
        raise ValueError(f"the attack {name!r} contains no clean images. Pass images=, the images that were attacked.")
    return AttackedImages(images, results.distorted, None, results.succeeded, results.distortion)


def _check_were_attacked(name: str, attack: Attack, clean: tf.Tensor, distorted: tf.Tensor, succeeded: np.ndarray) -> None:
    """Raises a `ValueError` if the results of an attack contain perturbations of images other than `clean`."""
    perturbation = getattr(attack, "perturbation", None)
    if perturbation is None:
        return
    attacked = distorted - tf.cast(perturbation, tf.float32)
    tolerance = _ROUNDING * tf.reduce_max(tf.maximum(tf.abs(clean), tf.abs(distorted)))
    differ = tf.reduce_any(tf.reshape(tf.abs(attacked - clean) > tolerance, [len(succeeded), -1]), axis=1)
    if number := np.count_nonzero(np.asarray(differ) & succeeded):
        raise ValueError(
            f"images must be the clean images of the attack {name!r}, in the same order; received {number} images other than "
            "those attacked. Pass the images that minimize_distortion received."
        )


def _checked_labels(labels: Any, name: str, num_images: int) -> tuple[np.ndarray, int | None]:
    if labels is None:
        raise ValueError(f"the attack {name!r} contains no labels. Pass labels, the true classes of its images.")
    return integer_classes(labels, f"labels of the attack {name!r}", num_images=num_images)
