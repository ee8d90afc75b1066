"""Tests of adversarial activations of a layer at known distances, and of the pool that stores them."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.models.layer_split import IMAGES, cut_at
from intriguing.pixels import PixelBox
from intriguing.training import adversarial_pool
from intriguing.training.adversarial_pool import (
    AdversarialActivations,
    LayerPool,
    Pool,
    check_trainable_above,
    distort_activations,
    empty_pool,
    in_chunks,
    make_examples,
    mean_distortion,
    renew,
)
from tests.intriguing.training.tiny_pools import ROWS, SEARCH, SHAPE, attack_without_search, examples, network
from tests.oracles.linear_classifier import LinearClassifier, nearest_of_other_classes

RTOL_ROUNDING = 1e-5  # the bound of the oracle is float64, the search float32
ATOL_DIRECTION = 1e-5  # rounding of the length of a perturbation in float32
RTOL_SEARCH = 0.02  # the tolerance of the quick search, with a small budget


@pytest.fixture(scope="module")
def steep():
    """A network that is linear above `hidden1`, with images of which some are misclassified."""
    model = network(seed=3)
    model.set_weights([6.0 * weight for weight in model.get_weights()])
    hidden = cut_at(model, "hidden1").below(examples(200)[0])
    model.get_layer("logits").bias.assign(-np.mean(hidden, axis=0) @ model.get_layer("logits").get_weights()[0])
    images = examples(ROWS, seed=4)[0]
    labels = np.argmax(model(images), axis=1).astype(np.int32)
    labels[0] = 1 - labels[0]
    return cut_at(model, "hidden1"), images, labels


@pytest.fixture(scope="module")
def found(steep):
    cut, images, labels = steep
    return {
        wanted: distort_activations(cut, images, labels, search=SEARCH, to_distortion=wanted) for wanted in (None, 0.02, 1e4)
    }


def test_adversarial_activations_are_at_the_exact_minimum_within_the_range(steep, found):
    cut, images, labels = steep
    upper = LinearClassifier(*cut.above.get_weights())
    clean = np.asarray(cut.below(images))
    made = found[None]
    assert np.count_nonzero(made.succeeded) >= 4
    for row in np.flatnonzero(made.succeeded):
        nearest = nearest_of_other_classes(upper, clean[row], int(labels[row]), lower=0.0, upper=1.0)
        least = nearest.floor / np.sqrt(clean.shape[1])
        distance = np.sqrt(np.mean((np.asarray(made.activations[row], np.float64) - clean[row]) ** 2))
        assert (1 - RTOL_ROUNDING) * least <= distance + 1e-7
        assert distance <= (1 + RTOL_SEARCH) * least + 1e-7
        np.testing.assert_allclose(made.least_distortion[row], distance, rtol=1e-3, atol=1e-7)
    assert np.all(PixelBox(0.0, 1.0).contains(made.activations))
    np.testing.assert_array_equal(made.labels, labels)


def test_initially_misclassified_activations_are_not_changed(steep, found):
    clean = steep[0].below(steep[1])
    for made in found.values():
        assert made.succeeded[0] and made.least_distortion[0] == 0.0
        np.testing.assert_array_equal(made.activations[0], clean[0])


def test_examples_are_scaled_to_the_requested_distortion_and_clipped(steep, found):
    clean = np.asarray(steep[0].below(steep[1]))
    nearest = found[None]
    step = np.asarray(nearest.activations, np.float64) - clean
    wrong = np.asarray(nearest.least_distortion) > 0.0
    for wanted in (0.02, 1e4):
        made = found[wanted]
        length = np.sqrt(np.mean(step[wrong] ** 2, axis=1, keepdims=True))
        expected = np.clip(clean[wrong] + wanted * step[wrong] / length, 0.0, 1.0)
        np.testing.assert_allclose(made.activations[wrong], expected, atol=ATOL_DIRECTION * max(1.0, wanted))
        np.testing.assert_array_equal(made.least_distortion, nearest.least_distortion)
        assert np.all(PixelBox(0.0, 1.0).contains(made.activations))
    assert np.any(np.asarray(found[1e4].activations) == 0.0) or np.any(np.asarray(found[1e4].activations) == 1.0)


def test_images_outside_the_bounds_are_refused(steep):
    with pytest.raises(ValueError, match="images must lie within bounds .0.0, 1.0.; received values from"):
        distort_activations(steep[0], 255.0 * steep[1], steep[2], search=SEARCH)


def test_range_of_the_layer_replaces_the_pixel_box(monkeypatch):
    calls = []

    def attack(classifier, images, *, labels, search):
        calls.append((search, np.min(images)))
        return attack_without_search(classifier, images, labels=labels, search=search)

    monkeypatch.setattr(adversarial_pool, "minimize_distortion", attack)
    model = keras.Sequential(
        [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(4, activation="relu", name="hidden1"),
         keras.layers.Dense(2)]
    )  # fmt: skip
    search = dataclasses.replace(SEARCH, pixel_box=PixelBox(-2.0, 2.0))
    for layer in ("hidden1", IMAGES):
        distort_activations(cut_at(model, layer, pixel_box=search.pixel_box), *examples(4), search=search)
    assert [box for (box, _) in [(s.pixel_box, low) for s, low in calls]] == [PixelBox(0.0, np.inf), PixelBox(-2.0, 2.0)]
    assert all(dataclasses.replace(s, pixel_box=SEARCH.pixel_box) == SEARCH for s, _ in calls)


@pytest.mark.parametrize(("num_rows", "size"), [(8, 8), (10, 4), (3, 3), (9, 2)])
def test_chunks_have_one_shape_and_cover_every_row_once(num_rows, size):
    new = []
    for rows, num_new in in_chunks(num_rows, size):
        assert rows.shape == (size,)
        new += list(np.asarray(rows)[:num_new])
    assert new == list(range(num_rows))


def test_examples_are_made_in_chunks_of_one_shape_and_progress_is_reported(monkeypatch):
    shapes, progress = [], []

    def attack(classifier, images, **options):
        shapes.append(images.shape[0])
        return attack_without_search(classifier, images, **options)

    monkeypatch.setattr(adversarial_pool, "minimize_distortion", attack)
    pool = LayerPool(layer=IMAGES, size=20, replaced=0.5)
    images, labels = examples(12)
    cut = cut_at(network(), IMAGES)
    made = make_examples(cut, pool, images, labels, search=SEARCH, attack_batch_size=4, report=progress.append)
    assert shapes == [4, 4, 4] and progress == [4, 8, 10]
    np.testing.assert_array_equal(made.labels, labels[:10])
    assert all(part.shape[0] == 10 for part in made)


def made_of(numbers, succeeded=None):
    numbers = np.asarray(numbers)
    succeeded = np.ones(len(numbers), bool) if succeeded is None else succeeded
    values = tf.constant(numbers[:, np.newaxis] * np.ones((1, 3)), tf.float32)
    return AdversarialActivations(
        values, tf.constant(numbers, tf.int32), tf.constant(numbers, tf.float32), tf.constant(succeeded)
    )


def pool_of(numbers, size):
    filled = np.concatenate([numbers, np.zeros(size - len(numbers))])
    return Pool(
        tf.constant(filled[:, np.newaxis] * np.ones((1, 3)), tf.float32),
        tf.constant(filled, tf.int32),
        tf.constant(len(numbers)),
    )


def contents(pool):
    np.testing.assert_array_equal(pool.activations, tf.cast(pool.labels, tf.float32)[:, tf.newaxis] * tf.ones([1, 3]))
    return list(np.asarray(pool.labels[: int(pool.count)]))


@pytest.mark.parametrize(
    ("num_old", "num_new", "replaced"),
    [(0, 4, 0), (0, 10, 0), (5, 5, 0), (8, 6, 4), (10, 3, 3), (10, 10, 10), (10, 0, 0), (0, 0, 0), (4, 14, 4)],
)
def test_new_examples_fill_free_rows_and_then_replace_old_ones(num_old, num_new, replaced):
    old, new = list(range(1, 1 + num_old)), list(range(101, 101 + num_new))
    pool = renew(pool_of(old, 10), made_of(new), seed=(1, 2))
    held = contents(pool)
    kept = [label for label in held if label < 100]
    assert len(held) == int(pool.count) == min(10, num_old + num_new)
    assert len(kept) == num_old - replaced
    assert sorted(label for label in held if label > 100) == new[:10]
    assert all(
        held[place] == old[place] for place in range(num_old) if held[place] < 100
    )  # the remaining examples keep their rows
    assert pool.activations.shape == (10, 3) and pool.labels.shape == (10,)


def test_replaced_rows_are_uniform_and_depend_only_on_the_seed():
    pool, gone = pool_of(list(range(1, 11)), 10), []
    for number in range(30):
        held = contents(renew(pool, made_of([101, 102]), seed=(1, number)))
        assert held == contents(renew(pool, made_of([101, 102]), seed=(1, number)))
        gone += [label for label in range(1, 11) if label not in held]
    assert len(gone) == 60 and set(gone) == set(range(1, 11))
    assert max(np.bincount(gone)) <= 18  # 6 are expected; larger counts mean that some rows are preferred


def test_failed_examples_never_enter_the_pool():
    rng = np.random.default_rng(0)
    pool, allowed = pool_of([], 10), set()
    for number in range(12):
        new, succeeded = 1 + 7 * number + np.arange(7), rng.uniform(size=7) < 0.5
        allowed |= set(new[succeeded])
        pool = renew(pool, made_of(new, succeeded), seed=(0, number))
        held = contents(pool)
        assert set(held) <= allowed and len(set(held)) == len(held) == min(10, len(allowed))


def test_mean_distortion_excludes_failed_examples():
    assert mean_distortion(made_of([2, 100, 4], np.array([True, False, True]))) == 3.0
    assert np.isnan(mean_distortion(made_of([2, 4], np.array([False, False]))))


def test_empty_pool_has_its_final_shape():
    pool = empty_pool(cut_at(network(), "hidden1"), LayerPool(layer="hidden1", size=6))
    assert pool.activations.shape == (6, 4) and pool.labels.shape == (6,) and pool.count == 0


def test_pool_above_all_trainable_layers_is_refused():
    softmax = keras.Sequential([keras.Input(SHAPE), *network().layers, keras.layers.Softmax()])
    with pytest.raises(ValueError, match="a layer above the pool at 'logits' must have trainable weights"):
        check_trainable_above(cut_at(softmax, "logits"), LayerPool(layer="logits"), softmax)


@pytest.mark.parametrize(("size", "replaced", "num_replaced"), [(20, 0.25, 5), (10, 1.0, 10), (3, 0.01, 1), (1, 0.5, 1)])
def test_every_round_replaces_at_least_one_example(size, replaced, num_replaced):
    assert LayerPool(size=size, replaced=replaced).num_replaced == num_replaced


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size must be positive; received 0."), ({"replaced": 0.0}, "replaced must lie in \\(0, 1\\]; received 0.0."),
        ({"replaced": 1.5}, "replaced must lie in"), ({"share": -0.1}, "share must lie in \\(0, 1\\]; received -0.1."),
        ({"share": float("nan")}, "share must lie in"), ({"to_distortion": 0.0}, "to_distortion must be positive and finite; received 0.0."),
        ({"to_distortion": float("nan")}, "to_distortion must be positive"),
    ],
)  # fmt: skip
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LayerPool(**settings)
