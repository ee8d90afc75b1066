"""Claims about the model that carries its pools through `fit`: its loss, its memory, and what it leaves alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.models.layer_cut import IMAGES
from intriguing.training import adversarial_pool
from intriguing.training.adversarial_pool import LayerPool
from intriguing.training.pooled_model import PooledModel, RenewPools
from tests.intriguing.training.tiny_pools import SEARCH, SHAPE, attack_without_search, examples, network

RTOL_ROUNDING = 1e-5  # means of float32 in another order
ATOL_RESUMED = 1e-6  # the same operations on the same numbers
POOLS = (LayerPool(layer="hidden1", size=8, replaced=0.5, share=0.25), LayerPool(size=6, replaced=0.5, share=0.25))


@pytest.fixture(autouse=True)
def without_search(monkeypatch):
    """Replaces the attack, which takes long to compile; the subject is what becomes of its examples."""
    monkeypatch.setattr(adversarial_pool, "minimize_distortion", attack_without_search)


def pooled_of(model, jit_compile=False, optimizer="adam", **options):
    pooled = PooledModel(model, pools=POOLS, search=SEARCH, seed=3)
    pooled.compile(optimizer, jit_compile=jit_compile, **options)
    return pooled


def fit(pooled, data, epochs=3, callbacks=(), rounds_per_epoch=1, **options):
    renewal = RenewPools(*data, rounds_per_epoch=rounds_per_epoch, attacked_at_once=4)
    return pooled.fit(
        *data, batch_size=16, epochs=epochs, shuffle=False, callbacks=[*callbacks, renewal], verbose=0, **options
    ).history


def surprise(logits, labels):
    logits = np.asarray(logits, np.float64)
    return np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels])


def put(pooled, index, activations, label):
    """Fills a pool with copies of one example, so that it does not matter which is drawn."""
    size = POOLS[index].size
    for variable, value in zip(
        pooled._pool_weights[index], (np.tile(activations, [size, *[1] * (activations.ndim - 1)]), np.full(size, label), size),
        strict=True,
    ):  # fmt: skip
        variable.assign(value)


@pytest.mark.parametrize("jit_compile", [True, False])
@pytest.mark.parametrize("ends_in", ["logits", "softmax"])
def test_the_loss_is_that_of_the_shares_with_regularizers_once_and_so_are_the_metrics(jit_compile, ends_in):
    model = network(decay=0.3)
    network_of = model if ends_in == "logits" else keras.Sequential([keras.Input(SHAPE), *model.layers, keras.layers.Softmax()])
    pooled = pooled_of(network_of, jit_compile, keras.optimizers.SGD(0.0))
    (images, labels), far = examples(16), examples(1, seed=8)[0]
    hidden = np.array([[0.1, 0.9, 0.4, 0.7]], np.float32)
    clean = surprise(model(images), labels)
    losses = [surprise(model.get_layer("logits")(hidden), [0]), surprise(model(far), [1])]
    decay = 0.15 * sum(np.sum(layer.get_weights()[0].astype(np.float64) ** 2) for layer in model.layers[1:])
    empty = pooled.fit(images, labels, batch_size=16, epochs=1, verbose=0).history
    np.testing.assert_allclose(empty["loss"], 0.5 * clean + decay, rtol=RTOL_ROUNDING)
    put(pooled, 0, hidden, 0)
    put(pooled, 1, far, 1)
    history = pooled.fit(images, labels, batch_size=16, epochs=1, verbose=0).history
    np.testing.assert_allclose(history["loss"], 0.5 * clean + 0.25 * sum(losses) + decay, rtol=RTOL_ROUNDING)
    np.testing.assert_allclose(history["hidden1_pool_loss"], losses[0], rtol=RTOL_ROUNDING)
    np.testing.assert_allclose(history["images_pool_loss"], losses[1], rtol=RTOL_ROUNDING)
    evaluated = pooled.evaluate(images, labels, batch_size=16, verbose=0, return_dict=True)
    assert set(evaluated) == {"loss"}
    np.testing.assert_allclose(evaluated["loss"], clean + decay, rtol=RTOL_ROUNDING)
    np.testing.assert_allclose(pooled.predict(images, verbose=0), network_of(images), rtol=RTOL_ROUNDING)


def test_the_classifier_is_trained_in_place_and_traced_once_with_a_last_batch_that_is_smaller(monkeypatch):
    traces, model = [], network()
    plain = PooledModel.compute_loss

    def counted(self, *args, **options):
        traces.append(None)
        return plain(self, *args, **options)

    monkeypatch.setattr(PooledModel, "compute_loss", counted)
    pooled = pooled_of(model)
    before = model.get_weights()
    fit(pooled, examples(40), epochs=1)
    assert all(np.any(new != old) for new, old in zip(model.get_weights(), before, strict=True))
    first = len(traces)
    assert pooled.pool(0).count == 0
    history = fit(pooled, examples(40), epochs=4)
    assert len(traces) == first > 0
    assert pooled.pool(0).count == pooled.pool(1).count == 6  # three rounds of 2 out of 4, of 2 out of 3
    assert history["hidden1_pool_loss"][0] == 0.0 < min(history["hidden1_pool_loss"][1:])


class KilledError(Exception):
    pass


class Kill(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KilledError


def test_killed_and_continued_by_keras_it_has_the_same_pools_and_weights(tmp_path):
    data = examples(32)
    whole = pooled_of(network())
    fit(whole, data, epochs=4)
    backup = str(tmp_path / "backup")
    with pytest.raises(KilledError):
        fit(pooled_of(network()), data, epochs=4, callbacks=[keras.callbacks.BackupAndRestore(backup), Kill()])
    resumed = pooled_of(network(seed=5))
    history = fit(resumed, data, epochs=4, callbacks=[keras.callbacks.BackupAndRestore(backup)])
    assert len(history["loss"]) == 2
    assert len(resumed.variables) == len(whole.variables)
    for variable, expected in zip(resumed.variables, whole.variables, strict=True):
        np.testing.assert_allclose(variable, expected, atol=ATOL_RESUMED, err_msg=variable.path)


@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_the_rounds_of_an_epoch_begin_where_its_batches_are_divided_and_are_numbered_on(steps_per_execution, monkeypatch):
    numbers = []
    monkeypatch.setattr(PooledModel, "renew", lambda self, *data, number, **options: numbers.append((number, self.seen)))

    class Count(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.seen = 0

        def on_train_batch_end(self, batch, logs=None):
            self.model.seen = batch + 1

    pooled = pooled_of(network(), steps_per_execution=steps_per_execution)
    fit(pooled, examples(128), epochs=2, callbacks=[Count()], rounds_per_epoch=3)  # eight batches: 2, 3 and 3
    first, third = {1: (2, 5), 2: (2, 6)}[steps_per_execution]
    assert numbers == [(1, first), (2, third), (3, 0), (4, first), (5, third)]


@pytest.mark.parametrize(("steps_per_epoch", "told"), [(None, "an unknown number of"), (3, "3")])
def test_less_steps_than_rounds_are_told_before_training(steps_per_epoch, told):
    images, labels = examples(16)
    pooled, epochs = pooled_of(network()), 1 if steps_per_epoch is None else 2

    def batches():
        yield from [(images, labels)] * 6

    with pytest.raises(ValueError, match=f"at least 4 steps, as many as rounds; received {told} steps. Pass steps_per_epoch"):
        pooled.fit(
            batches(), steps_per_epoch=steps_per_epoch, epochs=epochs, shuffle=False, verbose=0,
            callbacks=[RenewPools(images, labels, rounds_per_epoch=4)],
        )  # fmt: skip


def test_saved_weights_bring_the_pools(tmp_path):
    pooled, other = pooled_of(network()), pooled_of(network(seed=5))
    fit(pooled, examples(32))
    other.optimizer.build(other.trainable_variables)
    pooled.save_weights(tmp_path / "all.weights.h5")
    other.load_weights(tmp_path / "all.weights.h5")
    for index in range(2):
        for value, expected in zip(other.pool(index), pooled.pool(index), strict=True):
            np.testing.assert_array_equal(value, expected)
    assert other.pool(0).count > 0


def test_draws_depend_on_the_seed_and_on_the_step_alone():
    weights = []
    for _ in range(2):
        model = network()
        fit(pooled_of(model), examples(32))
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_two_devices_have_the_loss_of_one(two_replicas):
    histories, data = [], examples(32)
    for strategy in (tf.distribute.OneDeviceStrategy("CPU:0"), two_replicas):
        with strategy.scope():
            pooled = pooled_of(network(decay=0.1), optimizer=keras.optimizers.SGD(0.1))
            histories.append((fit(pooled, data), pooled.classifier.get_weights()))
    (one, weights), (two, others) = histories
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4)
    for weight, other in zip(weights, others, strict=True):
        np.testing.assert_allclose(weight, other, atol=1e-5)


def test_only_what_belongs_to_the_classifier_is_trained_or_counted_as_a_layer():
    model = network(decay=0.3)
    pooled = pooled_of(model)
    assert [variable.path for variable in pooled.trainable_variables] == [v.path for v in model.trainable_variables]
    assert pooled.layers == [model] and len(pooled.losses) == 2
    assert len(pooled.non_trainable_variables) == 6


def test_progress_is_told_unless_fit_is_silent(capsys):
    data = examples(32)
    pooled = pooled_of(network())
    fit(pooled, data, epochs=2)
    assert capsys.readouterr().out == ""
    pooled.fit(*data, epochs=2, callbacks=[RenewPools(*data, rounds_per_epoch=1)], verbose=2)
    told = capsys.readouterr().out
    assert "4/4" in told and "hidden1 example" in told and "images example" in told


class Subclassed(keras.Model):
    pass


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: PooledModel(Subclassed(name="mine"), pools=POOLS), ValueError, "the model 'mine' is subclassed or not built"),
        (lambda: PooledModel(network(), pools=()), ValueError, "pools must name at least one layer"),
        (lambda: PooledModel(network(), pools=(LayerPool(layer="hiden1"),)), ValueError, "Did you mean 'hidden1'"),
        (lambda: RenewPools(*examples(4), rounds_per_epoch=0), ValueError, "rounds_per_epoch must be positive; received 0."),
        (lambda: RenewPools(*examples(4), attacked_at_once=0), ValueError, "attacked_at_once must be positive; received 0."),
    ],
)  # fmt: skip
def test_wrong_settings_are_told(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (np.zeros(3, np.int32), ValueError, "labels must have one class for each of the 16 images; received shape \\(3,\\)"),
        (np.full(16, 2), ValueError, "labels must lie in 0..1"), (np.zeros(16), TypeError, "labels must be integers"),
    ],
)  # fmt: skip
def test_images_and_labels_that_do_not_go_together_are_told_before_training(labels, error, message):
    images, right = examples(16)
    with pytest.raises(error, match=message):
        pooled_of(network()).fit(images, right, callbacks=[RenewPools(images, labels)], verbose=0)


def test_the_callback_wants_a_model_with_pools():
    model = network()
    model.compile("adam", "mse")
    with pytest.raises(TypeError, match="RenewPools renews the pools of a PooledModel; received Sequential. Wrap the model."):
        model.fit(*examples(16), callbacks=[RenewPools(*examples(16))], verbose=0)


def test_the_layer_of_the_images_is_named_images():
    assert [pool.layer for pool in POOLS] == ["hidden1", IMAGES]
