from __future__ import annotations

import doctest
import errno
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from intriguing.distribution import compilation, compilation_cache, kept_traces, stable_names
from intriguing.distribution.compilation import compile_program, enable_cache

REPOSITORY = Path(__file__).resolve().parents[3]


class Pair(NamedTuple):
    first: tf.Tensor
    second: tf.Tensor


@pytest.fixture(autouse=True)
def no_warning_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "_warned_of_mappings", False)
    monkeypatch.setattr(compilation_cache, "_warned", set())


def _looped(number: float):
    """Returns a program with loops and branches, whose functions have numbered names. Each number gives another program."""

    def looped(x: tf.Tensor) -> tf.Tensor:
        def step(index: tf.Tensor, value: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return index + 1, tf.cond(tf.reduce_sum(value) > 0.0, lambda: tf.sin(value) + number * x, lambda: -value)

        # The loop captures x, so that an argument of the condition has a numbered name, too.
        return tf.while_loop(lambda index, _: index < 5, step, (0, x))[1]

    return looped


def _looped_by_numpy(number: float, x: np.ndarray) -> np.ndarray:
    value = x
    for _ in range(5):
        value = np.sin(value) + number * x if value.sum() > 0.0 else -value
    return value


def _unrelated_computations() -> None:
    for _ in range(3):
        tf.function(_looped(0.5), autograph=False)(tf.ones([2]))


def _digest(function) -> str:
    graph = tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec([3])).graph
    return stable_names.with_stable_names(graph.as_graph_def())[1]


@pytest.mark.parametrize("module", [compilation, compilation_cache, kept_traces, stable_names])
def test_doctests_pass(module) -> None:
    results = doctest.testmod(module, globs=vars(module).copy())
    enable_cache()
    assert results.attempted > 0 and results.failed == 0


# Names of graphs


def test_digest_ignores_earlier_traces() -> None:
    before = _digest(_looped(1.0))
    _unrelated_computations()
    assert _digest(_looped(1.0)) == before


def test_digest_depends_on_the_program() -> None:
    assert _digest(_looped(1.0)) != _digest(_looped(2.0))


def test_gradients_registered_by_name_are_refused() -> None:
    graph = tf.compat.v1.GraphDef()
    graph.library.gradient.add(function_name="f", gradient_func="g")
    with pytest.raises(ValueError, match="registers gradients of 1 functions by name; expected none"):
        stable_names.with_stable_names(graph)


# Programs


def test_structures_of_arguments_and_results_are_kept(cache: Path) -> None:
    def function(numbers, pair):
        return Pair(pair.first + numbers[0], {"b": [pair.second], "a": (numbers[1],)})

    results = compile_program(function, jit_compile=True)([tf.constant(1.0), tf.constant(2.0)], Pair(tf.ones([2]), tf.range(3)))
    assert isinstance(results, Pair) and isinstance(results.second["b"], list) and isinstance(results.second["a"], tuple)
    np.testing.assert_array_equal(results.first, [2.0, 2.0])
    np.testing.assert_array_equal(results.second["b"][0], [0, 1, 2])
    assert float(results.second["a"][0]) == 2.0
    assert len(list(cache.iterdir())) == 1


def test_compiled_program_equals_the_function() -> None:
    x = np.array([0.1, -0.7, 2.0], np.float32)
    # five sines in float32
    np.testing.assert_allclose(compile_program(_looped(3.0), jit_compile=True)(x_of(x)), _looped_by_numpy(3.0, x), rtol=1e-5)


def x_of(values: np.ndarray) -> tf.Tensor:
    return tf.constant(values, tf.float32)


def test_traces_once_for_each_shape_and_dtype() -> None:
    program = compile_program(lambda x: x + x, jit_compile=True)
    for shape in ([2], [2], [3], [3], [2]):
        program(tf.ones(shape))
    assert program.experimental_get_tracing_count() == 2
    assert program(tf.ones([2], tf.int32)).dtype == tf.int32
    assert program.experimental_get_tracing_count() == 3


