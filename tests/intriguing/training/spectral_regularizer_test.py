"""Tests of the norm bound against singular values in float64, and of the penalty in every training loop."""

from math import ceil, prod, sqrt

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.lipschitz.network_bound import lipschitz_bound
from intriguing.training import (
    FullBatchTraining,
    MinibatchTraining,
    SpectralRegularizer,
    fit_full_batch,
    fit_minibatches,
    norm_bound,
)
from intriguing.training.spectral_regularizer import spectral_penalties
from tests.oracles.unrolled_operator import largest_singular_value, unroll

layers = keras.layers
SHAPE = (6, 5, 1)
RTOL_RANDOM = 0.25  # for Gaussian matrices with sides up to 300, which have several nearly largest singular values
RTOL_ROUNDING = 2e-6  # float32 in a layer that is unrolled


def norm(matrix):
    return np.linalg.norm(np.asarray(matrix, np.float64), 2)


def random_matrix(seed):
    """Draws a matrix of random shape, scale, rank and decay of singular values."""
    rng = np.random.default_rng(seed)
    rows, columns = (int(size) for size in np.exp(rng.uniform(0, np.log(300), size=2)))
    matrix = rng.normal(size=(rows, columns))
    if seed % 3 == 1:
        matrix = np.outer(matrix[:, 0], matrix[0]) + 1e-3 * matrix
    if seed % 3 == 2:
        left, _, right = np.linalg.svd(matrix, full_matrices=False)
        matrix = left @ right  # equal singular values, the worst case of the bound
    return (10.0 ** rng.uniform(-8, 8) * matrix).astype(np.float32)


@pytest.mark.parametrize("seed", range(60))
def test_bound_of_a_matrix_is_close_to_its_norm(seed):
    matrix = random_matrix(seed)
    found, shorter = float(norm_bound(matrix)), min(matrix.shape)
    assert norm(matrix) <= found <= shorter ** (1 / 16) * norm(matrix) * (1 + 1e-3)
    if seed % 3 == 0:
        assert found <= (1 + RTOL_RANDOM) * norm(matrix)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (4000, 1)])
def test_bound_holds_for_rank_one_matrices_despite_rounding(shape):
    # The bound and the norm differ only by rounding.
    for seed in range(50):
        row = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
        assert norm(row) <= float(norm_bound(row)) <= (1 + 2e-3) * norm(row)


@pytest.mark.parametrize("scale", [0.0, 1e-37, 1e-30, 1e-20, 1e15])
def test_zero_and_extreme_matrices_have_finite_bounds_and_gradients(scale):
    kernel = tf.fill([40, 30], tf.constant(scale, tf.float32))
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        found = norm_bound(kernel)
    assert norm(kernel) <= float(found) <= 1.001 * norm(kernel) + 1.1e-15
    assert np.isfinite(tape.gradient(found, kernel)).all()


def random_convolution(seed):
    """Draws a convolution. The stride need not divide the grid, which may be as small as the window."""
    rng = np.random.default_rng(seed)
    dimensions = int(rng.integers(1, 4))
    transposed = bool(rng.integers(0, 2))
    highest = (24, 9, 5)[dimensions - 1]
    window = tuple(int(size) for size in rng.integers(1, 5, size=dimensions))
    grid = tuple(int(rng.integers(size, highest + 1)) for size in window)
    stride = int(rng.integers(1, 4))
    groups = 1 if transposed else int(rng.integers(1, 4))
    options = {"kernel_size": window, "strides": stride, "padding": str(rng.choice(["same", "valid"]))}
    options["filters"] = groups * int(rng.integers(1, 4))
    if not transposed:
        options["groups"] = groups
        reach = 2 * max(window) - 1
        options["dilation_rate"] = int(rng.integers(1, 3)) if stride == 1 and reach <= min(grid) else 1
    kind = getattr(layers, f"Conv{dimensions}D{'Transpose' if transposed else ''}")
    layer = kind(**options, use_bias=False)
    shape = (*grid, groups * int(rng.integers(1, 4)))
    layer.build((None, *shape))
    # A smooth kernel nearly attains the bound, a random kernel does not.
    layer.set_weights([(rng.normal(size=layer.kernel.shape) + 2.0 * (seed % 2)).astype(np.float32)])
    return layer, shape, stride


