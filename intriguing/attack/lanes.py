"""Many rows through few lanes: a finished row makes room for the next, so that a batch does not wait for its slowest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from intriguing.attack.rows import replace_rows

Rows = Any
"""A structure of tensors `[rows, ...]`."""


def run_in_lanes(
    rows: Rows,
    *,
    begin: Callable[[Rows], Rows],
    step: Callable[[Rows, Rows], tuple[Rows, tf.Tensor]],
    result: Callable[[Rows], Rows],
    num_lanes: int,
) -> Rows:
    """Works on `num_lanes` rows at a time, each until it is finished, and returns the results in the order of the rows.

    Shapes are static throughout: a lane without a row goes on with its last one, whose result is not written again.

    Args:
        rows: What is constant for a row, `[rows, ...]`.
        begin: From rows `[lanes, ...]` to their first state.
        step: From rows and states `[lanes, ...]` to the next states and a bool `[lanes]`, true where a row is finished.
        result: From states to what is kept of them.
        num_lanes: Rows in work at once, at most the number of rows.

    Returns:
        The structure of `result`, `[rows, ...]`.
    """
    num_rows = tf.nest.flatten(rows)[0].shape[0]

    def taken(ids: tf.Tensor) -> Rows:
        return tf.nest.map_structure(lambda tensor: tf.gather(tensor, tf.minimum(ids, num_rows - 1)), rows)

    def exchange(ids: tf.Tensor, following: tf.Tensor, finished: tf.Tensor, current: Rows, state: Rows, results: Rows) -> Any:
        # One row more than there are rows: what is not finished, or was written before, is written there.
        target = tf.where(finished, ids, num_rows)[:, tf.newaxis]
        results = tf.nest.map_structure(lambda old, new: tf.tensor_scatter_nd_update(old, target, new), results, result(state))
        order = tf.cumsum(tf.cast(finished, tf.int32))
        new_ids = tf.where(finished, tf.minimum(following + order - 1, num_rows), ids)
        fresh = taken(new_ids)
        state = replace_rows(finished & (new_ids < num_rows), begin(fresh), state)
        return new_ids, following + order[-1], fresh, state, results

    def work_left(ids: tf.Tensor, *_: Any) -> tf.Tensor:
        return tf.reduce_any(ids < num_rows)

    def one_step(ids: tf.Tensor, following: tf.Tensor, current: Rows, state: Rows, results: Rows) -> Any:
        state, finished = step(current, state)
        finished = finished & (ids < num_rows)
        return tf.cond(
            tf.reduce_any(finished),
            lambda: exchange(ids, following, finished, current, state, results),
            lambda: (ids, following, current, state, results),
        )

    ids = tf.range(num_lanes)
    current = taken(ids)
    state = begin(current)
    empty = tf.nest.map_structure(lambda tensor: tf.zeros([num_rows + 1, *tensor.shape[1:]], tensor.dtype), result(state))
    *_, results = tf.while_loop(work_left, one_step, (ids, tf.constant(num_lanes), current, state, empty))
    return tf.nest.map_structure(lambda tensor: tensor[:num_rows], results)
