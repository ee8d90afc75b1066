"""TensorBoard summaries of an attack: c, distortion and evaluations of every batch."""

from __future__ import annotations

import importlib.util

import tensorflow as tf

from intriguing.attack import DistortionResults


def check_tensorboard() -> None:
    """Raises a `ModuleNotFoundError` with the command to install TensorBoard, if it is missing."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ModuleNotFoundError(
            'TensorBoard summaries were asked for, but tensorboard is not installed. Run pip install -e ".[tensorboard]", or '
            "leave --tensorboard_dir out."
        )


def write_summaries(log_dir: str, results: DistortionResults, batch_size: int) -> None:
    """Writes histograms and means over the images that were found, one step for each batch."""
    writer = tf.summary.create_file_writer(log_dir)
    with writer.as_default():
        for step, begin in enumerate(range(0, results.succeeded.shape[0], batch_size)):
            batch = tf.nest.map_structure(lambda value, begin=begin: value[begin : begin + batch_size], results)
            tf.summary.scalar("share_succeeded", tf.reduce_mean(tf.cast(batch.succeeded, tf.float32)), step)
            for name in ("c", "distortion", "num_evaluations"):
                values = tf.cast(getattr(batch, name), tf.float32)
                found = tf.boolean_mask(values, tf.math.is_finite(values))
                if tf.size(found) > 0:
                    tf.summary.histogram(name, found, step)
                    tf.summary.scalar(f"mean_{name}", tf.reduce_mean(found), step)
    writer.close()
