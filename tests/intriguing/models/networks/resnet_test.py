"""ResNet for CIFAR-10: its numbers, its shortcuts, its bounds, and real weights on real images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from intriguing.lipschitz import lipschitz_bound
from intriguing.models import activations_at, build, load_arrays
from intriguing.models.networks.resnet import resnet

DIGEST = "2fab6e27c554803bbef9eb0380415c6ace33de84cca4e83bf4cf6dfe5f58d8c7"
ACCURACY = 0.9165  # of another implementation on the first 2,000 test images
NUM_IMAGES = 2000
ACCURACY_TOLERANCE = 0.0015  # three images, for sums in another order
RECORD = 1 + 3 * 32 * 32  # bytes of a label and of its image, channel by channel
CLOSE = 1e-6


@pytest.mark.parametrize(("depth", "num_weights"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018)])
def test_has_the_trainable_weights_of_the_article(depth: int, num_weights: int) -> None:
    model = build(f"ResNet-{depth}")
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == num_weights
    assert model.input_shape == (None, 32, 32, 3) and model.output_shape == (None, 10)


@pytest.mark.parametrize("depth", [2, 21])
def test_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"depth must be 6 \* n \+ 2, such as 20, 32, 44 or 56; received {depth}"):
        resnet(depth)


def test_a_shortcut_between_stages_takes_every_second_place_and_adds_channels_of_zeros() -> None:
    model = resnet(8, image_shape=(8, 12, 3))
    images = np.random.default_rng(0).uniform(size=(2, 8, 12, 3)).astype(np.float32)
    before, shortcut = (activations_at(model, f"stage{name}")(images).numpy() for name in ("1_block1", "2_block1_shortcut"))
    assert shortcut.shape == (2, 4, 6, 32)
    np.testing.assert_array_equal(shortcut[..., 8:24], before[:, ::2, ::2])
    assert not shortcut[..., :8].any() and not shortcut[..., 24:].any()


def test_the_lipschitz_bound_holds() -> None:
    model = resnet(8, image_shape=(8, 8, 3))
    bound = lipschitz_bound(model)
    images, others = tf.unstack(tf.random.stateless_uniform([2, 8, 8, 8, 3], seed=[0, 0]))
    moved = np.linalg.norm(model(images) - model(others), axis=1)
    assert np.all(moved > 0)
    assert np.all(moved <= bound.upper * np.linalg.norm(np.reshape(images - others, [8, -1]), axis=1) * (1 + CLOSE))


def test_layers_have_different_initial_weights_that_follow_the_seed() -> None:
    kernels = [weight.numpy() for weight in resnet(20, seed=1).weights if weight.name == "kernel"]
    assert len({tuple(kernel.ravel()[:3]) for kernel in kernels}) == len(kernels) == 20
    for kernel, same in zip(kernels, (weight for weight in resnet(20, seed=1).weights if weight.name == "kernel"), strict=True):
        np.testing.assert_array_equal(kernel, same)


@pytest.mark.skipif("INTRIGUING_CIFAR10_DIR" not in os.environ, reason="INTRIGUING_CIFAR10_DIR names no weights and images")
def test_published_weights_have_their_accuracy_on_test_images() -> None:
    folder = Path(os.environ["INTRIGUING_CIFAR10_DIR"])
    records = np.fromfile(folder / "cifar-10-batches-bin" / "test_batch.bin", np.uint8).reshape(-1, RECORD)[:NUM_IMAGES]
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).astype(np.float32) / 255
    model = build("ResNet-20")
    load_arrays(model, folder / "resnet20_cifar10.npz", sha256=DIGEST)
    predictions = model.predict(images, batch_size=100, verbose=0).argmax(axis=1)
    assert np.mean(predictions == records[:, 0]) == pytest.approx(ACCURACY, abs=ACCURACY_TOLERANCE)
