"""Certified distortions: exact where the truth is known in closed form, never beyond what changes an answer, errors that help."""

from math import log, sqrt

import keras
import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from intriguing.analysis import certificates as module
from intriguing.analysis.certificates import certified_distortion
from intriguing.analysis.dense_tail import dense_tail
from intriguing.attack.distortion_search import QUICK_SEARCH
from intriguing.attack.minimize_distortion import minimize_distortion
from intriguing.pixels import PixelBox
from tests.oracles.linear_classifier import nearest_of_class, nearest_of_other_classes, random_classifier, two_class_closed_form

BRACKET = 1e-3  # the last bracket of the bisection, and the allowance for single precision
OUTWARD = 1e-5  # by so much a point on the sphere may be off it in single precision
SLACK_OF_CURVATURE = 0.02  # the second derivative is not constant over a small ball
NUM_RANDOM, NUM_STARTS, NUM_STEPS = 100, 4, 25
BEND = log(2.0 + sqrt(3.0))
SIGMOIDS_LARGEST_CURVATURE = 1.0 / (6.0 * sqrt(3.0))
layers = keras.layers


def network(shape, *chain, seed=0, scale=2.0):
    """Returns a model with random weights, of variance `scale**2` over the number of inputs."""
    model = keras.Sequential([keras.Input(shape), *chain])
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        layer.set_weights([rng.normal(size=w.shape, scale=scale / sqrt(max(1, np.prod(w.shape[:-1])))) for w in layer.weights])
    return model


def images_for(model, number=4, seed=0):
    return np.random.default_rng(seed).uniform(size=(number, *model.inputs[0].shape[1:])).astype(np.float32)


def answers(model, images):
    return np.argmax(model(images), axis=1).astype(np.int32)


def lengths(model, distortions):
    """Returns root-mean-square changes as L2 norms."""
    return np.asarray(distortions, np.float64) * sqrt(np.prod(model.inputs[0].shape[1:]))


def linear_network(num_pixels=12, num_classes=4, seed=0, activation=None):
    classifier = random_classifier(np.random.default_rng(seed), num_pixels, num_classes)
    model = keras.Sequential([keras.Input((num_pixels,)), layers.Dense(num_classes, activation)])
    model.set_weights([classifier.kernel, classifier.bias])
    return classifier, model


def assert_just_below(found, optimum, slack=BRACKET):
    """The certificate may not exceed the truth, and must come near it."""
    assert np.all(np.asarray(found) <= optimum), (found, optimum)
    assert np.all(np.asarray(found) >= (1.0 - slack) * np.asarray(optimum)), (found, optimum)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_reaches_the_closed_form_on_a_linear_classifier(activation):
    classifier, model = linear_network(activation=activation)
    images = images_for(model, 8)
    labels = answers(model, images)
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
    labels = answers(model, images)
    truth = [two_class_closed_form(classifier, image, 1 - y) for image, y in zip(images, labels, strict=True)]
    assert_just_below(lengths(model, certified_distortion(model, images, labels, 1 - labels).distortion), truth)


def test_a_target_is_certified_by_itself_and_all_of_them_are_as_good_as_the_worst():
    _, model = linear_network(num_classes=3, seed=1)
    images = images_for(model)
    labels = answers(model, images)
    each = [certified_distortion(model, images, labels, (labels + shift) % 3).distortion for shift in (1, 2)]
    assert np.any(np.abs(np.subtract(*each)) > 0.01)
    np.testing.assert_allclose(np.min(each, axis=0), certified_distortion(model, images, labels).distortion, rtol=BRACKET)


def test_pixels_on_a_wall_count_one_way_only():
    """The nearest image of a linear classifier in the box is known; where no other pixel meets a wall, it is reached."""
    classifier, model = linear_network(num_pixels=8, num_classes=2, seed=5)
    steep = classifier.kernel[:, 0] - classifier.kernel[:, 1]
    # Against the label 0, pixels move against `steep`: half of those that would have to leave the box stand on its walls.
    image = np.where(np.arange(8) % 2 == 0, np.where(steep > 0, 0.0, 1.0), 0.5).astype(np.float32)
    model.layers[-1].bias.assign([0.05 - float(image @ steep), 0.0])
    classifier = classifier._replace(bias=np.asarray(model.layers[-1].bias))
    free, boxed = (certified_distortion(model, image[np.newaxis], [0], pixel_box=box) for box in (None, PixelBox()))
    assert_just_below(lengths(model, free.distortion), two_class_closed_form(classifier, image, 1))
    assert_just_below(lengths(model, boxed.distortion), nearest_of_class(classifier, image, 1).floor)
    assert boxed.distortion[0] > 1.1 * free.distortion[0]


