"""Norms of layers other than dense layers, convolutions and pooling, compared with matrices or with Jacobians."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.lipschitz import linear_norms, lipschitz_bound, operator_norm, scale_norms
from tests.oracles.unrolled_operator import largest_singular_value, unroll

RTOL_BOTH_SIDES = 2e-3  # relative difference between the bounds of a small layer and its norm
RTOL_ROUNDING = 2e-5  # rounding of float32 in the layer and in interpolation
RTOL_CLIMBED = 1e-4  # gradients in single precision
layers = keras.layers


def with_random_weights(layer, shape, seed=0):
    layer.build((None, *shape))
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(size=weight.shape).astype(np.float32) for weight in layer.get_weights()])
    return layer


def assert_encloses(norm, true, slack=RTOL_BOTH_SIDES):
    assert norm.lower <= true * (1 + RTOL_ROUNDING) and norm.upper >= true * (1 - RTOL_ROUNDING)
    assert true * (1 - slack) <= norm.lower and norm.upper <= true * (1 + slack)


LINEAR = {
    "SeparableConv1D": (lambda: layers.SeparableConv1D(4, 3, strides=2, depth_multiplier=2), (9, 3)),
    "SeparableConv1D, same": (lambda: layers.SeparableConv1D(2, 2, padding="same", dilation_rate=2), (8, 3)),
    "SeparableConv2D": (lambda: layers.SeparableConv2D(5, 3, padding="same", depth_multiplier=2), (6, 5, 3)),
    "SeparableConv2D, strides": (lambda: layers.SeparableConv2D(2, 3, strides=2), (7, 9, 2)),
    "UpSampling1D": (lambda: layers.UpSampling1D(3), (4, 2)),
    "UpSampling2D": (lambda: layers.UpSampling2D((2, 3)), (4, 3, 2)),
    "UpSampling2D, bilinear": (lambda: layers.UpSampling2D(2, interpolation="bilinear"), (5, 4, 2)),
    "UpSampling2D, bicubic": (lambda: layers.UpSampling2D((2, 3), interpolation="bicubic"), (5, 4, 1)),
    "UpSampling3D": (lambda: layers.UpSampling3D((2, 1, 3)), (2, 3, 2, 2)),
    "Resizing, up": (lambda: layers.Resizing(7, 9), (4, 5, 2)),
    "Resizing, down": (lambda: layers.Resizing(3, 4), (8, 7, 2)),
    "Resizing, nearest": (lambda: layers.Resizing(9, 4, interpolation="nearest"), (4, 6, 1)),
    "Resizing, antialias": (lambda: layers.Resizing(3, 3, antialias=True, interpolation="lanczos3"), (8, 7, 1)),
    "Resizing, crop": (lambda: layers.Resizing(6, 6, crop_to_aspect_ratio=True), (4, 7, 2)),
    "Resizing, pad": (lambda: layers.Resizing(6, 6, pad_to_aspect_ratio=True, fill_value=0.7), (4, 7, 2)),
    "CenterCrop": (lambda: layers.CenterCrop(3, 2), (6, 5, 2)),
    "CenterCrop, larger": (lambda: layers.CenterCrop(8, 6), (5, 5, 2)),
    "EinsumDense": (lambda: layers.EinsumDense("ab,bc->ac", 5, bias_axes="c"), (7,)),
    "EinsumDense, places": (lambda: layers.EinsumDense("abc,cd->abd", (None, 5)), (4, 3)),
    "EinsumDense, ellipsis": (lambda: layers.EinsumDense("...x,xy->...y", 5), (2, 3, 4)),
    "EinsumDense, heads": (lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3)), (4, 3)),
    "EinsumDense, blocks": (lambda: layers.EinsumDense("abc,bcd->abd", (4, 2)), (4, 3)),
    "EinsumDense, sum": (lambda: layers.EinsumDense("abc,cd->ad", 5), (4, 3)),
    "EinsumDense, two axes": (lambda: layers.EinsumDense("abcd,cde->abe", (None, 3)), (2, 3, 2)),
    "EinsumDense, order": (lambda: layers.EinsumDense("abc,dc->adb", (5, None)), (4, 3)),
    "TimeDistributed": (lambda: layers.TimeDistributed(layers.Dense(4)), (3, 5)),
    "TimeDistributed, Conv2D": (lambda: layers.TimeDistributed(layers.Conv2D(2, 2)), (3, 4, 4, 1)),
    "SpectralNormalization": (lambda: layers.SpectralNormalization(layers.Conv2D(3, 3)), (5, 5, 2)),
    "RepeatVector": (lambda: layers.RepeatVector(3), (4,)),
    "float64": (lambda: layers.Conv2D(3, 3, dtype="float64"), (5, 5, 2)),
    "float64, Dense": (lambda: layers.Dense(4, dtype="float64"), (5,)),
}  # fmt: skip


@pytest.mark.parametrize("name", LINEAR)
def test_both_bounds_enclose_the_norm_of_the_matrix(name):
    make, shape = LINEAR[name]
    layer = with_random_weights(make(), shape)
    assert_encloses(operator_norm(layer, shape), largest_singular_value(unroll(layer, shape)))


def drawn(seed):
    """Draws a layer and the shape of its input."""
    rng = np.random.default_rng(seed)
    size, window = rng.integers(4, 11, size=2), tuple(int(width) for width in rng.integers(1, 4, size=2))
    channels, units, step = (int(number) for number in rng.integers(1, 4, size=3))
    padding, method = str(rng.choice(["same", "valid"])), str(rng.choice(["nearest", "bilinear", "bicubic", "lanczos5"]))
    grid = (int(size[0]), int(size[1]))
    target = tuple(int(width) for width in rng.integers(2, 13, size=2))
    return [
        (layers.SeparableConv2D(units, window, strides=step, padding=padding, depth_multiplier=units), (*grid, channels)),
        (layers.SeparableConv1D(units, window[0], padding=padding, dilation_rate=step), (grid[0] + 4, channels)),
        (layers.Resizing(*target, interpolation=method, crop_to_aspect_ratio=padding == "same"), (*grid, channels)),
        (layers.CenterCrop(*target), (*grid, channels)),
        (layers.UpSampling2D((step, units), interpolation=method), (*grid, channels)),
        (layers.EinsumDense("abc,cde->adeb", (units, step, None)), (grid[0], channels)),
        (layers.TimeDistributed(layers.Conv1D(units, window[0], strides=step, padding=padding)), (channels, *grid)),
        (layers.Normalization(axis=None, mean=1.0, variance=float(step)), grid),
    ][seed % 8]


@pytest.mark.parametrize("seed", range(40))
def test_both_bounds_enclose_the_norm_of_random_layers(seed, monkeypatch):
    layer, shape = drawn(seed)
    layer = with_random_weights(layer, shape, seed)
    true = largest_singular_value(unroll(layer, shape))
    assert_encloses(operator_norm(layer, shape), true)
    if isinstance(layer, layers.SeparableConv1D | layers.SeparableConv2D):
        monkeypatch.setattr(linear_norms, "_UNROLLED_ENTRIES", 0)
        norm = operator_norm(layer, shape)
        assert norm.lower <= true * (1 + RTOL_ROUNDING) and norm.upper >= true * (1 - RTOL_ROUNDING)


def test_extreme_kernels_neither_overflow_nor_underflow():
    for scale in (1e-30, 1e25):
        for layer, shape in (
            (layers.Conv2D(2, 3), (6, 6, 2)),
            (layers.Dense(3), (4,)),
            (layers.SeparableConv2D(2, 3), (6, 6, 2)),
        ):
            one = operator_norm(with_random_weights(layer, shape), shape)
            layer.set_weights([weight * np.float32(scale) for weight in layer.get_weights()])
            factor = scale ** (2 if isinstance(layer, layers.SeparableConv2D) else 1)
            np.testing.assert_allclose(np.divide(operator_norm(layer, shape), factor), one, rtol=RTOL_BOTH_SIDES)


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
def test_norm_in_half_precision_uses_the_stored_weights(policy):
    for make, shape in ((layers.Dense, (5,)), (lambda units, **options: layers.Conv2D(units, 3, **options), (6, 6, 2))):
        layer = with_random_weights(make(4, dtype=policy), shape)
        same = make(4, dtype="float32")
        same.build((None, *shape))
        same.set_weights([np.asarray(weight, np.float32) for weight in layer.get_weights()])
        assert_encloses(operator_norm(layer, shape), largest_singular_value(unroll(same, shape)))


def test_spectral_normalization_has_the_norm_of_the_normalized_layer():
    """The layer normalizes the kernel as a matrix. For a window of 7 by 7 the convolution has a norm of 3.5."""
    layer = layers.SpectralNormalization(layers.Conv2D(64, 7), power_iterations=20)
    layer.build((None, 20, 20, 3))
    layer(np.zeros((1, 20, 20, 3), np.float32), training=True)
    assert 3.0 < operator_norm(layer, (20, 20, 3)).upper < 4.0
    np.testing.assert_allclose(np.linalg.norm(np.reshape(layer.layer.kernel, [-1, 64]), 2), 1.0, rtol=1e-2)


def jacobian_norms(layer, shape):
    """Returns a function that computes the norm of the Jacobian at a point, traced once."""

    @tf.function(autograph=False)
    def jacobian(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs)
        return tape.jacobian(outputs, inputs)

    return lambda place: np.linalg.norm(np.reshape(jacobian(tf.constant(place[np.newaxis], tf.float32)), [-1, place.size]), 2)


def steepest(norm_at, shape, starts=4, steps=40):
    """Maximizes the norm of the Jacobian by random search from nearly constant and from random inputs."""
    rng, highest = np.random.default_rng(0), 0.0
    for start in range(starts):
        place, step = (0.5 + rng.normal(size=shape) * 10.0 ** (-3.0 * start)), 0.3
        best = norm_at(place)
        for _ in range(steps):
            moved = place + step * rng.normal(size=shape) * np.std(place)
            if (norm := norm_at(moved)) > best:
                place, best, step = moved, norm, 1.3 * step
            step *= 0.95
        highest = max(highest, best)
    return highest


NORMALIZATIONS = {
    "LayerNormalization": (lambda: layers.LayerNormalization(epsilon=0.1), (6,)),
    "LayerNormalization, places": (lambda: layers.LayerNormalization(epsilon=0.01), (2, 5)),
    "LayerNormalization, axes": (lambda: layers.LayerNormalization(axis=[1, 2], epsilon=0.1), (2, 3)),
    "LayerNormalization, plain": (lambda: layers.LayerNormalization(scale=False, center=False, epsilon=0.2), (6,)),
    "LayerNormalization, pair": (lambda: layers.LayerNormalization(epsilon=0.1), (2,)),
    "GroupNormalization": (lambda: layers.GroupNormalization(2, epsilon=0.1), (2, 2, 4)),
    "GroupNormalization, vector": (lambda: layers.GroupNormalization(2, epsilon=0.1), (6,)),
    "GroupNormalization, first": (lambda: layers.GroupNormalization(2, axis=1, epsilon=0.1), (4, 3)),
    "GroupNormalization, instance": (lambda: layers.GroupNormalization(-1, epsilon=0.1, scale=False), (2, 2, 3)),
    "RMSNormalization": (lambda: layers.RMSNormalization(epsilon=0.1), (6,)),
}


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_jacobian_norms_of_normalizations_lie_within_their_bounds(name):
    make, shape = NORMALIZATIONS[name]
    layer = with_random_weights(make(), shape)
    norm, norm_at = operator_norm(layer, shape), jacobian_norms(layer, shape)
    assert steepest(norm_at, shape) <= norm.upper * (1 + RTOL_CLIMBED)
    flat = np.zeros(shape) if name.startswith("RMS") else np.full(shape, 0.5)
    assert norm.lower <= norm_at(flat) * (1 + RTOL_CLIMBED)
    assert norm_at(flat) >= 0.6 * norm.upper
    rng = np.random.default_rng(1)
    one, other = (rng.normal(size=(200, *shape)).astype(np.float32) for _ in range(2))
    moved, apart = ((a - b).reshape(200, -1) for a, b in ((layer(one).numpy(), layer(other).numpy()), (one, other)))
    assert np.all(np.linalg.norm(moved, axis=1) <= norm.upper * np.linalg.norm(apart, axis=1))


def test_normalization_of_a_single_value_has_norm_zero():
    for layer in (layers.LayerNormalization(), layers.GroupNormalization(3)):
        layer.build((None, 3) if isinstance(layer, layers.GroupNormalization) else (None, 1))
        assert operator_norm(layer, (3,) if isinstance(layer, layers.GroupNormalization) else (1,)) == (0.0, 0.0)


@pytest.mark.parametrize("kind", scale_norms.AUGMENTATIONS, ids=lambda kind: kind.__name__)
def test_augmentation_has_norm_one_in_inference(kind):
    factors = {"RandomTranslation": (0.5, 0.5), "RandomPosterization": (4,)}
    with_factor = ("Brightness", "ColorDegeneration", "Contrast", "Hue", "Rotation", "Saturation", "Sharpness", "Zoom")
    given = factors.get(kind.__name__, (0.5,) if kind.__name__.endswith(with_factor) else ())
    layer = kind(*given)
    assert operator_norm(layer, (8, 8, 3)) == (1.0, 1.0)
    model = keras.Sequential([keras.Input((8, 8, 3)), layer, layers.Rescaling(2.0)])
    np.testing.assert_allclose(lipschitz_bound(model).upper, 2.0, rtol=1e-5)


def test_prelu_constant_is_its_largest_slope():
    layer = layers.PReLU(name="units")
    model = keras.Sequential([keras.Input((3,)), layers.Rescaling(2.0), layer])
    layer.set_weights([np.array([0.5, -3.0, 1.0], np.float32)])
    np.testing.assert_allclose(lipschitz_bound(model).upper, 6.0, rtol=1e-5)
    layer.set_weights([np.array([0.5, -0.3, 0.1], np.float32)])
    np.testing.assert_allclose(lipschitz_bound(model).upper, 2.0, rtol=1e-5)


def test_wrapped_models_and_activations_are_bounded():
    inner = keras.Sequential([keras.Input((3,)), layers.Rescaling(2.0), layers.ReLU(negative_slope=3.0)])
    model = keras.Sequential(
        [keras.Input((4, 3)), layers.TimeDistributed(inner), layers.TimeDistributed(layers.LeakyReLU(5.0))]
    )
    np.testing.assert_allclose(lipschitz_bound(model).upper, 30.0, rtol=1e-5)
    dense = layers.TimeDistributed(layers.Dense(2, "sigmoid", kernel_initializer="ones"))
    model = keras.Sequential([keras.Input((4, 3)), dense])
    np.testing.assert_allclose(lipschitz_bound(model).upper, 0.25 * np.sqrt(6.0), rtol=1e-3)
