"""Certified distortions: near the optimum and never above it where it is known in closed form; messages of errors."""

from math import log, sqrt

import keras
import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from intriguing.lipschitz import certificates as module
from intriguing.lipschitz.certificates import certified_distortion
from intriguing.lipschitz.dense_tail import dense_tail
from intriguing.pixels import PixelBox
from tests.oracles.linear_classifier import nearest_of_class, nearest_of_other_classes, random_classifier, two_class_closed_form
from tests.oracles.random_networks import chain_of, images_for, lengths, network, predictions

BRACKET = 1e-3  # the last bracket of the bisection, and the allowance for single precision
SLACK_OF_CURVATURE = 0.02  # the second derivative is not constant over a small ball
EXTREMUM = log(2.0 + sqrt(3.0))
SIGMOIDS_LARGEST_CURVATURE = 1.0 / (6.0 * sqrt(3.0))
layers = keras.layers


def linear_network(num_pixels=12, num_classes=4, seed=0, activation=None):
    classifier = random_classifier(np.random.default_rng(seed), num_pixels, num_classes)
    model = keras.Sequential([keras.Input((num_pixels,)), layers.Dense(num_classes, activation)])
    model.set_weights([classifier.kernel, classifier.bias])
    return classifier, model


def assert_just_below(found, optimum, slack=BRACKET):
    """The certificate must not exceed the optimum, and must be near it."""
    assert np.all(np.asarray(found) <= optimum), (found, optimum)
    assert np.all(np.asarray(found) >= (1.0 - slack) * np.asarray(optimum)), (found, optimum)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_reaches_the_closed_form_on_a_linear_classifier(activation):
    classifier, model = linear_network(activation=activation)
    images = images_for(model, 8)
    labels = predictions(model, images)
    logits, kernel = images.astype(np.float64) @ classifier.kernel + classifier.bias, classifier.kernel.astype(np.float64)
    truth = [
        min((row[y] - row[j]) / np.linalg.norm(kernel[:, y] - kernel[:, j]) for j in range(4) if j != y)
        for row, y in zip(logits, labels, strict=True)
    ]
    certified = certified_distortion(model, images, labels)
    assert_just_below(lengths(model, certified.distortion), truth)
    assert_just_below(lengths(model, certified.by_product), truth)


def test_reaches_the_closed_form_of_two_classes_for_a_target():
    classifier, model = linear_network(num_classes=2, seed=3)
    images = images_for(model, 4)
    labels = predictions(model, images)
    truth = [two_class_closed_form(classifier, image, 1 - y) for image, y in zip(images, labels, strict=True)]
    assert_just_below(lengths(model, certified_distortion(model, images, labels, 1 - labels).distortion), truth)


def test_the_certificate_without_targets_is_the_smallest_of_those_with_targets():
    _, model = linear_network(num_classes=3, seed=1)
    images = images_for(model)
    labels = predictions(model, images)
    each = [certified_distortion(model, images, labels, (labels + shift) % 3).distortion for shift in (1, 2)]
    assert np.any(np.abs(np.subtract(*each)) > 0.01)
    np.testing.assert_allclose(np.min(each, axis=0), certified_distortion(model, images, labels).distortion, rtol=BRACKET)


def test_pixels_at_their_bounds_move_in_one_direction_only():
    """The nearest image of a linear classifier in the box is known; the certificate reaches it if no other pixel is clipped."""
    classifier, model = linear_network(num_pixels=8, num_classes=2, seed=5)
    normal = classifier.kernel[:, 0] - classifier.kernel[:, 1]
    # Against the label 0, pixels move against `normal`: half of those that would have to leave the box are at its bounds.
    image = np.where(np.arange(8) % 2 == 0, np.where(normal > 0, 0.0, 1.0), 0.5).astype(np.float32)
    model.layers[-1].bias.assign([0.05 - float(image @ normal), 0.0])
    classifier = classifier._replace(bias=np.asarray(model.layers[-1].bias))
    free, boxed = (certified_distortion(model, image[np.newaxis], [0], bounds=box) for box in (None, PixelBox()))
    assert_just_below(lengths(model, free.distortion), two_class_closed_form(classifier, image, 1))
    assert_just_below(lengths(model, boxed.distortion), nearest_of_class(classifier, image, 1).floor)
    assert boxed.distortion[0] > 1.1 * free.distortion[0]


