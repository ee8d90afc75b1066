"""Subsets of a data set as tensors: whole, sampled, or in batches of fixed shape."""

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

PADDING_LABEL = -1  # the label of the rows that fill the last batch up
_BYTES = PixelBox(0.0, 255.0)
_READ_BATCH = 2048  # examples converted at a time; large enough to make the conversion free


class Examples(NamedTuple):
    """Images with their labels and their identities, one row per example."""

    images: tf.Tensor  # [examples, height, width, channels] float32, in the pixel box of the card
    labels: tf.Tensor  # [examples] int32
    ids: tf.Tensor  # [examples] string, TFDS example ids, or paths within a folder: two subsets are disjoint if these are


def load_examples(card: DatasetCard, subset: str) -> Examples:
    """Loads a whole subset into memory, in the order in which TFDS keeps it.

    Args:
        card: The data set.
        subset: A TFDS split expression, such as 'train[:1000]'.

    Returns:
        The `Examples`; sixty thousand digits of MNIST take 190 MB.

    Raises:
        ValueError: If the subset is not one of the data set.

    Example:
        >>> examples = load_examples(card, "train[:100]")
        >>> examples.images.shape
        TensorShape([100, 28, 28, 1])
    """
    images, labels = _read(card, subset)
    return Examples(_pixels(card, images), labels, tf.constant(_ids(card, subset)))


def load_labels(card: DatasetCard, subset: str) -> np.ndarray:
    """Returns the labels of a whole subset, int32 `[examples]`, in the order in which TFDS keeps it.

    Example:
        >>> load_labels(card, "train[:100]").shape
        (100,)
    """
    if card.folder is not None:
        return np.array([file.label for file in _listed(card, subset)], np.int32)
    _, labels = _read(card, subset)
    return np.array(labels)


def load_ids(card: DatasetCard, subset: str) -> np.ndarray:
    """Returns the ids of the examples of a subset, bytes `[examples]`, in the same order; no image is decoded.

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
        num_images: How many to draw.
        seed: Of the draw.

    Returns:
        The `Examples`, in random order.

    Raises:
        ValueError: If the subset holds fewer examples, or `num_images` is not positive.

    Example:
        >>> sample_examples(card, "train", num_images=10, seed=0).images.shape
        TensorShape([10, 28, 28, 1])
    """
    size = num_examples(card, subset)
    if not 1 <= num_images <= size:
        raise ValueError(
            f"num_images must be from 1 to {size}, the number of examples of {subset!r}; received {num_images}. Ask for fewer."
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
    """Draws a wrong class for each image, all wrong classes being equally likely.

    Args:
        labels: Int32 `[batch]`, the true classes.
        num_classes: How many classes there are, at least two.
        seed: Of the draw; the same seed gives the same targets on every machine.

    Returns:
        Int32 `[batch]`, nowhere equal to `labels`.

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
    # Philox by name: the default generator may differ between accelerators.
    steps = tf.random.stateless_uniform(tf.shape(labels), [seed, 0], 1, num_classes, dtype=tf.int32, alg="philox")
    return (labels + steps) % num_classes


def batches(card: DatasetCard, subset: str, *, batch_size: int, shuffle_seed: int | None = None) -> tf.data.Dataset:
    """Serves a subset from memory in batches of one fixed shape.

    With `shuffle_seed` it never ends: every epoch is a new order, determined by the seed and the number of the epoch, and every
    iterator starts from the first epoch; the images that do not fill a batch are left out of that epoch. Without, it is one
    pass in order; black images with the label `PADDING_LABEL` fill the last batch up.

    Args:
        card: The data set.
        subset: A TFDS split expression.
        batch_size: Images per batch, over all replicas together.
        shuffle_seed: Of the orders; None for one ordered pass.

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

    # Bytes stay in memory, a quarter of the floats; one gather is cheaper than a hundred elements passing through tf.data.
    def serve(numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _pixels(card, tf.gather(images, numbers)), tf.gather(labels, numbers)

    return rows.map(serve).prefetch(2).with_options(_sharded_by_data())


def _shuffled_rows(size: int, batch_size: int, seed: int) -> tf.data.Dataset:
    """Serves row numbers `[batch_size]` forever; Dataset.shuffle would give a second iterator other orders."""
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
    # There are no files to share among workers; without this tf.data looks for them and warns.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options


def _read(card: DatasetCard, subset: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads a subset: uint8 images and int32 labels, shard after shard, so that row i of a split is row i of its slices."""
    num_examples(card, subset)  # speaks more clearly than TFDS where the expression is wrong
    return _kept(card, subset, "" if card.folder is None else content_of(Path(card.folder)))


@functools.lru_cache(maxsize=2)  # the training and the test set, as bytes: what a study reads again and again
def _kept(card: DatasetCard, subset: str, content: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads a subset, unless it was read before; `content` is another one as soon as a file of a folder is."""
    if content:
        return _read_files(card, _listed(card, subset))
    examples = card.builder().as_dataset(split=subset, read_config=tfds.ReadConfig(interleave_cycle_length=1))
    return _read_all(card, examples)


def _read_all(card: DatasetCard, examples: tf.data.Dataset) -> tuple[tf.Tensor, tf.Tensor]:
    fit = (lambda image: image) if card.resizing is None else card.resizing.resize
    resized = examples.map(lambda example: (fit(example["image"]), example["label"]), num_parallel_calls=tf.data.AUTOTUNE)
    images, labels = zip(*resized.batch(_READ_BATCH), strict=True)
    return tf.concat(images, axis=0), tf.cast(tf.concat(labels, axis=0), tf.int32)


def _read_files(card: DatasetCard, files: Sequence[ListedImage]) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads files of a folder, and no others: a sample of a million photographs costs no more than one of a hundred."""
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
    """Returns the TFDS example ids, the shard and the row in it; ReadConfig(add_tfds_id) gives the same, more slowly."""
    if card.folder is not None:
        return np.array([file.id.encode() for file in _listed(card, subset)], dtype=object)
    files = card.builder().info.splits[subset].file_instructions
    rows = [(os.path.basename(file.filename), row) for file in files for row in range(file.skip, file.skip + file.take)]
    return np.array([f"{name}__{row}".encode() for name, row in rows], dtype=object)


def _pixels(card: DatasetCard, images: tf.Tensor) -> tf.Tensor:
    return card.pixel_box.rescale(images, source=_BYTES)
