"""Tests of PooledModel in `fit`: its loss, its saved state, its random draws, and its errors."""

import dataclasses
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack import search_named
from intriguing.models.layer_split import IMAGES, cut_at
from intriguing.pixels import PixelBox
from intriguing.training import adversarial_pool
from intriguing.training.adversarial_pool import LayerPool
from intriguing.training.pooled_model import PooledModel, RenewPools
from tests.intriguing.training.tiny_pools import SEARCH, SHAPE, attack_without_search, examples, network

RTOL_ROUNDING = 1e-5  # means of float32 in another order
ATOL_RESUMED = 1e-6  # the same operations on the same numbers
POOLS = (LayerPool(layer="hidden1", size=8, replaced=0.5, share=0.25), LayerPool(size=6, replaced=0.5, share=0.25))


@pytest.fixture(autouse=True)
def without_search(monkeypatch):
    """Replaces the attack, which takes long to compile."""
    monkeypatch.setattr(adversarial_pool, "minimize_distortion", attack_without_search)


def pooled_of(model, jit_compile=False, optimizer="adam", **options):
    pooled = PooledModel(model, pools=POOLS, search=SEARCH, seed=3)
    pooled.compile(optimizer, jit_compile=jit_compile, **options)
    return pooled


def fit(pooled, data, epochs=3, callbacks=(), rounds_per_epoch=1, **options):
    renewal = RenewPools(*data, rounds_per_epoch=rounds_per_epoch, attack_batch_size=4)
    return pooled.fit(
        *data, batch_size=16, epochs=epochs, shuffle=False, callbacks=[*callbacks, renewal], verbose=0, **options
    ).history


def cross_entropy_of(logits, labels):
    logits = np.asarray(logits, np.float64)
    return np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels])


def put(pooled, index, activations, label):
    """Fills a pool with copies of one example, so that all draws are equal."""
    size = pooled.pools[index].size
    for variable, value in zip(
        pooled._pool_weights[index], (np.tile(activations, [size, *[1] * (activations.ndim - 1)]), np.full(size, label), size),
        strict=True,
    ):  # fmt: skip
        variable.assign(value)


@pytest.mark.parametrize("jit_compile", [True, False])
@pytest.mark.parametrize("ends_in", ["logits", "softmax"])
def test_loss_and_metrics_weigh_shares_and_count_regularizers_once(jit_compile, ends_in):
    model = network(decay=0.3)
    network_of = model if ends_in == "logits" else keras.Sequential([keras.Input(SHAPE), *model.layers, keras.layers.Softmax()])
    pooled = pooled_of(network_of, jit_compile, keras.optimizers.SGD(0.0))
    (images, labels), far = examples(16), examples(1, seed=8)[0]
    hidden = np.array([[0.1, 0.9, 0.4, 0.7]], np.float32)
    clean = cross_entropy_of(model(images), labels)
    losses = [cross_entropy_of(model.get_layer("logits")(hidden), [0]), cross_entropy_of(model(far), [1])]
    decay = 0.15 * sum(np.sum(layer.get_weights()[0].astype(np.float64) ** 2) for layer in model.layers[1:])
    empty = fit(pooled, (images, labels), epochs=2)
    np.testing.assert_allclose(empty["loss"][0], 0.5 * clean + decay, rtol=RTOL_ROUNDING)
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


def deep(frozen):
    """Returns a network of layers of equal shape, so that wrong positions of weights are not detected by their shapes."""
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(4, "sigmoid", name=name) for name in ("hidden1", "hidden2")]
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), *hidden, keras.layers.Dense(4, name="logits")])
    if frozen:
        model.get_layer(frozen).trainable = False
    return model


@pytest.mark.parametrize("pool_at", ["hidden1", "hidden2"])
@pytest.mark.parametrize(("before", "after"), [("hidden1", None), (None, "hidden1"), ("hidden2", None), (None, "hidden2")])
@pytest.mark.parametrize("compiled_first", [False, True])
def test_pool_loss_uses_the_layers_above_after_trainable_changed_before_training(pool_at, before, after, compiled_first):
    model, (images, labels) = deep(before), examples(16, num_classes=4)
    pooled = PooledModel(model, pools=(LayerPool(layer=pool_at, size=8, share=0.5),), search=SEARCH)
    if compiled_first:
        pooled.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    for name in ("hidden1", "hidden2"):
        model.get_layer(name).trainable = name != after
    if not compiled_first:
        pooled.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    held = np.array([[0.1, 0.9, 0.4, 0.7]], np.float32)
    put(pooled, 0, held, 2)
    history = pooled.fit(images, labels, verbose=0).history
    above = held if pool_at == "hidden2" else model.get_layer("hidden2")(held)
    expected = cross_entropy_of(model.get_layer("logits")(above), [2])
    np.testing.assert_allclose(history[f"{pool_at}_pool_loss"], expected, rtol=RTOL_ROUNDING)