def test_the_box_never_lowers_a_certificate_which_stays_below_the_optimum():
    classifier, model = linear_network(seed=2)
    images = np.round(images_for(model, 8))
    labels = predictions(model, images)
    free, boxed = (certified_distortion(model, images, labels, bounds=box) for box in (None, PixelBox()))
    floors = [nearest_of_other_classes(classifier, image, y).floor for image, y in zip(images, labels, strict=True)]
    assert np.all(boxed.distortion >= free.distortion) and np.any(boxed.distortion > 1.1 * free.distortion)
    np.testing.assert_array_equal(boxed.by_product, free.by_product)
    assert np.all(lengths(model, boxed.distortion) <= floors)


def units(num_pixels, activation, offset, *, scale=1.0, both=True):
    """Returns a hidden layer of `f(scale * x - offset)` for every pixel, and, if both, of `f(-scale * x - offset)`."""
    rows = scale * np.eye(num_pixels, dtype=np.float32)
    kernel = np.concatenate([rows, -rows], axis=1) if both else rows
    layer = layers.Dense(kernel.shape[1], activation)
    layer.build((None, num_pixels))
    layer.set_weights([kernel, np.full(kernel.shape[1], -offset, np.float32)])
    return layer


def sum_against(num_units, margin, at_start):
    """Returns logits of which the second is larger when the sum of the units has increased by the margin."""
    layer = layers.Dense(2)
    layer.build((None, num_units))
    layer.set_weights([np.repeat([[0.0, 1.0]], num_units, axis=0), np.array([margin, -at_start])])
    return layer


def curved_network(num_pixels, activation, offset, margin, side=1.0):
    """At the image 0 the gradient is zero: the sum of the units is even in every pixel."""
    hidden = units(num_pixels, activation, offset)
    at_start = 2 * num_pixels * float(hidden.activation(tf.constant(-offset, tf.float64)))
    last = sum_against(2 * num_pixels, margin, side * at_start)
    last.kernel.assign(side * last.kernel)
    return keras.Sequential([keras.Input((num_pixels,)), hidden, last])


@pytest.mark.parametrize("num_pixels", [1, 5])
@pytest.mark.parametrize(
    ("activation", "offset", "side", "curvature"),
    [
        ("sigmoid", EXTREMUM, 1.0, SIGMOIDS_LARGEST_CURVATURE), ("sigmoid", -EXTREMUM, -1.0, SIGMOIDS_LARGEST_CURVATURE),
        ("tanh", EXTREMUM / 2.0, 1.0, 8.0 * SIGMOIDS_LARGEST_CURVATURE),
        ("tanh", -EXTREMUM / 2.0, -1.0, 8.0 * SIGMOIDS_LARGEST_CURVATURE), ("softplus", 0.0, 1.0, 0.25),
    ],
)  # fmt: skip
def test_reaches_the_closed_form_if_the_gradient_is_zero(activation, offset, side, curvature, num_pixels):
    """The sum of the units increases by `curvature * sum(x**2)` in every direction: all units have one quadratic form."""
    margin = 1e-3 * curvature
    model = curved_network(num_pixels, activation, offset, margin, side=side)
    truth = sqrt(margin / curvature) * (1.0 + SLACK_OF_CURVATURE / 4.0)
    certified = certified_distortion(model, np.zeros([1, num_pixels]), [0])
    assert_just_below(lengths(model, certified.distortion), truth, SLACK_OF_CURVATURE)
    assert lengths(model, certified.by_product)[0] < 0.5 * truth


