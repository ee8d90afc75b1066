"""Certified distortions: all images within a certified distortion have the same predicted class.

The product of the norms of the layers is a Lipschitz bound for all images, and it is loose. Near one image a better bound is
known. In the last layers, each activation function is bounded by two parabolas on the interval that its input can take inside a
ball around the image. The linear parts of these bounds add up to the gradient of the network, whose norm is computed exactly.
The quadratic parts of all units are bounded together by the largest eigenvalue of a quadratic form, because no perturbation
attains the extremes of all units at once. Bisection finds the largest ball in which no other logit reaches that of the label.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from math import prod, sqrt
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from intriguing.lipschitz.activation_bounds import Enclosure, enclose, slope_at
from intriguing.lipschitz.certificate_checks import checked_images_and_classes, checked_model
from intriguing.lipschitz.dense_tail import DenseTail, Stage, tail_of
from intriguing.lipschitz.network_bound import bounds_at
from intriguing.models.layer_graph import LayerGraph
from intriguing.models.masked_classes import largest_unmasked
from intriguing.pixels import PixelBox, checked_bounds

_GROWTH, _NUM_BALLS = 1.5, 20
_POWER_STEPS = 4  # of the power iteration that bounds the largest eigenvalue
_SINGLE_PRECISION = 2.0**-18  # of the largest logit: allowance for a network that is evaluated in single precision
_SMALLEST_NORM = 1e-150  # a difference of logits that is constant never changes its sign, and has the norm 0
_DOWNWARD = 1.0 - 1e-6  # so that rounding to single precision does not increase a certificate
_ENTRIES_AT_ONCE = 2**24


class CertifiedDistortion(NamedTuple):
    """Distortions up to which the prediction is the label, one row per image; 0 for images that are misclassified.

    `print(certified)` shows how many images have a certificate, and their certified distortion.
    """

    distortion: tf.Tensor  # float32 [batch], root-mean-square pixel change, in pixel units: the larger of both certificates
    by_product: tf.Tensor  # float32 [batch], the certificate from the product of the norms alone

    def __str__(self) -> str:
        distortion, by_product = (np.asarray(field) for field in self)
        has = distortion > 0.0
        lines = [f"{np.count_nonzero(has)} of {len(has)} images have a certified distortion above 0."]
        if np.any(has):
            low, median, high = np.quantile(distortion[has], [0.25, 0.5, 0.75])
            mean = f"mean {np.mean(distortion[has]):.4g}, quartiles {low:.4g}, {median:.4g}, {high:.4g}"
            lines.append(f"Certified distortion of these images (RMS pixel change): {mean}.")
            lines.append(f"From the product of the norms alone: mean {np.mean(by_product[has]):.4g}.")
        return "\n".join(lines)


def certified_distortion(
    model: keras.Model, images: Any, labels: Any, targets: Any = None, *, bounds: tuple[float, float] | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> CertifiedDistortion:  # fmt: skip
    """Computes, for each image, a distortion up to which all images have the same predicted class.

    No image within that distortion has `logits[target] >= logits[label]`; without targets, this holds for every class other
    than the label. For a linear classifier and unbounded pixels it is the exact distance of the nearest such image. For other
    networks it is a lower bound of that distance, and an attack gives an upper bound.

    The proof holds in exact arithmetic; it is computed in double precision with margins for rounding. The network itself
    computes in single precision: the certificate allows for rounding errors of 64 units in the last place, relative to the
    largest logit, and to the norm of the activations that the earlier layers pass to the last ones. If the model returns
    probabilities, the largest logit is taken to be at least 1, since two probabilities may be equal in single precision below
    that. Half precision is refused: it rounds each number by up to 2**-11 (float16) or 2**-8 (bfloat16) of its size.
    TensorFloat-32, in which recent GPUs multiply by default, is less precise than single precision: turn it off with
    `tf.config.experimental.enable_tensor_float_32_execution(False)`.

    Args:
        model: A functional or sequential Keras model from images to logits or probabilities, one input, one output. A softmax
            at its end is removed, as by `logits_of`. One output unit, linear or with a sigmoid, decides between two classes:
            class 1 is predicted where its value before the sigmoid, z, is positive; the logits are `[0, z]`.
        images: Float32 `[batch, ...]` of the model's input shape.
        labels: Int `[batch]`, the classes of the images.
        targets: Int `[batch]`, classes. If given, the logit of the label is compared with that of the target only; if omitted,
            with those of all other classes.
        bounds: The least and the largest pixel value. If given, the certificate holds for images within them only, and `images`
            must lie within them. If omitted, pixels may have any value.
        report: Called as `report(done, total)` after some images, when there are many.

    Returns:
        A `CertifiedDistortion`.

    Raises:
        ValueError: If the model, a shape, a class or a pixel is not as described above, a target is its label, there is no rule
            for the norm of a layer, a weight or a logit is NaN or infinite, or a layer computes in half precision.
        TypeError: If the model is not a Keras model, images are not floating point, or classes are not integers.

    Example:
        >>> certified = certified_distortion(model, images[:8], labels[:8])
        >>> attacked = minimize_distortion(model, images[:8], labels=labels[:8])
        >>> bool(tf.reduce_all(certified.distortion <= attacked.distortion))
        True

    References:
        Szegedy et al., Intriguing properties of neural networks, 2014, section 4.3, for the product. Zhang et al., Efficient
        neural network robustness certification with general activation functions, 2018, for enclosures of activation
        functions. Singla, Feizi, Second-order provable defenses against adversarial attacks, 2020, for curvature.
    """
    pixel_box = None if bounds is None else checked_bounds(bounds)
    logits = checked_model(model)
    images, labels, rivals = checked_images_and_classes(logits, images, labels, targets, pixel_box)
    tail = tail_of(logits.graph)
    ends = [0 if part is None else part.output for part in (tail.head, tail.trunk)]
    norms = [tf.constant(norm, tf.float64) for norm in bounds_at(logits.graph, ends)]
    stages = (*tail.stages[:-1], _of_two_classes(tail.stages[-1]))
    matrices, offsets = [stage.matrix for stage in stages], [stage.offset for stage in stages]
    certify = _certifier(tuple((stage.activation, stage.constant) for stage in stages))
    least_logit = tf.constant(1.0 if logits.ending else 0.0, tf.float64)

    def certify_part(images: tf.Tensor, labels: tf.Tensor, rivals: tf.Tensor) -> list[tf.Tensor]:
        values, rounding, *free = _start_of_tail(tail.head, images, pixel_box)
        lost = tf.math.divide_no_nan(rounding, norms[0])
        radii = certify(matrices, offsets, *norms, values, *free, labels, rivals, least_logit)
        return [tf.nn.relu(radius - lost) for radius in radii]

    at_once = max(1, _ENTRIES_AT_ONCE // _entries_per_image(tail))
    radii = _by_parts(certify_part, (images, labels, rivals), at_once, report)
    _check_radii(radii)
    local, product = (tf.cast(radius / sqrt(prod(images.shape[1:])) * _DOWNWARD, tf.float32) for radius in radii)
    return CertifiedDistortion(tf.maximum(local, product), product)


def _of_two_classes(stage: Stage) -> Stage:
    """Returns the last stage; if it has one unit, with a logit of zero in front of it."""
    if stage.matrix.shape[1] != 1:
        return stage
    matrix, offset = (tf.pad(values, [[0, 0]] * axis + [[1, 0]]) for axis, values in ((1, stage.matrix), (0, stage.offset)))
    return stage._replace(matrix=matrix, offset=offset)


def _check_radii(radii: Sequence[tf.Tensor]) -> None:
    num_bad = int(tf.math.count_nonzero(tf.reduce_any(tf.math.is_nan(tf.stack(radii)), axis=0)))
    if num_bad:
        raise ValueError(
            f"the logits of {num_bad} of the {radii[0].shape[0]} images are NaN or infinite, although all weights are finite: "
            "the network overflows on them. Check the scale of the images and of the weights."
        )


def _by_parts(certify: Callable[..., Any], rows: Sequence[tf.Tensor], size: int, report: Callable[[int, int], None]) -> Any:
    """Certifies at most `size` images at a time, to limit memory; the last part is padded with the first image."""
    batch = rows[0].shape[0]
    size = min(size, batch)
    places = tf.range(-(-batch // size) * size)
    order = tf.reshape(tf.where(places < batch, places, 0), [-1, size])
    parts = []
    for part in tf.unstack(order):
        parts.append(certify(*(tf.gather(values, part) for values in rows)))
        report(min(size * len(parts), batch), batch)
    return [tf.concat(columns, axis=0)[:batch] for columns in zip(*parts, strict=True)]


def _start_of_tail(head: LayerGraph | None, images: tf.Tensor, pixel_box: PixelBox | None) -> tuple[tf.Tensor, ...]:
    """Returns the input of the first stage, a bound of its rounding error, and masks of values that may rise and may fall."""
    values = tf.cast(tf.reshape(images if head is None else _finite_output(head, images), [images.shape[0], -1]), tf.float64)
    free = tf.ones_like(values, tf.bool)
    if head is not None:
        return values, _SINGLE_PRECISION * tf.norm(values, axis=1), free, free
    exact = tf.zeros_like(values[:, 0])
    if pixel_box is None:
        return values, exact, free, free
    return values, exact, values < pixel_box.upper, values > pixel_box.lower


def _finite_output(head: LayerGraph, images: tf.Tensor) -> tf.Tensor:
    """Returns the output of the head; NaN for an image for which a layer overflows, also if a later layer hides that."""
    values = head.values(images)
    rows = [tf.reshape(value, [images.shape[0], -1]) for value in values.values() if value.dtype.is_floating]
    finite = tf.reduce_all(tf.stack([tf.reduce_all(tf.math.is_finite(row), axis=1) for row in rows]), axis=0)
    output = values[head.output]
    return tf.where(tf.reshape(finite, [-1] + [1] * (output.shape.rank - 1)), output, tf.cast(float("nan"), output.dtype))


def _entries_per_image(tail: DenseTail) -> int:
    """Returns the number of entries of the largest array, which holds the gradients of a layer, and their negatives."""
    widths = [int(stage.matrix.shape[1]) for stage in tail.stages]
    return 2 * max(widths) * max(int(tail.stages[0].matrix.shape[0]), max(widths))


class _Layer(NamedTuple):
    """The units of one layer, linearized at the image."""

    matrix: tf.Tensor  # [inputs, units]
    activation: Callable[..., Any]
    constant: float
    point: tf.Tensor  # [batch, units], values before the activation function
    slope: tf.Tensor  # [batch, units], of the activation function at the image
    rise: tf.Tensor  # [batch, units], the largest increase of a unit per distance: the norm of its gradient
    fall: tf.Tensor  # [batch, units], the largest decrease per distance, which differs if pixels are at their bounds
    overlaps: tf.Tensor  # [batch or 1, units, units], absolute inner products of the gradients


class _InBall(NamedTuple):
    """Bounds of the units of one layer inside a ball around the image."""

    enclosure: Enclosure  # of the activation function, over the values that a unit can take
    reach: tf.Tensor  # [batch, units], the largest change of a unit
    rest: tf.Tensor  # [batch, units], the largest difference between a unit and its linear part


@functools.cache
def _certifier(activations: tuple[tuple[Callable[..., Any], float], ...]) -> Any:
    """Returns a compiled function from the stages and the images to both certified L2 radii, each `[batch]`."""

    @tf.function(autograph=False)
    def certify(
        matrices: list[tf.Tensor], offsets: list[tf.Tensor], head_norm: tf.Tensor, trunk_norm: tf.Tensor, values: tf.Tensor,
        may_rise: tf.Tensor, may_fall: tf.Tensor, labels: tf.Tensor, rivals: tf.Tensor, least_logit: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:  # fmt: skip
        layers: list[_Layer] = []
        gradients = None
        for matrix, offset, (activation, constant) in zip(matrices[:-1], offsets[:-1], activations[:-1], strict=True):
            gradients = _gradients(tf.transpose(matrix)[tf.newaxis], layers, gradients)
            point = values @ matrix + offset
            rise, fall = _norms(gradients, may_rise, may_fall), _norms(-gradients, may_rise, may_fall)
            overlaps = tf.abs(tf.matmul(gradients, gradients, transpose_b=True))
            layers.append(_Layer(matrix, activation, constant, point, slope_at(activation, point), rise, fall, overlaps))
            values = activation(point)
        columns = tf.transpose(matrices[-1])
        against = tf.gather(columns, rivals) - tf.gather(columns, labels)[:, tf.newaxis]
        margins = _margins(values @ matrices[-1] + offsets[-1], labels, rivals, least_logit)
        rates = _norms(_gradients(against, layers, gradients), may_rise, may_fall)
        by_pair = margins / tf.maximum(trunk_norm * tf.norm(against, axis=-1), _SMALLEST_NORM)
        product = tf.maximum(tf.reduce_min(by_pair, axis=1), 0.0)

        def holds(radius: tf.Tensor) -> tf.Tensor:
            rest = _rest(against, layers, _in_ball(layers, radius), radius)
            return tf.reduce_all(rates * radius[:, tf.newaxis] + rest < margins, axis=1)

        return tf.math.divide_no_nan(_largest_radius(holds, product * head_norm), head_norm), product

    return certify


def _margins(logits: tf.Tensor, labels: tf.Tensor, rivals: tf.Tensor, least_logit: tf.Tensor) -> tf.Tensor:
    """Returns the logit of the label minus that of each rival, `[batch, rivals]`, minus a bound of the rounding error.

    The logit of a masked class is used for the rounding error of its own margin only.
    """
    label, rival = tf.gather(logits, labels, batch_dims=1)[:, tf.newaxis], tf.gather(logits, rivals, batch_dims=1)
    largest = tf.maximum(largest_unmasked(logits)[:, tf.newaxis], least_logit)
    largest = tf.maximum(largest, tf.maximum(tf.abs(label), tf.abs(rival)))
    return label - rival - _SINGLE_PRECISION * largest


def _gradients(coefficients: tf.Tensor, layers: Sequence[_Layer], of_units: tf.Tensor | None) -> tf.Tensor:
    """Returns the gradients of linear functions of the last layer's outputs, given as `[batch or 1, functions, units]`."""
    return coefficients if of_units is None else (coefficients * layers[-1].slope[:, tf.newaxis]) @ of_units


