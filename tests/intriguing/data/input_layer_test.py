"""The input layer returns exact pixels and fixed shapes, and its random numbers depend only on the seed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from intriguing.data import DatasetCard, batches, load_examples, random_targets, sample_examples


def _grays(images: tf.Tensor) -> list[int]:
    return np.rint(images.numpy()[:, 0, 0, 0] * 255).astype(int).tolist()


def _first_grays(dataset: tf.data.Dataset, num_batches: int) -> list[list[int]]:
    return [_grays(images) for images, _ in itertools.islice(dataset, num_batches)]


def test_loads_the_examples_and_ids_of_tfds(tiny: DatasetCard) -> None:
    read_config = tfds.ReadConfig(add_tfds_id=True)
    expected = list(tiny.builder().as_dataset(split="train[2:9]+validation", read_config=read_config).as_numpy_iterator())
    examples = load_examples(tiny, "train[2:9]+validation")
    assert examples.ids.numpy().tolist() == [example["tfds_id"] for example in expected]
    np.testing.assert_array_equal(examples.labels, [example["label"] for example in expected])
    np.testing.assert_array_equal(examples.images, np.stack([example["image"] for example in expected]) / np.float32(255))
    assert (examples.images.dtype, examples.labels.dtype, examples.ids.dtype) == (tf.float32, tf.int32, tf.string)


def test_slice_has_the_same_rows_as_the_whole(mnist_5k: DatasetCard) -> None:
    whole, part = load_examples(mnist_5k, "train"), load_examples(mnist_5k, "train[1000:1500]")
    np.testing.assert_array_equal(part.images, whole.images[1000:1500])
    np.testing.assert_array_equal(part.ids, whole.ids[1000:1500])


def test_pixels_are_exactly_bytes_divided_by_255(mnist_5k: DatasetCard) -> None:
    images = load_examples(mnist_5k, "test").images.numpy()
    levels = (np.arange(256) / np.float32(255)).astype(np.float32)
    assert np.isin(images, levels).all()
    assert (images.min(), images.max()) == (0.0, 1.0)


def test_samples_without_replacement(tiny: DatasetCard) -> None:
    sample = sample_examples(tiny, "train", num_images=13, seed=0)
    assert len(set(sample.ids.numpy().tolist())) == 13
    assert _grays(sample.images) != sorted(_grays(sample.images))


def test_a_sample_keeps_image_label_and_id_together(tiny: DatasetCard) -> None:
    whole, sample = load_examples(tiny, "train"), sample_examples(tiny, "train", num_images=6, seed=1)
    rows = [whole.ids.numpy().tolist().index(example_id) for example_id in sample.ids.numpy()]
    np.testing.assert_array_equal(sample.images, tf.gather(whole.images, rows))
    np.testing.assert_array_equal(sample.labels, tf.gather(whole.labels, rows))


def test_sample_depends_on_the_seed(mnist_5k: DatasetCard) -> None:
    first, again, other = (
        sample_examples(mnist_5k, "test", num_images=20, seed=seed).ids.numpy().tolist() for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("num_images", [0, 14])
def test_a_sample_larger_than_the_subset_is_refused_with_both_numbers(tiny: DatasetCard, num_images: int) -> None:
    with pytest.raises(ValueError, match=f"num_images must be from 1 to 13.*received {num_images}"):
        sample_examples(tiny, "train", num_images=num_images, seed=0)


def test_random_targets_are_every_wrong_class_equally_often_and_never_the_label() -> None:
    labels = tf.fill([9000], 3)
    counts = np.bincount(random_targets(labels, 10, seed=0), minlength=10)
    assert counts[3] == 0
    assert abs(np.delete(counts, 3) - 1000).max() < 150  # five standard deviations of a count of 1000 among 9000


def test_random_targets_depend_only_on_the_seed() -> None:
    labels = tf.range(100) % 10
    targets = random_targets(labels, 10, seed=1)
    assert targets.dtype == tf.int32
    assert tf.reduce_all(targets == random_targets(labels, 10, seed=1))
    assert tf.reduce_any(targets != random_targets(labels, 10, seed=2))
    assert not tf.reduce_any(targets == labels)


def test_random_targets_require_two_classes() -> None:
    with pytest.raises(ValueError, match="num_classes must be at least 2.*received 1"):
        random_targets(tf.zeros([2], tf.int32), 1, seed=0)


def test_ordered_batches_pad_the_last_batch_with_zeros(tiny: DatasetCard) -> None:
    dataset = batches(tiny, "train", batch_size=5)
    assert dataset.element_spec == (tf.TensorSpec([5, 2, 2, 1], tf.float32), tf.TensorSpec([5], tf.int32))
    served = list(dataset)
    assert [_grays(images) for images, _ in served[:1]] == [_grays(load_examples(tiny, "train[:5]").images)]
    assert len(served) == 3
    images, labels = served[-1]
    assert labels.numpy()[3:].tolist() == [-1, -1]
    assert not tf.reduce_any(images[3:] != 0.0)
    assert (labels.numpy()[:3] >= 0).all()


def test_ordered_batches_have_no_padding_if_the_size_divides(tiny: DatasetCard) -> None:
    labels = np.concatenate([labels for _, labels in batches(tiny, "train", batch_size=13)])
    np.testing.assert_array_equal(labels, load_examples(tiny, "train").labels)


def test_shuffled_batches_have_fixed_shapes_and_never_end(tiny: DatasetCard) -> None:
    dataset = batches(tiny, "train", batch_size=4, shuffle_seed=0)
    assert dataset.element_spec == (tf.TensorSpec([4, 2, 2, 1], tf.float32), tf.TensorSpec([4], tf.int32))
    served = _first_grays(dataset, 30)
    assert len(served) == 30


def test_every_epoch_is_a_new_permutation(tiny: DatasetCard) -> None:
    served = _first_grays(batches(tiny, "train", batch_size=4, shuffle_seed=0), 9)
    epochs = [list(itertools.chain(*served[start : start + 3])) for start in (0, 3, 6)]
    assert all(len(set(epoch)) == 12 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_order_depends_only_on_the_seed(tiny: DatasetCard) -> None:
    dataset = batches(tiny, "train", batch_size=4, shuffle_seed=5)
    assert _first_grays(dataset, 7) == _first_grays(dataset, 7)
    assert _first_grays(dataset, 7) == _first_grays(batches(tiny, "train", batch_size=4, shuffle_seed=5), 7)
    assert _first_grays(dataset, 7) != _first_grays(batches(tiny, "train", batch_size=4, shuffle_seed=6), 7)


def test_shuffled_images_keep_their_labels(tiny: DatasetCard) -> None:
    for images, labels in itertools.islice(batches(tiny, "train", batch_size=4, shuffle_seed=0), 6):
        assert [gray % 3 for gray in _grays(images)] == labels.numpy().tolist()


@pytest.mark.parametrize("batch_size", [0, -3, 14])
def test_empty_batch_or_batch_larger_than_the_subset_is_refused(tiny: DatasetCard, batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size must be from 1 to 13.*received {batch_size}"):
        batches(tiny, "train", batch_size=batch_size)


def test_loads_all_of_the_real_mnist(mnist: DatasetCard) -> None:
    examples = load_examples(mnist, "train")
    assert examples.images.shape == (60000, 28, 28, 1)
    assert np.bincount(examples.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert len(set(examples.ids.numpy().tolist())) == 60000
