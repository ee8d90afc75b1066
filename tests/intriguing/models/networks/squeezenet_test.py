"""SqueezeNet: parameters, pooling, spectral bound, and the accuracy of real weights on photographs."""

import numpy as np
import pytest
import tensorflow as tf

from intriguing.lipschitz import lipschitz_bound
from intriguing.models import SQUEEZENET_IN_TORCHVISION, activations_at, load_arrays, squeezenet, squeezenet_torchvision

DIGEST = "d138235cabf440040335d338da69507f96952f9b11e1baf34ead78878bcd326f"
TOP1, TOP5 = 0.632, 0.836  # measured with another implementation on these photographs
SHARE_TOLERANCE = 0.003  # three photographs in a thousand, for sums in another order
CROP = slice(14, 241)  # the center 227 of 256 pixels
BATCH = 20  # larger batches are slower, because they exceed the CPU caches
RTOL_FLOAT32 = 1e-5
LARGEST_ON_BYTES = 255.0


@pytest.mark.parametrize("constructor", [squeezenet, squeezenet_torchvision])
def test_has_the_parameters_of_the_article(constructor):
    model = constructor()
    assert model.count_params() == 1_248_424
    fires = [f"fire{number}_{part}" for number in range(2, 10) for part in ("squeeze", "expand1", "expand3")]
    assert [layer.name for layer in model.layers if layer.weights] == ["conv1", *fires, "conv_final"]
    assert model.layers[-1].name == "logits" and model.output_shape == (None, 1000)
    assert set(SQUEEZENET_IN_TORCHVISION) == {layer.name for layer in model.layers if layer.weights}


@pytest.mark.parametrize(
    ("constructor", "grids"),
    [
        (squeezenet, {"conv1": 111, "pool1": 55, "fire4": 55, "pool4": 27, "fire8": 27, "pool8": 13, "conv_final": 15}),
        # With 54 positions and a window of three, the last window is incomplete.
        (squeezenet_torchvision, {"conv1": 109, "pool1": 54, "pool4": 27, "pool8": 13, "conv_final": 13}),
    ],
)
def test_grids_equal_those_of_caffe(constructor, grids):
    model = constructor()
    assert {name: model.get_layer(name).output.shape[1] for name in grids} == grids


def test_incomplete_last_pooling_window_is_included():
    model = squeezenet(
        image_shape=(24, 21, 3), num_classes=3
    )  # 9 x 8 positions after the first convolution, 4 x 4 after pooling
    images = tf.random.stateless_uniform([2, 24, 21, 3], seed=[0, 0])
    maps, pooled = (np.asarray(activations_at(model, name)(images)) for name in ("conv1", "pool1"))
    assert maps.shape[1:3] == (9, 8) and pooled.shape[1:3] == (4, 4)
    for row in range(4):
        for column in range(4):
            window = maps[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
            np.testing.assert_array_equal(pooled[:, row, column], window.max(axis=(1, 2)))


def test_preprocessing_scales_to_bytes_and_subtracts_the_mean():
    colors = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype(np.float32)
    scaled = activations_at(squeezenet(image_shape=(32, 32, 3)), "scaling")(tf.constant(colors))
    expected = 255.0 * colors - np.array([123.0, 117.0, 104.0])
    np.testing.assert_allclose(scaled, expected, rtol=RTOL_FLOAT32, atol=RTOL_FLOAT32 * LARGEST_ON_BYTES)


def test_weights_depend_only_on_the_seed():
    first, again, other = (squeezenet(image_shape=(32, 32, 3), seed=seed).get_weights() for seed in (3, 3, 4))
    for weight, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(weight, same)
    assert all(np.any(weight != another) for weight, another in zip(first, other, strict=True) if weight.any())
    parts = {tuple(np.ravel(weight)[:3]) for weight in first if weight.any()}
    assert len(parts) == 26  # no two layers share their random numbers


def test_spectral_bound_applies_to_pixels_in_the_unit_box():
    model = squeezenet(image_shape=(21, 21, 3), num_classes=5)
    bound = lipschitz_bound(model)
    assert bound.layers[0].name == "scaling" and bound.layers[0].norm.upper == pytest.approx(255.0, rel=1e-5)
    images, others = tf.unstack(tf.random.stateless_uniform([2, 8, 21, 21, 3], seed=[0, 0]))
    moved = np.linalg.norm(model(images) - model(others), axis=1)
    assert np.all(moved > 0)
    assert np.all(moved <= bound.upper * np.linalg.norm(np.reshape(images - others, [8, -1]), axis=1))


@pytest.mark.parametrize("image_shape", [(20, 32, 3), (32, 32, 1), (32, 32)])
def test_images_that_are_too_small_or_gray_are_refused(image_shape):
    with pytest.raises(ValueError, match=r"squeezenet takes color images .* of at least 21x21 pixels; received image_shape"):
        squeezenet(image_shape=image_shape)


def read_photograph(path):
    # The fast decoder, which is the default, changes many bytes by one and the classes of three photographs in a thousand.
    photograph = tf.io.decode_jpeg(tf.io.read_file(str(path)), channels=3, dct_method="INTEGER_ACCURATE")
    return tf.cast(photograph[CROP, CROP], tf.float32) / 255.0


@pytest.mark.slow
def test_pretrained_weights_have_the_accuracy_of_another_implementation(squeezenet_file, photograph_files):
    model = squeezenet()
    load_arrays(model, squeezenet_file, channel_order="BGR", sha256=DIGEST)
    assert len(photograph_files) == 1000
    compute_logits = tf.function(lambda images: model(images, training=False), autograph=False)
    batches = [photograph_files[start : start + BATCH] for start in range(0, 1000, BATCH)]
    logits = tf.concat([compute_logits(tf.stack([read_photograph(path) for path in batch])) for batch in batches], axis=0)
    classes = tf.range(1000)
    for places, expected in ((1, TOP1), (5, TOP5)):
        assert abs(np.mean(tf.math.in_top_k(classes, logits, places)) - expected) <= SHARE_TOLERANCE
