"""Tests of rows that are processed in batch slots, with a step that only counts."""

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from intriguing.optimize.active_rows import run_in_slots

NEEDED = [3, 1, 7, 2, 2, 11, 1]  # steps for each row; at least one, because rows are checked after a step
NAMES = [10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0]


class Row(NamedTuple):
    needed: tf.Tensor  # [rows] int32
    name: tf.Tensor  # [rows, 2]


class Count(NamedTuple):
    remaining: tf.Tensor  # [slots] int32
    num_steps: tf.Tensor  # [slots] int32
    name: tf.Tensor  # [slots, 2], copied at the beginning
    seen: tf.Tensor  # [slots] bool: every step received the row of its state


def rows_that_need(needed):
    name = tf.stack([tf.constant(NAMES[: len(needed)]), -tf.constant(NAMES[: len(needed)])], axis=1)
    return Row(tf.constant(needed, tf.int32), name)


def begin(rows):
    return Count(rows.needed, tf.zeros_like(rows.needed), rows.name, tf.ones_like(rows.needed, tf.bool))


def count_down(shared, rows, state):
    seen = state.seen & tf.reduce_all(rows.name == state.name, axis=1)
    state = Count(state.remaining - 1, state.num_steps + 1, state.name, seen)
    return state, state.remaining <= 0


def run(rows, num_slots, *, jit_compile, step=count_down, **options):
    program = tf.function(
        lambda rows: run_in_slots(
            rows, shared=(), begin=begin, step=step, result=lambda state: state, num_slots=num_slots, jit_compile=jit_compile,
            **options,
        ),
        autograph=False,
    )  # fmt: skip
    return program(rows)


compiled_or_not = pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "XLA"])
in_slots = pytest.mark.parametrize("num_slots", [1, 3, len(NEEDED)])


@compiled_or_not
@in_slots
def test_results_come_in_the_order_of_the_rows(num_slots, jit_compile):
    rows = rows_that_need(NEEDED)
    np.testing.assert_array_equal(run(rows, num_slots, jit_compile=jit_compile).name, rows.name)


@compiled_or_not
@in_slots
def test_every_row_gets_exactly_its_number_of_steps(num_slots, jit_compile):
    results = run(rows_that_need(NEEDED), num_slots, jit_compile=jit_compile)
    assert results.num_steps.numpy().tolist() == NEEDED
    assert results.remaining.numpy().tolist() == [0] * len(NEEDED)


@in_slots
def test_every_step_receives_the_row_of_its_state(num_slots):
    assert run(rows_that_need(NEEDED), num_slots, jit_compile=True).seen.numpy().all()


@pytest.mark.parametrize("num_slots", [1, 3, 7])
def test_rows_that_finish_immediately_are_finished_together(num_slots):
    assert run(rows_that_need([1] * 7), num_slots, jit_compile=True).num_steps.numpy().tolist() == [1] * 7


def test_single_row_is_supported():
    assert run(rows_that_need([4]), 1, jit_compile=True).num_steps.numpy().tolist() == [4]


@in_slots
def test_results_do_not_depend_on_the_order_of_costs(num_slots):
    for needed in (sorted(NEEDED), sorted(NEEDED, reverse=True)):
        assert run(rows_that_need(needed), num_slots, jit_compile=True).num_steps.numpy().tolist() == needed


def test_slots_are_refilled_without_waiting_for_the_slowest_row():
    """One row of eleven steps and six rows of two steps need twelve steps in two slots. Pairs in lockstep would need seventeen."""
    taken = tf.Variable(0)

    def counted(shared, rows, state):
        taken.assign_add(1)
        return count_down(shared, rows, state)

    results = run(rows_that_need([11, 2, 2, 2, 2, 2, 2]), 2, jit_compile=False, step=counted)
    assert results.num_steps.numpy().tolist() == [11, 2, 2, 2, 2, 2, 2]
    assert int(taken) == 12


@compiled_or_not
def test_invalid_state_of_an_empty_slot_has_no_effect(jit_compile):
    """The rows end one after another. A slot without a next row counts below zero and divides by the count."""

    def risky(shared, rows, state):
        state, finished = count_down(shared, rows, state)
        broken = tf.cast(state.remaining, tf.float32) < 0.0
        return state._replace(name=tf.where(broken[:, tf.newaxis], float("nan"), state.name)), finished

    rows = rows_that_need([1, 9, 1, 1])
    results = run(rows, 3, jit_compile=jit_compile, step=risky)
    np.testing.assert_array_equal(results.name, rows.name)
    assert results.num_steps.numpy().tolist() == [1, 9, 1, 1]


def test_result_may_have_another_structure_than_the_state():
    rows = rows_that_need(NEEDED)
    kept = run_in_slots(
        rows, shared=(), begin=begin, step=count_down, num_slots=3,
        result=lambda state: {"steps": state.num_steps, "name": state.name},
    )  # fmt: skip
    assert kept["steps"].numpy().tolist() == NEEDED
    np.testing.assert_array_equal(kept["name"], rows.name)


@compiled_or_not
@pytest.mark.parametrize("num_rows", [0, 2, len(NEEDED)])
def test_only_the_given_number_of_rows_is_processed(num_rows, jit_compile):
    results = run(rows_that_need(NEEDED), 3, jit_compile=jit_compile, num_rows=tf.constant(num_rows))
    assert results.num_steps.numpy().tolist() == NEEDED[:num_rows] + [0] * (len(NEEDED) - num_rows)


@compiled_or_not
def test_shared_values_are_passed_to_every_step(jit_compile):
    def count_faster(shared, rows, state):
        state = state._replace(remaining=state.remaining - shared["stride"], num_steps=state.num_steps + 1)
        return state, state.remaining <= 0

    rows = rows_that_need(NEEDED)
    program = tf.function(
        lambda shared, rows: run_in_slots(
            rows, shared=shared, begin=begin, step=count_faster, result=lambda state: state.num_steps, num_slots=2,
            jit_compile=jit_compile,
        ),
        autograph=False,
    )  # fmt: skip
    assert program({"stride": tf.constant(2)}, rows).numpy().tolist() == [-(-needed // 2) for needed in NEEDED]