@pytest.mark.parametrize(("offset", "margin"), [(0.0, 0.7), (0.01, 1.0), (1.0, 1.0), (1.0, 0.1), (3.0, 20.0)])
def test_reaches_the_closed_form_at_a_kink(offset, margin):
    hidden = units(1, "relu", offset, both=False)
    model = keras.Sequential([keras.Input((1,)), hidden, sum_against(1, margin, 0.0)])
    certified = certified_distortion(model, [[0.0]], [0])
    assert_just_below(lengths(model, certified.distortion), offset + margin)
    assert_just_below(lengths(model, certified.by_product), margin)
    away = keras.Sequential([keras.Input((1,)), units(1, "relu", offset, scale=-1.0, both=False), sum_against(1, margin, 0.0)])
    assert_just_below(lengths(model, certified_distortion(away, [[0.0]], [0]).distortion), offset + margin)


def test_the_sum_of_units_at_their_kinks_is_bounded_by_their_squares():
    """At a kink each unit increases with its pixel, and the sum of n units by at most sqrt(n) times the distance."""
    model = keras.Sequential([keras.Input((9,)), units(9, "relu", 0.0, both=False), sum_against(9, 0.6, 0.0)])
    certified = certified_distortion(model, np.zeros([1, 9]), [0])
    assert_just_below(lengths(model, certified.distortion), 0.6 / 3.0)


def test_curvature_of_a_layer_reaches_the_kink_of_the_next_layer_from_below():
    """The second layer changes by the curvature of the first only: its kink is at the distance `sqrt(0.001 / curvature)`."""
    first = units(1, "sigmoid", EXTREMUM)
    at_start = 2.0 / (1.0 + np.exp(EXTREMUM))
    second = layers.Dense(1, "relu")
    second.build((None, 2))
    second.set_weights([np.ones([2, 1]), np.array([-at_start - 1e-3])])
    model = keras.Sequential([keras.Input((1,)), first, second, sum_against(1, 1e-3, 0.0)])

    def excess(x):
        return 1.0 / (1.0 + np.exp(EXTREMUM - x)) + 1.0 / (1.0 + np.exp(EXTREMUM + x)) - at_start - 2e-3

    truth = scipy.optimize.brentq(excess, 0.0, 1.0)
    found = lengths(model, certified_distortion(model, [[0.0]], [0]).distortion)
    assert_just_below(found, truth * (1.0 + BRACKET), SLACK_OF_CURVATURE)


def pair_of_kinks(num_inputs, sign, offset):
    """Returns `relu(z)` and `relu(z + 1)`, where z is the signed sum of the inputs and an offset: for z > 0, these are z and z + 1."""
    layer = layers.Dense(2, "relu")
    layer.build((None, num_inputs))
    layer.set_weights([np.full([num_inputs, 2], sign), np.array([offset, offset + 1.0])])
    return layer


def difference_against(margin):
    """Returns logits of which the second is larger once `relu(z) - relu(z + 1) + 1`, which is -z for z < 0, exceeds the margin."""
    layer = sum_against(2, margin, -1.0)
    layer.kernel.assign([[0.0, 1.0], [0.0, -1.0]])
    return layer


def test_curvature_of_a_layer_reaches_the_kink_of_the_next_layer_from_above():
    first = units(1, "sigmoid", -EXTREMUM)
    at_start = 2.0 / (1.0 + np.exp(-EXTREMUM))
    second = pair_of_kinks(2, 1.0, 1e-3 - at_start)
    model = keras.Sequential([keras.Input((1,)), first, second, difference_against(1e-3)])
    truth = sqrt(2e-3 / SIGMOIDS_LARGEST_CURVATURE) * (1.0 + SLACK_OF_CURVATURE / 4.0)
    assert_just_below(lengths(model, certified_distortion(model, [[0.0]], [0]).distortion), truth, SLACK_OF_CURVATURE)


def test_curvature_of_a_layer_is_multiplied_by_the_derivative_of_the_next_layer():
    first = units(1, "sigmoid", EXTREMUM)
    second = units(2, "relu", -1.0, both=False)
    at_start = 2.0 + 2.0 / (1.0 + np.exp(EXTREMUM))
    model = keras.Sequential([keras.Input((1,)), first, second, sum_against(2, 1e-3, at_start)])
    truth = sqrt(1e-3 / SIGMOIDS_LARGEST_CURVATURE) * (1.0 + SLACK_OF_CURVATURE / 4.0)
    assert_just_below(lengths(model, certified_distortion(model, [[0.0]], [0]).distortion), truth, SLACK_OF_CURVATURE)


