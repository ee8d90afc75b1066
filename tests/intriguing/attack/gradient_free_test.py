"""The search without gradients finds images where the gradient vanishes, and failures have a status or raise."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack import QUICK_SEARCH, SearchStatus, minimize_distortion, objective
from intriguing.attack.gradient_free import COST, far_starts
from intriguing.models.functional import split_weights
from intriguing.pixels import PixelBox
from tests.intriguing.attack.op_by_op import op_by_op

layers = keras.layers
NUM_PIXELS, NUM_CLASSES, NUM_IMAGES = 12, 3, 8
ONE_CHECK = 1 + COST


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(size=(NUM_IMAGES, NUM_PIXELS)).astype(np.float32)


def attack(classifier, images, **goal):
    with op_by_op():  # same results as compiled programs, and cheaper for many networks
        return minimize_distortion(classifier, images, **goal)


def network(*, scale=1.0, activation="sigmoid"):
    model = keras.Sequential([keras.Input((NUM_PIXELS,)), layers.Dense(16, activation), layers.Dense(NUM_CLASSES)])
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=weight.shape) * (2.0 if index else scale) for index, weight in enumerate(model.weights)])
    return model


def predicted(model, images):
    return np.asarray(model(images)).argmax(axis=1)


def with_gradient_blocked(block):
    model = network()
    return lambda images: model(block(images))


def test_starts_have_an_accepted_class_and_lie_just_beyond_the_boundary(images):
    model = network()
    labels = predicted(model, images)
    accepted = objective.accepted_classes(labels, NUM_CLASSES, targeted=False)
    missed = tf.constant(np.arange(NUM_IMAGES) % 2 == 0)
    architecture, weights = split_weights(model, (NUM_PIXELS,))
    start = far_starts(architecture, weights, tf.constant(images), accepted=accepted, missed=missed, pixel_box=PixelBox())
    np.testing.assert_array_equal(start.found, missed)
    found = start.found.numpy()
    assert (predicted(model, start.position)[found] != labels[found]).all()
    nearer = images + 0.97 * (start.position.numpy() - images)
    np.testing.assert_array_equal(predicted(model, nearer)[found], labels[found])
    np.testing.assert_array_equal(start.position.numpy()[~found], images[~found])


@pytest.mark.parametrize(
    "block",
    [
        lambda images: tf.round(images * 255.0) / 255.0,
        lambda images: tf.floor(images * 16.0) / 16.0,
        lambda images: tf.cast(tf.cast(images * 255.0, tf.int32), tf.float32) / 255.0,
        tf.stop_gradient,
    ],
    ids=["round", "floor", "cast", "stop_gradient"],
)
def test_blocked_gradient_has_status_no_gradient(block, images):
    classifier = with_gradient_blocked(block)
    labels = predicted(classifier, images)
    found = attack(classifier, images, labels=labels, search="fast")
    assert found.status.numpy().tolist() == [SearchStatus.NO_GRADIENT] * NUM_IMAGES
    # Successes without gradients count, and agree with the predictions of the classifier.
    np.testing.assert_array_equal(found.succeeded, predicted(classifier, found.distorted) != labels)
    assert found.succeeded.numpy().all()


def test_constant_classifier_fails_after_one_check(images):
    found = attack(
        lambda images: tf.zeros([tf.shape(images)[0], 1]) * images[:, :1] + [[1.0, 2.0, 3.0]], images, labels=2, search="fast"
    )
    assert not found.succeeded.numpy().any()
    assert found.status.numpy().tolist() == [SearchStatus.NO_GRADIENT] * NUM_IMAGES
    assert found.num_evaluations.numpy().max() <= ONE_CHECK


@pytest.mark.parametrize(("activation", "scale"), [("sigmoid", 1000.0), ("relu", 100.0)])
def test_saturated_and_overconfident_networks_are_attacked(activation, scale, images):
    model = network(scale=scale, activation=activation)
    labels = predicted(model, images)
    targets = (labels + 1) % NUM_CLASSES
    reachable = np.isin(targets, labels)  # straight lines to images of the target class succeed
    found = minimize_distortion(model, images, targets=targets, search="fast")
    assert found.succeeded.numpy()[reachable].all() and reachable.any()
    np.testing.assert_array_equal(found.succeeded, predicted(model, found.distorted) == targets)
    assert found.num_evaluations.numpy().max() <= QUICK_SEARCH.max_evaluations


@pytest.mark.parametrize("everything", [True, False])
def test_network_that_returns_nan_is_refused(images, everything):
    model = network()
    weights = model.get_weights()
    if everything:
        weights[0][:] = np.nan
    else:
        weights[-1][1] = np.nan
    model.set_weights(weights)
    with pytest.raises(ValueError, match="returns NaN or infinite values for every image. Check its weights"):
        attack(model, images, labels=np.zeros(NUM_IMAGES, int), search="fast")


def test_image_with_nan_outputs_has_status_not_finite(images):
    model = network()

    def classifier(images):
        return model(images) + tf.where(images[:, :1] > 2.0, float("nan"), 0.0)

    bright = images.copy()
    bright[3, 0] = 2.5
    labels = predicted(model, images)
    found = attack(classifier, bright, labels=labels, bounds=(0.0, 3.0), search="fast")
    assert found.status.numpy()[3] == SearchStatus.NOT_FINITE and not found.succeeded.numpy()[3]
    assert found.succeeded.numpy()[np.arange(NUM_IMAGES) != 3].all()


def test_random_classifier_is_refused(images):
    generator = tf.random.Generator.from_seed(0)
    model = network()

    def classifier(images):
        return model(images) + 50.0 * generator.normal([tf.shape(images)[0], NUM_CLASSES])

    with pytest.raises(
        RuntimeError,
        match="must return the same outputs for the same images; two calls on the first 2 images .* It draws random numbers",
    ):
        attack(classifier, images, labels=predicted(model, images), search="fast")


@pytest.mark.slow
def test_probabilities_without_a_removable_softmax_use_their_logarithm_with_a_warning(images):
    one, two = network(), network(scale=0.5)

    def ensemble(images):
        return 0.5 * (tf.nn.softmax(one(images)) + tf.nn.softmax(two(images)))

    labels = predicted(ensemble, images)
    with pytest.warns(UserWarning, match="the classifier returns probabilities, .* The search uses their logarithm"):
        found = attack(ensemble, images, labels=labels, search="fast")
    assert found.succeeded.numpy().all()
    assert (predicted(ensemble, found.distorted) != labels).all()


def test_calls_inside_a_function_or_a_replica_are_refused(images):
    model = network()
    with pytest.raises(RuntimeError, match="must be called eagerly; received a call inside a tf.function"):
        tf.function(lambda batch: minimize_distortion(model, batch, labels=0), autograph=False)(images)
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with warnings.catch_warnings(), pytest.raises(RuntimeError, match="must be called outside of strategy.run"):
        warnings.simplefilter("ignore")
        strategy.run(lambda: minimize_distortion(model, images, labels=0))


def test_a_function_that_calls_a_mirrored_model_is_refused(images, two_replicas):
    with two_replicas.scope():
        model = network()
        with pytest.raises(
            ValueError, match="reads variables that cannot be passed to the replicas of a strategy. Pass the Keras model"
        ):
            minimize_distortion(lambda batch: model(batch), images, labels=0)
