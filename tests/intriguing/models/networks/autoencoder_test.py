"""Tests of the sparse autoencoder and its loss."""

import numpy as np
import pytest
import tensorflow as tf

from intriguing.models.networks.autoencoder import (
    classifier_on_autoencoder,
    copy_encoder,
    sparse_autoencoder,
    sparse_reconstruction_loss,
)

SHAPE = (4, 4, 1)


@pytest.fixture
def images():
    return tf.random.stateless_uniform([6, *SHAPE], seed=[0, 0])


def test_returns_a_reconstruction_of_flat_pixels_and_the_activations(images):
    reconstruction, activations = sparse_autoencoder(7, image_shape=SHAPE)(images)
    assert reconstruction.shape == (6, 16) and activations.shape == (6, 7)
    for values in (reconstruction, activations):
        assert np.all((values > 0) & (values < 1))


def test_only_the_encoder_is_copied(images):
    autoencoder, classifier = sparse_autoencoder(7, image_shape=SHAPE, seed=5), classifier_on_autoencoder(7, image_shape=SHAPE)
    before = classifier.get_layer("logits").get_weights()
    copy_encoder(autoencoder, classifier)
    for copied, original in zip(
        classifier.get_layer("encoder").get_weights(), autoencoder.get_layer("encoder").get_weights(), strict=True
    ):
        np.testing.assert_array_equal(copied, original)
    for after, same in zip(classifier.get_layer("logits").get_weights(), before, strict=True):
        np.testing.assert_array_equal(after, same)


def test_both_kernels_have_weight_decay_of_half_lambda():
    autoencoder = sparse_autoencoder(7, image_shape=SHAPE, weight_decay=0.1)
    kernels = [autoencoder.get_layer(name).kernel.numpy() for name in ("encoder", "decoder")]
    np.testing.assert_allclose(sum(autoencoder.losses), sum(0.05 * (kernel**2).sum() for kernel in kernels), rtol=1e-5)


def test_only_the_softmax_layer_is_trainable():
    classifier = classifier_on_autoencoder(7, image_shape=SHAPE, num_classes=3)
    assert [tuple(variable.shape) for variable in classifier.trainable_variables] == [(7, 3), (3,)]


def test_loss_is_half_the_squared_error_plus_the_divergence(images):
    rng = np.random.default_rng(0)
    reconstruction, activations = rng.uniform(0.1, 0.9, (6, 16)), rng.uniform(0.1, 0.9, (6, 7))
    pixels, mean = images.numpy().reshape(6, 16).astype(np.float64), activations.mean(axis=0)
    error = 0.5 * ((reconstruction - pixels) ** 2).sum(axis=1).mean()
    divergence = (0.05 * np.log(0.05 / mean) + 0.95 * np.log(0.95 / (1 - mean))).sum()
    outputs = (tf.constant(reconstruction, tf.float32), tf.constant(activations, tf.float32))
    loss = sparse_reconstruction_loss(sparsity=0.05, weight=3.0)(outputs, images, tf.zeros(6, tf.int32))
    np.testing.assert_allclose(loss, error + 3.0 * divergence, rtol=1e-5)  # float32 against float64


@pytest.mark.parametrize("dead_or_saturated", [0.0, 1.0])
def test_loss_is_finite_for_constant_units(images, dead_or_saturated):
    outputs = (tf.fill([6, 16], 0.5), tf.fill([6, 7], dead_or_saturated))
    assert np.isfinite(sparse_reconstruction_loss(sparsity=0.05, weight=3.0)(outputs, images, tf.zeros(6, tf.int32)))