@pytest.mark.parametrize("layer", ["hidden1", "hidden2"])
def test_changing_trainable_between_fits_requires_compile(layer):
    model, data = deep(None), examples(16, num_classes=4)
    pooled = PooledModel(model, pools=(LayerPool(layer="hidden1", size=8, share=0.5),), search=SEARCH)
    pooled.compile("sgd", jit_compile=False)
    put(pooled, 0, np.array([[0.1, 0.9, 0.4, 0.7]], np.float32), 2)
    pooled.fit(*data, verbose=0)
    model.get_layer(layer).trainable = False
    before = model.get_layer(layer).get_weights()
    for train in (pooled.fit, pooled.train_on_batch):
        with pytest.raises(ValueError, match="must be compiled again after `trainable` of a layer changed.*Call compile"):
            train(*data)
    pooled.compile("sgd", jit_compile=False)
    pooled.fit(*data, verbose=0)
    np.testing.assert_array_equal(before[0], model.get_layer(layer).get_weights()[0])


def test_pool_with_only_frozen_layers_above_is_refused():
    model, data = deep(None), examples(16, num_classes=4)
    pooled = PooledModel(model, pools=(LayerPool(layer="hidden2", size=8),), search=SEARCH)
    pooled.compile("sgd")
    model.get_layer("logits").trainable = False
    with pytest.raises(
        ValueError,
        match="a layer above the pool at 'hidden2' must have trainable weights.*set `trainable` of a layer above to True",
    ):
        pooled.fit(*data, callbacks=[RenewPools(*data, rounds_per_epoch=1)], verbose=0)


def test_classifier_is_trained_in_place_and_traced_once_with_a_partial_batch(monkeypatch):
    traces, model = [], network()
    plain = PooledModel.compute_loss

    def counted(self, *args, **options):
        traces.append(None)
        return plain(self, *args, **options)

    monkeypatch.setattr(PooledModel, "compute_loss", counted)
    pooled = pooled_of(model)
    before = model.get_weights()
    epochs = []
    record = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: epochs.append((len(traces), int(pooled.pool(0).count))))
    history = fit(pooled, examples(40), epochs=4, callbacks=[record])
    assert all(np.any(new != old) for new, old in zip(model.get_weights(), before, strict=True))
    (first, count), *_ = epochs
    assert count == 0 and len(traces) == first > 0
    assert pooled.pool(0).count == pooled.pool(1).count == 6  # three rounds, each with 2 successes out of 4 or 3
    assert history["hidden1_pool_loss"][0] == 0.0 < min(history["hidden1_pool_loss"][1:])


class KilledError(Exception):
    pass


