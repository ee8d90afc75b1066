"""Tests of supervised training: its loss, the weights that it changes, and its reports."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.models.networks.fully_connected import fully_connected
from intriguing.training import supervised
from intriguing.training.spectral_regularizer import norm_bound
from intriguing.training.supervised import FullBatchTraining, MinibatchTraining, cross_entropy, fit_full_batch, fit_minibatches

layers = keras.layers
SHAPE = (2, 4, 1)
NEGLIGIBLE_RATE = 1e-12  # a learning rate that does not change float32 weights
RTOL_ROUNDING = 1e-5  # means of float32 in another order


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(60, *SHAPE)).astype(np.float32)
    return tf.constant(images), tf.constant((images[:, 0, 0, 0] * 3).astype(np.int32))


def endless(images, labels, batch_size):
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size, drop_remainder=True).repeat()


def network(seed=0, decay=0.1):
    return fully_connected((5, 3), weight_decay=(decay, decay), image_shape=SHAPE, seed=seed)


def negative_log_likelihood(logits, labels):
    logits = np.asarray(logits, np.float64)
    return np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels])


def test_cross_entropy_is_the_mean_negative_log_likelihood(examples):
    images, labels = examples
    logits = network()(images)
    np.testing.assert_allclose(
        cross_entropy(logits, images, labels), negative_log_likelihood(logits, labels), rtol=RTOL_ROUNDING
    )


def test_minibatch_training_reduces_the_loss(examples):
    settings = MinibatchTraining(num_epochs=60, batch_size=20, learning_rate=0.2)
    model = network(decay=0.0)
    record = fit_minibatches(model, endless(*examples, 20), steps_per_epoch=3, settings=settings)
    assert len(record.losses) == 60 and record.converged is None
    assert record.losses[-1] < 0.5 * record.losses[0]
    accuracy = np.mean(np.argmax(model(examples[0]), axis=1) == examples[1])
    assert accuracy > 0.9


def test_regularizers_are_added_once(examples):
    images, labels = examples
    model = network(decay=0.4)
    penalty = sum(0.2 * (layer.kernel.numpy().astype(np.float64) ** 2).sum() for layer in model.layers[1:])
    expected = negative_log_likelihood(model(images), labels) + penalty
    settings = MinibatchTraining(num_epochs=1, batch_size=20, learning_rate=NEGLIGIBLE_RATE)
    record = fit_minibatches(model, endless(images, labels, 20), steps_per_epoch=3, settings=settings)
    np.testing.assert_allclose(record.losses, [expected], rtol=RTOL_ROUNDING)


def test_the_spectral_penalty_is_added_to_the_regularizers(examples):
    images, labels = examples
    model = network(decay=0.4)
    kernels = [layer.kernel.numpy().astype(np.float64) for layer in model.layers[1:]]
    penalty = sum(0.2 * (kernel**2).sum() + 0.3 * float(norm_bound(kernel)) ** 2 for kernel in kernels)
    expected = negative_log_likelihood(model(images), labels) + penalty
    settings = MinibatchTraining(num_epochs=1, batch_size=20, learning_rate=NEGLIGIBLE_RATE, spectral_penalty=0.3)
    record = fit_minibatches(model, endless(images, labels, 20), steps_per_epoch=3, settings=settings)
    np.testing.assert_allclose(record.losses, [expected], rtol=RTOL_ROUNDING)


def test_batch_normalization_statistics_are_updated(examples):
    images, labels = examples
    model = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.BatchNormalization(momentum=0.9), layers.Dense(3)])
    flat = images.numpy().reshape(60, -1)
    settings = MinibatchTraining(num_epochs=1, batch_size=60, learning_rate=1e-3)
    fit_minibatches(model, endless(images, labels, 60), steps_per_epoch=1, settings=settings)
    np.testing.assert_allclose(model.layers[1].moving_mean, 0.1 * flat.mean(axis=0), rtol=RTOL_ROUNDING)
    np.testing.assert_allclose(model.layers[1].moving_variance, 0.9 + 0.1 * flat.var(axis=0), rtol=RTOL_ROUNDING)


def test_dropout_masks_change_at_every_step(examples):
    model = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dropout(0.5, seed=1), layers.Dense(3)])
    settings = MinibatchTraining(num_epochs=2, batch_size=60, learning_rate=NEGLIGIBLE_RATE)
    record = fit_minibatches(model, endless(*examples, 60), steps_per_epoch=1, settings=settings)
    assert np.isfinite(record.losses).all() and record.losses[0] != record.losses[1]


class WithoutTrainingArgument(keras.Model):
    def __init__(self):
        super().__init__()
        self.flatten, self.logits = layers.Flatten(), layers.Dense(3)

    def call(self, images):
        return self.logits(self.flatten(images))


def test_subclassed_model_without_a_training_argument_is_trained(examples):
    model = WithoutTrainingArgument()
    model(examples[0])
    settings = MinibatchTraining(num_epochs=5, batch_size=60, learning_rate=0.1)
    record = fit_minibatches(model, endless(*examples, 60), steps_per_epoch=1, settings=settings)
    assert record.losses[-1] < record.losses[0]
    assert fit_full_batch(model, *examples, settings=FullBatchTraining(max_iterations=5)).losses[-1] < record.losses[-1]


def sum_of_outputs(outputs, images, labels):
    return tf.reduce_sum(outputs)


@pytest.mark.parametrize("warmup", [0.0, 0.25])
def test_learning_rate_has_a_linear_warmup_and_a_cosine_decay(examples, warmup):
    # With a constant gradient the length of each Adam step is its learning rate.
    model = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(1, kernel_initializer="zeros")])
    settings = MinibatchTraining(num_epochs=4, batch_size=60, learning_rate=0.1, warmup=warmup)
    fit_minibatches(model, endless(*examples, 60), steps_per_epoch=5, settings=settings, loss=sum_of_outputs)
    num_warmup = int(warmup * 20)
    rates = [0.1 * step / num_warmup for step in range(num_warmup)]
    rates += [0.05 * (1 + np.cos(np.pi * step / (20 - num_warmup))) for step in range(20 - num_warmup)]
    np.testing.assert_allclose(model.layers[-1].bias, [-sum(rates)], rtol=1e-4)  # twenty float32 steps, and Adam's epsilon


def test_progress_is_reported_after_every_epoch(examples):
    calls = []
    settings = MinibatchTraining(num_epochs=4, batch_size=30, learning_rate=0.01)
    record = fit_minibatches(
        network(), endless(*examples, 30), steps_per_epoch=2, settings=settings, report=lambda *report: calls.append(report)
    )
    assert calls == [(epoch + 1, 4, loss) for epoch, loss in enumerate(record.losses)]


def test_batch_size_not_divisible_by_the_replicas_is_refused(examples, two_replicas):
    with (
        two_replicas.scope(),
        pytest.raises(ValueError, match="batch_size must be a multiple of the number of replicas, 2; received 15"),
    ):
        fit_minibatches(network(), endless(*examples, 15), steps_per_epoch=4, settings=MinibatchTraining(batch_size=15))


@pytest.mark.parametrize("name", ["num_epochs", "batch_size", "learning_rate"])
def test_minibatch_settings_must_be_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be positive; received 0"):
        MinibatchTraining(**{name: 0})


@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_warmup_must_be_below_one(warmup):
    with pytest.raises(ValueError, match=r"warmup must lie in \[0, 1\); received"):
        MinibatchTraining(warmup=warmup)


@pytest.mark.parametrize("penalty", [-1.0, float("inf"), float("nan")])
def test_spectral_penalty_must_be_finite_and_nonnegative(penalty):
    with pytest.raises(ValueError, match="spectral_penalty must be finite and not negative; received"):
        MinibatchTraining(spectral_penalty=penalty)


@pytest.mark.parametrize("options", [{"max_iterations": 0}, {"tolerance": -1.0}])
def test_invalid_full_batch_settings_are_refused(options):
    with pytest.raises(ValueError, match="max_iterations must be positive and tolerance not negative; received"):
        FullBatchTraining(**options)


def test_full_batch_training_reaches_the_minimum_of_scipy(examples):
    optimize = pytest.importorskip("scipy.optimize", reason="the oracle is SciPy's L-BFGS (extra test)")
    images, labels = examples
    flat, classes = images.numpy().reshape(60, 8).astype(np.float64), labels.numpy()
    decay = 0.05

    def objective(position):
        kernel, bias = position[:24].reshape(8, 3), position[24:]
        logits = flat @ kernel + bias
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        gradient = (odds / odds.sum(axis=1, keepdims=True) - np.eye(3)[classes]) / 60
        value = negative_log_likelihood(logits, classes) + decay / 2 * (kernel**2).sum()
        return value, np.r_[(flat.T @ gradient + decay * kernel).ravel(), gradient.sum(axis=0)]

    oracle = optimize.minimize(objective, np.zeros(27), jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10})
    model = fully_connected((3,), weight_decay=(decay,), image_shape=SHAPE)
    record = fit_full_batch(model, images, labels)
    assert record.converged is True
    rtol_minimum = 1e-6  # at a gradient of 1e-5 the loss is constant up to float32 rounding
    np.testing.assert_allclose(record.losses[-1], oracle.fun, rtol=rtol_minimum)
    atol_position = 1e-3  # a gradient of 1e-5 over a curvature of 0.05, in a handful of directions
    np.testing.assert_allclose(model.layers[-1].kernel, oracle.x[:24].reshape(8, 3), atol=atol_position)


def test_full_batch_training_keeps_frozen_layers(examples):
    model = network(decay=0.0)
    model.get_layer("hidden1").trainable = False
    frozen, free = model.get_layer("hidden1").get_weights(), model.get_layer("logits").get_weights()
    fit_full_batch(model, *examples, settings=FullBatchTraining(max_iterations=20))
    for before, after in zip(frozen, model.get_layer("hidden1").get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert np.any(free[0] != model.get_layer("logits").get_weights()[0])


def test_full_batch_training_reports_progress_and_stops_at_its_budget(examples, monkeypatch):
    monkeypatch.setattr(supervised, "_ITERATIONS_PER_REPORT", 5)
    calls = []
    record = fit_full_batch(
        network(decay=0.0), *examples, settings=FullBatchTraining(max_iterations=12, tolerance=0.0),
        report=lambda *report: calls.append(report),
    )  # fmt: skip
    assert [(done, total) for done, total, _ in calls] == [(5, 12), (10, 12), (12, 12)]
    assert tuple(loss for _, _, loss in calls) == record.losses and record.losses[2] < record.losses[0]
    assert record.converged is False


def with_softmax(model):
    return keras.Sequential([keras.Input(SHAPE), *model.layers, keras.layers.Softmax()])


def test_model_with_a_final_softmax_is_trained_like_its_logits(examples):
    images, labels = (part.numpy() for part in examples)
    records = []
    for end in (lambda model: model, with_softmax):
        minibatches, whole = end(network()), end(network())
        settings = MinibatchTraining(num_epochs=1, batch_size=20)
        record = fit_minibatches(minibatches, endless(images, labels, 20), steps_per_epoch=3, settings=settings)
        full = fit_full_batch(whole, images, labels, settings=FullBatchTraining(max_iterations=3))
        records.append([*record.losses, *full.losses])
    np.testing.assert_allclose(records[1], records[0], rtol=1e-4)


def test_labels_may_be_bytes_or_long_integers(examples):
    images, labels = (part.numpy() for part in examples)
    settings = MinibatchTraining(num_epochs=1, batch_size=60)
    losses = [
        fit_minibatches(network(), endless(images, labels.astype(dtype), 60), steps_per_epoch=1, settings=settings).losses
        for dtype in (np.int32, np.uint8, np.int64)
    ]
    np.testing.assert_array_equal(losses, np.tile(losses[0], [3, 1]))


def wrong_examples(images, labels):
    return {
        "one-hot": (images, np.eye(3)[labels], ValueError, "as of one-hot rows. Pass labels.argmax"),
        "column": (images, labels[:, np.newaxis], ValueError, "Pass labels.*, 0"),
        "float": (images, labels.astype(np.float32), TypeError, "labels must be integers, the numbers of classes; received float32"),
        "range": (images, labels + 1, ValueError, "labels must lie in 0..2, the classes of the classifier; received values from"),
        "shape": (images[:, :1], labels, ValueError, r"images must have the shape \[2, 4, 1\] that the model .* expects"),
    }  # fmt: skip


@pytest.mark.parametrize("wrong", ["one-hot", "column", "float", "range", "shape"])
def test_invalid_examples_raise_before_training(examples, wrong):
    images, labels, error, message = wrong_examples(*(part.numpy() for part in examples))[wrong]
    with pytest.raises(error, match=message):
        fit_full_batch(network(), images, labels)
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(60)
    with pytest.raises(error, match=message):
        fit_minibatches(network(), batches, steps_per_epoch=1, settings=MinibatchTraining(batch_size=60))


def test_wrong_number_of_labels_raises(examples):
    with pytest.raises(ValueError, match="labels must have one class for each of the 60 images; received shape"):
        fit_full_batch(network(), examples[0], examples[1][:50])


def test_batches_without_labels_raise(examples):
    batches = tf.data.Dataset.from_tensor_slices(examples[0]).batch(60)
    with pytest.raises(ValueError, match="batches must be pairs .images, labels.; received TensorSpec"):
        fit_minibatches(network(), batches, steps_per_epoch=1)


def test_double_precision_weights_are_refused(examples):
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(3, dtype="float64")])
    with pytest.raises(
        TypeError, match="the trainable weights must be float32; .* is float64. Build the model with the dtype policy"
    ):
        fit_full_batch(model, *examples)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_loss_in_half_precision_is_close_to_float32(examples, policy):
    images, labels = (part.numpy() for part in examples)
    found = []
    for dtype in ("float32", policy):
        keras.utils.set_random_seed(0)
        hidden = keras.layers.Dense(3, dtype=dtype, kernel_regularizer=keras.regularizers.L2(1e-3))
        model = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), hidden])
        settings = MinibatchTraining(num_epochs=2, batch_size=20)
        record = fit_minibatches(model, endless(images, labels, 20), steps_per_epoch=3, settings=settings)
        found.append(
            [*record.losses, *fit_full_batch(model, images, labels, settings=FullBatchTraining(max_iterations=3)).losses]
        )
    np.testing.assert_allclose(found[1], found[0], rtol=0.05)


def test_model_that_is_not_built_is_refused_and_not_built(examples):
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)], name="mine")
    with pytest.raises(ValueError, match="the model 'mine' must be built before it is trained. Begin it with a keras.Input."):
        fit_full_batch(model, *examples)
    assert not model.built


@pytest.mark.parametrize("loop", ["minibatches", "full batch"])
def test_changing_trainable_during_training_raises(loop, examples, monkeypatch):
    monkeypatch.setattr(supervised, "_ITERATIONS_PER_REPORT", 2)
    model = network()

    def freeze(*_):
        model.layers[-1].trainable = False

    with pytest.raises(
        ValueError, match="must stay the same during its training; `trainable` changed for '.*/kernel', '.*/bias'"
    ):
        if loop == "minibatches":
            chosen = MinibatchTraining(num_epochs=2, batch_size=20)
            fit_minibatches(model, endless(*examples, 20), steps_per_epoch=1, settings=chosen, report=freeze)
        else:
            fit_full_batch(model, *examples, settings=FullBatchTraining(max_iterations=60, tolerance=0.0), report=freeze)


def test_invalid_label_in_a_later_batch_raises(examples):
    images, labels = examples
    wrong = tf.tensor_scatter_nd_update(labels, [[45]], [7])
    with pytest.raises(
        ValueError, match="^labels must lie in 0..2, .* received values from 0 to 7 in a batch. Correct them, or"
    ):
        fit_minibatches(
            network(), endless(images, wrong, 20), steps_per_epoch=3, settings=MinibatchTraining(num_epochs=1, batch_size=20)
        )