def test_the_box_never_lowers_a_certificate_nor_lets_it_pass_the_floor():
    classifier, model = linear_network(seed=2)
    images = np.round(images_for(model, 8))
    labels = answers(model, images)
    free, boxed = (certified_distortion(model, images, labels, pixel_box=box) for box in (None, PixelBox()))
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
    """Returns logits of which the second is ahead once the sum of the units has grown by the margin."""
    layer = layers.Dense(2)
    layer.build((None, num_units))
    layer.set_weights([np.repeat([[0.0, 1.0]], num_units, axis=0), np.array([margin, -at_start])])
    return layer


def curved_network(num_pixels, activation, offset, margin, side=1.0):
    """At the image 0 all slopes cancel: the sum of the units is even in every pixel."""
    hidden = units(num_pixels, activation, offset)
    at_start = 2 * num_pixels * float(hidden.activation(tf.constant(-offset, tf.float64)))
    last = sum_against(2 * num_pixels, margin, side * at_start)
    last.kernel.assign(side * last.kernel)
    return keras.Sequential([keras.Input((num_pixels,)), hidden, last])


@pytest.mark.parametrize("num_pixels", [1, 5])
@pytest.mark.parametrize(
    ("activation", "offset", "side", "curvature"),
    [
        ("sigmoid", BEND, 1.0, SIGMOIDS_LARGEST_CURVATURE), ("sigmoid", -BEND, -1.0, SIGMOIDS_LARGEST_CURVATURE),
        ("tanh", BEND / 2.0, 1.0, 8.0 * SIGMOIDS_LARGEST_CURVATURE),
        ("tanh", -BEND / 2.0, -1.0, 8.0 * SIGMOIDS_LARGEST_CURVATURE), ("softplus", 0.0, 1.0, 0.25),
    ],
)  # fmt: skip
def test_reaches_the_closed_form_where_only_curvature_counts(activation, offset, side, curvature, num_pixels):
    """The sum of the units rises by `curvature * sum(x**2)`, whatever the direction: all units share one quadratic form."""
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


def test_kinks_are_shared_by_the_units_as_their_squares_are():
    """At a kink each unit rises as its pixel does, and the sum of n of them by no more than sqrt(n) times the distance."""
    model = keras.Sequential([keras.Input((9,)), units(9, "relu", 0.0, both=False), sum_against(9, 0.6, 0.0)])
    certified = certified_distortion(model, np.zeros([1, 9]), [0])
    assert_just_below(lengths(model, certified.distortion), 0.6 / 3.0)


def test_what_a_layer_bends_is_passed_on_by_the_next():
    """The second layer does not move but by the curvature of the first: its kink is reached after `sqrt(0.01 / curvature)`."""
    first = units(1, "sigmoid", BEND)
    at_start = 2.0 / (1.0 + np.exp(BEND))
    second = layers.Dense(1, "relu")
    second.build((None, 2))
    second.set_weights([np.ones([2, 1]), np.array([-at_start - 1e-3])])
    model = keras.Sequential([keras.Input((1,)), first, second, sum_against(1, 1e-4, 0.0)])

    def excess(x):
        return 1.0 / (1.0 + np.exp(BEND - x)) + 1.0 / (1.0 + np.exp(BEND + x)) - at_start - 1.1e-3

    truth = scipy.optimize.brentq(excess, 0.0, 1.0)
    found = lengths(model, certified_distortion(model, [[0.0]], [0]).distortion)
    assert_just_below(found, truth * (1.0 + BRACKET), SLACK_OF_CURVATURE)


def test_a_head_that_stretches_divides_the_certificate_by_its_norm():
    inputs = keras.Input((6, 1))
    pooled = layers.Flatten()(layers.MaxPooling1D(2)(layers.Rescaling(4.0)(inputs)))
    margin = 1e-3 * SIGMOIDS_LARGEST_CURVATURE
    tail = curved_network(3, "sigmoid", BEND, margin)
    model = keras.Model(inputs, tail.layers[-1](tail.layers[-2](pooled)))
    certified = certified_distortion(model, np.zeros([1, 6, 1]), [0])
    truth = sqrt(1e-3) / 4.0 * (1.0 + SLACK_OF_CURVATURE / 4.0)
    assert_just_below(lengths(model, certified.distortion), truth, SLACK_OF_CURVATURE)


