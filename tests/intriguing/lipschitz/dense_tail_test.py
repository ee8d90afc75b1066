"""The matrices of the last layers compute the outputs of the network, and begin after the last unsupported layer."""

from math import prod

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.lipschitz import dense_tail as module
from intriguing.lipschitz.dense_tail import dense_tail
from tests.oracles.random_layers import KINDS, random_layer

RTOL_DOUBLE = 1e-11  # sums of some hundred products in double precision, in another order
RTOL_SINGLE = 1e-4  # the layer drawn works in single precision
NUM_IMAGES = 5
# not affine, or not available in double precision
NOT_TAKEN = ("MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "Conv3DTranspose", "AveragePooling3D")
layers = keras.layers


@pytest.fixture
def _double_precision():
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


def randomized(model, seed=0):
    """Draws all weights. Variances are positive."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        drawn = [rng.normal(size=weight.shape, scale=0.5) for weight in layer.weights if weight.name != "count"]
        drawn += [np.asarray(weight) for weight in layer.weights if weight.name == "count"]
        layer.set_weights(
            [np.square(v) + 0.1 if "variance" in w.name else v for v, w in zip(drawn, layer.weights, strict=True)]
        )
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()
    return model


def sequential(shape, *chain):
    return randomized(keras.Sequential([keras.Input(shape), *chain]))


def images_for(model):
    return tf.constant(np.random.default_rng(1).normal(size=(NUM_IMAGES, *model.inputs[0].shape[1:])), model.inputs[0].dtype)


def flat(part, images):
    """Returns the outputs of a part of a model, flattened to one row per image."""
    values = images if part is None else part(images)
    return tf.reshape(values, [NUM_IMAGES, -1])


def through(stages, values):
    values = tf.cast(values, tf.float64)
    for stage in stages:
        values = stage.activation(values @ stage.matrix + stage.offset)
    return values


def assert_composes(model, tail, expected=None, rtol=RTOL_DOUBLE):
    images = images_for(model)
    expected = flat(model, images) if expected is None else expected
    np.testing.assert_allclose(through(tail.stages, flat(tail.head, images)), expected, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(through(tail.stages[-1:], flat(tail.trunk, images)), expected, rtol=rtol, atol=rtol)


CHAINS = {
    "Dense": ((7,), [layers.Dense(6, "sigmoid"), layers.Dense(5, "tanh"), layers.Dense(3)], 3),
    "Rescaling": ((4, 3, 1), [layers.Rescaling(2.0, offset=-1.0), layers.Flatten(), layers.Dense(5, "relu"), layers.Dense(3)], 2),
    "Conv2D": (
        (6, 5, 2),
        [layers.Conv2D(3, 3, padding="same"), layers.BatchNormalization(), layers.Activation("softplus"),
         layers.AveragePooling2D(2), layers.Flatten(), layers.Dense(3)],
        2,
    ),
    "channels": (
        (5, 4, 3),
        [layers.Conv2D(4, 2, strides=2, activation="elu"), layers.DepthwiseConv2D(2, padding="same"), layers.ZeroPadding2D(1),
         layers.Cropping2D(1), layers.Permute((2, 1, 3)), layers.Reshape((4, 4)), layers.GlobalAveragePooling1D()],
        2,
    ),
    "transposed": ((3, 4, 2), [layers.Conv2DTranspose(2, 3, strides=2), layers.ReLU(), layers.Flatten(), layers.Dense(3)], 2),
    "ReLU": ((6,), [layers.Dense(5), layers.ReLU(), layers.Dense(4), layers.Activation("gelu"), layers.Dense(3)], 3),
    "LeakyReLU": (
        (6,), [layers.Dense(5), layers.LeakyReLU(0.3), layers.Dense(4), layers.ELU(0.7), layers.Dropout(0.5), layers.Dense(3)], 3,
    ),
    "first": ((6,), [layers.Activation("tanh"), layers.Dense(3)], 2),
    "last": ((6,), [layers.Dense(4, "relu"), layers.Dense(3, "sigmoid")], 3),
    "Normalization": ((4, 2), [layers.Normalization(), layers.Flatten(), layers.Dense(5, "sigmoid"), layers.Dense(3)], 2),
    "inverse": ((6,), [layers.Normalization(invert=True), layers.Dense(3)], 1),
    "given statistics": ((2,), [layers.Normalization(mean=[0.3, -1.0], variance=[0.5, 2.0]), layers.Dense(3)], 1),
}  # fmt: skip


@pytest.mark.usefixtures("_double_precision")
@pytest.mark.parametrize("name", CHAINS)
def test_stages_compute_the_outputs_of_the_model(name):
    shape, chain, num_stages = CHAINS[name]
    # the layers above were built in single precision
    doubled = [type(layer).from_config({**layer.get_config(), "dtype": "float64"}) for layer in chain]
    model = sequential(shape, *doubled)
    tail = dense_tail(model)
    assert tail.head is None and (tail.trunk is None) == (num_stages == 1)
    assert len(tail.stages) == num_stages
    assert tail.stages[-1].activation is keras.activations.linear
    assert_composes(model, tail)


def test_adapted_normalization_keeps_its_statistics():
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(2).normal(3.0, 5.0, size=(50, 4)).astype(np.float32))
    model = keras.Sequential([keras.Input((4,)), normalization, layers.Dense(3)])
    assert_composes(model, dense_tail(model), rtol=RTOL_SINGLE)


@pytest.mark.parametrize("seed", [seed for seed, kind in enumerate(KINDS) if kind not in NOT_TAKEN])
def test_random_layers_equal_their_matrices(seed):
    drawn = random_layer(seed)
    inputs = keras.Input(drawn.input_shape)
    tensor = drawn.layer(inputs)
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(tensor)))
    tail = dense_tail(model)
    assert (tail.head is None) == (
        getattr(drawn.layer, "activation", None) is None or prod(tensor.shape[1:]) <= module._MOST_UNITS
    )
    assert_composes(model, tail, rtol=RTOL_SINGLE)


@pytest.mark.usefixtures("_double_precision")
@pytest.mark.parametrize("ending", ["softmax of a layer", "Softmax", "Activation"])
def test_softmax_at_the_end_is_removed(ending):
    endings = {
        "softmax of a layer": [layers.Dense(3, "softmax")],
        "Softmax": [layers.Dense(3), layers.Softmax()],
        "Activation": [layers.Dense(3), layers.Activation("softmax")],
    }
    model = sequential((5,), layers.Dense(4, "sigmoid"), *endings[ending])
    tail = dense_tail(model)
    images = images_for(model)
    logits = through(tail.stages, images)
    np.testing.assert_allclose(tf.nn.softmax(logits), flat(model, images), rtol=RTOL_DOUBLE)
    assert [stage.activation for stage in tail.stages] == [keras.activations.sigmoid, keras.activations.linear]
    np.testing.assert_allclose(np.sum(logits, axis=1) - np.sum(logits[:, :1], axis=1), np.sum(logits[:, 1:], axis=1))


@pytest.mark.usefixtures("_double_precision")
def test_tail_begins_after_an_intermediate_softmax():
    model = sequential((5,), layers.Dense(4, "softmax"), layers.Dense(3))
    tail = dense_tail(model)
    assert tail.head is not None and len(tail.stages) == 1
    assert_composes(model, tail)


@pytest.mark.usefixtures("_double_precision")
@pytest.mark.parametrize(
    "stopping",
    [layers.MaxPooling2D, lambda: layers.ReLU(max_value=1.0), lambda: layers.ReLU(negative_slope=0.1), layers.UpSampling2D],
    ids=["MaxPooling2D", "ReLU with max_value", "ReLU with negative_slope", "unknown"],
)
def test_tail_begins_after_an_unsupported_layer(stopping):
    before = [layers.Conv2D(2, 2, activation="tanh", name="before"), stopping()]
    model = sequential((5, 5, 1), *before, layers.Flatten(), layers.Dense(4, "sigmoid", name="hidden"), layers.Dense(3))
    tail = dense_tail(model)
    assert [step.operation.name for step in tail.head.steps[-2:]] == ["before", before[1].name]
    assert tail.trunk.steps[-1].operation.name == "hidden"
    assert [stage.activation for stage in tail.stages] == [keras.activations.sigmoid, keras.activations.linear]
    assert_composes(model, tail)


def assert_two_stages_after(model, name):
    tail = dense_tail(model)
    assert tail.head.steps[-1].operation.name == name
    assert len(tail.stages) == 2
    assert_composes(model, tail)


@pytest.mark.usefixtures("_double_precision")
def test_tail_begins_after_a_derived_layer():
    class Squared(layers.Dense):
        def call(self, inputs):
            return super().call(inputs) ** 2

    assert_two_stages_after(sequential((3,), Squared(4, name="squared"), layers.Dense(4, "tanh"), layers.Dense(3)), "squared")


@pytest.mark.usefixtures("_double_precision")
def test_tail_begins_after_a_merge():
    inputs = keras.Input((4,))
    hidden = layers.Dense(4, "tanh")(inputs)
    merged = layers.Add(name="merged")([inputs, layers.Dense(4, "relu")(hidden)])
    model = randomized(keras.Model(inputs, layers.Dense(3)(layers.Dense(5, "sigmoid")(merged))))
    assert_two_stages_after(model, "merged")


@pytest.mark.usefixtures("_double_precision")
def test_tail_includes_layers_of_nested_models():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(5, "sigmoid")])
    model = keras.Sequential([keras.Input((4,)), inner, layers.Dense(3)])
    tail = dense_tail(model)
    assert len(tail.stages) == 2 and tail.head is None
    assert_composes(model, tail)


@pytest.mark.usefixtures("_double_precision")
def test_reused_layer_gives_two_stages():
    inputs, shared = keras.Input((4,)), layers.Dense(4, "sigmoid")
    model = randomized(keras.Model(inputs, layers.Dense(3)(shared(shared(inputs)))))
    tail = dense_tail(model)
    assert len(tail.stages) == 3
    assert_composes(model, tail)


@pytest.mark.usefixtures("_double_precision")
@pytest.mark.parametrize(("limit", "size"), [("_MATRIX_ENTRIES", 30), ("_MOST_UNITS", 5)])
def test_tail_begins_after_a_layer_that_is_too_large(monkeypatch, limit, size):
    chain = [layers.Dense(6, "tanh", name="large"), layers.Dense(5, "sigmoid", name="small"), layers.Dense(3)]
    model = sequential((8,), *chain)
    assert dense_tail(model).head is None
    monkeypatch.setattr(module, limit, size)
    assert_two_stages_after(model, "large")


@pytest.mark.usefixtures("_double_precision")
def test_tail_is_the_identity_if_no_layer_is_supported():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Add()([inputs, layers.Dense(3)(inputs)]))
    (stage,) = dense_tail(model).stages
    np.testing.assert_array_equal(stage.matrix, np.eye(3))
    np.testing.assert_array_equal(stage.offset, np.zeros(3))
    assert_composes(model, dense_tail(model))


def test_repeated_tails_have_the_same_activation_functions():
    model = sequential((6,), *CHAINS["LeakyReLU"][1])
    one, other = ([stage.activation for stage in dense_tail(model).stages] for _ in range(2))
    assert one == other
