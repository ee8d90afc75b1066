"""Loads subsets of a data set as tensors: whole subsets, random samples, or batches of fixed shape."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from intriguing.data.catalog import DatasetCard
from intriguing.data.image_folder import ListedImage, check_readable, content_of
from intriguing.data.subsets import num_examples
from intriguing.pixels import PixelBox

PADDING_LABEL = -1  # the label of the padding rows in the last batch
_BYTES = PixelBox(0.0, 255.0)
_READ_BATCH = 2048  # examples converted at a time; large enough to make the cost of the conversion negligible


class Examples(NamedTuple):
    """Images with their labels and their ids, one row per example."""

    images: tf.Tensor  # [examples, height, width, channels] float32, in the pixel box of the card
    labels: tf.Tensor  # [examples] int32
    ids: tf.Tensor  # [examples] string, TFDS example ids, or paths within a folder; disjoint subsets have disjoint ids


def load_examples(card: DatasetCard, subset: str) -> Examples:
    """Loads a whole subset into memory, in the order of TFDS.

    Args:
        card: The data set.
        subset: A TFDS split expression, such as 'train[:1000]'.

    Returns:
        The `Examples`; the 60,000 digits of MNIST take 190 MB.

    Raises:
        ValueError: If the subset does not exist in the data set.

    Example:
        >>> examples = load_examples(card, "train[:100]")
        >>> examples.images.shape
        TensorShape([100, 28, 28, 1])
    """
    images, labels = _read(card, subset)
    return Examples(_pixels(card, images), labels, tf.constant(_ids(card, subset)))


def load_labels(card: DatasetCard, subset: str) -> np.ndarray:
    """Returns the labels of a whole subset, int32 `[examples]`, in the order of TFDS.

    Example:
        >>> load_labels(card, "train[:100]").shape
        (100,)
    """
    if card.folder is not None:
        return np.array([file.label for file in _listed(card, subset)], np.int32)
    _, labels = _read(card, subset)
    return np.array(labels)


def load_ids(card: DatasetCard, subset: str) -> np.ndarray:
    """Returns the ids of the examples of a subset, bytes `[examples]`, in the order of `load_examples`. No image is decoded.

    Example:
        >>> len(set(load_ids(card, "train[:100]")))
        100
    """
    return _ids(card, subset)


def sample_examples(card: DatasetCard, subset: str, *, num_images: int, seed: int) -> Examples:
    """Draws images from a subset at random, without replacement; the same seed draws the same images on every machine.

    Args:
        card: The data set.
        subset: A TFDS split expression.
        num_images: Number of images.
        seed: Seed of the draw.

    Returns:
        The `Examples`, in random order.

    Raises:
        ValueError: If the subset contains fewer examples, or `num_images` is not positive.

    Example:
        >>> sample_examples(card, "train", num_images=10, seed=0).images.shape
        TensorShape([10, 28, 28, 1])
    """
    size = num_examples(card, subset)
    if not 1 <= num_images <= size:
        raise ValueError(
            f"num_images must be from 1 to {size}, the number of examples of {subset!r}; received {num_images}. Pass fewer."
        )
    rows = np.random.default_rng(seed).permutation(size)[:num_images]
    if card.folder is not None:
        listed = _listed(card, subset)
        files = [listed[row] for row in rows]
        images, labels = _read_files(card, files)
        return Examples(_pixels(card, images), labels, tf.constant([file.id.encode() for file in files]))
    images, labels = _read(card, subset)
    return Examples(_pixels(card, tf.gather(images, rows)), tf.gather(labels, rows), tf.constant(_ids(card, subset)[rows]))


def random_targets(labels: tf.Tensor, num_classes: int, *, seed: int) -> tf.Tensor:
    """Draws a wrong class for each image; all wrong classes are equally likely.

    Args:
        labels: Int32 `[batch]`, the true classes.
        num_classes: The number of classes, at least two.
        seed: Seed of the draw; the same seed results in the same targets on every machine.

    Returns:
        Int32 `[batch]`; no target equals its label.

    Raises:
        ValueError: If there is no wrong class.

    Example:
        >>> targets = random_targets(tf.constant(labels, tf.int32), 10, seed=0)
        >>> bool(tf.reduce_any(targets == labels))
        False
    """
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, so that there is a wrong class; received {num_classes}.")
    labels = tf.cast(labels, tf.int32)
    # Philox explicitly, because the default generator may differ between accelerators.
    steps = tf.random.stateless_uniform(tf.shape(labels), [seed, 0], 1, num_classes, dtype=tf.int32, alg="philox")
    return (labels + steps) % num_classes


def batches(card: DatasetCard, subset: str, *, batch_size: int, shuffle_seed: int | None = None) -> tf.data.Dataset:
    """Returns a subset as a data set of batches of one fixed shape, from memory.

    With `shuffle_seed`, the data set is infinite. Every epoch has a new order, which is determined by the seed and the number
    of the epoch, and every iterator starts with the first epoch. An incomplete last batch of an epoch is dropped. Without
    `shuffle_seed`, the data set is one ordered pass; black images with the label `PADDING_LABEL` pad the last batch.

    Args:
        card: The data set.
        subset: A TFDS split expression.
        batch_size: Number of images per batch, over all replicas together.
        shuffle_seed: Seed of the orders; None for one ordered pass.

    Returns:
        A dataset of `(images, labels)`: float32 `[batch_size, height, width, channels]` in the pixel box of the card, and int32
        `[batch_size]`.

    Raises:
        ValueError: If `batch_size` is not positive or exceeds the subset.

    Example:
        >>> shapes = {tuple(batch[0].shape) for batch in batches(card, "train[:100]", batch_size=50).take(2)}
        >>> shapes
        {(50, 28, 28, 1)}
    """
    size = num_examples(card, subset)
    if not 1 <= batch_size <= size:
        raise ValueError(f"batch_size must be from 1 to {size}, the number of examples of {subset!r}; received {batch_size}.")
    images, labels = _read(card, subset)
    if shuffle_seed is None:
        rows = tf.data.Dataset.range(size + -size % batch_size).batch(batch_size, drop_remainder=True)
        images, labels = _padded(images, labels, -size % batch_size)
    else:
        rows = _shuffled_rows(size, batch_size, shuffle_seed)

    # uint8 images take a quarter of the memory of floats; one gather is cheaper than a hundred elements of tf.data.
    def serve(numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _pixels(card, tf.gather(images, numbers)), tf.gather(labels, numbers)

    return rows.map(serve).prefetch(2).with_options(_sharded_by_data())


def _shuffled_rows(size: int, batch_size: int, seed: int) -> tf.data.Dataset:
    """Returns an infinite data set of row numbers `[batch_size]`; with Dataset.shuffle, a second iterator has other orders."""
    num_batches = size // batch_size

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(tf.range(size, dtype=tf.int64), [seed, number], alg="philox")
        return tf.data.Dataset.from_tensor_slices(tf.reshape(order[: num_batches * batch_size], [num_batches, batch_size]))

    return tf.data.Dataset.range(np.iinfo(np.int64).max).flat_map(epoch)


def _padded(images: tf.Tensor, labels: tf.Tensor, num_rows: int) -> tuple[tf.Tensor, tf.Tensor]:
    black = tf.zeros([num_rows, *images.shape[1:]], images.dtype)
    return tf.concat([images, black], axis=0), tf.concat([labels, tf.fill([num_rows], PADDING_LABEL)], axis=0)


def _sharded_by_data() -> tf.data.Options:
    options = tf.data.Options()
    # There are no files to shard among workers; without this policy, tf.data searches for files and warns.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options


def _read(card: DatasetCard, subset: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads uint8 images and int32 labels, shard after shard, so that the rows of a slice are consecutive rows of the split."""
    num_examples(card, subset)  # its error messages are clearer than those of TFDS
    return _kept(card, subset, "" if card.folder is None else content_of(Path(card.folder)))