def test_a_unit_decreases_as_a_pixel_at_its_lower_bound_increases():
    model = keras.Sequential([keras.Input((1,)), pair_of_kinks(1, -1.0, 0.2), difference_against(0.1)])
    certified = certified_distortion(model, [[0.0]], [0], bounds=PixelBox())
    assert_just_below(lengths(model, certified.distortion), 0.3)


def test_the_certificate_allows_for_rounding_in_single_precision():
    model = keras.Sequential([keras.Input((1,)), sum_against(1, 1024.0, -1024.0 + 2.0**-6)])
    rounding = 1024.0 * 2.0**-18
    assert_just_below(lengths(model, certified_distortion(model, [[0.0]], [0]).distortion), 2.0**-6 - rounding)


def test_the_norm_of_the_head_divides_the_certificate():
    inputs = keras.Input((6, 1))
    pooled = layers.Flatten()(layers.MaxPooling1D(2)(layers.Rescaling(4.0)(inputs)))
    margin = 1e-3 * SIGMOIDS_LARGEST_CURVATURE
    tail = curved_network(3, "sigmoid", EXTREMUM, margin)
    model = keras.Model(inputs, tail.layers[-1](tail.layers[-2](pooled)))
    certified = certified_distortion(model, np.zeros([1, 6, 1]), [0])
    truth = sqrt(1e-3) / 4.0 * (1.0 + SLACK_OF_CURVATURE / 4.0)
    assert_just_below(lengths(model, certified.distortion), truth, SLACK_OF_CURVATURE)


def test_exceeds_the_certificate_by_the_product_of_norms_several_times():
    model = network((40,), layers.Dense(30, "sigmoid"), layers.Dense(20, "sigmoid"), layers.Dense(4))
    images = images_for(model, 8)
    certified = certified_distortion(model, images, predictions(model, images))
    assert np.all(certified.distortion > 2.0 * certified.by_product)


def test_the_certificate_of_a_misclassified_image_is_zero():
    model = network((10,), *chain_of("sigmoid", 2))
    images = images_for(model)
    labels = predictions(model, images)
    labels[0] = (labels[0] + 1) % 4
    certified = certified_distortion(model, images, labels)
    for column in certified:
        assert column.dtype == tf.float32 and column.shape == (4,)
        assert column[0] == 0 and np.all(column[1:] > 0)


def test_the_certificate_of_a_constant_network_is_infinite():
    chain = [layers.Dense(4), layers.MaxPooling1D(2), layers.Flatten(), layers.Dense(3)]
    model = network((6, 1), *chain)
    model.layers[0].kernel.assign(tf.zeros_like(model.layers[0].kernel))
    certified = certified_distortion(model, images_for(model), predictions(model, images_for(model)))
    np.testing.assert_array_equal(certified.distortion, np.inf)


def test_a_class_with_a_constant_margin_does_not_lower_the_certificate():
    _, model = linear_network(num_classes=3)
    kernel, bias = model.get_weights()
    model.set_weights([kernel[:, [0, 0, 1]], np.array([bias[0] + 0.1, bias[0], bias[1]])])
    image = images_for(model, 20)
    image = image[predictions(model, image) == 0]
    labels = np.zeros(len(image), int)
    to_last = certified_distortion(model, image, labels, np.full(len(image), 2))
    np.testing.assert_array_equal(certified_distortion(model, image, labels).distortion, to_last.distortion)
    assert np.all(to_last.distortion > 0)


def test_a_batch_in_parts_equals_one_whole_batch(monkeypatch):
    model = network((10,), *chain_of("sigmoid", 2))
    images = images_for(model, 7)
    labels = predictions(model, images)
    whole = certified_distortion(model, images, labels, bounds=PixelBox())
    monkeypatch.setattr(module, "_ENTRIES_AT_ONCE", 3 * module._entries_per_image(dense_tail(model)))
    parts = certified_distortion(model, images, labels, bounds=PixelBox())
    np.testing.assert_allclose(parts, whole, rtol=1e-6)
    assert np.unique(whole.distortion).size == 7


