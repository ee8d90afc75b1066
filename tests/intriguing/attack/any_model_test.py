"""Every kind of classifier that users bring: what the attack reports is what their own object computes."""

import functools
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack import BoundarySearch, DistortionSearch, SearchStatus, minimize_distortion
from intriguing.evaluation import predict
from intriguing.lipschitz import certified_distortion, lipschitz_bound
from intriguing.models import features_at
from intriguing.pixels import PixelBox
from tests.intriguing.attack.op_by_op import op_by_op
from tests.oracles.any_models import CASES, dense
from tests.oracles.any_objects import NO_CLASSIFIERS, with_nan
from tests.oracles.our_words import assert_in_our_words

# The cheapest: two linear steps, then two along the boundary. What a result says about the classifier does not depend on it.
SEARCH = DistortionSearch(
    boundary_search=BoundarySearch(
        num_starts=1, long_steps=1, short_steps=1, restart=False, num_candidates=1, num_rivals=1, num_constraints=1,
        scales=(-0.3, 0.3, 2.0), tolerance=0.2,
    ),
    restart_evaluations=0, max_evaluations=20,
)  # fmt: skip
RTOL_DISTORTION = 1e-5  # float32 means of float32 pixels
RTOL_BOUND = 1e-5
FOUND_OF_4 = 3  # classes are balanced, so that other classes lie close by; the cheapest search may miss one
AT_ONE_LOOK = 100  # evaluations: a search without a gradient must not spend its budget

everywhere = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@functools.cache
def classifier_of(case):
    keras.utils.set_random_seed(0)
    return case.build()


@functools.cache
def attack_of(case, goal):
    """Returns the results and the classes that were given."""
    classifier, images = classifier_of(case), case.images()
    own = case.classes(classifier, images)
    num_classes = case.scores(classifier, images).shape[1]
    classes = own if goal == "labels" else (own + 1) % num_classes
    with warnings.catch_warnings(), op_by_op(not case.compiled):
        warnings.simplefilter("ignore")  # that probabilities have lost their information; others test that
        found = minimize_distortion(classifier, images, bounds=case.bounds, search=SEARCH, **{goal: classes})
    return found, classes


@pytest.mark.parametrize("goal", ["labels", "targets"])
@everywhere
def test_success_is_what_the_users_object_computes(case, goal):
    found, classes = attack_of(case, goal)
    distorted = found.distorted.numpy()
    again = case.classes(classifier_of(case), distorted)
    reached = again == classes if goal == "targets" else again != classes
    np.testing.assert_array_equal(found.succeeded, reached)
    assert np.all(distorted >= case.bounds[0]) and np.all(distorted <= np.float32(case.bounds[1]))
    assert distorted.shape == (4, *case.shape)
    rms = np.sqrt(np.mean((distorted.astype(np.float64) - case.images()).reshape(4, -1) ** 2, axis=1))
    np.testing.assert_allclose(found.distortion, np.where(reached, rms, np.nan), rtol=RTOL_DISTORTION)
    if case.blocked:
        assert set(found.status.numpy()[~reached]) <= {SearchStatus.NO_GRADIENT, SearchStatus.CONSTANT_LOGITS}
        assert np.all(found.num_evaluations.numpy()[~reached] <= AT_ONE_LOOK)
    elif goal == "labels":
        assert reached.sum() >= FOUND_OF_4


@everywhere
def test_predictions_are_those_of_the_users_object(case):
    classifier, images = classifier_of(case), case.images(number=9, seed=1)
    np.testing.assert_array_equal(predict(classifier, images), case.classes(classifier, images))


@everywhere
def test_distorted_images_are_predicted_as_the_users_object_does(case):
    distorted = attack_of(case, "labels")[0].distorted
    np.testing.assert_array_equal(predict(classifier_of(case), distorted), case.classes(classifier_of(case), distorted))