@functools.lru_cache(maxsize=2)  # the training and the test set, which studies read many times
def _kept(card: DatasetCard, subset: str, content: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads a subset, or returns it from the cache; `content` changes if a file of a folder changes."""
    if content:
        return _read_files(card, _listed(card, subset))
    examples = card.builder().as_dataset(split=subset, read_config=tfds.ReadConfig(interleave_cycle_length=1))
    return _read_all(card, examples)


def _read_all(card: DatasetCard, examples: tf.data.Dataset) -> tuple[tf.Tensor, tf.Tensor]:
    resize = (lambda image: image) if card.resizing is None else card.resizing.resize
    resized = examples.map(lambda example: (resize(example["image"]), example["label"]), num_parallel_calls=tf.data.AUTOTUNE)
    images, labels = zip(*resized.batch(_READ_BATCH), strict=True)
    return tf.concat(images, axis=0), tf.cast(tf.concat(labels, axis=0), tf.int32)


def _read_files(card: DatasetCard, files: Sequence[ListedImage]) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads only the given files of a folder, so that the cost of a sample does not depend on the size of the folder."""
    try:
        return _read_all(card, card.builder().serve(files))
    except tf.errors.InvalidArgumentError:
        check_readable(files)
        raise


def _listed(card: DatasetCard, subset: str) -> list[ListedImage]:
    num_examples(card, subset)  # as in `_read`
    listed: list[ListedImage] = card.builder().listed(subset)
    return listed


def _ids(card: DatasetCard, subset: str) -> np.ndarray:
    """Returns the TFDS example ids, which consist of shard and row; ReadConfig(add_tfds_id) returns the same, but is slower."""
    if card.folder is not None:
        return np.array([file.id.encode() for file in _listed(card, subset)], dtype=object)
    files = card.builder().info.splits[subset].file_instructions
    rows = [(os.path.basename(file.filename), row) for file in files for row in range(file.skip, file.skip + file.take)]
    return np.array([f"{name}__{row}".encode() for name, row in rows], dtype=object)


def _pixels(card: DatasetCard, images: tf.Tensor) -> tf.Tensor:
    return card.pixel_box.rescale(images, source=_BYTES)