@pytest.mark.parametrize("activation", ["sigmoid", "leaky layer"])
def test_the_second_call_uses_the_program_that_the_first_compiled(activation):
    one, other = (network((10,), *chain_of(activation, 2), seed=seed) for seed in (0, 1))
    certified_distortion(one, images_for(one), predictions(one, images_for(one)))
    compiled = module._certifier(tuple((stage.activation, stage.constant) for stage in dense_tail(one).stages))
    num_traces, num_compiled = compiled.experimental_get_tracing_count(), module._certifier.cache_info().misses
    assert num_traces > 0
    certified_distortion(other, images_for(other, seed=1), predictions(other, images_for(other, seed=1)))
    assert compiled.experimental_get_tracing_count() == num_traces
    assert module._certifier.cache_info().misses == num_compiled


class Unheard(keras.Layer):
    def call(self, inputs):
        return tf.sin(inputs)


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


IMAGES = np.full([2, 3], 0.5, np.float32)
MISTAKES = {
    r"images must be \[batch, \*\(3,\)\].*received \(2, 5\)": {"images": np.zeros([2, 5])},
    r"images must be finite numbers; received 1 NaN": {"images": np.array([[0.5, np.nan, 0.5], [0.5, 0.5, 0.5]])},
    r"images must lie within bounds \(0.0, 1.0\); received values from 0.5 to 2.0": {
        "images": 4.0 * IMAGES - [[1.5], [0.0]], "bounds": PixelBox(),
    },
    r"labels must have one class for each of the 2 images; received shape \(3,\)": {"labels": [0, 1, 2]},
    r"labels must lie in 0..3, the classes of the classifier; received values from 0 to 4": {"labels": [0, 4]},
    r"targets must lie in 0..3, the classes of the classifier; received values from -1 to 2": {"targets": [-1, 2]},
    r"targets must have one class for each of the 2 images": {"targets": [1]},
    r"targets must differ from labels": {"targets": [1, 1]},
}  # fmt: skip


@pytest.mark.parametrize("message", MISTAKES)
def test_wrong_arguments_are_refused(message):
    arguments = {"images": IMAGES, "labels": [0, 1], "targets": None} | MISTAKES[message]
    with pytest.raises(ValueError, match=message):
        certified_distortion(network((3,), layers.Dense(4)), **arguments)


def test_an_empty_batch_and_outputs_of_another_rank_are_refused():
    with pytest.raises(ValueError, match=r"must hold at least one image; received shape \[0, 3\]"):
        certified_distortion(network((3,), layers.Dense(4)), np.zeros((0, 3), np.float32), [])
    model = keras.Sequential([keras.Input((5, 3)), layers.Dense(4)])
    with pytest.raises(ValueError, match=r"must return \[batch, classes\]; it returns \(None, 5, 4\)"):
        certified_distortion(model, np.zeros((2, 5, 3), np.float32), [0, 0])


@pytest.mark.parametrize(("name", "given"), [("images", np.zeros((2, 3), np.uint8)), ("labels", [0.0, 1.0])])
def test_integer_images_and_floating_point_labels_are_refused(name, given):
    with pytest.raises(TypeError, match=f"{name} must be .*; received"):
        certified_distortion(network((3,), layers.Dense(4)), **({"images": IMAGES, "labels": [0, 1]} | {name: given}))


def test_the_certificate_is_reduced_by_the_rounding_error_of_the_first_layers():
    """A rectifier with a maximum is not linear: the last layers receive its outputs in single precision."""
    head = [layers.Dense(2), layers.ReLU(max_value=1e6)]
    model = keras.Sequential([keras.Input((2,)), *head, layers.Dense(2)])
    model.set_weights([np.eye(2), np.array([1e5, 1e5]), np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([40.0, 0.0])])
    certified = certified_distortion(model, np.zeros((1, 2), np.float32), [0])
    floor, logit, passed_on = 40.0 / np.sqrt(2.0), 1e5 + 40.0, 1e5 * np.sqrt(2.0)
    expected = floor - 2.0**-18 * (logit / np.sqrt(2.0) + passed_on)
    np.testing.assert_allclose(certified.distortion * np.sqrt(2.0), [expected], rtol=3e-4)  # norms are proved 1e-4 above