def _norms(gradients: tf.Tensor, may_rise: tf.Tensor, may_fall: tf.Tensor) -> tf.Tensor:
    """Returns the largest increase of functions per distance, `[batch, functions]`."""
    up, down = tf.nn.relu(gradients) ** 2, tf.nn.relu(-gradients) ** 2
    masks = (tf.cast(mask[:, tf.newaxis], gradients.dtype) for mask in (may_rise, may_fall))
    squares = [tf.matmul(part, mask, transpose_b=True)[..., 0] for part, mask in zip((up, down), masks, strict=True)]
    return tf.sqrt(squares[0] + squares[1])


def _in_ball(layers: Sequence[_Layer], radius: tf.Tensor) -> list[_InBall]:
    inside: list[_InBall] = []
    for number, layer in enumerate(layers):
        rows = tf.transpose(layer.matrix)[tf.newaxis]
        rest = _rest(rows, layers[:number], inside, radius, both_ways=True)
        above, below = (norm * radius[:, tf.newaxis] + rest for norm in (layer.rise, layer.fall))
        enclosure = enclose(layer.activation, layer.constant, layer.point, below, above)
        inside.append(_InBall(enclosure, tf.maximum(above, below), rest))
    return inside


def _rest(
    coefficients: tf.Tensor, layers: Sequence[_Layer], inside: Sequence[_InBall], radius: tf.Tensor, *, both_ways: bool = False
) -> tf.Tensor:
    """Bounds the excess of functions over their linear part; with `both_ways`, the absolute difference from it.

    The functions are linear in the outputs of the last layer.
    """
    rest = tf.zeros([tf.shape(radius)[0], coefficients.shape[1]], tf.float64)
    for layer, known in reversed(list(zip(layers, inside, strict=True))):
        bounds = known.enclosure
        rest += 0.5 * _quadratic_form(_weights(coefficients, -bounds.low, bounds.high, both_ways), layer, known, radius)
        if bounds.low_slack is not None and bounds.high_slack is not None:
            rest += _absolute_form(_weights(coefficients, bounds.low_slack, bounds.high_slack, both_ways), layer, known, radius)
        coefficients = tf.matmul(coefficients * layer.slope[:, tf.newaxis], layer.matrix, transpose_b=True)
    return rest


