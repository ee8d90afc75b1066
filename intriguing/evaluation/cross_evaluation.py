"""Evaluates models on images that were distorted for each source model, on amplified images, and on images with noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import nan
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from intriguing.distortion import add_gaussian_noise, amplify, checked_seed
from intriguing.evaluation.attacked_images import Attack, AttackedImages, CheckedAttack, checked_attack, checked_attacks
from intriguing.evaluation.matrix import AMPLIFIED, DISTORTED, NOISE, UNCLIPPED_NOISE, TransferMatrix, TransferRow
from intriguing.evaluation.predictions import predict
from intriguing.evaluation.transfer import transfer_rates
from intriguing.models.functional import Classifier, split_weights
from intriguing.pixels import PixelBox, checked_bounds


def transfer_matrix(
    models: Mapping[str, Classifier],
    attacks: Mapping[str, Attack] | Sequence[tuple[str, Attack]],
    labels: Any = None,
    *,
    images: Any = None,
    noise: float | Sequence[float] = (0.1,),
    unclipped_noise: float | Sequence[float] = (),
    amplify_to: float | Sequence[float] = (),
    bounds: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
    on_row: Callable[[TransferRow], None] = lambda row: None,
) -> TransferMatrix:
    """Evaluates every model on the images that were distorted for each source model, and on noise as a control.

    Images for which an attack failed are excluded, because they are unchanged. Noise is added to all images, including those
    for which an attack failed: to `images`, or to the clean images of the first attack if `images` is None. The distortion
    includes images that were misclassified before, with distortion 0.

    Args:
        models: The evaluated models by name, as in `predict`.
        attacks: From the name of each source model to its attack: the results of `minimize_distortion` on `images`, a pair of
            clean and distorted images, or `AttackedImages`. A sequence of pairs of name and attack may name a model twice.
        labels: Integer `[n]`, the true classes of the images; one-hot rows are accepted, too. Not required if all
            `AttackedImages` contain labels.
        images: Floating `[n, ...]`, the clean images of results. Not required if all attacks contain clean images.
        noise: Standard deviations of Gaussian noise that is clipped to the bounds: a sequence, or one number. This also applies
            to the next two arguments.
        unclipped_noise: Standard deviations of Gaussian noise that is not clipped.
        amplify_to: Distortions to which the perturbations are amplified, within the bounds.
        bounds: The smallest and the largest legal pixel value.
        seed: Seed of the noise, in [0, 2**31).
        on_row: Called with each row when it is complete, to report progress.

    Returns:
        A `TransferMatrix`: one row for each attack, for each pair of an attack and a number in `amplify_to`, and for each
        amount of noise.

    Raises:
        ValueError: If there is no model, shapes do not match, a pixel lies outside the bounds, a model takes images of another
            shape or lacks a class, images or labels are missing, `images` are not those attacked, or an amount or `seed` is
            out of range.
        TypeError: If an argument or an attack has another type, or a dtype is wrong.

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
    _check_models(models)
    box, seed = checked_bounds(bounds), checked_seed(seed)
    amplify_to = _checked_amounts(amplify_to, "amplify_to")
    noises = {NOISE: _checked_amounts(noise, "noise"), UNCLIPPED_NOISE: _checked_amounts(unclipped_noise, "unclipped_noise")}
    every = checked_attacks(attacks, images, labels, box)
    controls = [_control(images, labels, box)] if images is not None else every[:1]
    for name, model in models.items() if every or controls else ():
        _check_fits(name, model, [*every, *controls])
    rows = []
    for changed in _changed_sets(models, every, controls, amplify_to, noises, box, seed):
        rows.append(_row(models, changed))
        on_row(rows[-1])
    return TransferMatrix(tuple(rows))


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


def _check_models(models: Mapping[str, Classifier]) -> None:
    if not isinstance(models, Mapping):
        raise TypeError(
            f"models must be a dictionary from names to classifiers; received a {type(models).__name__}. Pass "
            "models={'name': model}."
        )
    if not models:
        raise ValueError("models must name at least one model to evaluate; received none.")
    for name in models:
        if not isinstance(name, str):
            raise TypeError(
                f"names in models must be strings; received a {type(name).__name__}. Pass models={{'name': model}}."
            )


def _checked_amounts(amounts: float | Sequence[float], name: str) -> tuple[float, ...]:
    """Returns standard deviations or distortions; one number becomes a tuple of one."""
    array = np.asarray(amounts)
    if array.dtype.kind not in "iuf" or array.ndim > 1:
        raise TypeError(f"{name} must be one number, or a sequence of numbers; received {amounts!r}. Pass {name}=() for none.")
    if not np.all(np.isfinite(array) & (array >= 0.0)):
        raise ValueError(f"{name} must be finite and not negative; received {amounts!r}.")
    return tuple(np.atleast_1d(array).astype(float).tolist())


def _control(images: Any, labels: Any, box: PixelBox) -> CheckedAttack:
    return checked_attack("noise", AttackedImages(images, images), images, labels, box)


def _check_fits(name: str, model: Classifier, attacks: Sequence[CheckedAttack]) -> None:
    """Raises a `ValueError` if a model takes images of another shape than an attack, or lacks one of its classes."""
    for attack in attacks:
        _check_takes(name, model, attack)
    num_classes = split_weights(model, attacks[0].images.shape[1:])[0].num_classes
    for attack in attacks:
        if attack.num_columns not in (None, num_classes):
            raise ValueError(
                f"one-hot labels must have {num_classes} columns, one for each class of the network {name}; received "
                f"{attack.num_columns}."
            )
        outside = attack.labels[(attack.labels < 0) | (attack.labels >= num_classes)]
        if outside.size:
            raise ValueError(
                f"the network {name} has {num_classes} classes; an image that was distorted for {attack.source_model} has "
                f"class {outside.max()}. Compare networks with the same classes."
            )


def _check_takes(name: str, model: Classifier, attack: CheckedAttack) -> None:
    expected = getattr(model, "input_shape", None) if isinstance(model, keras.Model) else None
    shape = attack.images.shape[1:]
    if isinstance(expected, tuple) and not shape.is_compatible_with(expected[1:]):
        raise ValueError(
            f"the network {name} takes images {list(expected[1:])}; the images that were distorted for {attack.source_model} "
            f"have shape {shape.as_list()}. Transfer requires networks of one image size; omit one of the two."
        )


def _changed_sets(
    models: Mapping[str, Classifier],
    attacks: Sequence[CheckedAttack],
    controls: Sequence[CheckedAttack],
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


def _only_succeeded(attack: CheckedAttack) -> CheckedAttack:
    rows = attack.succeeded
    images, distorted, change = (
        tf.constant(np.asarray(values)[rows]) for values in (attack.images, attack.distorted, attack.distortion)
    )
    return CheckedAttack(attack.source_model, images, distorted, attack.labels[rows], None, rows[rows], change)


def _sample(models: Mapping[str, Classifier], attack: CheckedAttack) -> _Sample:
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