def on_the_sphere(changes, radii, images, box):
    """Returns images at most so far away, inside the box."""
    flat = tf.reshape(changes, [len(radii), -1])
    flat *= tf.cast(radii[:, np.newaxis] * (1.0 - OUTWARD), tf.float32) / tf.norm(flat, axis=1, keepdims=True)
    moved = images + tf.reshape(flat, images.shape)
    return moved if box is None else box.clip(moved)


def assert_no_answer_changes(model, images, labels, certified, box=None):
    """Looks at random directions, and climbs from several of them towards another answer, on the sphere."""
    rng = np.random.default_rng(0)
    for repeats, steps in ((NUM_RANDOM, 0), (NUM_STARTS, NUM_STEPS)):
        centers, wanted = tf.repeat(images, repeats, axis=0), tf.repeat(labels, repeats)
        radii = np.repeat(lengths(model, certified.distortion), repeats)
        moved = on_the_sphere(tf.constant(rng.normal(size=centers.shape), tf.float32), radii, centers, box)
        for _ in range(steps):
            with tf.GradientTape() as tape:
                tape.watch(moved)
                logits = model(moved)
                others = tf.reduce_max(logits - 1e9 * tf.one_hot(wanted, logits.shape[1]), axis=1)
                ahead = others - tf.gather(logits, wanted, batch_dims=1)
            slopes = tf.reshape(tape.gradient(ahead, moved), [len(radii), -1])
            slopes = tf.reshape(tf.math.l2_normalize(slopes, axis=1), centers.shape)
            step = tf.reshape(tf.constant(radii, tf.float32), [-1, *[1] * (len(centers.shape) - 1)])
            moved = on_the_sphere(moved - centers + 0.5 * step * slopes + 1e-12, radii, centers, box)
        np.testing.assert_array_equal(answers(model, moved), wanted)


def chain_of(activation, depth):
    made = [layers.LeakyReLU(0.2) if activation == "leaky layer" else layers.Activation(activation) for _ in range(depth)]
    return [layer for activate in made for layer in (layers.Dense(12), activate)] + [layers.Dense(4)]


def with_a_merge():
    inputs = keras.Input((10,))
    merged = layers.Add()([inputs, layers.Dense(10, "tanh")(inputs)])
    return keras.Model(inputs, layers.Dense(4)(layers.Dense(8, "sigmoid")(merged)))


def with_a_pooling():
    chain = [layers.Conv2D(3, 3, activation="softplus"), layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(8, "sigmoid")]
    return network((6, 6, 1), *chain, layers.Dense(4, "softmax"))


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softplus", "relu", "gelu", "leaky_relu", "leaky layer"])
def test_no_answer_changes_within_the_certified_distortion(activation, depth):
    model = network((10,), *chain_of(activation, depth), seed=depth)
    images = images_for(model)
    labels = answers(model, images)
    for box in (None, PixelBox()):
        rows = np.round(images) if box else images
        certified = certified_distortion(model, rows, answers(model, rows), pixel_box=box)
        assert_no_answer_changes(model, rows, answers(model, rows), certified, box)
        assert np.all(certified.by_product > 0) and np.all(certified.distortion >= certified.by_product)
    assert np.ptp(labels) >= 0


@pytest.mark.parametrize("make", [with_a_merge, with_a_pooling])
def test_no_answer_changes_behind_a_head_that_is_no_matrix(make):
    model = make()
    images = images_for(model)
    labels = answers(model, images)
    certified = certified_distortion(model, images, labels)
    assert_no_answer_changes(model, images, labels, certified)
    assert np.all(certified.distortion > 1.1 * certified.by_product)


def test_no_attack_comes_nearer_than_the_certificate_nor_much_farther_away():
    model = network((12,), layers.Dense(10, "sigmoid"), layers.Dense(4), seed=1, scale=1.5)
    images = images_for(model)
    labels = answers(model, images)
    certified = certified_distortion(model, images, labels, pixel_box=PixelBox())
    attacked = minimize_distortion(model, images, labels=labels, search=QUICK_SEARCH)
    assert np.any(attacked.succeeded)
    found = np.asarray(attacked.distortion)[attacked.succeeded] / np.asarray(certified.distortion)[attacked.succeeded]
    print(found)
    assert np.all(found >= 1.0) and np.all(found < 2.0)


