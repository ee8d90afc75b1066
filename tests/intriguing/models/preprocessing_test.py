"""A network behind its preprocessing is a network of pixels: the same answers, true gradients, and its own layer names."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack import minimize_distortion
from intriguing.models import PixelScaling, on_pixels
from intriguing.models.loading import preprocessing_names, scaling_of
from intriguing.pixels import PixelBox

CAFFE = PixelScaling(scale=(255.0,), offset=(-123.68, -116.779, -103.939), channel_order="BGR")


def _branching_network(*, softmax: bool = True) -> keras.Model:
    """Two branches, a layer used twice, a model inside, and statistics: whatever copying could get wrong."""
    images = keras.Input((6, 5, 3), name="images")
    shared = keras.layers.Conv2D(4, 3, padding="same", activation="tanh", name="shared")
    once = shared(images)
    inner = keras.Sequential([keras.Input((6, 5, 4)), keras.layers.Conv2D(3, 1, activation="relu")], name="inner")
    twice = shared(keras.layers.BatchNormalization(name="norm")(inner(once)))
    merged = keras.layers.Concatenate(name="both")([once, twice])
    flat = keras.layers.Flatten(name="flat")(merged)
    outputs = keras.layers.Dense(7, activation="softmax" if softmax else None, name="answers")(flat)
    model = keras.Model(images, outputs, name="branching")
    model.get_layer("norm").set_weights([np.full(3, value, np.float32) for value in (1.1, 0.2, 0.3, 0.9)])
    return model


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).random((4, 6, 5, 3)).astype(np.float32)


@pytest.mark.parametrize("module", preprocessing_names())
def test_every_preprocess_input_of_keras_is_found_out(module: str) -> None:
    colors = np.random.default_rng(0).random((2, 3, 4, 3)).astype(np.float32)
    expected = getattr(keras.applications, module).preprocess_input(255.0 * colors)
    np.testing.assert_allclose(scaling_of(module).apply(colors), expected, rtol=1e-5, atol=1e-3)


def test_the_layers_compute_what_the_scaling_says(images: np.ndarray) -> None:
    scaled = tf.constant(images)
    for layer in CAFFE.layers():
        scaled = layer(scaled)
    np.testing.assert_allclose(scaled, CAFFE.apply(images), rtol=1e-5, atol=1e-4)  # float32 around 255
    assert PixelScaling().layers() == []


def test_pixels_give_the_answers_that_preprocessed_images_gave(images: np.ndarray) -> None:
    model = _branching_network()
    wrapped = on_pixels(model, CAFFE)
    np.testing.assert_allclose(wrapped(images), model(CAFFE.apply(images).astype(np.float32)), rtol=1e-5, atol=1e-7)
    assert [layer.name for layer in wrapped.layers][:3] == ["pixels", "pixel_scaling", "pixel_order"]
    assert {layer.name for layer in model.layers[1:]} < {layer.name for layer in wrapped.layers}


def test_the_model_that_was_brought_is_left_alone(images: np.ndarray) -> None:
    model = _branching_network()
    before, num_layers = model(images).numpy(), len(model.layers)
    wrapped = on_pixels(model, CAFFE)
    wrapped.set_weights([np.zeros_like(value) for value in wrapped.get_weights()])
    np.testing.assert_array_equal(model(images), before)
    assert len(model.layers) == num_layers and model.get_layer("answers").output is model.outputs[0]


def test_a_saved_one_is_loaded_safely_and_answers_alike(images: np.ndarray, tmp_path) -> None:
    wrapped = on_pixels(_branching_network(), CAFFE)
    wrapped.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(reloaded(images), wrapped(images), rtol=1e-6)


def test_the_gradient_passes_through_preprocessing_as_the_numerical_one_does() -> None:
    keras.config.set_dtype_policy("float64")
    try:
        inputs = keras.Input((4, 3, 3))
        hidden = keras.layers.Dense(5, activation="tanh")(keras.layers.Flatten()(inputs))
        model = on_pixels(
            keras.Model(inputs, keras.layers.Dense(3)(hidden)), PixelScaling(scale=(2, 3, 4), channel_order="BGR")
        )
        pixels = tf.constant(np.random.default_rng(2).random((2, 4, 3, 3)))
        analytic, numerical = tf.test.compute_gradient(model, [pixels])
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(analytic[0], numerical[0], rtol=1e-6, atol=1e-7)


def test_an_attack_moves_pixels_and_finds_what_the_bare_network_gets_wrong(images: np.ndarray) -> None:
    model = _branching_network()
    results = minimize_distortion(on_pixels(model, CAFFE), images, labels=_answers(model, images), search="fast")
    assert bool(tf.reduce_all(PixelBox().contains(results.distorted)))
    assert bool(tf.reduce_all(results.succeeded))
    assert np.all(_answers(model, results.distorted.numpy()) != _answers(model, images))


def _answers(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return np.argmax(model(CAFFE.apply(images).astype(np.float32)), axis=1).astype(np.int32)


def test_a_subclassed_model_is_kept_as_one_layer(images: np.ndarray) -> None:
    class Mean(keras.Model):
        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            return keras.ops.mean(inputs, axis=(1, 2))

    wrapped = on_pixels(Mean(), PixelScaling(scale=(2.0,)), image_shape=(6, 5, 3))
    np.testing.assert_allclose(wrapped(images), 2.0 * images.mean(axis=(1, 2)), rtol=1e-5)


def test_probabilities_become_logits_that_order_classes_alike(images: np.ndarray) -> None:
    model = _branching_network()
    logits = on_pixels(model, probabilities=True)(images)
    np.testing.assert_allclose(tf.nn.softmax(logits), model(images), rtol=1e-5)


def test_an_open_size_is_filled_in_and_must_be() -> None:
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs), name="open")
    assert on_pixels(model, image_shape=(8, 9, 3)).input_shape == (None, 8, 9, 3)
    with pytest.raises(
        ValueError, match=r"'open' takes images \[None, None, 3\], and leaves their size open. Pass image_shape"
    ):
        on_pixels(model)


def test_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"takes images \[6, 5, 3\]; received image_shape \(7, 5, 3\). Resize the images."):
        on_pixels(_branching_network(), image_shape=(7, 5, 3))


def test_several_inputs_or_outputs_are_refused() -> None:
    first, second = keras.Input((2,)), keras.Input((2,))
    both = keras.Model([first, second], keras.layers.Add()([first, second]), name="both")
    with pytest.raises(ValueError, match="the model 'both' has 2 inputs and 1 outputs; expected one of each"):
        on_pixels(both)


def test_maps_of_answers_are_refused() -> None:
    inputs = keras.Input((6, 5, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 3, padding="same")(inputs), name="maps")
    with pytest.raises(ValueError, match="the model 'maps' answers .* expected one vector of classes for each image"):
        on_pixels(model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": (0.0,)}, "scale must not be zero"),
        ({"offset": (float("nan"),)}, "offset must be one finite number"),
        ({"channel_order": "GBR"}, "unknown channel order 'GBR'"),
    ],
)
def test_a_scaling_that_makes_no_sense_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PixelScaling(**settings)


def test_a_scaling_for_other_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="scale must be one number, or one for each of the 3 channels; received"):
        on_pixels(_branching_network(), PixelScaling(scale=(1.0, 2.0)))


def test_preprocessing_that_does_more_than_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="preprocess_input must scale and shift each color"):
        PixelScaling.of(lambda colors: colors**2 / 255.0)


@keras.saving.register_keras_serializable(package="tests")
class FixedProjection(keras.layers.Layer):
    """Draws a constant in `build`, which neither its configuration nor its weights hold."""

    def build(self, input_shape):
        self.matrix = keras.ops.convert_to_tensor(np.random.default_rng().normal(size=(input_shape[-1], 4)), "float32")

    def call(self, inputs):
        return keras.ops.matmul(inputs, self.matrix)


def _adapted_normalization() -> keras.layers.Layer:
    layer = keras.layers.Normalization()
    layer.adapt(np.random.default_rng(0).normal(100.0, 20.0, size=(64, 5)).astype(np.float32))
    return layer


@pytest.mark.parametrize(
    "layer",
    [
        _adapted_normalization,
        lambda: keras.layers.Normalization(mean=3.0, variance=4.0),
        FixedProjection,
        lambda: keras.layers.Lambda(lambda inputs: keras.ops.sin(3.0 * inputs)),
    ],
    ids=["adapted normalization", "normalization of given statistics", "constant drawn in build", "lambda"],
)
def test_the_state_of_a_layer_is_kept(layer) -> None:
    model = keras.Sequential([keras.Input((5,)), layer(), keras.layers.Dense(3)])
    pixels = np.random.default_rng(1).uniform(size=(6, 5)).astype(np.float32)
    scaled = on_pixels(model, PixelScaling(scale=(255.0,), offset=(-3.0,)))
    np.testing.assert_allclose(scaled(pixels), model(255.0 * pixels - 3.0), rtol=1e-5, atol=1e-3)


def test_a_layer_of_a_saved_model_is_kept(tmp_path) -> None:
    inner = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, "tanh")])
    inner.export(tmp_path / "inner", verbose=False)
    layer = keras.layers.TFSMLayer(tmp_path / "inner", call_endpoint="serve")
    model = keras.Sequential([keras.Input((5,)), layer, keras.layers.Dense(3)])
    pixels = np.random.default_rng(1).uniform(size=(6, 5)).astype(np.float32)
    np.testing.assert_allclose(on_pixels(model)(pixels), model(pixels), rtol=1e-5)


def test_a_model_whose_layers_cannot_be_copied_is_left_alone() -> None:
    model = keras.Sequential([keras.Input((5,)), FixedProjection(), keras.layers.Dense(3)])
    calls = [len(layer._inbound_nodes) for layer in [model, *model.layers]]
    on_pixels(model)
    assert [len(layer._inbound_nodes) for layer in [model, *model.layers]] == calls


def test_a_model_that_draws_random_numbers_in_inference_is_refused() -> None:
    noise = keras.layers.Lambda(lambda inputs: inputs + keras.random.normal((1, 5)))
    model = keras.Sequential([keras.Input((5,)), noise, keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="computes other outputs when it is called again on the same images"):
        on_pixels(model)


@pytest.mark.parametrize("name", ["pixels", "pixel_scaling", "pixels_1"])
def test_layers_of_the_model_keep_their_names(name: str, images: np.ndarray) -> None:
    model = keras.Sequential([keras.Input((6, 5, 3)), keras.layers.Flatten(name=name), keras.layers.Dense(4)])
    found = on_pixels(model, PixelScaling(scale=(2.0,)))
    np.testing.assert_allclose(found(images), model(2.0 * images), atol=1e-5)
    assert found.get_layer(name).__class__ is keras.layers.Flatten


def test_preprocessing_can_be_put_before_preprocessing(images: np.ndarray) -> None:
    model = keras.Sequential([keras.Input((6, 5, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
    twice = on_pixels(on_pixels(model, PixelScaling(scale=(2.0,))), PixelScaling(scale=(0.5,), offset=(0.25,)))
    np.testing.assert_allclose(twice(images), model(images + 0.5), atol=1e-5)
