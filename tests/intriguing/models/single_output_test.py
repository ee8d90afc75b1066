"""The operations of a single output, not its values, determine its threshold between two classes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.models.functional import split_weights
from tests.oracles.clear_errors import assert_clear_error

layers, ops = keras.layers, keras.ops
SIZE, NUM_IMAGES = 6, 200
PROBABILITY, LOGIT = 0.5, 0.0


def dense(activation=None, **options):
    return layers.Dense(1, activation=activation, bias_initializer=keras.initializers.Constant(0.1), **options)


def sigmoid(images):
    return dense("sigmoid")(images)


class WrittenOut(layers.Layer):
    def call(self, logits):
        return 1.0 / (1.0 + tf.exp(-logits))


class Scaled(layers.Layer):
    def build(self, shape):
        self.factor = self.add_weight(shape=(), initializer="ones")

    def call(self, values):
        return self.factor * values


HEADS = {  # the output, its threshold, and whether a sigmoid can be removed
    "sigmoid": (sigmoid, PROBABILITY, True),
    "average": (lambda x: layers.Average()([sigmoid(x), sigmoid(x)]), PROBABILITY, False),
    "mean of a stack": (lambda x: ops.mean(ops.stack([sigmoid(x), sigmoid(x)]), axis=0), PROBABILITY, False),
    "mean over places": (
        lambda x: layers.GlobalAveragePooling1D()(layers.Conv1D(1, 3, activation="sigmoid")(layers.Reshape((SIZE, 1))(x))),
        PROBABILITY, False,
    ),
    "product": (lambda x: sigmoid(x) * sigmoid(x), PROBABILITY, False),
    "maximum": (lambda x: layers.Maximum()([sigmoid(x), sigmoid(x)]), PROBABILITY, False),
    "column of a softmax": (lambda x: layers.Dense(2, activation="softmax")(x)[:, 1:], PROBABILITY, False),
    "written out": (lambda x: WrittenOut()(dense()(x)), PROBABILITY, False),
    "clipped": (lambda x: ops.clip(sigmoid(x), 1e-7, 1 - 1e-7), PROBABILITY, True),
    "clipped logit": (lambda x: ops.clip(dense()(x), 0.0, 1.0), PROBABILITY, True),
    "hard sigmoid": (dense("hard_sigmoid"), PROBABILITY, True),
    "square": (lambda x: sigmoid(x) ** 2, PROBABILITY, True),
    "square root": (lambda x: ops.power(sigmoid(x), 0.5), PROBABILITY, True),
    "one minus": (lambda x: 1 - sigmoid(x), PROBABILITY, True),
    "smoothed": (lambda x: 0.9 * sigmoid(x) + 0.05, PROBABILITY, True),
    "offset": (layers.Rescaling(0.5, 0.2), PROBABILITY, True),
    "never above one half": (lambda x: 0.4 * sigmoid(x), PROBABILITY, False),
    "half precision": (lambda x: dense("sigmoid", dtype="mixed_bfloat16")(x), PROBABILITY, True),
    "from -1 to 1": (lambda x: 2 * sigmoid(x) - 1, LOGIT, True),
    "tanh": (dense("tanh"), LOGIT, True),
    "negative tanh": (lambda x: -dense("tanh")(x), LOGIT, True),
    "less one half": (lambda x: sigmoid(x) - 0.5, LOGIT, True),
    "logit": (dense(), LOGIT, False),
    "small logit": (lambda x: 1e-3 * dense()(x) + 0.3, LOGIT, False),
    "normalized": (lambda x: layers.BatchNormalization()(dense()(x)), LOGIT, False),
    "difference": (lambda x: dense()(x) - dense()(x), LOGIT, False),
    "swish": (dense("silu"), LOGIT, False),
    "gelu": (dense("gelu"), LOGIT, False),
    "softplus": (dense("softplus"), None, False),
    "relu": (dense("relu"), None, False),
    "trained factor": (lambda x: Scaled()(sigmoid(x)), None, False),
    "twice a sigmoid": (lambda x: 2 * sigmoid(x), None, False),
    "trained factor of a logit": (lambda x: Scaled()(dense()(x)), LOGIT, False),
}  # fmt: skip


def model_of(name):
    keras.utils.set_random_seed(3)
    images = keras.Input((SIZE,))
    head = HEADS[name][0]
    return keras.Model(images, head(sigmoid(images) if name == "offset" else images))


def images():
    return tf.random.stateless_normal([NUM_IMAGES, SIZE], seed=[0, 0])


@pytest.mark.parametrize("name", HEADS)
def test_operations_determine_the_decision_threshold(name):
    architecture, _ = split_weights(model_of(name), (SIZE,))
    assert (architecture.threshold, architecture.cuts) == HEADS[name][1:]
    assert architecture.num_classes == 2 and architecture.num_outputs == 1


@pytest.mark.parametrize("name", [name for name in HEADS if HEADS[name][1] is not None])
def test_scores_predict_the_class_of_the_output(name):
    model = model_of(name)
    architecture, weights = split_weights(model, (SIZE,))
    scores, outputs = architecture.apply(weights, images()), model(images(), training=False)
    expected = (np.asarray(tf.cast(outputs, tf.float32))[:, 0] > HEADS[name][1]).astype(int)
    assert name in ("never above one half", "small logit") or 0 < expected.sum() < NUM_IMAGES
    np.testing.assert_array_equal(np.argmax(scores, axis=1), expected)


@pytest.mark.parametrize("name", [name for name in HEADS if HEADS[name][2]])
def test_scores_without_the_sigmoid_do_not_saturate(name):
    model = model_of(name)
    for weight in model.weights:
        weight.assign(100.0 * weight)
    architecture, weights = split_weights(model, (SIZE,))
    points = images()
    with tf.GradientTape() as tape:
        tape.watch(points)
        logits = architecture.apply(weights, points)[:, 1]
    assert np.all(np.any(np.asarray(tape.gradient(logits, points)) != 0.0, axis=1))


def test_plain_input_is_a_logit_and_opaque_function_is_undetermined():
    assert split_weights(lambda images: images[:, :1], (SIZE,))[0].threshold == LOGIT
    assert split_weights(tf.function(lambda images: tf.sigmoid(images[:, :1])), (SIZE,))[0].threshold is None


def test_output_with_a_variable_factor_is_undetermined():
    """The result is the same when the model is traced again with its weights as arguments."""
    model = model_of("trained factor")
    for _ in range(2):
        assert split_weights(model, (SIZE,))[0].threshold is None


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
def test_softmax_of_one_unit_is_refused(average):
    inputs = keras.Input((SIZE,))
    outputs = [layers.Dense(1, activation="softmax")(inputs) for _ in range(2)]
    model = keras.Model(inputs, layers.Average()(outputs) if average else outputs[0])
    with pytest.raises(ValueError, match="A softmax of one unit is constant: use activation='sigmoid', or two units") as raised:
        split_weights(model, (SIZE,))
    assert_clear_error(raised.value)
    assert split_weights(model, (SIZE,), scores="outputs")[0].num_classes == 1  # features may have a softmax of one unit