def test_reaches_several_times_beyond_the_product_of_the_norms():
    model = network((40,), layers.Dense(30, "sigmoid"), layers.Dense(20, "sigmoid"), layers.Dense(4))
    images = images_for(model, 8)
    certified = certified_distortion(model, images, answers(model, images))
    print(certified.distortion / certified.by_product)
    assert np.all(certified.distortion > 2.0 * certified.by_product)


def test_nothing_is_certified_where_the_answer_is_wrong():
    model = network((10,), *chain_of("sigmoid", 2))
    images = images_for(model)
    labels = answers(model, images)
    labels[0] = (labels[0] + 1) % 4
    certified = certified_distortion(model, images, labels)
    for column in certified:
        assert column.dtype == tf.float32 and column.shape == (4,)
        assert column[0] == 0 and np.all(column[1:] > 0)


def test_a_dead_head_is_no_reason_for_nan():
    chain = [layers.Dense(4), layers.MaxPooling1D(2), layers.Flatten(), layers.Dense(3)]
    model = network((6, 1), *chain)
    model.layers[0].kernel.assign(tf.zeros_like(model.layers[0].kernel))
    assert np.all(np.isfinite(np.asarray(certified_distortion(model, images_for(model), answers(model, images_for(model))))))


def test_a_batch_in_parts_equals_one_whole_batch(monkeypatch):
    model = network((10,), *chain_of("sigmoid", 2))
    images = images_for(model, 7)
    labels = answers(model, images)
    whole = certified_distortion(model, images, labels, pixel_box=PixelBox())
    monkeypatch.setattr(module, "_ENTRIES_AT_ONCE", 3 * module._entries_per_image(dense_tail(model)))
    parts = certified_distortion(model, images, labels, pixel_box=PixelBox())
    np.testing.assert_allclose(parts, whole, rtol=1e-6)
    assert np.unique(whole.distortion).size == 7


@pytest.mark.parametrize("activation", ["sigmoid", "leaky layer"])
def test_the_second_call_finds_what_the_first_compiled(activation):
    one, other = (network((10,), *chain_of(activation, 2), seed=seed) for seed in (0, 1))
    certified_distortion(one, images_for(one), answers(one, images_for(one)))
    compiled = module._certifier(tuple((stage.activation, stage.constant) for stage in dense_tail(one).stages))
    num_traces, num_compiled = compiled.experimental_get_tracing_count(), module._certifier.cache_info().misses
    assert num_traces > 0
    certified_distortion(other, images_for(other, seed=1), answers(other, images_for(other, seed=1)))
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
    r"images must lie in the pixel box \[0.0, 1.0\]; received values from 0.5 to 2": {
        "images": 4.0 * IMAGES - [[1.5], [0.0]], "pixel_box": PixelBox(),
    },
    r"labels must be \[2\], one for each image; received the shape \(3,\)": {"labels": [0, 1, 2]},
    r"labels must lie in 0 to 3; received 0 to 4": {"labels": [0, 4]},
    r"targets must lie in 0 to 3; received -1 to 2": {"targets": [-1, 2]},
    r"targets must be \[2\]": {"targets": [1]},
    r"targets must differ from labels": {"targets": [1, 1]},
}  # fmt: skip


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_is_told(message):
    arguments = {"images": IMAGES, "labels": [0, 1], "targets": None} | MISTAKES[message]
    with pytest.raises(ValueError, match=message):
        certified_distortion(network((3,), layers.Dense(4)), **arguments)


def test_a_layer_without_a_rule_is_named():
    model = keras.Sequential([keras.Input((3,)), Unheard(name="strange"), layers.Dense(4)])
    with pytest.raises(ValueError, match=r"no rule for the operator norm of the layer 'strange', a Unheard.*register_norm"):
        certified_distortion(model, IMAGES, [0, 1])


def test_a_model_that_cannot_be_followed_is_told():
    inputs = [keras.Input((3,)), keras.Input((3,))]
    for model in (Subclassed(), keras.Model(inputs, layers.Add()(inputs))):
        with pytest.raises(ValueError, match="must be functional or sequential, with one input and one output"):
            certified_distortion(model, IMAGES, [0, 1])
