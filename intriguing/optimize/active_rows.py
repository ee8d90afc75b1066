"""Iterations on many rows in few batch slots: the next row is assigned to the slot of a finished row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from intriguing.distribution.compilation import compile_program
from intriguing.optimize.rows import replace_rows

Rows = Any
"""A structure of tensors `[rows, ...]`."""


def run_in_slots(
    rows: Rows,
    *,
    shared: Any,
    begin: Callable[[Rows], Rows],
    step: Callable[[Any, Rows, Rows], tuple[Rows, tf.Tensor]],
    result: Callable[[Rows], Rows],
    num_slots: int,
    num_rows: tf.Tensor | None = None,
    jit_compile: bool = False,
) -> Rows:
    """Iterates on `num_slots` rows at a time, each until it is finished, and returns the results in the order of the rows.

    Shapes are static: if there is no next row, a slot continues with its last row, whose result is not written again.

    Args:
        rows: Tensors `[rows, ...]` that are constant for a row.
        shared: Tensors that are constant for all rows, such as the weights of a network.
        begin: A function from rows `[slots, ...]` to their first states.
        step: A function from `shared`, rows and states `[slots, ...]` to the next states and a bool `[slots]`, true where a
            row is finished.
        result: A function from states to the results of their rows.
        num_slots: Rows that are active at once, at most as many as there are rows.
        num_rows: Int32 scalar, the number of leading rows that are processed; the results of the others are zeros. All rows
            if omitted.
        jit_compile: Whether the loop is compiled with XLA.

    Returns:
        The structure of `result`, `[rows, ...]`.
    """
    batch = tf.nest.flatten(rows)[0].shape[0]
    num_slots = min(num_slots, batch)
    num_rows = tf.constant(batch) if num_rows is None else num_rows
    pack_rows, unpack_rows = _packing(rows)
    packed_rows = pack_rows(rows)

    def gathered(packed_rows: list[tf.Tensor], ids: tf.Tensor) -> list[tf.Tensor]:
        return [tf.gather(tensor, tf.minimum(ids, batch - 1)) for tensor in packed_rows]

    ids = tf.minimum(tf.range(num_slots), num_rows)
    current = gathered(packed_rows, ids)
    state = begin(unpack_rows(current))
    pack_state, unpack_state = _packing(state)
    pack_result, unpack_result = _packing(result(state))
    empty = [tf.zeros([batch + 1, *tensor.shape[1:]], tensor.dtype) for tensor in pack_result(result(state))]

    def loop(shared: Any, packed_rows: list[tf.Tensor], num_rows: tf.Tensor, first: Any) -> list[tf.Tensor]:
        def exchange(finished: tf.Tensor, ids: tf.Tensor, following: tf.Tensor, state: Any, results: Any) -> Any:
            # The results have an additional last row, to which slots that are not finished are written.
            target = tf.where(finished, ids, batch)[:, tf.newaxis]
            ended = pack_result(result(unpack_state(state)))
            results = [tf.tensor_scatter_nd_update(old, target, new) for old, new in zip(results, ended, strict=True)]
            order = tf.cumsum(tf.cast(finished, tf.int32))
            new_ids = tf.where(finished, tf.minimum(following + order - 1, num_rows), ids)
            fresh = gathered(packed_rows, new_ids)
            state = replace_rows(finished & (new_ids < num_rows), pack_state(begin(unpack_rows(fresh))), state)
            return new_ids, following + order[-1], fresh, state, results

        def work_left(ids: tf.Tensor, *_: Any) -> tf.Tensor:
            return tf.reduce_any(ids < num_rows)

        def one_step(ids: tf.Tensor, following: tf.Tensor, current: Any, state: Any, results: Any) -> Any:
            state, finished = step(shared, unpack_rows(current), unpack_state(state))
            state = pack_state(state)
            finished = finished & (ids < num_rows)
            return tf.cond(
                tf.reduce_any(finished),
                lambda: exchange(finished, ids, following, state, results),
                lambda: (ids, following, current, state, results),
            )

        *_, results = tf.while_loop(work_left, one_step, first)
        return results

    # Only the loop is compiled: everything else is computed once.
    program = compile_program(loop, jit_compile=True, ahead=True) if jit_compile else loop
    results = program(shared, packed_rows, num_rows, (ids, tf.constant(num_slots), current, pack_state(state), empty))
    return unpack_result([tensor[:batch] for tensor in results])


def _packing(structure: Rows) -> tuple[Callable[[Rows], list[tf.Tensor]], Callable[[list[tf.Tensor]], Rows]]:
    """Returns a function that stacks the tensors `[rows]` of a structure, integers and floats separately, and its inverse.

    XLA compiles a program with few large tensors in less time than one with many small tensors.
    """
    leaves = tf.nest.flatten(structure)
    integers = [i for i, leaf in enumerate(leaves) if leaf.shape.rank == 1 and not leaf.dtype.is_floating]
    numbers = [i for i, leaf in enumerate(leaves) if leaf.shape.rank == 1 and leaf.dtype.is_floating]
    others = [i for i, leaf in enumerate(leaves) if leaf.shape.rank != 1]

    def pack(structure: Rows) -> list[tf.Tensor]:
        flat = tf.nest.flatten(structure)
        groups = [[tf.cast(flat[i], tf.int32) for i in integers], [flat[i] for i in numbers]]
        return [flat[i] for i in others] + [tf.stack(group, axis=1) for group in groups if group]

    def unpack(packed: list[tf.Tensor]) -> Rows:
        flat = dict(zip(others, packed, strict=False))
        groups = [group for group in (integers, numbers) if group]
        for group, tensor in zip(groups, packed[len(others) :], strict=True):
            flat.update(zip(group, tf.unstack(tensor, axis=1), strict=True))
        return tf.nest.pack_sequence_as(structure, [tf.cast(flat[i], leaf.dtype) for i, leaf in enumerate(leaves)])

    return pack, unpack