def test_equal_programs_share_functions_that_stay_alive() -> None:
    first, second = (compile_program(_looped(4.0), jit_compile=True) for _ in range(2))
    expected = first(tf.ones([3]))
    second(tf.ones([3]))
    del first
    np.testing.assert_array_equal(second(tf.ones([3])), expected)


@pytest.fixture
def without_cache():
    enable_cache("off")
    yield
    enable_cache()


def test_program_is_compiled_before_its_first_call(monkeypatch: pytest.MonkeyPatch, without_cache) -> None:
    called = threading.Event()
    call_with_zeros = compilation._call_with_zeros

    def recorded(program, specifications) -> None:
        call_with_zeros(program, specifications)
        called.set()

    monkeypatch.setattr(compilation, "_call_with_zeros", recorded)
    program = compile_program(_looped(3.5), jit_compile=True, ahead=True)
    traced = tf.function(program, autograph=False).get_concrete_function(tf.TensorSpec([3]))
    assert called.wait(60.0)
    x = np.array([0.1, 0.2, -0.3], np.float32)
    np.testing.assert_allclose(traced(tf.constant(x)), _looped_by_numpy(3.5, x), rtol=1e-5)
    assert program.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("because", ["large arguments", "cache"])
def test_program_is_compiled_at_its_first_call(monkeypatch: pytest.MonkeyPatch, without_cache, because: str) -> None:
    called = []
    monkeypatch.setattr(compilation, "_call_with_zeros", lambda *_: called.append(1))
    if because == "cache":
        enable_cache()
    else:
        monkeypatch.setattr(compilation, "_MAX_BYTES_AHEAD", 11)
    program = compile_program(_looped(4.5), jit_compile=True, ahead=True)
    traced = tf.function(program, autograph=False).get_concrete_function(tf.TensorSpec([3]))
    x = np.array([0.1, 0.2, -0.3], np.float32)
    np.testing.assert_allclose(traced(tf.constant(x)), _looped_by_numpy(4.5, x), rtol=1e-5)
    assert not called