class Kill(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KilledError


def test_backup_and_restore_resumes_with_the_same_pools_and_weights(tmp_path):
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
def test_rounds_divide_each_epoch_evenly_and_are_numbered_consecutively(steps_per_execution, monkeypatch):
    numbers = []
    monkeypatch.setattr(PooledModel, "renew", lambda self, *data, number, **options: numbers.append((number, self.num_steps)))

    class Count(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.num_steps = 0

        def on_train_batch_end(self, batch, logs=None):
            self.model.num_steps = batch + 1

    pooled = pooled_of(network(), steps_per_execution=steps_per_execution)
    fit(pooled, examples(128), epochs=2, callbacks=[Count()], rounds_per_epoch=3)  # eight batches: 2, 3 and 3
    first, third = {1: (2, 5), 2: (2, 6)}[steps_per_execution]
    assert numbers == [(1, first), (2, third), (3, 0), (4, first), (5, third)]


@pytest.mark.parametrize(("steps_per_epoch", "number"), [(None, "an unknown number of"), (3, "3")])
def test_fewer_steps_than_rounds_raise_before_training(steps_per_epoch, number):
    images, labels = examples(16)
    pooled, epochs = pooled_of(network()), 1 if steps_per_epoch is None else 2

    def batches():
        yield from [(images, labels)] * 6

    with pytest.raises(ValueError, match=f"at least rounds_per_epoch=4 steps; received {number} steps. Pass steps_per_epoch"):
        pooled.fit(
            batches(), steps_per_epoch=steps_per_epoch, epochs=epochs, shuffle=False, verbose=0,
            callbacks=[RenewPools(images, labels, rounds_per_epoch=4)],
        )  # fmt: skip


def test_saved_weights_include_the_pools(tmp_path):
    pooled, other = pooled_of(network()), pooled_of(network(seed=5))
    fit(pooled, examples(32))
    other.optimizer.build(other.trainable_variables)
    pooled.save_weights(tmp_path / "all.weights.h5")
    other.load_weights(tmp_path / "all.weights.h5")
    for index in range(2):
        for value, expected in zip(other.pool(index), pooled.pool(index), strict=True):
            np.testing.assert_array_equal(value, expected)
    assert other.pool(0).count > 0


def test_draws_depend_only_on_seed_and_step():
    weights = []
    for _ in range(2):
        model = network()
        fit(pooled_of(model), examples(32))
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_loss_on_two_devices_equals_that_on_one(two_replicas):
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


def test_only_the_classifier_is_trainable_and_listed_as_a_layer():
    model = network(decay=0.3)
    pooled = pooled_of(model)
    assert [variable.path for variable in pooled.trainable_variables] == [v.path for v in model.trainable_variables]
    assert pooled.layers == [model] and len(pooled.losses) == 2
    assert len(pooled.non_trainable_variables) == 6


def test_progress_is_printed_unless_fit_is_silent(capsys):
    data = examples(32)
    pooled = pooled_of(network())
    fit(pooled, data, epochs=2)
    assert capsys.readouterr().out == ""
    pooled.fit(*data, epochs=2, callbacks=[RenewPools(*data, rounds_per_epoch=1)], verbose=2)
    printed = capsys.readouterr().out
    assert "4/4" in printed and "hidden1 example" in printed and "images example" in printed


class Subclassed(keras.Model):
    pass


def test_search_may_be_a_name_and_pools_a_list():
    by_default, named = PooledModel(network(), pools=POOLS), PooledModel(network(), pools=list(POOLS), search="fast")
    assert by_default.search == search_named("training")
    assert named.search == search_named("fast") and named.pools == tuple(POOLS)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: PooledModel(Subclassed(name="mine"), pools=POOLS), ValueError, "the model 'mine' must be functional or Sequential, so that"),
        (lambda: PooledModel(network(), pools=()), ValueError, "pools must name at least one layer"),
        (lambda: PooledModel(network(), pools=(LayerPool(layer="hiden1"),)), ValueError, "Did you mean 'hidden1'"),
        (lambda: PooledModel(network(), pools=POOLS, search="fst"), ValueError, "Did you mean 'fast'"),
        (lambda: PooledModel(network(), pools=POOLS, search=5), TypeError, "search must be a DistortionSearch or the name of one"),
        (lambda: PooledModel(network(), pools=("images",)), TypeError, r"must be a sequence of LayerPool.*received \('images',\). Pass pools="),
        (lambda: PooledModel(network(), pools=LayerPool()), TypeError, r"must be a sequence of LayerPool.*received LayerPool\(layer='images'"),
        (lambda: RenewPools(examples(4)[0], np.zeros(3, int)), ValueError, r"one class for each of the 4 images; received shape \(3,\)"),
        (lambda: RenewPools(*examples(4), rounds_per_epoch=0), ValueError, "rounds_per_epoch must be positive; received 0."),
        (lambda: RenewPools(*examples(4), attack_batch_size=0), ValueError, "attack_batch_size must be positive; received 0."),
    ],
)  # fmt: skip
def test_invalid_settings_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


WRONG_LABELS = {
    "one for each": (np.zeros(3, np.int32), ValueError, "labels must have one class for each of the 16 images; received shape"),
    "range": (np.full(16, 2), ValueError, "labels must lie in 0..1"),
    "float": (np.zeros(16), TypeError, "labels must be integers, the numbers of classes; received float64. Pass labels.astype"),
    "one-hot": (np.eye(2)[np.zeros(16, np.int32)], ValueError, "as of one-hot rows. Pass labels.argmax"),
    "column": (np.zeros((16, 1), np.int32), ValueError, r"received shape \(16, 1\). Pass labels\[:, 0\]"),
}  # fmt: skip