def _weights(coefficients: tf.Tensor, low: tf.Tensor, high: tf.Tensor, both_ways: bool) -> tf.Tensor:
    """Returns the weights of differences of at most `high` above and `low` below, for positive and negative coefficients."""
    low, high = low[:, tf.newaxis], high[:, tf.newaxis]
    if both_ways:
        return tf.abs(coefficients) * tf.nn.relu(tf.maximum(low, high))
    return tf.nn.relu(tf.maximum(coefficients * high, -coefficients * low))


def _absolute_form(weights: tf.Tensor, layer: _Layer, known: _InBall, radius: tf.Tensor) -> tf.Tensor:
    """Bounds `sum(weights * |change of a unit|)` by the sum of the units' bounds, and by the Cauchy-Schwarz inequality."""
    one_by_one = tf.reduce_sum(weights * known.reach[:, tf.newaxis], axis=-1)
    together = tf.sqrt(tf.reduce_sum(weights, axis=-1) * _quadratic_form(weights, layer, known, radius))
    return tf.minimum(one_by_one, together)


def _quadratic_form(weights: tf.Tensor, layer: _Layer, known: _InBall, radius: tf.Tensor) -> tf.Tensor:
    """Bounds `sum(weights * (change of a unit)**2)` for weights `[batch, functions, units]`, none negative.

    The result is the smaller of two bounds: the sum of the units' bounds, and a bound from the largest eigenvalue of the
    weighted inner products of their gradients. For a matrix without negative entries, that eigenvalue is at most the largest
    ratio of the entries of `matrix @ vector` to those of `vector`, for any positive vector (Collatz and Wielandt).
    """
    one_by_one = tf.reduce_sum(weights * known.reach[:, tf.newaxis] ** 2, axis=-1)
    grown = tf.ones_like(weights)
    for _ in range(_POWER_STEPS):
        vectors = grown / (tf.reduce_max(grown, axis=-1, keepdims=True) + 1e-300) + 1e-6
        grown = (weights * vectors) @ layer.overlaps
    linear = tf.sqrt(tf.reduce_max(grown / vectors, axis=-1)) * radius[:, tf.newaxis]
    rest = tf.sqrt(tf.reduce_sum(weights * known.rest[:, tf.newaxis] ** 2, axis=-1))
    return tf.minimum(one_by_one, (linear + rest) ** 2)


def _largest_radius(holds: Callable[[tf.Tensor], tf.Tensor], start: tf.Tensor) -> tf.Tensor:
    """Increases each radius from a positive start while `holds` is true, then bisects; a radius of 0 remains 0."""

    def step(number: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        radius = tf.where(tf.math.is_inf(high), _GROWTH * low, tf.sqrt(low * high))
        passed = holds(radius) & (start > 0)
        return number + 1, tf.where(passed, radius, low), tf.where(passed, high, radius)

    high = tf.fill(tf.shape(start), tf.constant(float("inf"), start.dtype))
    return tf.while_loop(lambda number, low, high: number < _NUM_BALLS, step, (0, start, high), parallel_iterations=1)[1]