def test_compilation_error_is_raised_at_the_call(without_cache) -> None:
    program = compile_program(lambda x: tf.strings.length(tf.strings.as_string(x)), jit_compile=True, ahead=True)
    traced = tf.function(program, autograph=False).get_concrete_function(tf.TensorSpec([3]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="AsString"):
        traced(tf.zeros([3]))


def test_programs_are_not_traced_if_functions_run_eagerly() -> None:
    seen = []
    program = compile_program(lambda x: seen.append(tf.executing_eagerly()) or 2.0 * x, jit_compile=True)
    tf.config.run_functions_eagerly(True)
    try:
        results = [program(tf.constant(value)).numpy() for value in (1.0, 3.0)]
    finally:
        tf.config.run_functions_eagerly(False)
    assert results == [2.0, 6.0] and seen == [True, True]


def test_captured_variable_is_read_at_every_call_and_not_cached(cache: Path) -> None:
    variable = tf.Variable(1.0)
    program = compile_program(lambda x: x + variable, jit_compile=True)
    assert float(program(tf.constant(1.0))) == 2.0
    variable.assign(5.0)
    assert float(program(tf.constant(1.0))) == 6.0
    assert list(cache.iterdir()) == []


def test_captured_tensors_and_arguments_that_are_not_tensors_are_supported(cache: Path) -> None:
    captured = tf.random.uniform([100])
    np.testing.assert_array_equal(compile_program(lambda x: x * captured, jit_compile=True)(tf.constant(2.0)), 2.0 * captured)
    assert float(compile_program(lambda x, n: x * n, jit_compile=True)(tf.constant(2.0), 3.0)) == 6.0
    assert compile_program(lambda x: (x, None), jit_compile=True)(tf.constant(2.0))[1] is None
    assert list(cache.iterdir()) == []


def test_gradients_equal_those_of_the_function() -> None:
    program = compile_program(lambda x: x**2, jit_compile=True)
    x = tf.constant(3.0)
    program(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = program(x)
    assert float(tape.gradient(y, x)) == 6.0


def test_symbolic_gradients_are_refused() -> None:
    program = compile_program(lambda x: x**2, jit_compile=True)
    with pytest.raises(LookupError, match="compile_program does not keep gradients"):
        tf.function(lambda x: tf.gradients(program(x), x), autograph=False)(tf.constant(3.0))


@pytest.mark.parametrize("inside", [False, True])
def test_each_replica_computes_its_own_rows(two_replicas, inside: bool) -> None:
    program = compile_program(_looped(6.0), jit_compile=True)

    def run(x):
        return two_replicas.run(program, args=(x,))

    rows = np.array([[0.1, 0.2], [-0.3, 0.4]], np.float32)
    values = two_replicas.experimental_distribute_values_from_function(
        lambda context: tf.constant(rows[context.replica_id_in_sync_group])
    )
    with two_replicas.scope():
        results = two_replicas.experimental_local_results((tf.function(run, autograph=False) if inside else run)(values))
    for row, result in zip(rows, results, strict=True):
        np.testing.assert_allclose(result, _looped_by_numpy(6.0, row), rtol=1e-5)
    if not inside:  # a tf.function returns all results on its own device
        assert [result.device[-1] for result in results] == ["0", "1"]
    assert program.experimental_get_tracing_count() == 1


def test_program_without_xla_is_a_tf_function_and_not_cached(cache: Path) -> None:
    assert float(compile_program(lambda x: x + 1.0, jit_compile=False)(tf.constant(1.0))) == 2.0
    assert list(cache.iterdir()) == []


# The limit of memory mappings


def test_runs_without_xla_near_the_limit_of_memory_mappings(monkeypatch: pytest.MonkeyPatch, caplog, cache: Path) -> None:
    monkeypatch.setattr(compilation, "_mapping_limit", lambda: compilation._num_mappings() / 0.7)
    compiled = compile_program(_looped(7.0), jit_compile=True)
    expected = compiled(tf.ones([2]))
    assert len(list(cache.iterdir())) == 1 and not caplog.records
    monkeypatch.setattr(compilation, "_mapping_limit", lambda: compilation._num_mappings() / 0.9)
    for program in (compile_program(_looped(7.0), jit_compile=True), compile_program(_looped(8.0), jit_compile=True)):
        result = program(tf.ones([2]))
    np.testing.assert_allclose(compile_program(_looped(7.0), jit_compile=True)(tf.ones([2])), expected, rtol=1e-5)
    np.testing.assert_allclose(result, _looped_by_numpy(8.0, np.ones(2)), rtol=1e-5)
    assert len(list(cache.iterdir())) == 1
    (record,) = [record for record in caplog.records if record.name == compilation.__name__]
    assert "searches are slower. Start a new process, or use fewer different networks" in record.getMessage()


def test_memory_mappings_are_counted() -> None:
    assert compilation._num_mappings() > 100 or not sys.platform.startswith("linux")


# The folder


def _root_for(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Path | None:
    for name in ("INTRIGUING_XLA_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return compilation_cache._root(None)


def test_default_cache_folder_depends_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _root_for(monkeypatch, HOME="/h") == Path("/h/.cache/intriguing/xla")
    assert _root_for(monkeypatch, HOME="/h", XDG_CACHE_HOME="/x") == Path("/x/intriguing/xla")
    assert _root_for(monkeypatch, HOME="/h", XDG_CACHE_HOME="/x", INTRIGUING_XLA_CACHE="/i") == Path("/i")


@pytest.mark.parametrize("off", ["", "off"])
def test_cache_can_be_disabled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, off: str) -> None:
    assert _root_for(monkeypatch, HOME=str(tmp_path), INTRIGUING_XLA_CACHE=off) is None
    assert enable_cache() is None
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    enable_cache()


def test_missing_home_folder_disables_the_cache(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert _root_for(monkeypatch) is None
    assert "there is no home folder. Set INTRIGUING_XLA_CACHE" in caplog.text


def test_cache_folder_is_private_and_depends_on_version_and_machine(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = cache.parent
    assert cache.stat().st_mode & 0o777 == root.stat().st_mode & 0o777 == 0o700
    assert enable_cache(root) == cache
    for target, name, value in (
        (tf, "__version__", "2.99.0"),
        (compilation_cache, "_processor", lambda: "another"),
        (compilation_cache, "_FORMAT", 99),
    ):
        with monkeypatch.context() as changed:
            changed.setattr(target, name, value)
            assert enable_cache(root) != cache
    monkeypatch.setenv("XLA_FLAGS", "--another")
    assert enable_cache(root) != cache


def test_xla_flags_of_the_user_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for flags in ("--tf_xla_persistent_cache_directory=/mine", "/a/file/of/flags"):
        monkeypatch.setenv("TF_XLA_FLAGS", flags)
        assert enable_cache(tmp_path) is None
        assert os.environ["TF_XLA_FLAGS"] == flags
    monkeypatch.setattr(compilation_cache, "tensorflow_has_started", lambda: False)
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_clustering_debug=false")
    assert enable_cache(tmp_path) is not None
    assert os.environ["TF_XLA_FLAGS"].startswith("--tf_xla_clustering_debug=false --tf_xla_persistent_cache_directory=ram://")
    monkeypatch.undo()
    enable_cache()


def test_unwritable_or_world_writable_cache_folder_is_not_used(cache: Path, tmp_path: Path, caplog) -> None:
    (tmp_path / "file").write_text("")
    assert enable_cache(tmp_path / "file" / "cache") is None
    assert float(compile_program(lambda x: x + 9.0, jit_compile=True)(tf.constant(1.0))) == 10.0
    cache.chmod(0o777)
    assert enable_cache(cache.parent) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "other users can write to it" in caplog.text and "Not a directory" in caplog.text


def test_full_disk_warns_once(cache: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    def full(*arguments, **keywords):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    for number in (10.0, 11.0):
        result = compile_program(_looped(number), jit_compile=True)(tf.ones([2]))
        np.testing.assert_allclose(result, _looped_by_numpy(number, np.ones(2)), rtol=1e-5)
    assert list(cache.iterdir()) == []
    (record,) = caplog.records
    assert "No space left on device" in record.getMessage()


def test_repeatedly_prepared_program_is_loaded_by_another_device(cache: Path) -> None:
    program = compile_program(_looped(12.0), jit_compile=True)
    expected = _looped_by_numpy(12.0, np.ones(2))
    np.testing.assert_allclose(program(tf.ones([2])), expected, rtol=1e-5)
    (file,) = cache.iterdir()
    digest, _, name = file.name.split("-")
    compilation_cache._forget()
    for _ in range(3):  # like replicas that trace one program
        compilation_cache.prepare(digest)
    assert tf.io.gfile.listdir(compilation_cache._MEMORY_FOLDER) == [name]
    with tf.io.gfile.GFile(f"{compilation_cache._MEMORY_FOLDER}/{name}", "rb") as copy:
        assert copy.read() == file.read_bytes()
    with tf.device("CPU:1"):
        np.testing.assert_allclose(program(tf.ones([2])), expected, rtol=1e-5)


def test_most_recently_used_files_are_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:032x}-{'0' * 32}-xla.pb" for number in range(4)]
    for age, name in enumerate(names):
        (cache / name).write_bytes(bytes(100))
        os.utime(cache / name, (time.time() - age,) * 2)
    old = cache / ".unfinished-old"
    for path in (cache / "notes.txt", cache / ".unfinished-new", old):
        path.write_bytes(bytes(1000))
    os.utime(old, (0, 0))
    monkeypatch.setattr(compilation_cache, "MAX_BYTES", 250)
    enable_cache(cache.parent)
    assert sorted(path.name for path in cache.iterdir()) == sorted([*names[:2], "notes.txt", ".unfinished-new"])


# Several processes. The child computes a program for each number, after `unrelated` other computations.

CHILD = """
import sys
import tensorflow as tf
from intriguing.distribution.compilation import compile_program, enable_cache
from tests.intriguing.distribution.compilation_test import _looped, _unrelated_computations
folder, unrelated, *numbers = sys.argv[1:]
enable_cache(folder)
for _ in range(int(unrelated)):
    _unrelated_computations()
for number in numbers:
    print(number, float(tf.reduce_sum(compile_program(_looped(float(number)), jit_compile=True)(tf.ones([2])))))
"""
NUMBERS = ("1.0", "2.0", "3.0", "4.0", "5.0")


def _start(folder: Path, unrelated: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(folder), str(unrelated), *NUMBERS]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )  # fmt: skip


def _check_results(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate()
    assert process.returncode == 0, err
    results = dict(line.split() for line in out.splitlines())
    expected = [_looped_by_numpy(float(number), np.ones(2)).sum() for number in NUMBERS]
    np.testing.assert_allclose([float(results[number]) for number in NUMBERS], expected, rtol=1e-5)


SCRIPT = """
from launch import accelerator_flags, tfds_flags
from intriguing.distribution.compilation import compile_program
import tensorflow as tf
accelerator_flags.run(lambda: compile_program(lambda x: 3.0 * x, jit_compile=True)(tf.ones([2])))
"""
TOO_LATE = """
import tensorflow as tf
from intriguing.distribution.compilation import compile_program, enable_cache
tf.config.list_physical_devices()
assert enable_cache() is None
compile_program(lambda x: 3.0 * x, jit_compile=True)(tf.ones([2]))
"""


def _run_alone(program: str, folder: Path) -> str:
    """Runs a program that inherits no flags of TensorFlow, and returns its log."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_XLA_FLAGS"}
    environment |= {"PYTHONPATH": str(REPOSITORY), "INTRIGUING_XLA_CACHE": str(folder)}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, text=True, check=True, capture_output=True).stderr


def test_scripts_cache_compiled_programs(tmp_path: Path) -> None:
    _run_alone(SCRIPT, tmp_path)
    assert len(list(tmp_path.glob("*/*.pb"))) == 1


def test_enabling_the_cache_too_late_warns(tmp_path: Path) -> None:
    assert "Call enable_cache() right after the imports" in _run_alone(TOO_LATE, tmp_path)
    assert not list(tmp_path.glob("*/*.pb"))


def _damage(path: Path, how: int) -> None:
    content = bytearray(path.read_bytes())
    if how == 0:
        del content[len(content) // 2 :]
    elif how == 1:  # damaged machine code would crash XLA
        begin = content.index(b"\x7fELF") + 64
        content[begin : begin + 400] = bytes(byte ^ 0x55 for byte in content[begin : begin + 400])
    elif how == 2:
        content[:] = b"not a program"
    else:
        content.clear()
    path.write_bytes(content)


@pytest.mark.slow
def test_processes_share_programs_and_recompile_damaged_ones(tmp_path: Path) -> None:
    for process in [_start(tmp_path, unrelated) for unrelated in (0, 1)]:  # both run at the same time
        _check_results(process)
    (folder,) = tmp_path.iterdir()
    by_program = {path.name[:32]: path for path in folder.iterdir()}
    assert len(by_program) == len(NUMBERS) and not [path for path in folder.iterdir() if path.name.startswith(".")]
    whole, *damaged = by_program.values()
    for path in folder.iterdir():  # keep one file of the two that the processes wrote
        if path not in by_program.values():
            path.unlink()
    for how, path in enumerate(damaged):
        _damage(path, how)
    content, wrong = whole.read_bytes(), {path: path.read_bytes() for path in damaged}

    _check_results(_start(tmp_path, 2))
    assert sorted(path.name[:32] for path in folder.iterdir()) == sorted(by_program)
    assert whole.read_bytes() == content
    assert not [path for path in damaged if path.exists() and path.read_bytes() == wrong[path]]