@pytest.mark.parametrize(("labels", "error", "message"), WRONG_LABELS.values(), ids=WRONG_LABELS)
def test_invalid_labels_raise_before_training(labels, error, message):
    images, right = examples(16)
    if labels.ndim == 1:  # the callback accepts one-hot rows and a column
        with pytest.raises(error, match=message.split(", the numbers")[0]):
            pooled_of(network()).fit(images, right, callbacks=[RenewPools(images, labels)], verbose=0)
    with pytest.raises(error, match=message):
        pooled_of(network()).fit(images, labels, callbacks=[RenewPools(images, right)], verbose=0)


class Damage(keras.callbacks.Callback):
    """Replaces the weights of a layer during training."""

    def __init__(self, layer, value):
        super().__init__()
        self.layer, self.value = layer, value

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 1:
            kernel = self.model.classifier.get_layer(self.layer).kernel
            kernel.assign(np.full(kernel.shape, self.value))


@pytest.mark.parametrize("damaged", ["hidden1", "logits"])
@pytest.mark.parametrize("when", ["before", "while"])
def test_nan_weights_are_named_instead_of_images(when, damaged):
    data, pooled = examples(64), pooled_of(network())
    if when == "before":
        pooled.classifier.get_layer(damaged).kernel.assign(np.full(pooled.classifier.get_layer(damaged).kernel.shape, np.nan))
    callbacks = [Damage(damaged, np.nan)] if when == "while" else []
    with pytest.raises(
        ValueError, match=f"weights of the model must be finite numbers; received NaN.*{damaged}/kernel.*lower learning rate"
    ):
        fit(pooled, data, callbacks=callbacks, epochs=2)


def test_overflowing_activations_are_named_instead_of_images():
    keras.utils.set_random_seed(0)
    head = [keras.layers.Dense(4, name="wide"), keras.layers.Dense(4, name="hidden2"), keras.layers.Dense(2, name="logits")]
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), *head])
    for name in ("wide", "hidden2"):
        model.get_layer(name).kernel.assign(np.full((4, 4), 3e38))
    cut, (images, labels) = cut_at(model, "hidden2"), examples(8)
    with pytest.raises(
        ValueError, match="activations .* must be finite numbers; received 32 NaN or infinite values of 32, alth"
    ):
        adversarial_pool.distort_activations(cut, images, labels, search=SEARCH)


@pytest.mark.parametrize("labels", ["one-hot", "float"])
def test_invalid_labels_of_a_dataset_raise_in_the_first_step(labels):
    images, right = examples(16)
    wrong, error, message = WRONG_LABELS[labels]
    batches = tf.data.Dataset.from_tensor_slices((images, wrong.astype(np.float32))).batch(8)
    with pytest.raises(error, match=message.split(";")[0].split(". ")[0]):
        pooled_of(network()).fit(batches, shuffle=False, callbacks=[RenewPools(images, right, rounds_per_epoch=2)], verbose=0)


@pytest.mark.parametrize("jit_compile", [True, False])
@pytest.mark.parametrize("wrong", [-1, 2])
def test_invalid_label_in_a_later_batch_raises_before_its_step(wrong, jit_compile):
    images, labels = examples(32)
    labels[20] = wrong
    batches = tf.data.Dataset.from_tensor_slices((images, labels, np.ones(32, np.float32))).batch(8)
    pooled = pooled_of(network(), jit_compile)
    put(pooled, 0, np.array([[0.1, 0.9, 0.4, 0.7]], np.float32), 0)
    expected = (
        f"^labels must lie in 0..1, the classes of the classifier; received values from {min(wrong, 0)} to {max(wrong, 1)}"
    )
    with pytest.raises(
        ValueError, match=expected + " in a batch. Correct them, or build the classifier with an output for each class.$"
    ):
        pooled.fit(batches, shuffle=False, verbose=0)
    assert np.all(np.isfinite(pooled.classifier.get_weights()[0]))
    with pytest.raises(ValueError, match="labels must lie in 0..1"):
        pooled.train_on_batch(images, labels)


