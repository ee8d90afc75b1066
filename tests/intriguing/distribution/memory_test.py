"""A batch that does not fit into memory is processed in parts, with the same results."""

from __future__ import annotations

import gc
import logging
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack import COARSE_SEARCH, QUICK_SEARCH, minimize_distortion
from intriguing.attack.search_program import compiled_search
from intriguing.distribution import map_rows
from intriguing.distribution.map_rows import num_slots, rows_that_fit, run_on_rows
from intriguing.models import build
from intriguing.models.functional import split_weights

MOST_GROWTH = 20.0  # MiB
ROWS = tf.reshape(tf.range(70, dtype=tf.float32), [10, 7])


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets the free memory to 1000 bytes, of which half may be used."""
    monkeypatch.setattr(map_rows, "_free_memory", lambda: 1000.0)


def test_rows_that_fit_uses_half_of_the_free_memory(little_memory: None) -> None:
    assert rows_that_fit(120, 10) == 4
    assert rows_that_fit(0, 10) == rows_that_fit(1, 10) == 10
    assert rows_that_fit(10_000, 10) == 1  # at least one row


def test_parts_give_the_results_of_the_whole_and_log_their_size(little_memory: None, caplog: pytest.LogCaptureFixture) -> None:
    sizes = []

    def program(shared: tf.Tensor, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        sizes.append(rows.shape[0])
        return {"sum": shared + tf.reduce_sum(rows, axis=1)}

    with caplog.at_level(logging.WARNING):
        results = run_on_rows(program, tf.constant(1.0), ROWS, bytes_per_row=120)
    np.testing.assert_array_equal(results["sum"], 1.0 + tf.reduce_sum(ROWS, axis=1))
    assert sizes == [4, 4, 4]  # parts have one shape, so that they share a compiled program
    assert "10 images are worked on 4 at a time, to fit into memory." in caplog.text


def test_two_devices_share_every_part(little_memory: None, two_replicas: tf.distribute.Strategy) -> None:
    with two_replicas.scope():
        results = run_on_rows(lambda shared, rows: tf.reduce_sum(rows, axis=1), (), ROWS, bytes_per_row=120)
    np.testing.assert_array_equal(results, tf.reduce_sum(ROWS, axis=1))


def test_parts_are_halved_until_they_fit_on_the_device() -> None:
    sizes = []

    def program(shared: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        sizes.append(rows.shape[0])
        if rows.shape[0] > 3:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        return tf.reduce_sum(rows, axis=1)

    np.testing.assert_array_equal(run_on_rows(program, (), ROWS), tf.reduce_sum(ROWS, axis=1))
    assert sizes == [10, 5, 2, 2, 2, 2, 2]


def test_single_row_that_does_not_fit_raises() -> None:
    def program(shared: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        raise tf.errors.ResourceExhaustedError(None, None, "out of memory")

    with pytest.raises(tf.errors.ResourceExhaustedError, match="out of memory"):
        run_on_rows(program, (), ROWS)


def test_number_of_slots_depends_on_the_free_memory(little_memory: None) -> None:
    assert num_slots(120) == 4
    assert num_slots(10_000) == 1
    assert num_slots() == 16


def test_large_rows_have_fewer_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_rows, "_free_memory", lambda: float("inf"))
    assert [num_slots(size) for size in (0, 2**20, 2**27, 2**40)] == [16, 16, 8, 4]


def test_free_memory_is_positive_or_infinite_if_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert map_rows._free_memory() > 1e6
    monkeypatch.setattr(map_rows, "_MEMORY_FILE", "/nowhere")
    assert map_rows._free_memory() == float("inf")


def test_attack_in_parts_equals_the_attack_on_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("FC10(1e-4)", image_shape=(5, 5, 1))
    images = np.random.default_rng(0).random((5, 5, 5, 1)).astype(np.float32)
    labels = np.argmax(model(images), axis=1).astype(np.int32)
    whole = minimize_distortion(model, images, labels=labels, search=COARSE_SEARCH)
    monkeypatch.setattr(map_rows, "rows_that_fit", lambda bytes_per_row, num_rows: min(2, num_rows))
    parts = minimize_distortion(model, images, labels=labels, search=COARSE_SEARCH)
    np.testing.assert_allclose(parts.distorted, whole.distorted, atol=1e-6)
    np.testing.assert_array_equal(parts.status, whole.status)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux reports the memory of a process")
def test_a_hundred_attacks_do_not_leak_memory_or_trace_again() -> None:
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(5)])
    images = np.random.default_rng(0).uniform(size=(8, 20)).astype(np.float32)
    labels = np.argmax(model(images), axis=1)
    architecture, _ = split_weights(model, (20,))
    program = compiled_search(architecture, QUICK_SEARCH, False, True)

    def memory_after(num_attacks: int) -> float:
        for _ in range(num_attacks):
            minimize_distortion(model, images, labels=labels, search="fast")
        gc.collect()
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024.0

    before, num_traces = memory_after(20), program.experimental_get_tracing_count()
    assert memory_after(100) - before < MOST_GROWTH
    assert program.experimental_get_tracing_count() == num_traces == 1
