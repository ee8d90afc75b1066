"""Both variants of AlexNet: parameters, grids, preprocessing, and refused arguments."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.lipschitz.network_bound import lipschitz_of_activation
from intriguing.lipschitz.operator_norms import has_norm_rule
from intriguing.models import ONE_WEIRD_TRICK_IN_TORCHVISION, activations_at, alexnet, alexnet_one_weird_trick

KRIZHEVSKY = {
    "conv1": 34_944, "conv2": 307_456, "conv3": 885_120, "conv4": 663_936, "conv5": 442_624,
    "fc6": 37_752_832, "fc7": 16_781_312, "logits": 4_097_000,
}  # fmt: skip
ONE_WEIRD_TRICK = {
    "conv1": 23_296, "conv2": 307_392, "conv3": 663_936, "conv4": 884_992, "conv5": 590_080,
    "fc6": 37_752_832, "fc7": 16_781_312, "logits": 4_097_000,
}  # fmt: skip
GRIDS = {"conv1": 55, "pool1": 27, "conv2": 27, "pool2": 13, "conv3": 13, "conv4": 13, "conv5": 13, "pool5": 6}
RTOL_FLOAT32 = 1e-5  # a product and a sum
LARGEST_ON_BYTES = 255.0


@pytest.fixture(scope="module")
def krizhevsky():
    return alexnet()


@pytest.fixture(scope="module")
def one_weird_trick():
    return alexnet_one_weird_trick()


def check_sizes(model, num_parameters):
    assert {layer.name: layer.count_params() for layer in model.layers if layer.weights} == num_parameters
    assert {name: model.get_layer(name).output.shape[1:3] for name in GRIDS} == {
        name: (size, size) for name, size in GRIDS.items()
    }
    assert model.output_shape == (None, 1000)


def test_alexnet_has_the_published_parameters_and_grids(krizhevsky):
    check_sizes(krizhevsky, KRIZHEVSKY)
    assert krizhevsky.input_shape == (None, 227, 227, 3)
    assert krizhevsky.count_params() == 60_965_224


def test_torchvision_alexnet_has_its_parameters_and_grids(one_weird_trick):
    check_sizes(one_weird_trick, ONE_WEIRD_TRICK)
    assert one_weird_trick.input_shape == (None, 224, 224, 3)
    assert one_weird_trick.count_params() == 61_100_840
    assert set(ONE_WEIRD_TRICK_IN_TORCHVISION) == set(ONE_WEIRD_TRICK)


def test_rectifiers_precede_normalization_and_overlapping_pooling(krizhevsky):
    names = [layer.name for layer in krizhevsky.layers]
    assert names == (
        "scaling conv1 norm1 pool1 conv2 norm2 pool2 conv3 conv4 conv5 pool5 features fc6 drop6 fc7 drop7 logits".split()
    )
    for name in ("norm1", "norm2"):
        layer = krizhevsky.get_layer(name)
        assert (layer.depth, layer.bias, layer.alpha, layer.beta) == (5, 2.0, 1e-4, 0.75)
    for name in ("pool1", "pool2", "pool5"):
        assert krizhevsky.get_layer(name).pool_size == (3, 3) and krizhevsky.get_layer(name).strides == (2, 2)
    assert {krizhevsky.get_layer(name).groups for name in ("conv2", "conv4", "conv5")} == {2}
    assert {krizhevsky.get_layer(name).rate for name in ("drop6", "drop7")} == {0.5}
    activations = {layer.name: layer.activation for layer in krizhevsky.layers if layer.weights}
    assert activations.pop("logits") is keras.activations.linear
    assert set(activations.values()) == {keras.activations.relu}


def test_initial_weights_follow_the_article(krizhevsky):
    for layer in krizhevsky.layers:
        if layer.weights:
            kernel, offset = layer.get_weights()
            # Five standard errors: the standard deviation of n numbers has a relative error of 1 / sqrt(2 n).
            assert abs(kernel.std() / 0.01 - 1.0) < 5.0 / np.sqrt(2.0 * kernel.size)
            assert set(offset) == {1.0 if layer.name in ("conv2", "conv4", "conv5", "fc6", "fc7") else 0.0}


def test_weights_depend_only_on_the_seed():
    first, again, other = (alexnet(image_shape=(67, 67, 3), num_classes=3, seed=seed).get_layer("conv2") for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.kernel, again.kernel)
    assert np.any(np.asarray(first.kernel) != np.asarray(other.kernel))


def test_constants_of_the_caffe_network_are_passed_to_both_normalizations():
    model = alexnet(image_shape=(67, 67, 3), num_classes=3, response_bias=1.0, response_alpha=2e-5)
    assert {(model.get_layer(name).bias, model.get_layer(name).alpha) for name in ("norm1", "norm2")} == {(1.0, 2e-5)}


def test_preprocessing_scales_to_bytes_and_subtracts_the_mean(krizhevsky):
    colors = np.random.default_rng(0).uniform(size=(1, 227, 227, 3)).astype(np.float32)
    scaled = activations_at(krizhevsky, "scaling")(tf.constant(colors))
    expected = 255.0 * colors - np.array([122.679, 116.669, 104.007])
    np.testing.assert_allclose(scaled, expected, rtol=RTOL_FLOAT32, atol=RTOL_FLOAT32 * LARGEST_ON_BYTES)


def test_preprocessing_equals_that_of_torchvision(one_weird_trick):
    colors = np.random.default_rng(0).uniform(size=(1, 224, 224, 3)).astype(np.float32)
    scaled = activations_at(one_weird_trick, "scaling")(tf.constant(colors))
    expected = (colors - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(scaled, expected, rtol=RTOL_FLOAT32, atol=RTOL_FLOAT32)


@pytest.mark.parametrize("network", ["krizhevsky", "one_weird_trick"])
def test_layers_have_spectral_bounds_and_pixels_have_gradients(network, request):
    model = request.getfixturevalue(network)
    assert [layer.name for layer in model.layers if not has_norm_rule(layer)] == []
    assert {lipschitz_of_activation(layer) for layer in model.layers} == {1.0}
    images = tf.random.stateless_uniform([1, *model.input_shape[1:]], seed=[0, 0])
    with tf.GradientTape() as tape:
        tape.watch(images)
        score = tf.reduce_max(model(images, training=False))
    gradient = np.asarray(tape.gradient(score, images))
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


@pytest.mark.parametrize(
    ("constructor", "image_shape", "message"),
    [
        (
            alexnet,
            (66, 227, 3),
            r"alexnet takes color images \[height, width, 3\] of at least 67x67 pixels; received .*66, 227, 3",
        ),
        (
            alexnet,
            (227, 227, 1),
            r"received image_shape \(227, 227, 1\). Enlarge the images, or repeat the channel of gray images three times.",
        ),
        (alexnet_one_weird_trick, (28, 28, 3), "alexnet_one_weird_trick takes color images .* of at least 63x63 pixels"),
        (
            alexnet_one_weird_trick,
            (256, 256, 3),
            r"must result in 6x6 positions .*; \(256, 256, 3\) results in 7x7. Resize the images to",
        ),
    ],
)
def test_images_that_are_small_gray_or_of_another_size_are_refused(constructor, image_shape, message):
    with pytest.raises(ValueError, match=message):
        constructor(image_shape=image_shape)


def test_smallest_supported_images_give_one_position():
    model = alexnet(image_shape=(67, 67, 3), num_classes=3)
    assert model.get_layer("pool5").output.shape == (None, 1, 1, 256)
    assert model(tf.zeros([2, 67, 67, 3])).shape == (2, 3)