@pytest.mark.parametrize("seed", range(40))
def test_bound_holds_for_convolutions_of_any_padding_stride_dilation_and_groups(seed):
    layer, shape, stride = random_convolution(seed)
    if "3D" in type(layer).__name__ and "Transpose" in type(layer).__name__ and stride > max(layer.kernel_size):
        pytest.skip("TensorFlow is wrong where the stride is beyond the window")
    true = largest_singular_value(unroll(layer, shape)) * (1 - RTOL_ROUNDING)
    known, unknown = float(norm_bound(layer.kernel, strides=stride)), float(norm_bound(layer.kernel))
    assert true <= known <= unknown
    if layer.padding == "valid" and getattr(layer, "groups", 2) == 1:  # for a single patch the norm is that of the whole matrix
        overlap = prod(ceil(size / stride) for size in layer.kernel_size)
        assert known <= sqrt(overlap) * layer.filters ** (1 / 16) * (1 + 1e-3) * true


def test_bound_is_attained_by_a_constant_kernel_on_a_large_grid():
    layer = layers.Conv1D(1, 3, kernel_initializer="ones", padding="same", use_bias=False)
    layer.build((None, 400, 1))
    true = largest_singular_value(unroll(layer, (400, 1)))
    assert true <= float(norm_bound(layer.kernel)) <= 1.001 * true


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (3, 2, 5), (2, 3, 4, 5), (2, 1, 3, 2, 2)])
def test_gradient_equals_finite_differences(shape):
    rng = np.random.default_rng(0)
    kernel, direction = (rng.normal(size=shape).astype(np.float32) for _ in range(2))

    @tf.function(jit_compile=True, autograph=False)
    def value_and_gradient(kernel):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            value = SpectralRegularizer(0.5)(kernel)
        return value, tape.gradient(value, kernel)

    step = 1e-2  # rounding of 1e-7 over it, and the square of it for curvature
    after, before = (float(value_and_gradient(kernel + sign * step * direction)[0]) for sign in (1, -1))
    _, gradient = value_and_gradient(kernel)
    np.testing.assert_allclose(np.sum(gradient * direction), (after - before) / (2 * step), rtol=2e-3)


def test_gradient_points_along_the_leading_singular_vectors():
    matrix = np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32)
    left, values, right = np.linalg.svd(matrix)
    matrix = (matrix + values[0] * np.outer(left[:, 0], right[0])).astype(np.float32)  # well apart from the second
    with tf.GradientTape() as tape:
        kernel = tf.constant(matrix)
        tape.watch(kernel)
        penalty = SpectralRegularizer(3.0)(kernel)
    expected = 3.0 * 2.0 * norm(matrix) * np.outer(left[:, 0], right[0])
    np.testing.assert_allclose(tape.gradient(penalty, kernel), expected, atol=1e-3 * norm(expected))


def test_the_penalty_is_the_factor_times_the_square_in_float32():
    kernel = tf.random.stateless_normal([9, 4], seed=[0, 0])
    for given in (kernel, tf.cast(kernel, tf.float64), keras.Variable(kernel), kernel.numpy()):
        penalty = SpectralRegularizer(0.25)(given)
        assert penalty.dtype == tf.float32 and penalty.shape == ()
        np.testing.assert_allclose(penalty, 0.25 * norm_bound(kernel) ** 2, rtol=1e-6)


def network(factor=0.5, decay=0.0):
    regularizer = SpectralRegularizer(factor)
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(
                4, 3, strides=(2, 1), activation="relu", kernel_regularizer=SpectralRegularizer(factor, strides=(2, 1))
            ),
            layers.Flatten(),
            layers.Dense(5, activation="tanh", kernel_regularizer=regularizer),
            layers.Dense(3, kernel_regularizer=keras.regularizers.L2(decay)),
        ]
    )


@pytest.fixture
def examples():
    images = tf.random.stateless_uniform([48, *SHAPE], seed=[0, 0])
    return images, tf.cast(images[:, 0, 0, 0] * 3, tf.int32)


def endless(examples):
    return tf.data.Dataset.from_tensor_slices(examples).batch(16, drop_remainder=True).repeat()


def train(model, examples, **options):
    settings = MinibatchTraining(num_epochs=20, batch_size=16, learning_rate=0.02, **options)
    return fit_minibatches(model, endless(examples), steps_per_epoch=3, settings=settings)


def test_model_with_the_regularizer_is_saved_and_loaded(examples, tmp_path):
    model = network()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(examples[0]), model(examples[0]))
    np.testing.assert_allclose(loaded.losses, model.losses, rtol=1e-6)
    assert loaded.layers[0].kernel_regularizer.get_config() == {"factor": 0.5, "strides": (2, 1)}


def test_keras_fit_reduces_the_bound(examples):
    model = network()
    before = lipschitz_bound(model).upper
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*examples, epochs=10, verbose=0)
    assert lipschitz_bound(model).upper < 0.9 * before


def dense_network(factor):
    regularizer = SpectralRegularizer(factor)
    return keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(3, kernel_regularizer=regularizer)])