@pytest.mark.parametrize("mask", [-1e4, -1e9])
def test_a_masked_class_does_not_lower_the_certificates_of_others(mask):
    images, labels = np.random.default_rng(0).uniform(size=(6, 3)).astype(np.float32), [0, 1, 2, 0, 1, 2]
    inputs = keras.Input((3,))
    plain = keras.Model(inputs, layers.Dense(3)(layers.Dense(5, "sigmoid")(inputs)))
    wide = keras.Model(inputs, layers.Dense(4)(layers.Dense(5, "sigmoid")(inputs)))
    hidden, bias, kernel, offset = plain.get_weights()
    wide.set_weights([hidden, bias, np.pad(kernel, ((0, 0), (0, 1))), np.append(offset, mask)])
    expected = certified_distortion(plain, images, labels).distortion
    certified = certified_distortion(wide, images, labels).distortion
    np.testing.assert_allclose(certified, expected, rtol=1e-3)  # the norm of the layers is proved to 1e-4
    assert np.any(expected > 0.0)


@pytest.mark.parametrize(
    "head",
    [
        lambda hidden: layers.Average()([layers.Dense(1, "sigmoid")(hidden), layers.Dense(1, "sigmoid")(hidden)]),
        lambda hidden: layers.Rescaling(0.5, 0.2)(layers.Dense(1, "sigmoid")(hidden)),
    ],
)
def test_one_output_that_is_a_probability_without_a_sigmoid_at_its_end_is_refused(head):
    inputs = keras.Input((3,))
    with pytest.raises(ValueError, match="one output unit, which must be linear or have a sigmoid"):
        certified_distortion(keras.Model(inputs, head(layers.Dense(4)(inputs))), IMAGES, [0, 1])


def test_progress_is_reported_for_each_part_of_the_batch(monkeypatch):
    model, reported = network((3,), layers.Dense(4)), []
    monkeypatch.setattr(module, "_ENTRIES_AT_ONCE", 2 * module._entries_per_image(dense_tail(model)))
    certified_distortion(model, np.full((5, 3), 0.5, np.float32), [0] * 5, report=lambda *counts: reported.append(counts))
    assert reported == [(2, 5), (4, 5), (5, 5)]


def test_a_layer_without_a_rule_is_named():
    model = keras.Sequential([keras.Input((3,)), Unheard(name="strange"), layers.Dense(4)])
    with pytest.raises(ValueError, match=r"no rule for the operator norm of the layer 'strange', a Unheard.*register_norm"):
        certified_distortion(model, IMAGES, [0, 1])


def test_a_subclassed_model_and_one_with_two_inputs_are_refused():
    inputs = [keras.Input((3,)), keras.Input((3,))]
    for model in (Subclassed(), keras.Model(inputs, layers.Add()(inputs))):
        with pytest.raises(ValueError, match="must be functional or sequential, with one input and one output"):
            certified_distortion(model, IMAGES, [0, 1])


def test_print_shows_the_number_of_certificates_and_their_quartiles():
    certified = module.CertifiedDistortion(
        tf.constant([0.0, 0.1, 0.2, 0.3, 0.4, 0.5]), tf.constant([0.0, 0.1, 0.1, 0.1, 0.1, 0.1])
    )
    assert str(certified).splitlines() == [
        "5 of 6 images have a certified distortion above 0.",
        "Certified distortion of these images (RMS pixel change): mean 0.3, quartiles 0.2, 0.3, 0.4.",
        "From the product of the norms alone: mean 0.1.",
    ]
    none = module.CertifiedDistortion(tf.zeros([2]), tf.zeros([2]))
    assert str(none) == "0 of 2 images have a certified distortion above 0."
