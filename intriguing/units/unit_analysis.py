"""Compares the single units of a layer with random bases of the same space."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from intriguing.models.functional import Classifier
from intriguing.names import check_name
from intriguing.units.attributes import Attributes
from intriguing.units.basis_test import BasisTest, check_num_bases, compare_bases
from intriguing.units.direction_records import NUM_BINS, Projections, record_directions
from intriguing.units.directions import fractional_rotations, haar_bases
from intriguing.units.example_batches import ExampleSource, as_examples
from intriguing.units.feature_moments import FeatureMoments, feature_covariance, feature_moments
from intriguing.units.feature_passes import kept_features
from intriguing.units.selectivity import Measured, Selectivity, measure_selectivity

_logger = logging.getLogger(__name__)

SCALINGS = ("none", "standardized", "whitened")
"""The original features; features of variance 1; or uncorrelated features of variance 1, by the smallest change (ZCA)."""

MEASURES = {"purity": True, "label_entropy": False, "class_selectivity": True, "best_auc": True}
"""The fields of `Selectivity`, and whether a larger value is more selective."""

_MOST_CELLS = 2**27  # maximum number of bins in one pass, which take 0.5 GB
_LEAST_VARIANCE_SHARE = 1e-6  # smaller eigenvalues, relative to the largest, are rounding, which whitening would amplify


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitSettings:
    """Settings of the comparison of the natural basis with random bases.

    Attributes:
        num_top: Number of top images of each direction.
        num_random_bases: Number of Haar-random bases, at least 99, so that a p-value of 0.01 is possible.
        alphas: The measures are also computed for the bases Q**alpha, which lie between the natural basis (alpha 0) and a
            random basis Q (alpha 1).
        num_rotations: The number of random bases Q for `alphas`; at most `num_random_bases`.
        scaling: One of `SCALINGS`. Without scaling, the units with the largest variances dominate a random direction.
        max_units: The maximum number of units; from a larger layer, so many are drawn at random. The bases are those of the
            space that these units span.
        seed: Seed of all draws.
    """

    num_top: int = 10
    num_random_bases: int = 100
    alphas: tuple[float, ...] = (0.25, 0.5, 0.75)
    num_rotations: int = 10
    scaling: str = "standardized"
    max_units: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_top < 1:
            raise ValueError(f"num_top must be at least 1; received {self.num_top}. Pass 10, as by default.")
        check_num_bases(self.num_random_bases)
        check_name(self.scaling, SCALINGS, "scaling")
        if not all(0.0 < alpha < 1.0 for alpha in self.alphas):
            raise ValueError(
                f"alphas must lie between 0 and 1; received {self.alphas}. Omit 0 and 1, which are always included."
            )
        if not 1 <= self.num_rotations <= self.num_random_bases:
            raise ValueError(
                f"num_rotations must be from 1 to num_random_bases, {self.num_random_bases}; received {self.num_rotations}."
            )
        if self.max_units < 2:
            raise ValueError(f"max_units must be at least 2, so that a basis can be rotated; received {self.max_units}.")


class TopImages(NamedTuple):
    """The images with the largest projections on some directions, in decreasing order."""

    values: tf.Tensor  # [directions, k], the projections of the scaled features
    examples: tf.Tensor  # [directions, k] int32, positions of the images in the data


class UnitAnalysis(NamedTuple):
    """The units of one layer, as many random directions, and the comparison with random bases.

    The measures are in the order of `MEASURES`. `print(analysis)` shows the size of the layer and the test of each measure.
    """

    units: tf.Tensor  # [units] int32, the indices of the compared features
    num_features: int  # number of features of the layer
    num_constant: int  # number of constant features, which are excluded
    natural: Measured  # the selectivity of the units
    natural_top: TopImages
    random: Measured  # the selectivity of the first random basis
    random_top: TopImages
    tests: tuple[BasisTest, ...]  # one for each measure
    alphas: tf.Tensor  # [alphas], from 0 to 1
    along_rotations: tf.Tensor  # [alphas, rotations, measures], means over the directions of the basis Q**alpha

    def __str__(self) -> str:
        sizes = f"{len(self.units)} units of {self.num_features} features, {self.num_constant} of them constant."
        lines = [sizes, "Effect, in standard deviations of random directions (positive: more selective), and p-values:"]
        for name, test in zip(MEASURES, self.tests, strict=True):
            effect, lower, upper, more, less = map(float, test[2:7])
            lines.append(f"  {name}: {effect:+.2f} ({lower:+.2f} to {upper:+.2f}), p_more {more:.2g}, p_less {less:.2g}")
        return "\n".join(lines)


def analyze_units(
    features: Classifier, examples: ExampleSource, attributes: Attributes, *, settings: UnitSettings = UnitSettings()
) -> UnitAnalysis:
    """Compares the units of a layer with random bases of their space.

    The analysis takes two passes over the images: one for the scale of the features, one for all directions; whitening requires
    a third. If the histograms of hundreds of groups do not fit into memory, the features of all images are stored instead, and
    the directions are measured in parts. The rows are divided among the replicas of the current strategy.

    Args:
        features: From images to features, such as `models.features_at(model, "hidden1")`.
        examples: A `tf.data.Dataset` of batches or of single images, or arrays, of `(images, groups)` or of images alone, in
            the order of the example ids. The groups are those of `attributes`: `attributes.groups`, or class labels, as
            integers or one-hot rows, for `attributes_of_classes`.
        attributes: The attributes of the images, such as their classes.
        settings: Numbers of images and bases, and the scaling.

    Returns:
        A `UnitAnalysis`.

    Raises:
        ValueError: If fewer than two features vary, if there are fewer images than `num_top`, if a feature is not finite, if a
            group is out of range, or if the number of images or the groups passed with them differ from `attributes.groups`.
        TypeError: If images are not floating point, if they can be iterated only once, if groups are not integers, or if
            `attributes` is not an `Attributes`.

    Example:
        >>> examples = tf.data.Dataset.from_tensor_slices((images, labels)).batch(100)
        >>> analysis = analyze_units(features_at(model, "hidden1"), examples, attributes_of_classes(labels, class_names))
        >>> len(analysis.tests) == len(MEASURES)
        True

    References:
        Szegedy et al., Intriguing properties of neural networks, 2014, section 3. Bau et al., Network Dissection, 2017, section
        3.2, which rotates the basis of a layer and counts concepts.
    """
    if not isinstance(attributes, Attributes):
        raise TypeError(
            f"attributes must be an Attributes; received {type(attributes).__name__}. For labels, pass "
            "attributes_of_classes(labels, class_names)."
        )
    _warn_if_none_share(attributes)
    examples = as_examples(examples, features, groups=attributes.groups)
    moments = feature_moments(features, examples)
    if int(moments.num_examples) != len(attributes.groups):
        raise ValueError(
            f"attributes must have one group for each image; received {int(moments.num_examples)} images and "
            f"{len(attributes.groups)} groups."
        )
    if int(moments.num_examples) < settings.num_top:
        raise ValueError(
            f"num_top must be at most {int(moments.num_examples)}, the number of images; received {settings.num_top}. Pass a "
            "smaller number."
        )
    units, num_constant = _chosen_units(moments, settings)
    scaling = _scaling(features, examples, units, moments, settings.scaling)
    bases = haar_bases(settings.num_random_bases, units.shape[0], seed=settings.seed)
    rotations = fractional_rotations(bases[: settings.num_rotations], tf.constant(settings.alphas, tf.float32))
    every = tf.concat([tf.eye(units.shape[0])[tf.newaxis], bases, tf.reshape(rotations, [-1, *bases.shape[1:]])], axis=0)
    directions = tf.reshape(every, [-1, units.shape[0]])
    kernel = tf.matmul(scaling, directions, transpose_b=True)
    offset = -tf.linalg.matvec(kernel, tf.gather(moments.mean, units), transpose_a=True)
    measured, top = _measured(features, examples, Projections(units, kernel, offset), attributes, settings.num_top)
    return _compared(units, moments.mean.shape[0], num_constant, measured, top, settings)


def _warn_if_none_share(attributes: Attributes) -> None:
    sizes = np.bincount(attributes.groups, minlength=len(attributes.group_attributes))
    if np.max(sizes @ attributes.group_attributes, initial=0) < 2:
        _logger.warning(
            "No two images have a common attribute, so that the tests are not informative. Pass a table of attributes, or "
            "kinds of classes."
        )


def _measured(
    features: Classifier, examples: ExampleSource, projections: Projections, attributes: Attributes, num_top: int
) -> tuple[Measured, TopImages]:
    """Measures all directions, in several passes if their histograms do not fit into memory at once."""
    num_directions, num_groups = projections.offset.shape[0], len(attributes.group_attributes)
    at_once = max(1, _MOST_CELLS // (num_groups * NUM_BINS))
    if num_directions > at_once:  # several passes over the features, which take less memory than the histograms
        examples = kept_features(features, examples, projections.units)
        features, projections = tf.identity, projections._replace(units=tf.range(projections.units.shape[0]))
    parts = []
    for begin in range(0, num_directions, at_once):
        kernel, offset = projections.kernel[:, begin : begin + at_once], projections.offset[begin : begin + at_once]
        part = Projections(projections.units, kernel, offset)
        record = record_directions(features, examples, part, num_groups=num_groups, num_top=num_top)
        measured = measure_selectivity(record, tf.constant(attributes.group_attributes))
        parts.append((measured, TopImages(record.top_values, record.top_examples)))
    return tf.nest.map_structure(lambda *values: tf.concat(values, axis=0), *parts)


def _compared(
    units: tf.Tensor, num_features: int, num_constant: int, measured: Measured, top: TopImages, settings: UnitSettings
) -> UnitAnalysis:
    number, last = units.shape[0], 1 + settings.num_random_bases
    by_basis = Selectivity(*(tf.reshape(values, [-1, number]) for values in measured.selectivity))
    tests = tuple(
        compare_bases(values[0], values[1:last], larger_is_selective=MEASURES[name], seed=settings.seed)
        for name, values in by_basis._asdict().items()
    )
    means = tf.stack([tf.reduce_mean(values, axis=1) for values in by_basis], axis=-1)
    natural = tf.repeat(means[:1], settings.num_rotations, axis=0)
    between = tf.reshape(means[last:], [len(settings.alphas), settings.num_rotations, len(MEASURES)])
    return UnitAnalysis(
        units=units,
        num_features=num_features,
        num_constant=num_constant,
        natural=_rows(measured, 0, number),
        natural_top=_rows(top, 0, number),
        random=_rows(measured, number, 2 * number),
        random_top=_rows(top, number, 2 * number),
        tests=tests,
        alphas=tf.constant([0.0, *settings.alphas, 1.0]),
        along_rotations=tf.concat([natural[tf.newaxis], between, means[tf.newaxis, 1 : 1 + settings.num_rotations]], axis=0),
    )


def _rows(structure: Any, start: int, stop: int) -> Any:
    return tf.nest.map_structure(lambda tensor: tensor[start:stop], structure)


def _chosen_units(moments: FeatureMoments, settings: UnitSettings) -> tuple[tf.Tensor, int]:
    changing = tf.where(moments.maximum > moments.minimum)[:, 0]
    num_changing, num_features = int(changing.shape[0]), int(moments.mean.shape[0])
    if num_changing < 2:
        raise ValueError(
            f"at least two features must vary between images, so that a basis can be rotated; received {num_changing} of "
            f"{num_features}. Choose another layer."
        )
    drawn = np.random.default_rng(settings.seed).permutation(num_changing)[: settings.max_units]
    return tf.cast(tf.gather(changing, np.sort(drawn)), tf.int32), num_features - num_changing


def _scaling(
    features: Classifier, examples: ExampleSource, units: tf.Tensor, moments: FeatureMoments, scaling: str
) -> tf.Tensor:
    """Returns the matrix `[units, units]` that scales the features."""
    if scaling == "none":
        return tf.eye(units.shape[0])
    if scaling == "standardized":
        return tf.linalg.diag(tf.math.rsqrt(tf.gather(moments.variance, units)))
    variances, vectors = tf.linalg.eigh(feature_covariance(features, examples, units, moments.mean))
    kept = variances > _LEAST_VARIANCE_SHARE * variances[-1]
    scales = tf.where(kept, tf.math.rsqrt(tf.where(kept, variances, 1.0)), 0.0)
    # Rotated back after scaling: ZCA whitening changes the features least.
    return tf.matmul(vectors * scales, vectors, transpose_b=True)
