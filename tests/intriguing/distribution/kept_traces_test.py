"""A trace from disk gives the results of a new trace, and is used only for the same computation."""

from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from intriguing.attack import minimize_distortion, search_program
from intriguing.distribution import kept_traces
from intriguing.distribution.compilation import compile_program, enable_cache
from intriguing.distribution.kept_traces import keep_traces
from intriguing.models import functional as logits
from intriguing.models.functional import split_weights

pytestmark = pytest.mark.usefixtures("cache")


class Results(NamedTuple):
    total: tf.Tensor
    doubled: tf.Tensor


class Counted:
    """A program with a loop that counts its traces."""

    def __init__(self, factor: float = 2.0) -> None:
        self.num_traces = 0
        self.factor = factor

    def __call__(self, weights: list[tf.Tensor], rows: tf.Tensor) -> Results:
        self.num_traces += 1
        product = tf.while_loop(lambda i, _: i < 3, lambda i, value: (i + 1, value * weights[0]), (0, rows))[1]
        return Results(tf.reduce_sum(product, axis=1), self.factor * rows)


WEIGHTS, ROWS = [tf.constant(3.0)], tf.reshape(tf.range(6.0), [2, 3])


def kept(function, key="one", jit_compile=False):
    return keep_traces(compile_program(function, jit_compile=jit_compile), key=lambda *arguments: key, results=Results)


def assert_expected_results(results: Results, rows: tf.Tensor = ROWS, factor: float = 2.0) -> None:
    assert isinstance(results, Results)
    np.testing.assert_allclose(results.total, 27.0 * np.sum(rows, axis=1))
    np.testing.assert_array_equal(results.doubled, factor * rows.numpy())


@pytest.mark.parametrize("jit_compile", [False, True])
def test_another_process_loads_the_trace(jit_compile):
    first, second = Counted(), Counted()
    for function, expected in ((first, 1), (second, 0)):
        program = kept(function, jit_compile=jit_compile)
        for _ in range(2):
            assert_expected_results(program(WEIGHTS, ROWS))
        assert (function.num_traces > 0) == expected
        assert program.experimental_get_tracing_count() == 1


def test_other_shapes_keys_and_versions_are_traced(monkeypatch):
    assert_expected_results(kept(Counted())(WEIGHTS, ROWS))
    other = Counted()
    assert_expected_results(kept(other)(WEIGHTS, ROWS[:1]), ROWS[:1])
    assert other.num_traces
    other = Counted(factor=5.0)
    assert_expected_results(kept(other, key="two")(WEIGHTS, ROWS), factor=5.0)
    assert other.num_traces
    monkeypatch.setattr(kept_traces, "_versions", lambda: "another")
    other = Counted(factor=7.0)
    assert_expected_results(kept(other)(WEIGHTS, ROWS), factor=7.0)


def test_version_key_includes_the_code_of_the_library():
    assert len(kept_traces._versions().split()) > 100


@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda content: b"", lambda content: b"\0" + content]
)
def test_damaged_trace_file_is_replaced(cache, damage):
    assert_expected_results(kept(Counted())(WEIGHTS, ROWS))
    (file,) = cache.glob("*-trace.pb")
    file.write_bytes(damage(file.read_bytes()))
    function = Counted()
    assert_expected_results(kept(function)(WEIGHTS, ROWS))
    assert function.num_traces
    assert_expected_results(kept(Counted())(WEIGHTS, ROWS))


def test_captured_variable_is_read_at_every_call_and_the_trace_is_not_stored(cache):
    variable = tf.Variable(1.0)
    program = kept(lambda weights, rows: Results(variable + weights[0], rows))
    assert float(program(WEIGHTS, ROWS).total) == 4.0
    variable.assign(2.0)
    assert float(program(WEIGHTS, ROWS).total) == 5.0
    assert not list(cache.iterdir())


def test_traces_are_not_stored_in_functions_eagerly_or_without_a_cache(cache):
    program = kept(Counted())
    outer = tf.function(lambda rows: program(WEIGHTS, rows), autograph=False)
    assert_expected_results(outer(ROWS))
    tf.config.run_functions_eagerly(True)
    assert_expected_results(program(WEIGHTS, ROWS))
    tf.config.run_functions_eagerly(False)
    enable_cache("off")
    assert_expected_results(program(WEIGHTS, ROWS))
    assert not list(cache.iterdir())


def test_traces_are_not_loaded_near_the_limit_of_memory_mappings(monkeypatch):
    assert_expected_results(kept(Counted())(WEIGHTS, ROWS))
    monkeypatch.setattr(kept_traces, "mappings_are_left", lambda: False)
    function = Counted()
    assert_expected_results(kept(function)(WEIGHTS, ROWS))
    assert function.num_traces


def small_network(end=None):
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(8, "relu")
    return keras.Sequential([keras.Input((6,)), hidden, *([end] if end else []), keras.layers.Dense(3)])


@pytest.mark.parametrize("search", ["fast", "szegedy_lbfgs"])
def test_search_loaded_from_disk_gives_the_same_results(search, monkeypatch):
    model, images = small_network(), np.random.default_rng(0).uniform(size=(5, 6)).astype(np.float32)
    labels = np.argmax(model(images), axis=1)
    expected = minimize_distortion(model, images, labels=labels, search=search)
    assert expected.succeeded.numpy().any()
    search_program.compiled_search.cache_clear()  # the state of a new process
    logits._architectures.clear()
    monkeypatch.setattr(search_program, "_search_rows", lambda *arguments: pytest.fail("the search was traced"))
    found = minimize_distortion(model, images, labels=labels, search=search)
    search_program.compiled_search.cache_clear()
    for values, others in zip(found, expected, strict=True):
        np.testing.assert_array_equal(values, others)


def test_graphs_that_call_python_are_not_portable():
    @tf.custom_gradient
    def straight_through(values):
        return tf.round(values), lambda gradient: gradient

    def doubled(values):
        return tf.ensure_shape(tf.numpy_function(lambda array: 2.0 * array, [values], tf.float32), values.shape)

    assert split_weights(small_network(), (6,))[0].is_portable
    for function in (straight_through, doubled):
        assert not split_weights(small_network(keras.layers.Lambda(function)), (6,))[0].is_portable
