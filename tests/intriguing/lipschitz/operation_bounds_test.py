"""Bounds of sums, products by constants and reshapes, compared with the matrix of the linear network."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.lipschitz import check_bounded, lipschitz_bound
from tests.oracles.unrolled_operator import largest_singular_value, unroll

RTOL = 2e-3  # relative excess of the bound of a layer over its norm
SHAPE = (4, 3)
layers, ops = keras.layers, keras.ops
FACTORS = np.array([1.0, -5.0, 2.0], np.float32)


def dense(inputs, units=3, seed=0):
    return layers.Dense(units, kernel_initializer=keras.initializers.RandomNormal(seed=seed))(inputs)


def model_of(make, shape=SHAPE):
    inputs = keras.Input(shape)
    return keras.Model(inputs, make(inputs))


EXACT = {
    "x + 1": lambda x: x + 1.0, "1 - x": lambda x: 1.0 - x, "2 x": lambda x: 2.0 * x, "x / 255": lambda x: x / 255.0,
    "-x": lambda x: -x, "(x - mean) / std": lambda x: (x - FACTORS) / np.array([0.5, 0.1, 3.0], np.float32),
    "x times an array": lambda x: x * FACTORS, "x times a tensor": lambda x: x * tf.constant(FACTORS),
    "x times a variable": lambda x: ops.multiply(x, keras.Variable(FACTORS)), "for each place": lambda x: x * np.ones((1, 4, 1)) * 3.0,
    "ops.multiply": lambda x: ops.multiply(3.0, x), "ops.divide": lambda x: ops.divide(x, 4.0),
    "spread by a product": lambda x: ops.reshape(x, (-1, 12, 1)) * FACTORS,
    "spread by a sum": lambda x: ops.reshape(x, (-1, 12, 1)) + FACTORS,
    "transposed": lambda x: 2.0 * ops.transpose(x, (0, 2, 1)), "mean": lambda x: ops.mean(x, axis=[1, 2]),
    "mean of channels": lambda x: ops.mean(x, axis=-1, keepdims=True), "sum": lambda x: ops.sum(x, axis=1),
    "cut": lambda x: 2.0 * x[:, 1:3], "one place": lambda x: x[:, 0] * FACTORS, "one channel": lambda x: x[..., 0],
    "squeezed": lambda x: ops.squeeze(ops.expand_dims(3.0 * x, 1), 1), "cast": lambda x: ops.cast(2.0 * x, "float64"),
    "x + x": lambda x: x + x, "copies of a sum": lambda x: layers.Add()([x, x]) * 2.0,
    "joined": lambda x: ops.concatenate([x, 2.0 * x], axis=-1),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_bound_of_an_operation_is_its_norm(name):
    model = model_of(EXACT[name])
    check_bounded(model)
    np.testing.assert_allclose(lipschitz_bound(model).upper, largest_singular_value(unroll(model, SHAPE)), rtol=RTOL)


BRANCHES = {
    "a + b": lambda x: dense(x) + dense(x, seed=1), "a - b": lambda x: dense(x) - dense(x, seed=1),
    "shortcut": lambda x: x + dense(x), "ops.add": lambda x: ops.add(dense(x), 2.0 * x),
    "broadcast in a sum": lambda x: x + ops.mean(x, axis=1, keepdims=True),
    "broadcast in a layer": lambda x: layers.Add()([dense(x), layers.Reshape((1, 3))(layers.GlobalAveragePooling1D()(x))]),
    "average": lambda x: layers.Average()([x, layers.Reshape((1, 3))(layers.GlobalAveragePooling1D()(5.0 * x))]),
}  # fmt: skip


@pytest.mark.parametrize("name", BRANCHES)
def test_bound_of_branches_is_a_tight_upper_bound(name):
    model = model_of(BRANCHES[name])
    true = largest_singular_value(unroll(model, SHAPE))
    assert true * (1 - 1e-5) <= lipschitz_bound(model).upper <= 2.0 * true


def test_repeated_values_count_the_root_of_their_number():
    """A sum is broadcast to four positions. Without the root of their number the bound would be half of the norm."""
    model = model_of(lambda x: layers.Add()([0.0 * x, ops.sum(x, axis=1, keepdims=True)]))
    np.testing.assert_allclose(lipschitz_bound(model).upper, 4.0, rtol=RTOL)
    np.testing.assert_allclose(largest_singular_value(unroll(model, SHAPE)), 4.0, rtol=RTOL)


@pytest.mark.parametrize("merge", [ops.maximum, ops.minimum])
def test_maximum_of_branches_is_bounded_by_the_root_of_squares(merge):
    np.testing.assert_allclose(lipschitz_bound(model_of(lambda x: merge(3.0 * x, 4.0 - 4.0 * x))).upper, 5.0, rtol=RTOL)
    np.testing.assert_allclose(lipschitz_bound(model_of(lambda x: merge(3.0 * x, 0.5))).upper, 3.0, rtol=RTOL)


ACTIVATIONS = {
    "relu": (ops.relu, 1.0), "keras relu": (lambda x: keras.activations.relu(x, negative_slope=3.0), 3.0),
    "sigmoid": (ops.sigmoid, 0.25), "leaky": (lambda x: ops.leaky_relu(x, 2.0), 2.0), "elu": (lambda x: ops.elu(x, 3.0), 3.0),
    "softmax": (ops.softmax, 0.5), "gelu": (ops.gelu, 1.129), "silu": (keras.activations.silu, 1.0999), "abs": (ops.absolute, 1.0),
    "tf.nn.relu": (layers.Activation(tf.nn.relu), 1.0), "a layer": (layers.Activation(layers.LeakyReLU(4.0)), 4.0),
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_functions_in_any_form_have_their_lipschitz_constant(name):
    activation, constant = ACTIVATIONS[name]
    model = model_of(lambda x: activation(2.0 * x))
    np.testing.assert_allclose(lipschitz_bound(model).upper, 2.0 * constant, rtol=RTOL)


def test_every_operation_has_a_cumulative_bound_and_reports_progress():
    reports = []
    model = model_of(lambda x: ops.relu((x - 0.5) / 0.25) + x)
    bound = lipschitz_bound(model, report=lambda *progress: reports.append(progress))
    assert [layer.kind for layer in bound.layers] == ["Subtract", "TrueDivide", "Relu"]
    np.testing.assert_allclose([layer.so_far for layer in bound.layers], [1.0, 4.0, 4.0], rtol=RTOL)
    np.testing.assert_allclose(bound.upper, 5.0, rtol=RTOL)
    assert reports == [(1, 3), (2, 3), (3, 3)]


def test_backbone_with_open_input_size_is_bounded_at_the_given_size():
    backbone = keras.Sequential([keras.Input((None, None, 2)), layers.Conv2D(3, 3), layers.GlobalAveragePooling2D()])
    inputs = keras.Input((8, 7, 2))
    model = keras.Model(inputs, backbone(inputs))
    true = largest_singular_value(unroll(model, (8, 7, 2)))
    bound = lipschitz_bound(model)
    assert true * (1 - 1e-5) <= bound.upper and bound.layers[-1].input_shape == (6, 5, 3)
    with pytest.raises(ValueError, match=r"takes images of any size, \(None, None, None, 2\).*keras.Input of one size"):
        lipschitz_bound(backbone)


class UnknownLayer(keras.Layer):
    def call(self, inputs):
        return tf.sin(inputs)

    def compute_output_shape(self, input_shape):
        return input_shape


class Standardized(layers.Conv1D):
    """A convolution that changes its kernel in each call, as in a Keras tutorial."""

    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, 100.0 * kernel)


def attention(x):
    return layers.MultiHeadAttention(1, 2)(x, x)


REFUSED = {
    "a product": (lambda x: x * dense(x), "multiplies or divides 2 branches.*no bound holds for all images"),
    "Multiply": (lambda x: layers.Multiply()([x, dense(x)]), "a Multiply, multiplies or divides 2 branches"),
    "Dot": (lambda x: layers.Dot(axes=-1)([x, x]), "a Dot, multiplies or divides 2 branches"),
    "a quotient": (lambda x: x / (2.0 + dense(x)), "multiplies or divides 2 branches"),
    "divided by": (lambda x: 1.0 / x, "divides by the values of a branch or by zero"),
    "by zero": (lambda x: x / 0.0, "divides by the values of a branch or by zero"),
    "a square": (lambda x: x**2, "no rule for the norm of the operation 'power.*', a Power, on inputs.*register_norm"),
    "NaN": (lambda x: x * np.array([1.0, np.nan, 1.0], np.float32), "has 1 NaN or infinite values among the 3 of 'its constant'"),
    "across the batch": (lambda x: ops.mean(x, axis=0, keepdims=True) + x, "no rule for the norm of the operation"),
    "softmax of the batch": (lambda x: ops.softmax(x, axis=0), "works across the batch"),
    "MultiHeadAttention": (attention, "a MultiHeadAttention, multiplies functions of its inputs with one another.*no bound holds"),
    "Attention": (lambda x: layers.Attention()([x, x]), "a Attention, multiplies functions of its inputs"),
    "AdditiveAttention": (lambda x: layers.AdditiveAttention()([x, x]), "a AdditiveAttention, multiplies functions"),
    "UnitNormalization": (layers.UnitNormalization(), "divides by the length of its input.*no useful bound holds"),
    "LSTM": (layers.LSTM(2, name="memory"), "no rule for the operator norm of the layer 'memory', a LSTM.*register_norm"),
    "Lambda": (layers.Lambda(lambda x: x), "a Lambda: it may compute anything. Write it as a keras.layers.Layer"),
    "unknown": (UnknownLayer(name="strange"), "no rule for the operator norm of the layer 'strange', a UnknownLayer"),
    "within": (layers.TimeDistributed(UnknownLayer(name="strange")), "no rule for the operator norm of the layer 'strange'"),
    "derived": (Standardized(2, 2, name="mine"), "no rule for the operator norm of the layer 'mine', a Standardized"),
    "a jump": (lambda x: keras.activations.relu(x, threshold=0.5), "jumps at its threshold of 0.5"),
    "unknown function": (layers.Activation(tf.sin), "no Lipschitz constant is known of 'sin'.*register_activation"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_operations_without_a_bound_are_refused_before_norms_are_computed(name):
    make, message = REFUSED[name]
    model = model_of(make)
    for function in (check_bounded, lipschitz_bound):
        with pytest.raises(ValueError, match=message):
            function(model)


def test_model_that_rounds_its_images_has_no_bound():
    model = keras.Sequential(
        [keras.Input(SHAPE, dtype="uint8"), layers.Rescaling(1.0 / 255.0), layers.Flatten(), layers.Dense(2)]
    )
    with pytest.raises(ValueError, match="takes images of type uint8, to which it rounds what it receives"):
        check_bounded(model)
    outer = keras.Sequential([keras.Input(SHAPE), model])
    rounded = model_of(lambda x: layers.Flatten()(ops.cast(ops.cast(x, "int32"), "float32")))
    for rounds in (outer, rounded):
        with pytest.raises(ValueError, match="returns (uint8|int32): it rounds values, so that no bound holds"):
            lipschitz_bound(rounds)


def test_check_bounded_computes_no_norm(monkeypatch):
    from intriguing.lipschitz import linear_norms

    monkeypatch.setattr(linear_norms, "proved_bound", lambda *arguments: pytest.fail("a norm was computed"))
    check_bounded(keras.Sequential([keras.Input((6, 6, 1)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3)]))


@pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`")
def test_normalization_without_a_mean_has_no_bound():
    with pytest.raises(ValueError, match=r"without subtracting the mean \(rms_scaling=True\).*RMSNormalization"):
        check_bounded(model_of(lambda x: layers.LayerNormalization(rms_scaling=True)(x)))