@pytest.mark.parametrize("fit", ["minibatches", "full batch"])
def test_training_loops_reduce_the_bound(fit, examples):
    bounds = []
    for factor in (0.0, 0.3):
        keras.utils.set_random_seed(0)
        model = dense_network(factor)
        if fit == "minibatches":
            train(model, examples)
        else:
            fit_full_batch(model, *examples, settings=FullBatchTraining(max_iterations=50))
        bounds.append(lipschitz_bound(model).upper)
    assert bounds[1] < bounds[0] / 2


def test_spectral_penalty_setting_equals_a_regularizer_on_every_layer(examples):
    weights = []
    for everywhere in (False, True):
        model = network(factor=0.05 if everywhere else 0.0)
        if everywhere:
            model.layers[-1].kernel.regularizer = SpectralRegularizer(0.05)
        keras.utils.set_random_seed(0)
        model.set_weights([tf.random.normal(weight.shape) for weight in model.weights])
        train(model, examples, spectral_penalty=0.0 if everywhere else 0.05)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)  # sixty steps, the penalties added in another order


def test_two_devices_give_the_results_of_one(examples, two_replicas):
    results = []
    for strategy in (tf.distribute.OneDeviceStrategy("CPU:0"), two_replicas):
        with strategy.scope():
            keras.utils.set_random_seed(0)
            model = dense_network(0.05)
            results.append((train(model, examples, spectral_penalty=0.02).losses, model.get_weights()))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-4)
    for one, two in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-3)


def test_penalty_applies_to_nested_kernels_and_no_other_weights():
    inner = keras.Sequential([keras.Input((4, 4, 2)), layers.Conv2DTranspose(2, 3, strides=2), layers.BatchNormalization()])
    outer = keras.Sequential(
        [keras.Input((4, 4, 2)), layers.DepthwiseConv2D(1), inner, layers.Flatten(), layers.Dense(3), layers.Dense(2)]
    )
    outer.layers[-1].trainable = False
    penalties = spectral_penalties(outer, 2.0)([variable.value for variable in outer.trainable_variables])
    expected = [
        2.0 * norm_bound(inner.layers[0].kernel, strides=2) ** 2,
        2.0 * norm_bound(outer.layers[-2].kernel) ** 2,
    ]
    np.testing.assert_allclose(penalties, expected)


def test_zero_penalty_adds_no_operations():
    assert spectral_penalties(network(), 0.0)([]) == []


def test_penalty_for_a_model_without_kernels_is_refused():
    model = keras.Sequential([keras.Input((3,)), layers.BatchNormalization()], name="plain")
    with pytest.raises(ValueError, match="a trainable kernel of a dense or convolutional layer; the model 'plain' has none"):
        spectral_penalties(model, 0.1)


@pytest.mark.parametrize("shape", [(), (3,), (1, 1, 1, 1, 1, 1)])
def test_unsupported_kernel_shape_is_refused(shape):
    words = r"must be that of a Dense layer, \[inputs, outputs\], or of a convolution.*received the shape \["
    with pytest.raises(ValueError, match=words):
        SpectralRegularizer(1.0)(tf.zeros(shape))


def test_strides_for_other_axes_are_refused():
    with pytest.raises(ValueError, match=r"one for each of the 2 spatial axes of the kernel; received \(2, 2, 2\)"):
        norm_bound(tf.zeros([3, 3, 1, 1]), strides=(2, 2, 2))
    with pytest.raises(ValueError, match=r"one for each of the 0 spatial axes of the kernel; received \(2,\)"):
        norm_bound(tf.zeros([3, 3]), strides=(2,))


@pytest.mark.parametrize("factor", [-1.0, float("nan"), float("inf")])
def test_factor_must_be_finite_and_nonnegative(factor):
    with pytest.raises(ValueError, match="factor must be finite and not negative; received"):
        SpectralRegularizer(factor)


@pytest.mark.parametrize("strides", [0, (1, 0), (-1,)])
def test_strides_must_be_positive(strides):
    with pytest.raises(ValueError, match="strides must be positive; received"):
        SpectralRegularizer(1.0, strides=strides)


def test_penalties_apply_to_currently_trainable_kernels():
    model = keras.Sequential([keras.Input((3,)), *(keras.layers.Dense(3, name=name) for name in ("first", "second"))])
    penalties = spectral_penalties(model, 2.0)
    model.get_layer("first").trainable = False
    (found,) = penalties([variable.value for variable in model.trainable_variables])
    np.testing.assert_allclose(found, 2.0 * norm_bound(model.get_layer("second").kernel) ** 2, rtol=1e-6)
