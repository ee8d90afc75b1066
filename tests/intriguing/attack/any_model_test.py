"""For every kind of classifier, the reported results agree with what the classifier computes."""

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
from tests.oracles.any_objects import NON_CLASSIFIERS, with_nan
from tests.oracles.clear_errors import assert_clear_error

# A cheap search: two linear steps, then two along the boundary. The checks hold for every search.
SEARCH = DistortionSearch(
    boundary_search=BoundarySearch(
        num_starts=1, long_steps=1, short_steps=1, restart=False, num_candidates=1, num_rivals=1, num_constraints=1,
        scales=(-0.3, 0.3, 2.0), tolerance=0.2,
    ),
    restart_evaluations=0, max_evaluations=20,
)  # fmt: skip
RTOL_DISTORTION = 1e-5  # float32 means of float32 pixels
RTOL_BOUND = 1e-5
FOUND_OF_4 = 3  # classes are balanced, so that other classes are close; the cheap search may miss one
MAX_WITHOUT_GRADIENT = 100  # evaluations: a search without a gradient must not spend its budget

everywhere = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@functools.cache
def classifier_of(case):
    keras.utils.set_random_seed(0)
    return case.build()


@functools.cache
def attack_of(case, goal):
    """Returns the results and the classes that were passed."""
    classifier, images = classifier_of(case), case.images()
    own = case.classes(classifier, images)
    num_classes = case.scores(classifier, images).shape[1]
    classes = own if goal == "labels" else (own + 1) % num_classes
    with warnings.catch_warnings(), op_by_op(not case.compiled):
        warnings.simplefilter("ignore")  # the warning about saturated probabilities has its own test
        found = minimize_distortion(classifier, images, bounds=case.bounds, search=SEARCH, **{goal: classes})
    return found, classes


@pytest.mark.parametrize("goal", ["labels", "targets"])
@everywhere
def test_succeeded_agrees_with_the_classifier(case, goal):
    found, classes = attack_of(case, goal)
    distorted = found.distorted.numpy()
    again = case.classes(classifier_of(case), distorted)
    succeeded = again == classes if goal == "targets" else again != classes
    np.testing.assert_array_equal(found.succeeded, succeeded)
    assert np.all(distorted >= case.bounds[0]) and np.all(distorted <= np.float32(case.bounds[1]))
    assert distorted.shape == (4, *case.shape)
    rms = np.sqrt(np.mean((distorted.astype(np.float64) - case.images()).reshape(4, -1) ** 2, axis=1))
    np.testing.assert_allclose(found.distortion, np.where(succeeded, rms, np.nan), rtol=RTOL_DISTORTION)
    if case.blocked:
        assert set(found.status.numpy()[~succeeded]) <= {SearchStatus.NO_GRADIENT, SearchStatus.CONSTANT_LOGITS}
        assert np.all(found.num_evaluations.numpy()[~succeeded] <= MAX_WITHOUT_GRADIENT)
    elif goal == "labels":
        assert succeeded.sum() >= FOUND_OF_4


@everywhere
def test_predictions_agree_with_the_classifier(case):
    classifier, images = classifier_of(case), case.images(number=9, seed=1)
    np.testing.assert_array_equal(predict(classifier, images), case.classes(classifier, images))


@everywhere
def test_predictions_of_distorted_images_agree_with_the_classifier(case):
    distorted = attack_of(case, "labels")[0].distorted
    np.testing.assert_array_equal(predict(classifier_of(case), distorted), case.classes(classifier_of(case), distorted))


def outputs_of_layer(model, name, images):
    """Returns the output of a layer. Layers are called in order, because a reused layer keeps its output in another model."""
    if not isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.get_layer(name).output)(images, training=False)
    values = tf.convert_to_tensor(images)
    for layer in model.layers:
        values = layer(values)
        if layer.name == name:
            return values
    raise AssertionError(f"no layer {name!r}")


@pytest.mark.parametrize("case", [case for case in CASES if case.features], ids=lambda case: case.name)
def test_features_equal_the_outputs_of_the_layer(case):
    model, images = classifier_of(case), case.images()
    expected = outputs_of_layer(model, case.features, images)
    np.testing.assert_allclose(features_at(model, case.features)(images, training=False), expected, rtol=1e-6)


@pytest.mark.parametrize("case", [case for case in CASES if case.bounded], ids=lambda case: case.name)
def test_logits_change_at_most_by_the_lipschitz_bound(case):
    model, images = classifier_of(case), case.images(number=64)
    upper = float(lipschitz_bound(model).upper)
    step = 1e-3 * (case.bounds[1] - case.bounds[0]) * np.random.default_rng(1).normal(size=images.shape).astype(np.float32)
    for others in (case.images(number=64, seed=1), images + step):
        logits = case.scores(model, images) - case.scores(model, others)
        pixels = np.linalg.norm((images - others).reshape(64, -1).astype(np.float64), axis=1)
        assert np.max(np.linalg.norm(logits, axis=1) / pixels) <= upper * (1 + RTOL_BOUND)
    assert np.isfinite(upper)


@pytest.mark.parametrize("case", [case for case in CASES if case.bounded], ids=lambda case: case.name)
def test_certificates_do_not_exceed_attacks(case):
    found, labels = attack_of(case, "labels")
    certified = certified_distortion(
        classifier_of(case), case.images(), labels, bounds=PixelBox(*case.bounds)
    ).distortion.numpy()
    succeeded = found.succeeded.numpy()
    assert np.all(certified[succeeded] <= found.distortion.numpy()[succeeded] * (1 + RTOL_DISTORTION))


@pytest.mark.parametrize("goal", ["labels", "targets"])
@pytest.mark.parametrize("name", NON_CLASSIFIERS)
def test_objects_that_are_not_classifiers_raise_a_clear_error(name, goal):
    classifier = NON_CLASSIFIERS[name](dense())
    with pytest.raises((ValueError, TypeError)) as raised, op_by_op():
        minimize_distortion(classifier, CASES[0].images(), search=SEARCH, **{goal: np.zeros(4, np.int32)})
    assert_clear_error(raised.value)


@pytest.mark.parametrize("goal", ["labels", "targets"])
def test_nan_score_of_one_class_is_not_a_success(goal):
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


def test_images_at_decimal_bounds_are_accepted():
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
