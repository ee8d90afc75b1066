"""Tests of both training stages of an AE network, on small images of strokes."""

import numpy as np
import pytest
import tensorflow as tf

from intriguing.models.activations import activations_at
from intriguing.models.networks.autoencoder import classifier_on_autoencoder
from intriguing.training.sparse_autoencoder import AutoencoderTraining, fit_on_autoencoder
from intriguing.training.supervised import FullBatchTraining, MinibatchTraining

SHAPE = (4, 4, 1)
ATOL_SPARSITY = 0.05  # the divergence and the reconstruction have opposite gradients


@pytest.fixture(scope="module")
def strokes():
    """Noise images with one bright row or column, whose index is the label."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, 200).astype(np.int32)
    images = rng.uniform(0, 0.2, (200, 4, 4, 1)).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        (image if label < 4 else image.transpose(1, 0, 2))[label % 4] += 0.7
    return tf.constant(images), tf.constant(labels)


@pytest.fixture(scope="module")
def trained(strokes):
    settings = AutoencoderTraining(
        features=MinibatchTraining(num_epochs=40, batch_size=50, learning_rate=0.05),
        sparsity=0.2, sparsity_weight=1.0, weight_decay=1e-4, softmax=FullBatchTraining(max_iterations=500),
    )  # fmt: skip
    classifier = classifier_on_autoencoder(8, num_classes=8, image_shape=SHAPE, weight_decay=1e-3)
    before = [layer.get_weights() for layer in classifier.layers[-2:]]
    batches = tf.data.Dataset.from_tensor_slices(strokes).batch(50, drop_remainder=True).repeat()
    calls = []
    record = fit_on_autoencoder(
        classifier, batches, *strokes, steps_per_epoch=4, settings=settings, report=lambda *report: calls.append(report)
    )
    return classifier, before, record, calls


def test_mean_activity_of_units_equals_the_sparsity(trained, strokes):
    activity = np.mean(activations_at(trained[0], "encoder")(strokes[0]), axis=0)
    np.testing.assert_allclose(activity, 0.2, atol=ATOL_SPARSITY)


def test_trained_encoder_is_copied_and_frozen(trained):
    classifier, (encoder_before, _), _, _ = trained
    encoder = classifier.get_layer("encoder")
    assert np.any(encoder.get_weights()[0] != encoder_before[0])
    assert not encoder.trainable and len(classifier.trainable_variables) == 2


def test_softmax_layer_is_trained_until_convergence(trained, strokes):
    classifier, (_, logits_before), record, _ = trained
    assert record.converged is True
    assert np.any(classifier.get_layer("logits").get_weights()[0] != logits_before[0])
    assert np.mean(np.argmax(classifier(strokes[0]), axis=1) == strokes[1]) > 0.95


def test_record_and_reports_cover_both_stages(trained):
    _, _, record, calls = trained
    assert len(record.losses) == 40 and record.losses[-1] < record.losses[0]
    assert [done for done, total, _ in calls if total == 40] == list(range(1, 41))
    assert any(total == 500 for _, total, _ in calls)


@pytest.mark.parametrize("options", [{"sparsity": 0.0}, {"sparsity": 1.0}, {"sparsity_weight": -1.0}, {"weight_decay": -1.0}])
def test_invalid_settings_are_refused(options):
    with pytest.raises(ValueError, match=r"sparsity must lie in \(0, 1\), the weights must not be negative; received"):
        AutoencoderTraining(**options)
