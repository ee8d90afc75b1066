"""Lipschitz bounds of networks equal values computed by hand, and no change of the output exceeds them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.lipschitz import activation_slopes
from intriguing.lipschitz.network_bound import lipschitz_bound, register_activation
from intriguing.models import build

RTOL = 1e-3  # relative excess of the bound of a layer over its norm
NUM_PAIRS = 100


def dense(kernel, **options):
    kernel = np.asarray(kernel, np.float32)
    return keras.layers.Dense(kernel.shape[1], kernel_initializer=keras.initializers.Constant(kernel), **options)


def test_bound_of_a_chain_is_the_product_of_norms_and_lipschitz_constants():
    model = keras.Sequential(
        [keras.Input((2,)), dense([[3.0, 0], [0, 1]], activation="sigmoid"), dense([[0, 2.0], [1, 0]], activation="relu")]
    )
    bound = lipschitz_bound(model)
    np.testing.assert_allclose(bound.upper, 3.0 * 0.25 * 2.0, rtol=RTOL)
    assert [(layer.kind, layer.slope) for layer in bound.layers] == [("Dense", 0.25), ("Dense", 1.0)]


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
def test_merged_branches_have_the_expected_bounds(merge, expected):
    np.testing.assert_allclose(lipschitz_bound(branched(merge)).upper, expected, rtol=RTOL)


def test_every_layer_has_a_cumulative_bound_and_reports_progress():
    inputs = keras.Input((3,))
    branches = branched(keras.layers.Concatenate())
    model = keras.Model(inputs, dense(np.eye(6))(branches(dense(3.0 * np.eye(3))(inputs))))
    reports = []
    bound = lipschitz_bound(model, report=lambda done, total: reports.append((done, total)))
    np.testing.assert_allclose([layer.so_far for layer in bound.layers], [3, 6, 15, 3 * np.sqrt(29)], rtol=RTOL)
    assert bound.layers[-1].so_far == bound.upper
    assert reports == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_shared_layers_and_shortcuts_are_bounded():
    inputs = keras.Input((2,))
    shared = dense(3.0 * np.eye(2))
    hidden = shared(inputs)
    model = keras.Model(inputs, keras.layers.Add()([inputs, shared(hidden)]))
    np.testing.assert_allclose(lipschitz_bound(model).upper, 1.0 + 9.0, rtol=RTOL)


def test_discontinuous_rectifier_has_no_bound():
    model = keras.Sequential([keras.Input((2,)), keras.layers.ReLU(threshold=0.5, name="jumping")])
    with pytest.raises(ValueError, match="the layer 'jumping', a ReLU, jumps at its threshold of 0.5: no bound holds"):
        lipschitz_bound(model)


def test_derived_layer_with_another_computation_has_no_rule():
    class Squared(keras.layers.Dense):
        def call(self, inputs):
            return super().call(inputs) ** 2

    class Named(keras.layers.Dense):
        """A subclass with the same computation."""

    with pytest.raises(ValueError, match="no rule for the operator norm of the layer 'squared', a Squared"):
        lipschitz_bound(keras.Sequential([keras.Input((2,)), Squared(3, name="squared")]))
    assert lipschitz_bound(keras.Sequential([keras.Input((2,)), Named(3)])).upper > 0

    class Tenfold(keras.layers.Add):
        def _merge_function(self, inputs):
            return 10.0 * super()._merge_function(inputs)

    with pytest.raises(ValueError, match="a Tenfold takes 2 inputs, and there is no rule to merge"):
        lipschitz_bound(branched(Tenfold()))


def test_nested_models_are_bounded():
    inner = keras.Sequential([keras.Input((2,)), dense(2.0 * np.eye(2)), keras.layers.ReLU(negative_slope=3.0)])
    outer = keras.Sequential([keras.Input((2,)), dense(5.0 * np.eye(2)), inner])
    np.testing.assert_allclose(lipschitz_bound(outer).upper, 2.0 * 5.0 * 3.0, rtol=RTOL)


def steepest(model, image, steps=30):
    """Maximizes the ratio of output change to input change by gradient ascent."""
    change = tf.random.stateless_normal(image.shape, [1, 0]) * 1e-2
    for _ in range(steps):
        with tf.GradientTape() as tape:
            tape.watch(change)
            stretch = tf.norm(model(image + change) - model(image)) / tf.norm(change)
        change += 0.1 * tf.norm(change) * tf.math.l2_normalize(tape.gradient(stretch, change))
    return float(stretch)


@pytest.mark.parametrize("name", ["FC10(1)", "FC100-100-10", "ConvNet"])
def test_output_changes_stay_within_the_bound(name):
    model = build(name)
    bound = lipschitz_bound(model).upper
    one, other = (tf.random.stateless_uniform([NUM_PAIRS, 28, 28, 1], seed=[seed, 0]) for seed in (1, 2))
    near = one + 1e-2 * (other - one)
    for pair in ((one, other), (one, near)):
        moved = np.linalg.norm(model(pair[0]) - model(pair[1]), axis=1)
        assert np.all(moved <= bound * np.linalg.norm(np.reshape(pair[0] - pair[1], [NUM_PAIRS, -1]), axis=1))
    assert steepest(model, one[:1]) <= bound


def test_bound_of_a_linear_layer_is_attained():
    model = build("FC10(1)")
    kernel = model.get_layer("logits").get_weights()[0]
    np.testing.assert_allclose(lipschitz_bound(model).upper, np.linalg.norm(kernel, 2), rtol=RTOL)


@pytest.mark.parametrize(
    "name", [function.__name__ for function in activation_slopes._ACTIVATIONS if function is not keras.activations.softmax]
)
def test_activation_lipschitz_constants_are_tight(name):
    function = getattr(keras.activations, name)
    places = tf.cast(tf.linspace(-8.0, 8.0, 200_001), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(places)
        values = function(places)
    steepest = float(tf.reduce_max(tf.abs(tape.gradient(values, places))))
    constant = activation_slopes._ACTIVATIONS[function]
    assert steepest <= constant * (1 + 1e-5)
    assert steepest >= constant * (1 - 2e-3)


def test_softmax_jacobian_stays_within_its_lipschitz_constant():
    steepest = 0.0
    for seed in range(50):
        logits = tf.random.stateless_normal([1, 3], [seed, 0]) * (1 + seed)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            values = keras.activations.softmax(logits)
        steepest = max(steepest, np.linalg.norm(tape.jacobian(values, logits)[0, :, 0], 2))
    assert 0.4 < steepest <= activation_slopes._ACTIVATIONS[keras.activations.softmax]


def test_unknown_activation_is_refused_until_registered(monkeypatch):
    monkeypatch.setattr(activation_slopes, "_ACTIVATIONS", dict(activation_slopes._ACTIVATIONS))

    def doubled(values):
        return 2.0 * values

    model = keras.Sequential([keras.Input((2,)), dense(np.eye(2), activation=doubled, name="mine")])
    with pytest.raises(
        ValueError, match="no Lipschitz constant is known of 'doubled', the activation function of the layer 'mine'"
    ):
        lipschitz_bound(model)
    register_activation(doubled, 2.0)
    np.testing.assert_allclose(lipschitz_bound(model).upper, 2.0, rtol=RTOL)


def test_recurrent_layer_without_a_rule_is_named():
    model = keras.Sequential([keras.Input((3, 3)), keras.layers.LSTM(2, name="memory")])
    with pytest.raises(ValueError, match="'memory'"):
        lipschitz_bound(model)


def test_subclassed_model_is_refused():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(
        ValueError, match="'mine' must be functional or sequential, with one input and one output; it has 0 and"
    ):
        lipschitz_bound(Subclassed(name="mine"))
