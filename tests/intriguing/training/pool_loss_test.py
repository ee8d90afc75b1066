"""Tests of the loss of a mixed minibatch: its value, the weights that it trains, and its random draws."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.models.functional import values_of
from intriguing.models.layer_split import IMAGES, cut_at
from intriguing.training.adversarial_pool import LayerPool, Pool
from intriguing.training.pool_loss import draw, loss_with_pools
from intriguing.training.supervised import MinibatchTraining
from tests.intriguing.training.tiny_pools import SHAPE, dropping_network, examples, network

RTOL_ROUNDING = 1e-5  # means of float32 in another order
POOLS = (LayerPool(layer="hidden1", share=0.3), LayerPool(layer=IMAGES, share=0.2))


def losses_of(model, pools):
    return loss_with_pools(model, [cut_at(model, pool.layer) for pool in pools], pools, MinibatchTraining())


def evaluate(model, pools, clean, drawn, trainable=None):
    trainable = values_of(model.trainable_variables) if trainable is None else trainable
    return losses_of(model, pools)(trainable, values_of(model.non_trainable_variables), (clean, drawn))


def hidden_examples(number, width=4, seed=5, num_classes=2):
    rng = np.random.default_rng(seed)
    return tf.constant(rng.uniform(size=(number, width)), tf.float32), tf.constant(rng.integers(num_classes, size=number))


def by_hand(model, images, hidden):
    """Returns cross-entropies and weight decay in float64, for images `[n, 2, 2, 1]` and for inputs of the last layer."""
    lower, lower_bias, upper, upper_bias = (weight.astype(np.float64) for weight in model.get_weights())

    def cross_entropy_of(activations, labels):
        logits = activations.astype(np.float64) @ upper + upper_bias
        return np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels])

    def activations(pictures):
        return 1 / (1 + np.exp(-(pictures.reshape(len(pictures), -1).astype(np.float64) @ lower + lower_bias)))

    of_images = [cross_entropy_of(activations(np.asarray(pictures)), np.asarray(labels)) for pictures, labels in images]
    of_hidden = [cross_entropy_of(np.asarray(values), np.asarray(labels)) for values, labels in hidden]
    return of_images, of_hidden, 0.15 * (np.sum(lower**2) + np.sum(upper**2))


@pytest.mark.parametrize("filled", [(1.0, 1.0), (0.0, 1.0), (0.0, 0.0)])
def test_loss_weighs_shares_counts_regularizers_once_and_ignores_empty_pools(filled):
    model = network(decay=0.3)
    clean, distorted, hidden = examples(10), examples(6, seed=1), hidden_examples(7)
    drawn = [(*hidden, tf.constant(filled[0])), (*distorted, tf.constant(filled[1]))]
    (clean_loss, image_loss), (hidden_loss,), decay = by_hand(model, [clean, distorted], [hidden])
    expected = decay + 0.5 * clean_loss + filled[0] * 0.3 * hidden_loss + filled[1] * 0.2 * image_loss
    values, _ = evaluate(model, POOLS, clean, drawn)
    np.testing.assert_allclose(
        values, [expected, clean_loss, filled[0] * hidden_loss, filled[1] * image_loss], rtol=RTOL_ROUNDING
    )


def test_model_with_a_final_softmax_has_the_loss_of_its_logits():
    model = network()
    softmax = keras.Sequential([keras.Input(SHAPE), *model.layers, keras.layers.Softmax()])
    drawn = [(*hidden_examples(7), tf.constant(1.0)), (*examples(6, seed=1), tf.constant(1.0))]
    values = [evaluate(each, POOLS, examples(10), drawn)[0] for each in (model, softmax)]
    np.testing.assert_allclose(*values, rtol=RTOL_ROUNDING)


def gradients(model, pools, weigh):
    trainable = values_of(model.trainable_variables)
    fixed = values_of(model.non_trainable_variables)
    drawn = [(*hidden_examples(7, num_classes=3), tf.constant(1.0)) for _ in pools]
    with tf.GradientTape() as tape:
        tape.watch(trainable)
        values, _ = losses_of(model, pools)(trainable, fixed, (examples(10, num_classes=3), drawn))
        loss = weigh(values)
    found = tape.gradient(loss, trainable, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return dict(zip([variable.path.split("/", 1)[1] for variable in model.trainable_variables], found, strict=True))


def test_pool_examples_train_only_the_layers_above():
    model = dropping_network()
    moved = gradients(model, (LayerPool(layer="hidden2", share=0.3),), lambda values: values[2])
    for name, gradient in moved.items():
        above = "logits" in name.split("/")  # a name scope of another test may come first
        assert bool(np.any(gradient != 0.0)) is above, name
    assert len(moved) == 8


def test_clean_images_train_all_weights():
    moved = gradients(dropping_network(), (LayerPool(layer="hidden2", share=0.3),), lambda values: values[1])
    # Dropout before batch normalization gives every weight a gradient. Otherwise a constant would have no effect.
    assert all(np.any(gradient != 0.0) for gradient in moved.values())


def test_batch_statistics_use_only_clean_images():
    model = dropping_network()
    pools = (LayerPool(layer="hidden1", share=0.3), LayerPool(layer=IMAGES, share=0.3))
    clean, far = examples(10, num_classes=3), tf.fill([9, *SHAPE], 50.0)
    labels = tf.zeros([9], tf.int32)
    updates = []
    for filled in (0.0, 1.0):
        drawn = [(100.0 * hidden_examples(9, width=5)[0], labels, tf.constant(filled)), (far, labels, tf.constant(filled))]
        updates.append(evaluate(model, pools, clean, drawn)[1])
    for without, with_pools in zip(*updates, strict=True):
        np.testing.assert_array_equal(without, with_pools)
    assert any(np.any(new != old) for new, old in zip(updates[1], values_of(model.non_trainable_variables), strict=True))


def pool_of(count, size=10):
    rows = tf.range(size)
    return Pool(tf.cast(rows[:, tf.newaxis], tf.float32) * tf.ones([1, 4]), rows + 100, tf.constant(count))


@pytest.mark.parametrize("count", [1, 4, 10])
def test_draws_use_all_filled_rows_and_no_others(count):
    activations, labels, filled = draw(pool_of(count), 300, [3, 4])
    assert filled == 1.0
    assert set(np.asarray(labels)) == set(range(100, 100 + count))
    np.testing.assert_array_equal(activations[:, 0], tf.cast(labels - 100, tf.float32))


def test_draws_from_an_empty_pool_have_zero_weight():
    activations, _, filled = draw(pool_of(0), 5, [3, 4])
    assert filled == 0.0 and activations.shape == (5, 4)


def test_draws_depend_only_on_the_seed():
    labels = [draw(pool_of(10), 50, seed)[1] for seed in ([3, 4], [3, 4], [3, 5], [4, 4])]
    np.testing.assert_array_equal(labels[0], labels[1])
    assert np.any(labels[0] != labels[2]) and np.any(labels[0] != labels[3])


def test_two_replicas_draw_the_halves_of_a_single_draw(two_replicas):
    pool = pool_of(10)
    alone = draw(pool, 50, [3, 4])[1]
    drawn = tf.function(lambda: two_replicas.run(lambda: draw(pool, 25, [3, 4])[1]))()
    np.testing.assert_array_equal(tf.concat(two_replicas.experimental_local_results(drawn), axis=0), alone)
