"""A model with preprocessing takes pixels and has the same outputs, exact gradients, and the layer names of the model."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack import minimize_distortion
from intriguing.models import with_preprocessing
from intriguing.models.loading import preprocessing_names, scaling_of
from intriguing.models.preprocessing import PixelScaling
from intriguing.pixels import PixelBox

CAFFE = {"scale": 255.0, "offset": (-123.68, -116.779, -103.939), "channel_order": "BGR"}
CAFFE_SCALING = PixelScaling(scale=(255.0,), offset=(-123.68, -116.779, -103.939), channel_order="BGR")


def _branching_network(*, softmax: bool = True) -> keras.Model:
    """Returns a network with branches, a reused layer, a nested model and batch statistics, which are difficult to copy."""
    images = keras.Input((6, 5, 3), name="images")
    shared = keras.layers.Conv2D(4, 3, padding="same", activation="tanh", name="shared")
    once = shared(images)
    inner = keras.Sequential([keras.Input((6, 5, 4)), keras.layers.Conv2D(3, 1, activation="relu")], name="inner")
    twice = shared(keras.layers.BatchNormalization(name="norm")(inner(once)))
    merged = keras.layers.Concatenate(name="both")([once, twice])
    flat = keras.layers.Flatten(name="flat")(merged)
    outputs = keras.layers.Dense(7, activation="softmax" if softmax else None, name="probabilities")(flat)
    model = keras.Model(images, outputs, name="branching")
    model.get_layer("norm").set_weights([np.full(3, value, np.float32) for value in (1.1, 0.2, 0.3, 0.9)])
    return model


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).random((4, 6, 5, 3)).astype(np.float32)


@pytest.mark.parametrize("module", preprocessing_names())
def test_determines_the_scaling_of_every_preprocess_input_of_keras(module: str) -> None:
    colors = np.random.default_rng(0).random((2, 3, 4, 3)).astype(np.float32)
    expected = getattr(keras.applications, module).preprocess_input(255.0 * colors)
    np.testing.assert_allclose(scaling_of(module).apply(colors), expected, rtol=1e-5, atol=1e-3)


def test_layers_compute_the_scaling(images: np.ndarray) -> None:
    scaled = tf.constant(images)
    for layer in CAFFE_SCALING.layers():
        scaled = layer(scaled)
    np.testing.assert_allclose(scaled, CAFFE_SCALING.apply(images), rtol=1e-5, atol=1e-4)  # float32 around 255
    assert PixelScaling().layers() == []


def test_outputs_for_pixels_equal_those_for_preprocessed_images(images: np.ndarray) -> None:
    model = _branching_network()
    wrapped = with_preprocessing(model, **CAFFE)
    np.testing.assert_allclose(wrapped(images), model(CAFFE_SCALING.apply(images).astype(np.float32)), rtol=1e-5, atol=1e-7)
    assert [layer.name for layer in wrapped.layers][:3] == ["pixels", "pixel_scaling", "pixel_order"]
    assert {layer.name for layer in model.layers[1:]} < {layer.name for layer in wrapped.layers}


def test_the_given_model_is_not_changed(images: np.ndarray) -> None:
    model = _branching_network()
    before, num_layers = model(images).numpy(), len(model.layers)
    wrapped = with_preprocessing(model, **CAFFE)
    wrapped.set_weights([np.zeros_like(value) for value in wrapped.get_weights()])
    np.testing.assert_array_equal(model(images), before)
    assert len(model.layers) == num_layers and model.get_layer("probabilities").output is model.outputs[0]


def test_a_saved_model_with_preprocessing_loads_in_safe_mode(images: np.ndarray, tmp_path) -> None:
    wrapped = with_preprocessing(_branching_network(), **CAFFE)
    wrapped.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(reloaded(images), wrapped(images), rtol=1e-6)


def test_the_gradient_with_respect_to_pixels_equals_the_numerical_one() -> None:
    keras.config.set_dtype_policy("float64")
    try:
        inputs = keras.Input((4, 3, 3))
        hidden = keras.layers.Dense(5, activation="tanh")(keras.layers.Flatten()(inputs))
        model = with_preprocessing(keras.Model(inputs, keras.layers.Dense(3)(hidden)), scale=(2, 3, 4), channel_order="BGR")
        pixels = tf.constant(np.random.default_rng(2).random((2, 4, 3, 3)))
        analytic, numerical = tf.test.compute_gradient(model, [pixels])
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(analytic[0], numerical[0], rtol=1e-6, atol=1e-7)


def test_an_attack_on_pixels_changes_the_predictions_of_the_given_model(images: np.ndarray) -> None:
    model = _branching_network()
    results = minimize_distortion(with_preprocessing(model, **CAFFE), images, labels=_predictions(model, images), search="fast")
    assert bool(tf.reduce_all(PixelBox().contains(results.distorted)))
    assert bool(tf.reduce_all(results.succeeded))
    assert np.all(_predictions(model, results.distorted.numpy()) != _predictions(model, images))


def _predictions(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return np.argmax(model(CAFFE_SCALING.apply(images).astype(np.float32)), axis=1).astype(np.int32)


def test_a_subclassed_model_becomes_one_layer(images: np.ndarray) -> None:
    class Mean(keras.Model):
        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            return keras.ops.mean(inputs, axis=(1, 2))

    wrapped = with_preprocessing(Mean(), scale=2.0, image_shape=(6, 5, 3))
    np.testing.assert_allclose(wrapped(images), 2.0 * images.mean(axis=(1, 2)), rtol=1e-5)


def test_probabilities_become_logits(images: np.ndarray) -> None:
    model = _branching_network()
    logits = with_preprocessing(model, probabilities=True)(images)
    np.testing.assert_allclose(tf.nn.softmax(logits), model(images), rtol=1e-5)


def test_an_open_image_size_requires_image_shape() -> None:
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs), name="open")
    assert with_preprocessing(model, image_shape=(8, 9, 3)).input_shape == (None, 8, 9, 3)
    with pytest.raises(ValueError, match=r"'open' takes images \[None, None, 3\], whose size is not fixed. Pass image_shape"):
        with_preprocessing(model)


def test_image_shape_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"takes images \[6, 5, 3\]; received image_shape \(7, 5, 3\). Resize the images."):
        with_preprocessing(_branching_network(), image_shape=(7, 5, 3))


def test_several_inputs_or_outputs_are_refused() -> None:
    first, second = keras.Input((2,)), keras.Input((2,))
    both = keras.Model([first, second], keras.layers.Add()([first, second]), name="both")
    with pytest.raises(ValueError, match="the model 'both' must have one input and one output; received 2 and 1"):
        with_preprocessing(both)


def test_a_model_whose_outputs_are_maps_is_refused() -> None:
    inputs = keras.Input((6, 5, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 3, padding="same")(inputs), name="maps")
    with pytest.raises(ValueError, match="the model 'maps' must return .batch, classes.; received outputs of shape"):
        with_preprocessing(model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 0.0}, "scale must not be zero, which would make all images equal; received"),
        ({"offset": float("nan")}, "offset must be one finite number"),
        ({"scale": ()}, "scale must be one finite number, or one for each channel; received"),
        ({"channel_order": "GBR"}, "unknown channel order 'GBR'"),
        (
            {"scale": 2.0, "preprocess_input": keras.applications.resnet.preprocess_input},
            "pass either preprocess_input or scale, offset and channel_order; received a function and scale=2.0",
        ),
    ],
)
def test_an_invalid_scaling_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_preprocessing(_branching_network(), **settings)


def test_a_scaling_for_other_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="scale must be one number, or one for each of the 3 channels; received"):
        with_preprocessing(_branching_network(), scale=(1.0, 2.0))


@pytest.mark.parametrize("scale", ["bright", {"red": 1.0}, "2", None, (1.0, None, 2.0), [[1.0], [1.0, 2.0]]])
def test_scale_that_is_not_a_number_is_refused(scale: object) -> None:
    with pytest.raises(TypeError, match="scale must be one number, or one for each channel; received"):
        with_preprocessing(_branching_network(), scale=scale)


def test_preprocessing_function_equals_its_scale_and_offset(images: np.ndarray) -> None:
    model, preprocess_input = _branching_network(), keras.applications.resnet.preprocess_input
    by_function = with_preprocessing(model, preprocess_input=preprocess_input)
    expected = model(preprocess_input(255.0 * images))
    np.testing.assert_allclose(by_function(images), expected, rtol=1e-4, atol=1e-6)
    by_offset = with_preprocessing(model, scale=255.0, offset=np.array([-123.68, -116.779, -103.939]), channel_order="BGR")
    np.testing.assert_array_equal(by_function(images), by_offset(images))


def test_nonlinear_preprocessing_is_refused() -> None:
    with pytest.raises(ValueError, match="preprocess_input must scale and shift each color"):
        with_preprocessing(_branching_network(), preprocess_input=lambda colors: colors**2 / 255.0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_standardization_of_each_image_is_refused_without_warning(shift: float) -> None:
    with pytest.raises(ValueError, match="preprocess_input must scale and shift each color; it returns NaN or infinite values"):
        with_preprocessing(_branching_network(), preprocess_input=lambda x: (x - x.mean() + shift) / x.std())


def test_a_module_name_instead_of_a_function_is_refused() -> None:
    words = "preprocess_input must be a function, such as keras.applications.resnet50.preprocess_input; received 'resnet50'"
    with pytest.raises(TypeError, match=words):
        with_preprocessing(_branching_network(), preprocess_input="resnet50")


def test_a_file_name_instead_of_a_model_is_refused() -> None:
    with pytest.raises(
        TypeError, match="model must be a keras.Model; received a str. Load .* with intriguing.models.load_model"
    ):
        with_preprocessing("mine.keras")


@pytest.mark.parametrize("num_channels", [1, 4])
def test_blue_first_requires_three_channels(num_channels: int) -> None:
    model = keras.Sequential([keras.Input((4, 4, num_channels)), keras.layers.Flatten(), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="channel_order 'BGR' requires images of 3 channels; the model takes images"):
        with_preprocessing(model, channel_order="BGR")


@keras.saving.register_keras_serializable(package="tests")
class FixedProjection(keras.layers.Layer):
    """Draws a constant in `build` that is not part of its configuration or its weights."""

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
    scaled = with_preprocessing(model, scale=255.0, offset=-3.0)
    np.testing.assert_allclose(scaled(pixels), model(255.0 * pixels - 3.0), rtol=1e-5, atol=1e-3)


def test_a_layer_of_a_saved_model_is_kept(tmp_path) -> None:
    inner = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, "tanh")])
    inner.export(tmp_path / "inner", verbose=False)
    layer = keras.layers.TFSMLayer(tmp_path / "inner", call_endpoint="serve")
    model = keras.Sequential([keras.Input((5,)), layer, keras.layers.Dense(3)])
    pixels = np.random.default_rng(1).uniform(size=(6, 5)).astype(np.float32)
    np.testing.assert_allclose(with_preprocessing(model)(pixels), model(pixels), rtol=1e-5)


def test_a_model_whose_layers_cannot_be_copied_is_not_changed() -> None:
    model = keras.Sequential([keras.Input((5,)), FixedProjection(), keras.layers.Dense(3)])
    calls = [len(layer._inbound_nodes) for layer in [model, *model.layers]]
    with_preprocessing(model)
    assert [len(layer._inbound_nodes) for layer in [model, *model.layers]] == calls


def test_a_model_that_draws_random_numbers_in_inference_is_refused() -> None:
    noise = keras.layers.Lambda(lambda inputs: inputs + keras.random.normal((1, 5)))
    model = keras.Sequential([keras.Input((5,)), noise, keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="must return the same outputs when it is called twice on the same images"):
        with_preprocessing(model)


@pytest.mark.parametrize("name", ["pixels", "pixel_scaling", "pixels_1"])
def test_layers_of_the_model_keep_their_names(name: str, images: np.ndarray) -> None:
    model = keras.Sequential([keras.Input((6, 5, 3)), keras.layers.Flatten(name=name), keras.layers.Dense(4)])
    found = with_preprocessing(model, scale=2.0)
    np.testing.assert_allclose(found(images), model(2.0 * images), atol=1e-5)
    assert found.get_layer(name).__class__ is keras.layers.Flatten


def test_preprocessing_can_be_composed(images: np.ndarray) -> None:
    model = keras.Sequential([keras.Input((6, 5, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
    twice = with_preprocessing(with_preprocessing(model, scale=2.0), scale=0.5, offset=0.25)
    np.testing.assert_allclose(twice(images), model(images + 0.5), atol=1e-5)
