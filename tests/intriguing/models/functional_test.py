"""Tests of classifiers as pure functions of weights and images."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.models.functional import split_weights
from intriguing.models.networks.fully_connected import fully_connected
from intriguing.models.networks.zoo import build
from intriguing.training.supervised import MinibatchTraining, fit_minibatches

layers = keras.layers
SHAPE = (4, 4, 1)
ATOL_PROGRAMS = 1e-6  # of logits of size one: TensorFlow fuses a layer's operations in a graph, on some processors
ATOL_CONSTANT = 1e-5  # a difference of float32 logits of size one


@pytest.fixture
def images():
    return tf.random.stateless_uniform([5, *SHAPE], seed=[0, 0])


def small(**options):
    return fully_connected((6, 3), weight_decay=(1e-3, 1e-3), image_shape=SHAPE, **options)


def logits_of(classifier, images):
    architecture, weights = split_weights(classifier, images.shape[1:])
    return architecture.apply(weights, images).numpy()


def architecture_of(model, shape=SHAPE):
    return split_weights(model, shape)[0]


def test_function_and_weights_compute_the_model(images):
    model = small()
    architecture, weights = split_weights(model, SHAPE)
    assert architecture.num_classes == 3
    assert [tuple(weight.shape) for weight in weights] == [(16, 6), (6,), (6, 3), (3,)]
    np.testing.assert_allclose(architecture.apply(weights, images), model(images), atol=ATOL_PROGRAMS)


def test_function_depends_on_the_given_weights(images):
    first, second = small(seed=1), small(seed=2)
    logits = architecture_of(first).apply(split_weights(second, SHAPE)[1], images)
    np.testing.assert_allclose(logits, second(images), atol=ATOL_PROGRAMS)


def test_equal_computations_are_equal_for_any_weights_names_and_decay():
    reference = architecture_of(small(seed=0, name="one"))
    renamed = keras.Sequential(
        [keras.Input(SHAPE), layers.Flatten(), layers.Dense(6, "sigmoid"), layers.Dense(3)], name="other"
    )
    lighter = fully_connected((6, 3), weight_decay=(0.0, 5.0), image_shape=SHAPE, seed=9)
    for model in (renamed, lighter):
        assert architecture_of(model) == reference
        assert hash(architecture_of(model)) == hash(reference)


def test_equal_zoo_architectures_are_one_dictionary_key():
    shape = (28, 28, 1)
    assert len({architecture_of(build(name, seed=seed), shape) for name in ("FC10(1e-4)", "FC10(1)") for seed in (0, 1)}) == 1


@pytest.mark.parametrize(
    "other",
    [
        [layers.Flatten(), layers.Dense(6, "tanh"), layers.Dense(3)],
        [layers.Flatten(), layers.Dense(7, "sigmoid"), layers.Dense(3)],
        [layers.Flatten(), layers.Dense(6, "sigmoid"), layers.Dense(4)],
        [layers.Flatten(), layers.Dense(6, "sigmoid"), layers.Dense(6, "sigmoid"), layers.Dense(3)],
        [layers.Permute((2, 1, 3)), layers.Flatten(), layers.Dense(6, "sigmoid"), layers.Dense(3)],
    ],
    ids=["activation", "width", "classes", "depth", "order of pixels"],
)
def test_networks_that_compute_differently_are_not_equal(other):
    assert architecture_of(keras.Sequential([keras.Input(SHAPE), *other])) != architecture_of(small())


def test_layer_constants_are_part_of_the_computation():
    dimmed, dark = (
        keras.Sequential([keras.Input(SHAPE), layers.Rescaling(scale), layers.Flatten(), layers.Dense(3)])
        for scale in (0.5, 0.1)
    )
    assert architecture_of(dimmed) != architecture_of(dark)


def nested(head):
    inputs = keras.Input(SHAPE)
    body = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(6, "relu")], name="body")
    return keras.Model(inputs, head(body(inputs)))


def softmax_layer():
    return keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(3), layers.Softmax()])


def softmax_activation():
    return keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(3), layers.Activation("softmax")])


def softmax_in_the_dense_layer():
    return keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(3, "softmax")])


def softmax_in_a_functional_model():
    return nested(layers.Dense(3, "softmax"))


def softmax_inside_a_nested_model():
    return nested(keras.Sequential([keras.Input((6,)), layers.Dense(3, "softmax")]))


@pytest.mark.parametrize(
    "build_model",
    [
        softmax_layer,
        softmax_activation,
        softmax_in_the_dense_layer,
        softmax_in_a_functional_model,
        softmax_inside_a_nested_model,
    ],
)
def test_removed_softmax_gives_logits_up_to_a_constant_per_row(build_model, images):
    assert_log_probabilities_but_for_a_constant(build_model(), images)


def assert_log_probabilities_but_for_a_constant(model, images):
    assert split_weights(model, SHAPE)[0].cuts
    difference = logits_of(model, images) - np.log(model(images))
    np.testing.assert_allclose(difference, np.broadcast_to(difference[:, :1], (5, 3)), atol=ATOL_CONSTANT)
    assert np.abs(difference).max() > 1e-3  # they are logits, not log-probabilities
    for weight in model.weights:
        weight.assign(2.0 * weight + 0.1)
    difference = logits_of(model, images) - np.log(model(images))
    np.testing.assert_allclose(difference, np.broadcast_to(difference[:, :1], (5, 3)), atol=ATOL_CONSTANT)


def test_removing_the_softmax_does_not_modify_the_model(images):
    model = softmax_in_the_dense_layer()
    before = model(images).numpy()
    logits_of(model, images)
    np.testing.assert_array_equal(model(images), before)
    np.testing.assert_allclose(before.sum(axis=1), 1.0, rtol=1e-6)


def test_a_nested_functional_model_works(images):
    model = nested(keras.Sequential([keras.Input((6,)), layers.Dense(3)]))
    np.testing.assert_array_equal(logits_of(model, images), model(images))


def test_batch_normalization_statistics_are_weights(images):
    model = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.BatchNormalization(), layers.Dense(3)])
    before = logits_of(model, images)
    model.layers[1].moving_mean.assign(tf.ones(16))
    after = logits_of(model, images)
    assert np.any(before != after)
    np.testing.assert_allclose(after, model(images, training=False), atol=1e-6)  # fused operations round differently


def test_weights_are_read_again_after_training(images):
    model = small()
    before = logits_of(model, images)
    batches = tf.data.Dataset.from_tensors((images, tf.zeros(5, tf.int32))).repeat()
    fit_minibatches(
        model, batches, steps_per_epoch=3, settings=MinibatchTraining(num_epochs=1, batch_size=5, learning_rate=0.1)
    )
    after = logits_of(model, images)
    assert np.all(after[:, 0] > before[:, 0])
    np.testing.assert_allclose(after, model(images), atol=ATOL_PROGRAMS)


class Subclassed(keras.Model):
    def __init__(self, last=None):
        super().__init__(name="subclassed")
        self.flatten, self.last = layers.Flatten(), layers.Dense(3, activation=last)

    def call(self, images):
        return self.last(self.flatten(images))


def test_subclassed_model_works_before_its_first_call(images):
    model = Subclassed()
    np.testing.assert_array_equal(logits_of(model, images), model(images))


def test_softmax_of_a_subclassed_model_is_removed(images):
    assert_log_probabilities_but_for_a_constant(Subclassed("softmax"), images)


class Hidden:
    """A callable with a hidden variable."""

    def __init__(self, seed):
        self.kernel = tf.Variable(tf.random.stateless_normal([16, 3], seed=[seed, 0]))

    def __call__(self, images):
        return tf.reshape(images, [-1, 16]) @ self.kernel


def test_callable_with_a_hidden_variable_uses_its_current_value(images):
    classifier = Hidden(0)
    np.testing.assert_allclose(logits_of(classifier, images), classifier(images))
    before = logits_of(classifier, images)
    classifier.kernel.assign(2.0 * classifier.kernel)
    np.testing.assert_allclose(logits_of(classifier, images), 2.0 * before)


def test_callables_with_hidden_variables_are_never_equal():
    assert architecture_of(Hidden(0)) != architecture_of(Hidden(1))


@pytest.mark.parametrize(
    ("classifier", "received"),
    [
        (lambda images: images, r"received \[batch, 4, 4, 1\]"),
        (lambda images: tf.reduce_mean(images, axis=[1, 2, 3]), r"received \[batch\]"),
        (lambda images: tf.zeros([1, 3]), r"received \[1, 3\]. Expected as many rows as images; received 1 rows."),
    ],
)
def test_output_without_one_row_of_logits_per_image_is_refused(classifier, received):
    words = r"classifier must map images \[batch, 4, 4, 1\] to logits \[batch, classes\], one row for each image; " + received
    with pytest.raises(ValueError, match=words) as raised:
        split_weights(classifier, SHAPE)
    assert raised.type is ValueError


def test_several_outputs_are_refused():
    inputs = keras.Input(SHAPE)
    flat = layers.Flatten()(inputs)
    with pytest.raises(ValueError, match="one tensor of logits .*; received a list of 2. Build a keras.Model from the input"):
        split_weights(keras.Model(inputs, [layers.Dense(3)(flat), layers.Dense(3)(flat)]), SHAPE)


def test_class_output_instead_of_logits_is_refused():
    with pytest.raises(
        ValueError, match="must return floating-point logits; received int64. Pass the network without its argmax"
    ):
        split_weights(lambda images: tf.argmax(images, axis=1)[:, :, 0], SHAPE)


@pytest.mark.parametrize("classifier", [lambda images: np.asarray(images)[:, 0, 0], lambda images: small().predict(images)])
def test_classifier_that_leaves_tensorflow_is_refused(classifier):
    with pytest.raises(
        TypeError, match="must compute with TensorFlow operations.* Pass the Keras model itself, not model.predict"
    ):
        split_weights(classifier, SHAPE)


def test_images_of_another_shape_raise_the_error_of_the_layer():
    with pytest.raises(ValueError, match=r"does not accept images of shape \[5\]. .* It reports: "):
        split_weights(small(), (5,))


def test_objects_that_are_not_callable_are_refused():
    with pytest.raises(
        TypeError, match="classifier must be a Keras model or a callable from images to logits; received 'FC10'"
    ):
        split_weights("FC10", SHAPE)


@pytest.mark.parametrize(("name", "convolves"), [("ConvNet", True), ("FC10(1)", False), ("FC100-100-10", False)])
def test_architecture_reports_convolutions(name, convolves):
    model = build(name)
    assert architecture_of(model, model.input_shape[1:]).convolves is convolves


def test_convolutions_are_found_in_nested_models_and_callables():
    inner = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3)])
    inputs = keras.Input(SHAPE)
    kernel = tf.ones([4, 4, 1, 3])
    assert architecture_of(keras.Model(inputs, inner(inputs))).convolves
    assert architecture_of(lambda images: tf.nn.conv2d(images, kernel, 1, "VALID")[:, 0, 0]).convolves
    assert architecture_of(tf.function(lambda images: tf.nn.conv2d(images, kernel, 1, "VALID")[:, 0, 0])).convolves
    assert not architecture_of(lambda images: tf.reshape(images, [-1, 16])[:, :3]).convolves
