"""Every network of the zoo is built, saved, reloaded and trained for one step, and unknown names raise."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.lipschitz import certified_distortion, lipschitz_bound
from intriguing.models.layer_split import cut_at
from intriguing.models.networks.fully_connected import fully_connected
from intriguing.models.networks.zoo import CONSTRUCTORS, PHOTOGRAPH_CONSTRUCTORS, build
from intriguing.training.supervised import MinibatchTraining, fit_minibatches

NUM_PARAMETERS = {
    "FC10(1e-4)": 7_850,
    "FC10(1e-2)": 7_850,
    "FC10(1)": 7_850,
    "FC100-100-10": 89_610,
    "FC100-100-10(dropout)": 89_610,
    "FC200-200-10": 199_210,
    "FC123-456-10": 157_669,
    "AE400-10": 318_010,
    "ConvNet": 80_202,
}
LAYERS = {
    "FC10(1)": ["pixels", "logits"],
    "FC100-100-10": ["pixels", "hidden1", "hidden2", "logits"],
    "FC100-100-10(dropout)": ["pixels", "dropout0", "hidden1", "dropout1", "hidden2", "dropout2", "logits"],
    "AE400-10": ["pixels", "encoder", "logits"],
    "ConvNet": ["conv1", "pool1", "conv2", "pool2", "features", "hidden1", "logits"],
}


@pytest.fixture(scope="module")
def images():
    return tf.random.stateless_uniform([4, 28, 28, 1], seed=[0, 0])


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_every_network_builds_saves_reloads_and_learns(name, images, tmp_path):
    model = build(name)
    assert model.count_params() == NUM_PARAMETERS[name]
    assert [layer.name for layer in model.layers] == LAYERS.get(
        name, LAYERS["FC10(1)"] if "FC10(" in name else LAYERS["FC100-100-10"]
    )
    assert model.layers[-1].activation is keras.activations.linear  # logits, not probabilities
    logits = model(images)
    assert logits.shape == (4, 10)

    model.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_array_equal(reloaded(images), logits)
    assert len(reloaded.losses) == len(model.losses)

    batches = tf.data.Dataset.from_tensors((images, tf.constant([1, 2, 3, 4]))).repeat()
    settings = MinibatchTraining(num_epochs=1, batch_size=4, learning_rate=1e-3)
    record = fit_minibatches(reloaded, batches, steps_per_epoch=1, settings=settings)
    assert np.isfinite(record.losses).all()
    for before, after in zip(model.trainable_variables, reloaded.trainable_variables, strict=True):
        assert np.any(before.numpy() != after.numpy())


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_weights_depend_only_on_the_seed(name):
    first, again, other = (build(name, seed=seed).get_weights() for seed in (3, 3, 4))
    for weight, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(weight, same)
    assert all(np.any(weight != another) for weight, another in zip(first, other, strict=True) if weight.any())


def test_layers_have_independent_initial_weights():
    model = build("FC100-100-10")
    first, second = (model.get_layer(name).kernel.numpy() for name in ("hidden1", "hidden2"))
    assert abs(np.corrcoef(first[:100].ravel(), second.ravel())[0, 1]) < 0.05  # five standard errors of 10,000 pairs


@pytest.mark.parametrize("name", ["FC100-100-10", "AE400-10", "ConvNet"])
def test_networks_support_other_image_shapes_and_classes(name):
    model = build(name, image_shape=(16, 20, 3), num_classes=7)
    assert model(tf.zeros([2, 16, 20, 3])).shape == (2, 7)


@pytest.mark.parametrize(("name", "decay"), [("FC10(1e-4)", 1e-4), ("FC10(1e-2)", 1e-2), ("FC10(1)", 1.0)])
def test_lambda_in_the_name_sets_the_weight_decay(name, decay):
    model = build(name)
    np.testing.assert_allclose(sum(model.losses), decay / 2 * (model.get_layer("logits").kernel.numpy() ** 2).sum(), rtol=1e-5)


def test_dropout_is_active_only_in_training(images):
    plain, dropping = build("FC100-100-10"), build("FC100-100-10(dropout)")
    np.testing.assert_array_equal(dropping(images), plain(images))
    assert np.any(dropping(images, training=True) != plain(images))


def test_dropout_does_not_change_the_lipschitz_bound():
    plain, dropping = build("FC100-100-10"), build("FC100-100-10(dropout)")
    assert lipschitz_bound(dropping).upper == lipschitz_bound(plain).upper
    images, labels = tf.random.stateless_uniform([2, 28, 28, 1], seed=[0, 0]), tf.constant([1, 2])
    certificates = [certified_distortion(model, images, labels).distortion for model in (dropping, plain)]
    np.testing.assert_array_equal(*certificates)
    cut = cut_at(dropping, "dropout1")
    assert (cut.values.lower, cut.values.upper) == (0.0, 1.0)


def test_dropout_rate_of_zero_adds_no_layer():
    model = fully_connected((5, 3), weight_decay=(0, 0), dropout=(0.0, 0.5))
    assert [layer.name for layer in model.layers] == ["pixels", "hidden1", "dropout1", "logits"]
    with pytest.raises(ValueError, match="dropout must have one rate for each of the 2 layers; received 1"):
        fully_connected((5, 3), weight_decay=(0, 0), dropout=(0.5,))


PHOTOGRAPHS = {  # the side of an image, the number of classes, and the number of weights
    "AlexNet": (227, 1000, 60_965_224),
    "AlexNet-OWT": (224, 1000, 61_100_840),
    "ResNet-20": (32, 10, 271_098),
    "ResNet-32": (32, 10, 466_426),
    "ResNet-44": (32, 10, 661_754),
    "ResNet-56": (32, 10, 857_082),
    "SqueezeNet": (227, 1000, 1_248_424),
    "SqueezeNet-torchvision": (224, 1000, 1_248_424),
}


# Separate from the others, because an AlexNet has 61 million weights.
@pytest.mark.parametrize("name", PHOTOGRAPH_CONSTRUCTORS)
def test_photograph_networks_have_their_published_image_size_and_classes(name):
    model = build(name)
    size, num_classes, num_parameters = PHOTOGRAPHS[name]
    assert model.input_shape == (None, size, size, 3) and model.output_shape == (None, num_classes)
    assert model.count_params() == num_parameters
    assert model.name == name.replace("-", "_")
    assert model.layers[-1].name == "logits"


@pytest.mark.parametrize(("name", "size"), [("AlexNet", 67), ("SqueezeNet", 21)])
def test_photograph_networks_at_the_smallest_size_save_reload_and_learn(name, size, tmp_path):
    model = build(name, image_shape=(size, size, 3), num_classes=5)
    photographs = tf.random.stateless_uniform([4, size, size, 3], seed=[0, 0])
    model.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_array_equal(reloaded(photographs), model(photographs))
    batches = tf.data.Dataset.from_tensors((photographs, tf.constant([1, 2, 3, 4]))).repeat()
    settings = MinibatchTraining(num_epochs=1, batch_size=4, learning_rate=1e-3)
    record = fit_minibatches(reloaded, batches, steps_per_epoch=1, settings=settings)
    assert np.isfinite(record.losses).all()
    assert any(np.any(weight != other) for weight, other in zip(model.get_weights(), reloaded.get_weights(), strict=True))
    (tmp_path / "model.keras").unlink()  # 87 MB


def test_photograph_networks_refuse_digits():
    with pytest.raises(ValueError, match=r"alexnet takes color images .* of at least 67x67 pixels; received .*\(28, 28, 1\)"):
        build("AlexNet", image_shape=(28, 28, 1))


def test_unknown_network_error_names_the_nearest_network():
    with pytest.raises(ValueError, match=r"unknown model 'FC100-10-100'. Did you mean 'FC100-100-10'\? Known: FC10\(1e-4\), "):
        build("FC100-10-100")
    with pytest.raises(ValueError, match="unknown model 'alexnet'. Did you mean 'AlexNet'"):
        build("alexnet")