def test_custom_loss_may_use_other_labels():
    images, labels = examples(16)
    pooled = pooled_of(network(), loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    hot = np.eye(2, dtype=np.float32)[labels]
    callback = RenewPools(images, labels, rounds_per_epoch=1)
    assert np.isfinite(pooled.fit(images, hot, epochs=2, callbacks=[callback], verbose=0).history["loss"][0])


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((16, 3, 3, 1), np.float32), ValueError, r"images must have the shape \[2, 2, 1\] that the model .* expects"),
        (np.zeros((16, *SHAPE), np.uint8), TypeError, "images must be floating point; received uint8"),
        (np.full((16, *SHAPE), 200.0), ValueError, "images must lie within bounds"),
    ],
    ids=["shape", "bytes", "range"],
)
def test_images_invalid_for_the_attack_raise_before_training(images, error, message):
    right, labels = examples(16)
    with pytest.raises(error, match=message):
        pooled_of(network()).fit(right, labels, callbacks=[RenewPools(images, labels)], verbose=0)


@pytest.mark.parametrize(("dtype", "error"), [(np.float32, ValueError), (np.uint8, TypeError)])
def test_images_outside_the_pixel_box_are_answered_with_an_argument_that_exists(dtype, error):
    images, labels = examples(16)
    renewal = RenewPools((images * 255).astype(dtype), labels)
    with pytest.raises(error) as raised:
        pooled_of(network()).fit(images, labels, callbacks=[renewal], verbose=0)
    advised = re.search(r"search=(dataclasses.replace\(.*?\)\))", str(raised.value))[1]
    search = eval(advised, {"dataclasses": dataclasses, "search_named": search_named, "PixelBox": PixelBox})
    assert PooledModel(network(), pools=POOLS, search=search).search.pixel_box == (0.0, 255.0)
    assert "bounds=" not in str(raised.value)


@pytest.mark.parametrize(
    "labels_of", [lambda labels: np.eye(2, dtype=np.float32)[labels], lambda labels: labels[:, np.newaxis]]
)
def test_renewal_accepts_one_hot_and_column_labels(labels_of):
    (images, labels), pools = examples(16), []
    for given in (labels, labels_of(labels)):
        pooled = pooled_of(network())
        pooled.fit(
            images, labels, batch_size=8, shuffle=False, callbacks=[RenewPools(images, given, rounds_per_epoch=2)], verbose=0
        )
        pools.append(pooled.pool(0))
    assert pools[0].count > 0
    np.testing.assert_array_equal(pools[1].labels, pools[0].labels)


def test_images_of_another_shape_raise_before_training():
    with pytest.raises(ValueError, match=r"images must have the shape \[2, 2, 1\] .* received \[16, 3, 3, 1\]"):
        pooled_of(network()).fit(np.zeros((16, 3, 3, 1)), np.zeros(16, int), callbacks=[RenewPools(*examples(16))], verbose=0)


def test_empty_pools_require_the_callback_and_filled_pools_do_not():
    data, pooled = examples(16), pooled_of(network())
    for train in (pooled.fit, pooled.train_on_batch):
        with pytest.raises(
            ValueError, match=r"the pools must hold examples.*Pass callbacks=\[RenewPools\(images, labels\)\] to fit"
        ):
            train(*data)
    fit(pooled, data, epochs=2)
    assert np.isfinite(pooled.fit(*data, verbose=0).history["loss"][0])


def test_a_single_round_is_refused_if_the_pools_are_empty():
    data, pooled = examples(16), pooled_of(network())
    with pytest.raises(ValueError, match=r"epochs \* rounds_per_epoch must be at least 2.*received 1.*larger rounds_per_epoch"):
        fit(pooled, data, epochs=1)
    fit(pooled, data, epochs=2)
    assert pooled.pool(0).count > 0
    assert fit(pooled, data, epochs=1)["hidden1_pool_loss"][0] > 0.0


class Exponents(keras.layers.Layer):
    """Computes a softmax that the library does not recognize."""

    def call(self, logits):
        exponents = keras.ops.exp(logits)
        return exponents / keras.ops.sum(exponents, axis=1, keepdims=True)


def with_head(*head, policy="float32"):
    keras.utils.set_random_seed(0)
    plain = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    layers = keras.layers
    try:
        body = [layers.Flatten(), layers.Dense(4, "sigmoid", name="hidden1")]
        return keras.Sequential([keras.Input(SHAPE), *body, *(make() for make in head)])
    finally:
        keras.config.set_dtype_policy(plain)


