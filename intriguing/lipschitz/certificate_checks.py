"""Checks of the model, images and classes before a certificate is computed."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import keras
import tensorflow as tf

from intriguing.lipschitz.activation_lipschitz import ACTIVATION_LAYERS, lipschitz_of_operation
from intriguing.lipschitz.network_bound import check_bounded
from intriguing.models.functional import checked_classes, split_weights
from intriguing.models.layer_graph import LayerGraph, Logits, described, layer_graph, logits_of
from intriguing.models.single_output import OF_LOGIT
from intriguing.pixels import PixelBox, checked_images


def check_certifiable(model: Any) -> None:
    """Raises the errors of `certified_distortion` for a model, without computing the norms of large layers.

    Call it before an attack whose results are to be compared with certificates.

    Raises:
        TypeError: As `certified_distortion`.
        ValueError: As `certified_distortion`.

    Example:
        >>> check_certifiable(model)
    """
    checked_model(model)


def checked_model(model: Any) -> Logits:
    """Returns the logits of a model that can be certified.

    Raises:
        TypeError: As `certified_distortion`.
        ValueError: As `certified_distortion`.
    """
    whole = layer_graph(model)
    for step in whole.steps:
        _check_precision(step.operation, [whole.dtypes[number] for number in (*step.inputs, *step.outputs)])
    logits = logits_of(model)
    check_bounded(logits.graph)
    shape = whole.shapes[whole.output]
    if len(shape) != 1:
        raise ValueError(f"{model.name!r} must return [batch, classes]; it returns {(None, *shape)}.")
    if shape == (1,) and not logits.ending and not (_is_linear(logits.graph) and _is_logit(model, whole)):
        raise ValueError(
            f"{model.name!r} has one output unit, which must be linear or have a sigmoid to decide between two classes. Remove "
            "its activation function, or use two units."
        )
    return logits


def _is_logit(model: Any, graph: LayerGraph) -> bool:
    """Returns whether the attack takes one output for a logit, which is positive where class 1 is predicted."""
    return split_weights(model, [size or 1 for size in graph.shapes[0]])[0].threshold == OF_LOGIT


def _check_precision(operation: Any, dtypes: Sequence[str]) -> None:
    layers = [operation, getattr(operation, "layer", None)]
    names = [
        *dtypes,
        *(getattr(layer, "compute_dtype", None) for layer in layers if type(layer) is not keras.layers.InputLayer),
    ]
    low = next((str(name) for name in names if name and "float" in name and name not in ("float32", "float64")), None)
    if low is not None:
        raise ValueError(
            f"{described(operation)}, computes in {low}, whose rounding may change predictions that are certified in exact "
            "arithmetic: certificates hold for float32 and float64. Build the network again after "
            "keras.config.set_dtype_policy('float32'), copy the weights with new.set_weights(model.get_weights()), and certify "
            "the new one."
        )


def _is_linear(graph: LayerGraph) -> bool:
    """Returns whether no activation function follows the last layer with weights, or the last merge of branches."""
    value = graph.output
    while (step := graph.producer(value)) is not None:
        layer = step.operation
        activation = getattr(layer, "activation", None) if type(layer) not in ACTIVATION_LAYERS[1:] else layer
        if lipschitz_of_operation(layer) is not None or activation not in (None, keras.activations.linear):
            return False
        if len(step.inputs) != 1 or getattr(layer, "weights", None):
            return True
        value = step.inputs[0]
    return True


def checked_images_and_classes(
    logits: Logits, images: Any, labels: Any, targets: Any, pixel_box: PixelBox | None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the images, the labels, and the other classes that each label is compared with, `[batch, rivals]`."""
    images = checked_images(images, pixel_box or PixelBox(float("-inf"), float("inf")))
    expected, name = logits.graph.shapes[0], logits.graph.name
    if tuple(images.shape[1:]) != expected:
        raise ValueError(f"images must be [batch, *{expected}], the input shape of {name!r}; received {tuple(images.shape)}.")
    num_images, num_classes = images.shape[0], max(2, prod(logits.graph.shapes[logits.graph.output]))
    labels = checked_classes(labels, "labels", num_images=num_images, num_classes=num_classes)
    if targets is None:
        others = tf.range(num_classes - 1)[tf.newaxis]
        return images, labels, others + tf.cast(others >= labels[:, tf.newaxis], tf.int32)
    targets = checked_classes(targets, "targets", num_images=num_images, num_classes=num_classes)
    if bool(tf.reduce_any(targets == labels)):
        raise ValueError("targets must differ from labels: the nearest image of the label is the image itself.")
    return images, labels, targets[:, tf.newaxis]
