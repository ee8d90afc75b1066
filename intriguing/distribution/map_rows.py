"""Runs programs on rows: divides the rows among replicas, pads them to a few sizes, and splits them to limit memory."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import tensorflow as tf

from intriguing.distribution.strategy import computes_on_cpu, num_replicas

_logger = logging.getLogger(__name__)
_SHARE_OF_MEMORY = 0.5  # of the free memory: estimates are rough, and Linux kills a process that uses too much
_BYTES_OF_SLOTS = 2**30
_MEMORY_FILE = "/proc/meminfo"


def run_on_rows(
    program: Callable[..., Any],
    shared: Any,
    rows: Any,
    *,
    bytes_per_row: int = 0,
    sizes: Sequence[int] | None = None,
    idle: Callable[[Any], Any] = lambda rows: rows,
) -> Any:
    """Runs `program(shared, rows)` under the current strategy, with the rows divided among its replicas.

    Rows are divided in order. The share of the last replica is padded with copies of the last row, so that all shapes agree,
    and the results are returned in order without these copies. If all rows together do not fit into memory, they are processed
    in parts of one size, and a warning is logged; the results are the same.

    Args:
        program: A function from two structures of tensors to a structure of tensors `[batch, ...]`, whose rows are independent.
        shared: Tensors that every replica receives as a whole, such as weights.
        rows: Tensors `[batch, ...]`.
        bytes_per_row: Estimated memory of a row; 0 if it is negligible.
        sizes: Numbers of rows of a replica for which the program is compiled, in increasing order. Other batches are padded to
            the next size, or split into parts of the largest size. If omitted, batches are not padded.
        idle: A function from copies of rows to rows of the same shape that cost no time, with which batches are padded.

    Returns:
        The results of `program` for the whole batch, on every worker.

    Raises:
        tf.errors.ResourceExhaustedError: If one row for each replica does not fit into memory.

    Example:
        >>> program = tf.function(lambda weights, rows: rows @ weights)
        >>> run_on_rows(program, tf.eye(3), tf.ones([5, 3])).shape
        TensorShape([5, 3])
    """
    num_rows = int(tf.nest.flatten(rows)[0].shape[0])
    whole = _padded_size(num_rows, sizes)
    at_once = rows_that_fit(bytes_per_row, whole)
    while True:
        if at_once < whole:
            at_once = _largest_size(at_once, sizes)
        if at_once < num_rows and at_once < whole:
            _logger.warning("%d images are processed %d at a time, to fit into memory.", num_rows, at_once)
        try:
            return _run_in_parts(program, shared, rows, num_rows, at_once, sizes, idle)
        except tf.errors.ResourceExhaustedError:
            if at_once <= num_replicas():
                raise
            at_once = max(num_replicas(), at_once // 2)


def sizes_of_batches(jit_compile: bool, *, skips_idle_rows: bool) -> tuple[int, ...]:
    """Returns the numbers of rows for which a program is compiled. There are few of them, because compiling takes seconds.

    Args:
        jit_compile: Whether the program is compiled with XLA.
        skips_idle_rows: Whether idle rows cost no time. If not, the largest size on a CPU is smaller: a large batch takes as
            long in parts, and is padded with fewer idle rows.
    """
    sizes = (16, 128, 512) if jit_compile else (1, 4, 16, 64, 256)
    return sizes if skips_idle_rows or not computes_on_cpu() else sizes[:-1]


def _padded_size(num_rows: int, sizes: Sequence[int] | None) -> int:
    """Returns the size to which a batch is padded; the largest size if the batch is larger."""
    if sizes is None:
        return num_rows
    share = -(-num_rows // num_replicas())
    return num_replicas() * next((size for size in sizes if size >= share), sizes[-1])


def _largest_size(num_rows: int, sizes: Sequence[int] | None) -> int:
    """Returns the largest size that is not above `num_rows`; `num_rows` itself if every size is."""
    share = num_rows // num_replicas()
    fitting = [size for size in sizes or () if size <= share]
    return num_replicas() * fitting[-1] if fitting else num_rows


def rows_that_fit(bytes_per_row: int, num_rows: int) -> int:
    """Returns the number of rows that fit into half of the free memory: at least one for each replica, at most all.

    Only the memory of a CPU is checked. Other devices raise an error, and `run_on_rows` then halves the number of rows.
    """
    if not bytes_per_row or not computes_on_cpu():
        return num_rows
    fitting = _SHARE_OF_MEMORY * _free_memory() / bytes_per_row  # infinite if the free memory is unknown
    return num_rows if fitting >= num_rows else min(num_rows, max(num_replicas(), int(fitting)))


def _free_memory() -> float:
    """Returns the bytes of free memory; infinity if the system does not report them."""
    try:
        with open(_MEMORY_FILE) as file:
            lines = dict(line.split(":", 1) for line in file)
        return 1024.0 * float(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return inf


def _run_in_parts(
    program: Callable[..., Any],
    shared: Any,
    rows: Any,
    num_rows: int,
    at_once: int,
    sizes: Sequence[int] | None,
    idle: Callable[[Any], Any],
) -> Any:
    parts = []
    for begin in range(0, num_rows, at_once):
        count = min(at_once, num_rows - begin)
        size = min(at_once, _padded_size(count, sizes)) if sizes else min(at_once, num_rows)
        part = rows if size == num_rows else _padded(rows, begin, count, size, idle)
        results = _run_on_replicas(program, shared, part, size)
        parts.append(results if count == size else tf.nest.map_structure(lambda tensor, count=count: tensor[:count], results))
    return parts[0] if len(parts) == 1 else tf.nest.map_structure(lambda *values: tf.concat(values, axis=0), *parts)


def _padded(rows: Any, begin: int, count: int, size: int, idle: Callable[[Any], Any]) -> Any:
    """Returns `count` of the rows, padded to `size` with idle copies of the last one."""
    used = tf.nest.map_structure(lambda tensor: tensor[begin : begin + count], rows)
    if count == size:
        return used
    copies = tf.nest.map_structure(lambda tensor: tf.repeat(tensor[-1:], size - count, axis=0), used)
    return tf.nest.map_structure(lambda first, second: tf.concat([first, second], axis=0), used, idle(copies))


def _run_on_replicas(program: Callable[..., Any], shared: Any, rows: Any, num_rows: int) -> Any:
    strategy = tf.distribute.get_strategy()
    if num_replicas() == 1:
        return strategy.run(program, args=(shared, rows))
    share = -(-num_rows // num_replicas())
    order = tf.minimum(tf.range(share * num_replicas()), num_rows - 1)
    filled = tf.nest.map_structure(lambda tensor: tf.gather(tensor, order), rows)

    def share_of(context: tf.distribute.ValueContext) -> Any:
        begin = context.replica_id_in_sync_group * share
        return tf.nest.map_structure(lambda tensor: tensor[begin : begin + share], filled)

    shares = strategy.experimental_distribute_values_from_function(share_of)
    results = _on_every_replica(program, strategy)(shared, shares)
    return tf.nest.map_structure(lambda value: value[:num_rows], results)


def num_slots(bytes_per_slot: int = 0) -> int:
    """Returns the number of rows that are active at once on a replica.

    More slots use a device better; with fewer slots, fewer are idle while the last rows are finished.

    Args:
        bytes_per_slot: Estimated memory of a slot. On a CPU, large rows are also slow, and few of them use all cores.
    """
    if not computes_on_cpu():
        return 256
    slots = 16 if not bytes_per_slot else min(16, max(4, _BYTES_OF_SLOTS // bytes_per_slot))
    return max(1, rows_that_fit(bytes_per_slot, slots * num_replicas()) // num_replicas())


@functools.lru_cache(maxsize=64)
def _on_every_replica(program: Callable[..., Any], strategy: tf.distribute.Strategy) -> Any:
    """Compiles `program` for all replicas, with the concatenation of results; eagerly, replicas would run one after another."""

    @tf.function(autograph=False)
    def run(shared: Any, shares: Any) -> Any:
        results = strategy.run(program, args=(shared, shares))
        return tf.nest.map_structure(lambda value: _gather_rows(strategy, value), results)

    return run


def _gather_rows(strategy: tf.distribute.Strategy, value: Any) -> tf.Tensor:
    if strategy.experimental_local_results(value)[0].dtype != tf.bool:
        return strategy.gather(value, axis=0)
    # Collectives between workers support numbers, and not booleans.
    numbers = strategy.run(lambda booleans: tf.cast(booleans, tf.int32), args=(value,))
    return tf.cast(strategy.gather(numbers, axis=0), tf.bool)
