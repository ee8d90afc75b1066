"""TensorBoard summaries of adversarial training, round by round."""

from __future__ import annotations

import tensorflow as tf

from intriguing.training import Round


def write_round(writer: tf.summary.SummaryWriter, record: Round) -> None:
    """Writes the losses of a round and what its attack found, at the number of completed minibatches.

    A training that continues after an interruption writes the earlier rounds again, with the same values.
    """
    with writer.as_default(step=record.num_steps):
        tf.summary.scalar("clean_loss", record.clean_loss)
        for layer, loss in record.pool_losses.items():
            tf.summary.scalar(f"pool_loss/{layer}", loss)
        for layer, num_tried in record.num_tried.items():
            tf.summary.scalar(f"share_found/{layer}", record.num_found[layer] / num_tried)
            if record.least_distortions[layer] is not None:
                tf.summary.scalar(f"least_distortion/{layer}", record.least_distortions[layer])
    writer.flush()