def logits():
    return keras.layers.Dense(2, name="logits")


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ([lambda: keras.layers.Dense(1, "sigmoid")], r"received shape \[None, 1\]. For two classes, use two outputs."),
        (
            [lambda: keras.layers.Reshape((2, 2))],
            r"received shape \[None, 2, 2\]. End the model in a layer that returns one row",
        ),
    ],
    ids=["one output", "a map"],
)
def test_outputs_that_are_not_class_scores_are_refused_before_training(head, message):
    with pytest.raises(ValueError, match="must return one score for each of at least two classes.*" + message):
        PooledModel(with_head(*head), pools=POOLS)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (
            [logits, Exponents],
            "must return logits or end in a softmax; received rows in .0, 1. that sum to 1, without a recognized softmax",
        ),
        ([lambda: keras.layers.Dense(1, "sigmoid")], r"one score for each of at least two classes.*received shape \[None, 1\]"),
    ],
    ids=["softmax of its own", "one output"],
)
def test_outputs_without_a_known_loss_are_refused(head, message):
    data = examples(16)
    with pytest.raises(ValueError, match=message):
        pooled_of(with_head(*head)).fit(
            data[0], np.zeros(16, int), callbacks=[RenewPools(data[0], np.zeros(16, int))], verbose=0
        )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
@pytest.mark.parametrize("last", ["float32", None], ids=["whole outputs", "reduced outputs"])
def test_loss_in_other_precisions_is_close_to_float32(policy, last):
    data, histories = examples(32), []
    weights = with_head(logits).get_weights()
    for chosen in ("float32", policy):
        model = with_head(logits, lambda: keras.layers.Softmax(dtype=last), policy=chosen)
        model.set_weights(weights)  # initializers draw other weights in other precisions
        histories.append(fit(pooled_of(model, optimizer=keras.optimizers.SGD(0.1)), data, epochs=2))
    for name in histories[0]:
        np.testing.assert_allclose(histories[1][name], histories[0][name], rtol=0.02, err_msg=name)


def test_pools_at_layers_of_nested_models_are_supported():
    plain, data = with_head(logits), examples(32)
    body = keras.Sequential(plain.layers[:-1], name="body")
    histories = []
    for model, layer in ((plain, "hidden1"), (keras.Sequential([keras.Input(SHAPE), body, plain.layers[-1]]), "body/hidden1")):
        model.set_weights(with_head(logits).get_weights())
        pooled = PooledModel(model, pools=(LayerPool(layer=layer, size=8, replaced=0.5),), search=SEARCH, seed=3)
        pooled.compile("adam", jit_compile=False)
        histories.append(fit(pooled, data, epochs=2))
    np.testing.assert_allclose(histories[1]["body_hidden1_pool_loss"], histories[0]["hidden1_pool_loss"], rtol=RTOL_ROUNDING)
    np.testing.assert_allclose(histories[1]["loss"], histories[0]["loss"], rtol=RTOL_ROUNDING)


HEADS = {
    "softmax layer": [logits, keras.layers.Softmax],
    "softmax in a dense layer": [lambda: keras.layers.Dense(2, "softmax", name="logits")],
    "activation layer": [logits, lambda: keras.layers.Activation("softmax", dtype="float32")],
    "nested": [lambda: keras.Sequential([keras.layers.Dense(2, "softmax", name="logits")], name="head")],
}


@pytest.mark.parametrize("head", HEADS)
def test_pools_of_a_softmax_model_equal_those_of_its_logits(head, monkeypatch):
    monkeypatch.undo()  # this test uses the real attack
    (images, labels), pools = examples(8), []
    plain = with_head(logits)
    for model in (plain, with_head(*HEADS[head])):
        model.set_weights(plain.get_weights())
        pooled = PooledModel(model, pools=(LayerPool(layer="hidden1", size=8, replaced=1.0),), search=SEARCH)
        pooled.renew(tf.constant(images), tf.constant(labels), number=1, attack_batch_size=8, report=lambda pool, done: None)
        pools.append(pooled.pool(0))
    assert pools[0].count == pools[1].count > 0
    np.testing.assert_allclose(pools[1].activations, pools[0].activations, atol=1e-3)
    np.testing.assert_array_equal(pools[1].labels, pools[0].labels)


def test_callback_requires_a_pooled_model():
    model = network()
    model.compile("adam", "mse")
    with pytest.raises(TypeError, match="RenewPools requires a PooledModel; received Sequential. Wrap the model."):
        model.fit(*examples(16), callbacks=[RenewPools(*examples(16))], verbose=0)


def test_default_pool_layer_is_images():
    assert [pool.layer for pool in POOLS] == ["hidden1", IMAGES]
