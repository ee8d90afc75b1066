"""The bound of a network: computed by hand for chains and branches, and never exceeded."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.lipschitz import activation_lipschitz
from intriguing.lipschitz.network_bound import lipschitz_bound, register_activation
from intriguing.models import build

RTOL = 1e-3  # largest relative excess of the bound of one layer over its norm
NUM_PAIRS = 100


def dense(kernel, **options):
    kernel = np.asarray(kernel, np.float32)
    return keras.layers.Dense(kernel.shape[1], kernel_initializer=keras.initializers.Constant(kernel), **options)


def test_the_bound_of_a_chain_is_the_product_of_norms_and_activation_constants():
    model = keras.Sequential(
        [keras.Input((2,)), dense([[3.0, 0], [0, 1]], activation="sigmoid"), dense([[0, 2.0], [1, 0]], activation="relu")]
    )
    bound = lipschitz_bound(model)
    np.testing.assert_allclose(bound.upper, 3.0 * 0.25 * 2.0, rtol=RTOL)
    assert [(layer.kind, layer.activation_lipschitz) for layer in bound.layers] == [("Dense", 0.25), ("Dense", 1.0)]


def test_a_softmax_at_the_end_halves_the_bound_of_the_logits():
    kernel = [[3.0, 0], [0, 1]]
    logits = lipschitz_bound(keras.Sequential([keras.Input((2,)), dense(kernel)])).upper
    for ending in ([dense(kernel, activation="softmax")], [dense(kernel), keras.layers.Softmax()]):
        bound = lipschitz_bound(keras.Sequential([keras.Input((2,)), *ending]))
        np.testing.assert_allclose(bound.upper, 0.5 * logits, rtol=1e-12)


def branched(merge):
    inputs = keras.Input((3,))
    one, other = dense(2.0 * np.eye(3))(inputs), dense(-5.0 * np.eye(3))(inputs)
    return keras.Model(inputs, merge([one, other]))


@pytest.mark.parametrize(
    ("merge", "expected"),
    [
        (keras.layers.Add(), 7.0), (keras.layers.Subtract(), 7.0), (keras.layers.Average(), 3.5),
        (keras.layers.Concatenate(), np.sqrt(29.0)), (keras.layers.Maximum(), np.sqrt(29.0)),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_the_bound_of_merged_branches_is_that_of_the_merge(merge, expected):
    np.testing.assert_allclose(lipschitz_bound(branched(merge)).upper, expected, rtol=RTOL)


def test_every_layer_has_its_cumulative_bound_and_is_reported():
    inputs = keras.Input((3,))
    branches = branched(keras.layers.Concatenate())
    model = keras.Model(inputs, dense(np.eye(6))(branches(dense(3.0 * np.eye(3))(inputs))))
    reported = []
    bound = lipschitz_bound(model, report=lambda done, total: reported.append((done, total)))
    np.testing.assert_allclose([layer.cumulative for layer in bound.layers], [3, 6, 15, 3 * np.sqrt(29)], rtol=RTOL)
    assert bound.layers[-1].cumulative == bound.upper
    assert reported == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_shared_layer_and_a_shortcut_are_bounded():
    inputs = keras.Input((2,))
    shared = dense(3.0 * np.eye(2))
    hidden = shared(inputs)
    model = keras.Model(inputs, keras.layers.Add()([inputs, shared(hidden)]))
    np.testing.assert_allclose(lipschitz_bound(model).upper, 1.0 + 9.0, rtol=RTOL)


def test_a_discontinuous_rectifier_has_no_bound():
    model = keras.Sequential([keras.Input((2,)), keras.layers.ReLU(threshold=0.5, name="discontinuous")])
    with pytest.raises(
        ValueError, match="the layer 'discontinuous', a ReLU, is discontinuous at its threshold of 0.5: no bound holds"
    ):
        lipschitz_bound(model)


def test_a_derived_layer_that_computes_something_else_has_no_rule():
    class Squared(keras.layers.Dense):
        def call(self, inputs):
            return super().call(inputs) ** 2

    class Named(keras.layers.Dense):
        """A layer that computes the same as its parent."""

    with pytest.raises(ValueError, match="no rule for the operator norm of the layer 'squared', a Squared"):
        lipschitz_bound(keras.Sequential([keras.Input((2,)), Squared(3, name="squared")]))
    assert lipschitz_bound(keras.Sequential([keras.Input((2,)), Named(3)])).upper > 0

    class Tenfold(keras.layers.Add):
        def _merge_function(self, inputs):
            return 10.0 * super()._merge_function(inputs)

    with pytest.raises(ValueError, match="a Tenfold takes 2 inputs, and there is no rule to merge"):
        lipschitz_bound(branched(Tenfold()))


def test_a_nested_model_is_bounded():
    inner = keras.Sequential([keras.Input((2,)), dense(2.0 * np.eye(2)), keras.layers.ReLU(negative_slope=3.0)])
    outer = keras.Sequential([keras.Input((2,)), dense(5.0 * np.eye(2)), inner])
    np.testing.assert_allclose(lipschitz_bound(outer).upper, 2.0 * 5.0 * 3.0, rtol=RTOL)


def largest_ratio(model, image, steps=30):
    """Returns the largest ratio of output to input changes that gradient ascent finds."""
    change = tf.random.stateless_normal(image.shape, [1, 0]) * 1e-2
    for _ in range(steps):
        with tf.GradientTape() as tape:
            tape.watch(change)
            stretch = tf.norm(model(image + change) - model(image)) / tf.norm(change)
        change += 0.1 * tf.norm(change) * tf.math.l2_normalize(tape.gradient(stretch, change))
    return float(stretch)


@pytest.mark.parametrize("name", ["FC10(1)", "FC100-100-10", "ConvNet"])
def test_no_change_of_the_output_exceeds_the_bound(name):
    model = build(name)
    bound = lipschitz_bound(model).upper
    one, other = (tf.random.stateless_uniform([NUM_PAIRS, 28, 28, 1], seed=[seed, 0]) for seed in (1, 2))
    near = one + 1e-2 * (other - one)
    for pair in ((one, other), (one, near)):
        moved = np.linalg.norm(model(pair[0]) - model(pair[1]), axis=1)
        assert np.all(moved <= bound * np.linalg.norm(np.reshape(pair[0] - pair[1], [NUM_PAIRS, -1]), axis=1))
    assert largest_ratio(model, one[:1]) <= bound


def test_the_bound_of_one_linear_layer_is_attained():
    model = build("FC10(1)")
    kernel = model.get_layer("logits").get_weights()[0]
    np.testing.assert_allclose(lipschitz_bound(model).upper, np.linalg.norm(kernel, 2), rtol=RTOL)


@pytest.mark.parametrize(
    "name", [function.__name__ for function in activation_lipschitz._ACTIVATIONS if function is not keras.activations.softmax]
)
def test_the_largest_derivative_of_an_activation_function_is_its_constant(name):
    function = getattr(keras.activations, name)
    places = tf.cast(tf.linspace(-8.0, 8.0, 200_001), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(places)
        values = function(places)
    largest = float(tf.reduce_max(tf.abs(tape.gradient(values, places))))
    constant = activation_lipschitz._ACTIVATIONS[function]
    assert largest <= constant * (1 + 1e-5)
    assert largest >= constant * (1 - 2e-3)


def test_no_jacobian_of_a_softmax_exceeds_its_constant():
    largest = 0.0
    for seed in range(50):
        logits = tf.random.stateless_normal([1, 3], [seed, 0]) * (1 + seed)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            values = keras.activations.softmax(logits)
        largest = max(largest, np.linalg.norm(tape.jacobian(values, logits)[0, :, 0], 2))
    assert 0.4 < largest <= activation_lipschitz._ACTIVATIONS[keras.activations.softmax]


def test_an_activation_function_is_refused_until_its_constant_is_registered(monkeypatch):
    monkeypatch.setattr(activation_lipschitz, "_ACTIVATIONS", dict(activation_lipschitz._ACTIVATIONS))

    def doubled(values):
        return 2.0 * values

    model = keras.Sequential([keras.Input((2,)), dense(np.eye(2), activation=doubled, name="mine")])
    with pytest.raises(
        ValueError, match="no Lipschitz constant is registered for 'doubled', the activation function of the layer 'mine'"
    ):
        lipschitz_bound(model)
    register_activation(doubled, 2.0)
    np.testing.assert_allclose(lipschitz_bound(model).upper, 2.0, rtol=RTOL)


def test_a_layer_without_a_rule_is_refused():
    model = keras.Sequential([keras.Input((3, 3)), keras.layers.LSTM(2, name="memory")])
    with pytest.raises(ValueError, match="'memory'"):
        lipschitz_bound(model)


def test_a_subclassed_model_is_refused():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(
        ValueError,
        match="'mine' must be functional or sequential, with one input and one output; received a model whose graph has 0 inputs and",
    ):
        lipschitz_bound(Subclassed(name="mine"))


def test_print_shows_the_bound_and_the_largest_norm():
    model = keras.Sequential([keras.Input((2,)), dense([[3.0, 0], [0, 1]], name="first"), dense([[0, 2.0], [1, 0]])])
    bound = lipschitz_bound(model)
    assert str(bound).splitlines() == [
        f"Lipschitz bound (L2): {bound.upper:.4g}, from 2 layers.",
        f"Largest norm of a layer: {bound.layers[0].norm.upper:.4g}, of 'first' (Dense).",
    ]
