"""Evaluates models on images that were distorted for each source model, on amplified images, and on images with noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import nan
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np
import tensorflow as tf

from intriguing.distortion import add_gaussian_noise, amplify, distortion
from intriguing.evaluation.matrix import AMPLIFIED, DISTORTED, NOISE, UNCLIPPED_NOISE, TransferMatrix, TransferRow
from intriguing.evaluation.predictions import predict
from intriguing.evaluation.transfer import transfer_rates
from intriguing.models.functional import Classifier, split_weights
from intriguing.pixels import PixelBox, checked_bounds, checked_images

_ANY_VALUE = PixelBox(float("-inf"), float("inf"))


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


def transfer_matrix(
    models: Mapping[str, Classifier],
    attacks: Mapping[str, Attack] | Sequence[tuple[str, Attack]],
    labels: Any = None,
    *,
    images: Any = None,
    noise: Sequence[float] = (0.1,),
    unclipped_noise: Sequence[float] = (),
    amplify_to: Sequence[float] = (),
    bounds: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
    on_row: Callable[[TransferRow], None] = lambda row: None,
) -> TransferMatrix:
    """Evaluates every model on the images that were distorted for each source model, and on noise as a control.

    Images for which an attack failed are excluded, because they are unchanged. Noise is added to all images, including those
    for which an attack failed: to `images`, or to the clean images of the first attack if `images` is None.

    Args:
        models: The evaluated models by name, as in `predict`.
        attacks: From the name of each source model to its attack: the results of `minimize_distortion` on `images`, a pair of
            clean and distorted images, or `AttackedImages`. A sequence of pairs of name and attack may name a model twice.
        labels: Integer `[n]`, the true classes of the images. Not required if all `AttackedImages` contain labels.
        images: Floating `[n, ...]`, the clean images of results. Not required if all attacks contain clean images.
        noise: Standard deviations of Gaussian noise that is clipped to the bounds.
        unclipped_noise: Standard deviations of Gaussian noise that is not clipped.
        amplify_to: Distortions to which the perturbations are amplified, within the bounds.
        bounds: The smallest and the largest legal pixel value.
        seed: Seed of the noise.
        on_row: Called with each row when it is complete, to report progress.

    Returns:
        A `TransferMatrix`: one row for each attack, for each pair of an attack and a number in `amplify_to`, and for each
        amount of noise.

    Raises:
        ValueError: If there is no model, shapes do not match, a pixel of a clean image lies outside the bounds, a model takes
            images of another shape or lacks a class, or images or labels are missing.
        TypeError: If an attack has another type, or a dtype is wrong.

    Example:
        >>> other = build("FC10(1)", image_shape=(6, 6, 1))
        >>> attacks = {"FC100": minimize_distortion(model, images, labels=labels, search="fast")}
        >>> matrix = transfer_matrix({"FC100": model, "FC10": other}, attacks, labels, images=images, noise=(0.1, 0.3))
        >>> matrix.rows[0].rates["FC100"].on_all.rate
        1.0
        >>> print(matrix)
        Error rates in percent with 95 % intervals, on all images
        Source model  Images     Amount  Distortion  Number  FC100                FC10
        FC100         distorted          ...
                      noise      0.1     ...

    References:
        Szegedy et al., Intriguing properties of neural networks, 2014, tables 1 to 4. https://arxiv.org/abs/1312.6199
    """
    if not models:
        raise ValueError("models must name at least one model to evaluate; received none.")
    box = checked_bounds(bounds)
    pairs = attacks.items() if isinstance(attacks, Mapping) else attacks
    every = [_checked_attack(name, attack, images, labels, box) for name, attack in pairs]
    controls = [_control(images, labels, box)] if images is not None else every[:1]
    for name, model in models.items() if every or controls else ():
        _check_fits(name, model, [*every, *controls])
    rows = []
    for changed in _changed_sets(
        models, every, controls, amplify_to, {NOISE: noise, UNCLIPPED_NOISE: unclipped_noise}, box, seed
    ):
        rows.append(_row(models, changed))
        on_row(rows[-1])
    return TransferMatrix(tuple(rows))


class _Checked(NamedTuple):
    """The checked images of an attack, or of the noise control."""

    source_model: str
    images: tf.Tensor
    distorted: tf.Tensor
    labels: np.ndarray
    succeeded: np.ndarray
    distortion: tf.Tensor


class _Sample(NamedTuple):
    """Clean images, and the predictions of all models for them."""

    images: tf.Tensor
    labels: tf.Tensor
    predictions: dict[str, tf.Tensor]


class _ChangedImages(NamedTuple):
    kind: str
    source_model: str
    amount: float | None
    sample: _Sample
    images: tf.Tensor
    distortion: tf.Tensor


def _checked_attack(name: str, attack: Attack, images: Any, labels: Any, box: PixelBox) -> _Checked:
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
    checked_labels = _checked_labels(given.labels if given.labels is not None else labels, name, num_images)
    change = distortion(clean, distorted) if given.distortion is None else tf.convert_to_tensor(given.distortion)
    if change.shape != (num_images,):
        raise ValueError(
            f"distortion of the attack {name!r} must be a number for each of {num_images} images; received shape "
            f"{change.shape.as_list()}."
        )
    return _Checked(name, clean, distorted, checked_labels, succeeded, change)


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


def _checked_labels(labels: Any, name: str, num_images: int) -> np.ndarray:
    if labels is None:
        raise ValueError(f"the attack {name!r} contains no labels. Pass labels, the true classes of its images.")
    numbers = np.asarray(labels)
    if not np.issubdtype(numbers.dtype, np.integer):
        raise TypeError(f"labels must be integers; received {numbers.dtype}.")
    if numbers.shape != (num_images,):
        raise ValueError(
            f"labels must be one integer for each of the {num_images} images of {name!r}; received shape {list(numbers.shape)}."
        )
    return numbers


def _control(images: Any, labels: Any, box: PixelBox) -> _Checked:
    return _checked_attack("noise", AttackedImages(images, images), images, labels, box)


def _check_fits(name: str, model: Classifier, attacks: Sequence[_Checked]) -> None:
    """Raises a `ValueError` if a model takes images of another shape than an attack, or lacks one of its classes."""
    for attack in attacks:
        _check_takes(name, model, attack)
    num_classes = split_weights(model, attacks[0].images.shape[1:])[0].num_classes
    for attack in attacks:
        outside = attack.labels[(attack.labels < 0) | (attack.labels >= num_classes)]
        if outside.size:
            raise ValueError(
                f"the network {name} has {num_classes} classes; an image that was distorted for {attack.source_model} has "
                f"class {outside.max()}. Compare networks with the same classes."
            )


def _check_takes(name: str, model: Classifier, attack: _Checked) -> None:
    expected = getattr(model, "input_shape", None) if isinstance(model, keras.Model) else None
    shape = attack.images.shape[1:]
    if isinstance(expected, tuple) and not shape.is_compatible_with(expected[1:]):
        raise ValueError(
            f"the network {name} takes images {list(expected[1:])}; the images that were distorted for {attack.source_model} "
            f"have shape {shape.as_list()}. Transfer requires networks of one image size; omit one of the two."
        )


def _changed_sets(
    models: Mapping[str, Classifier],
    attacks: Sequence[_Checked],
    controls: Sequence[_Checked],
    amplify_to: Sequence[float],
    noises: Mapping[str, Sequence[float]],
    box: PixelBox,
    seed: int,
) -> Iterator[_ChangedImages]:
    found = [_only_succeeded(attack) for attack in attacks]
    samples = [_sample(models, attack) for attack in found]
    for attack, sample in zip(found, samples, strict=True):
        yield _ChangedImages(DISTORTED, attack.source_model, None, sample, attack.distorted, attack.distortion)
    for amount in amplify_to:
        for attack, sample in zip(found, samples, strict=True):
            moved = amplify(attack.images, attack.distorted, to_distortion=amount, pixel_box=box)
            yield _ChangedImages(AMPLIFIED, attack.source_model, amount, sample, moved.images, moved.distortion)
    for control in controls if any(noises.values()) else ():
        sample = _sample(models, control)
        for kind, amounts in noises.items():
            for amount in amounts:
                clipped_to = box if kind == NOISE else None
                noisy = add_gaussian_noise(control.images, standard_deviation=amount, seed=seed, pixel_box=clipped_to)
                yield _ChangedImages(kind, "", amount, sample, noisy.images, noisy.distortion)


def _only_succeeded(attack: _Checked) -> _Checked:
    rows = attack.succeeded
    images, distorted, change = (
        tf.constant(np.asarray(values)[rows]) for values in (attack.images, attack.distorted, attack.distortion)
    )
    return _Checked(attack.source_model, images, distorted, attack.labels[rows], rows[rows], change)


def _sample(models: Mapping[str, Classifier], attack: _Checked) -> _Sample:
    predictions = {name: predict(model, attack.images) for name, model in models.items()}
    return _Sample(attack.images, tf.constant(attack.labels), predictions)


def _row(models: Mapping[str, Classifier], changed: _ChangedImages) -> TransferRow:
    predictions = {name: predict(model, changed.images) for name, model in models.items()}
    clean, labels = changed.sample.predictions, changed.sample.labels
    values = np.asarray(changed.distortion)
    return TransferRow(
        kind=changed.kind,
        source_model=changed.source_model,
        amount=changed.amount,
        mean_distortion=float(np.mean(values)) if len(values) else nan,
        std_distortion=float(np.std(values, ddof=1)) if len(values) > 1 else nan,
        num_images=len(values),
        rates={name: transfer_rates(predictions[name], clean[name], labels) for name in models},
        predictions=predictions,
    )