def outputs_of_layer(model, name, images):
    """A layer that was taken from another model keeps the output that it had there; so layers are called one by one."""
    if not isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.get_layer(name).output)(images, training=False)
    values = tf.convert_to_tensor(images)
    for layer in model.layers:
        values = layer(values)
        if layer.name == name:
            return values
    raise AssertionError(f"no layer {name!r}")


@pytest.mark.parametrize("case", [case for case in CASES if case.features], ids=lambda case: case.name)
def test_features_are_those_of_the_layer(case):
    model, images = classifier_of(case), case.images()
    expected = outputs_of_layer(model, case.features, images)
    np.testing.assert_allclose(features_at(model, case.features)(images, training=False), expected, rtol=1e-6)


@pytest.mark.parametrize("case", [case for case in CASES if case.bounded], ids=lambda case: case.name)
def test_no_logits_change_faster_than_the_lipschitz_bound(case):
    model, images = classifier_of(case), case.images(number=64)
    upper = float(lipschitz_bound(model).upper)
    step = 1e-3 * (case.bounds[1] - case.bounds[0]) * np.random.default_rng(1).normal(size=images.shape).astype(np.float32)
    for others in (case.images(number=64, seed=1), images + step):
        logits = case.scores(model, images) - case.scores(model, others)
        pixels = np.linalg.norm((images - others).reshape(64, -1).astype(np.float64), axis=1)
        assert np.max(np.linalg.norm(logits, axis=1) / pixels) <= upper * (1 + RTOL_BOUND)
    assert np.isfinite(upper)


@pytest.mark.parametrize("case", [case for case in CASES if case.bounded], ids=lambda case: case.name)
def test_no_certificate_is_above_its_attack(case):
    found, labels = attack_of(case, "labels")
    certified = certified_distortion(
        classifier_of(case), case.images(), labels, bounds=PixelBox(*case.bounds)
    ).distortion.numpy()
    reached = found.succeeded.numpy()
    assert np.all(certified[reached] <= found.distortion.numpy()[reached] * (1 + RTOL_DISTORTION))


@pytest.mark.parametrize("goal", ["labels", "targets"])
@pytest.mark.parametrize("name", NO_CLASSIFIERS)
def test_what_is_no_classifier_is_refused_in_our_words(name, goal):
    classifier = NO_CLASSIFIERS[name](dense())
    with pytest.raises((ValueError, TypeError)) as raised, op_by_op():
        minimize_distortion(classifier, CASES[0].images(), search=SEARCH, **{goal: np.zeros(4, np.int32)})
    assert_in_our_words(raised.value)


@pytest.mark.parametrize("goal", ["labels", "targets"])
def test_a_nan_of_one_class_is_no_success(goal):
    model, images = with_nan(dense(), everywhere=False), CASES[0].images()
    classes = np.zeros(4, np.int32) if goal == "labels" else np.ones(4, np.int32)
    try:
        with op_by_op():
            found = minimize_distortion(model, images, search=SEARCH, **{goal: classes})
    except ValueError as error:
        assert "NaN" in str(error) or "finite" in str(error)
    else:
        assert not np.any(found.succeeded)
        assert set(found.status.numpy()) == {SearchStatus.NOT_FINITE}


def test_images_on_the_walls_of_decimal_bounds_are_accepted():
    images = np.array([[0.0, 0.1, 0.1, 0.0, 0.05, 0.1, 0.0, 0.1]], np.float32)
    model = dense()
    with op_by_op():
        found = minimize_distortion(model, images, labels=np.argmax(model(images), axis=1), bounds=(0.0, 0.1), search=SEARCH)
    assert np.all(found.distorted.numpy() <= np.float32(0.1))
    normalized = (images * 10 - 0.1307) / 0.3081
    bounds = ((0 - 0.1307) / 0.3081, (1 - 0.1307) / 0.3081)
    found = minimize_distortion(
        dense(), normalized, labels=np.argmax(dense()(normalized), axis=1), bounds=bounds, search=SEARCH
    )
    assert tf.reduce_all(found.distorted >= normalized.min())
