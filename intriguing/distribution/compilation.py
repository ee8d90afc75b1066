"""Compiles programs with XLA, loads programs that another process has compiled, and limits the memory mappings of XLA."""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Callable, Hashable
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from intriguing.distribution import compilation_cache
from intriguing.distribution.compilation_cache import enable_cache as enable_cache
from intriguing.distribution.stable_names import with_stable_names
from intriguing.distribution.strategy import computes_on_cpu
from intriguing.distribution.tensorflow_internals import gradients_are_recorded

_SHARE_OF_MAPPINGS = 0.8  # a search takes a thousand of 65,530; the other programs of the process need some as well
_MAX_BYTES_AHEAD = 2**27  # of the zeros with which a program is called
_MAPPINGS_FILE = Path("/proc/self/maps")
_MAPPING_LIMIT_FILE = Path("/proc/sys/vm/max_map_count")
_logger = logging.getLogger(__name__)
_warned_of_mappings = False

Program = Callable[..., Any]  # from flat tensors to flat tensors, or from the arguments to the results


def compile_program(function: Callable[..., Any], *, jit_compile: bool, ahead: bool = False) -> Program:
    """Compiles a function of tensors, as `tf.function(function, jit_compile=jit_compile, autograph=False)` does.

    Programs that XLA compiles have two more properties:

    - After `enable_cache()`, they are loaded from disk if another process has compiled them.
    - XLA on a CPU keeps the memory mappings of every program, and Linux ends a process that exceeds its limit. If 80 % of the
      limit are in use, further programs are run without XLA, and a warning is logged.

    The function is traced once for each structure, shapes and dtypes of its arguments, and for each `tf.distribute` strategy. A
    function that captures tensors or variables, or whose arguments or results are not tensors in tuples, lists and
    dictionaries, is compiled by `tf.function` alone, and is not stored on disk.

    Args:
        function: Its results must depend on its arguments alone.
        jit_compile: Whether to compile with XLA. If False, this is `tf.function`.
        ahead: Whether a program that is traced inside a `tf.function` is compiled at once in another thread, while the rest of
            the `tf.function` is traced. The thread calls it with zeros, for which it must end soon. Programs with more than
            128 MiB of arguments, those of a `tf.distribute` strategy, and all after `enable_cache()` are compiled at their
            first call.

    Returns:
        A callable with the arguments and results of `function`. It can be called eagerly, inside a `tf.function`, and inside
        `strategy.run`. Inside a `tf.GradientTape` it is `tf.function`, so that gradients can be taken; `tf.gradients` through
        a program that XLA compiles raises LookupError.

    Example:
        >>> import tensorflow as tf
        >>> program = compile_program(lambda pair: {"sum": pair[0] + pair[1]}, jit_compile=True)
        >>> program((tf.constant(1.0), tf.constant(2.0)))["sum"]
        <tf.Tensor: shape=(), dtype=float32, numpy=3.0>
    """
    if not jit_compile:
        return tf.function(function, autograph=False)
    return _CompiledProgram(function, ahead)


def compile_for_loops(convolves: bool) -> bool:
    """Returns whether to compile a program whose loops evaluate a network with XLA as a whole.

    On a CPU, XLA runs a convolution inside a loop on one thread, several times slower than TensorFlow does.
    """
    return not (convolves and computes_on_cpu())


def compile_with_chance(draws: bool) -> bool:
    """Returns whether to compile a program that draws random numbers, or does not, with XLA.

    On a CPU, XLA draws the random numbers of Keras by Threefry, forty times slower than TensorFlow by Philox.
    """
    return not (draws and computes_on_cpu())


class _CompiledProgram:
    def __init__(self, function: Callable[..., Any], ahead: bool) -> None:
        self._ahead = ahead
        self._function = tf.function(function, jit_compile=True, autograph=False)
        self._without_xla = tf.function(function, autograph=False)
        self._programs: dict[Hashable, Program] = {}
        self._lock = threading.RLock()

    def __call__(self, *arguments: Any) -> Any:
        if gradients_are_recorded() or tf.config.functions_run_eagerly():
            return self._function(*arguments)
        tensors: list[tf.Tensor] = []
        try:
            signature = tf.distribute.get_strategy(), signature_of(arguments, tensors)
        except TypeError:
            return self._function(*arguments)
        program = self._programs.get(signature)
        if program is not None:
            return program(arguments, tensors)
        return self._first_call(signature, arguments, tensors)

    def experimental_get_tracing_count(self) -> int:
        """Returns how often the function was traced, as `tf.function` does."""
        return self._function.experimental_get_tracing_count() + self._without_xla.experimental_get_tracing_count()

    def _first_call(self, signature: Hashable, arguments: tuple[Any, ...], tensors: list[tf.Tensor]) -> Any:
        with self._lock:
            if signature not in self._programs:
                self._programs[signature] = self._compiled(arguments, tensors)
        results = self._programs[signature](arguments, tensors)
        if tf.executing_eagerly():  # otherwise XLA compiles later
            compilation_cache.collect()
        return results

    def _compiled(self, arguments: tuple[Any, ...], tensors: list[tf.Tensor]) -> Program:
        if not mappings_are_left():
            return lambda arguments, tensors: self._without_xla(*arguments)
        flat_program, results = _trace(self._function, arguments, tensors)
        if flat_program is None:
            return lambda arguments, tensors: self._function(*arguments)
        specifications = _specifications(tensors)
        if self._ahead and _compiles_ahead(specifications):
            threading.Thread(target=_call_with_zeros, args=(flat_program, specifications)).start()
        return lambda arguments, tensors: tf.nest.pack_sequence_as(results, flat_program(*tensors))


def _compiles_ahead(specifications: list[tf.TensorSpec]) -> bool:
    """Returns whether a new thread compiles the program that will be called later, and the zeros need little memory."""
    # With a cache, `keep_traces` renames the program, and XLA would compile it again under the new name.
    if tf.executing_eagerly() or tf.distribute.has_strategy() or compilation_cache.is_enabled():
        return False
    if not all(specification.shape.is_fully_defined() for specification in specifications):
        return False
    num_bytes = sum(specification.shape.num_elements() * specification.dtype.size for specification in specifications)
    return num_bytes <= _MAX_BYTES_AHEAD


def _call_with_zeros(program: Program, specifications: list[tf.TensorSpec]) -> None:
    """Compiles a program. Errors are ignored, because the caller of the program receives the same error."""
    with contextlib.suppress(tf.errors.OpError):
        program(*(tf.zeros(specification.shape, specification.dtype) for specification in specifications))


def signature_of(value: Any, tensors: list[tf.Tensor]) -> Hashable:
    """Returns the structure, shapes and dtypes, and appends the tensors in the order of `tf.nest.flatten`.

    Raises:
        TypeError: If the value is not a structure of tensors of known rank in tuples, lists and dictionaries.
    """
    if isinstance(value, tf.Tensor) and value.shape.rank is not None:
        tensors.append(value)
        return value.dtype, *value.shape
    if isinstance(value, (tuple, list)):
        return type(value), *(signature_of(item, tensors) for item in value)
    if type(value) is dict:
        names = tuple(sorted(value))
        return names, *(signature_of(value[name], tensors) for name in names)
    raise TypeError(f"expected tensors in tuples, lists and dictionaries; received {type(value)}.")


# TensorFlow identifies functions by name, and deletes a function with the first of the programs that contain it.
_programs_by_digest: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def _trace(function: Any, arguments: tuple[Any, ...], tensors: list[tf.Tensor]) -> tuple[Program | None, Any]:
    """Traces a `tf.function` and gives its graph stable names.

    Returns:
        The program, from flat tensors to flat tensors, and the structure of the results; None for both if it captures tensors,
        or has results of other kinds.
    """
    structures: list[Any] = []

    @tf.function(autograph=False)
    def flat_function(*flat: tf.Tensor) -> list[tf.Tensor]:
        packed = tf.nest.pack_sequence_as(arguments, flat)
        results = function.get_concrete_function(*packed)(*packed)  # calls would cause warnings about retracing
        structures.append(tf.nest.map_structure(lambda result: isinstance(result, tf.Tensor), results))
        # Custom gradients are registered in Python, and are not part of the graph.
        return [_without_gradient(result) for result in tf.nest.flatten(results)]

    stable = trace_with_stable_names(flat_function, tensors)
    are_tensors = tf.nest.flatten(structures[-1])
    if stable is None or not are_tensors or not all(are_tensors):
        return None, None
    return import_program(stable), structures[-1]


class StableGraph(NamedTuple):
    """A traced function from flat tensors to flat tensors, whose graph is the same in every process."""

    graph: Any  # a GraphDef from with_stable_names
    digest: str  # of the graph
    inputs: list[str]  # names of the tensors that are its arguments
    outputs: list[str]  # names of its results


def trace_with_stable_names(function: Any, tensors: list[tf.Tensor]) -> StableGraph | None:
    """Traces a `tf.function` of flat tensors; returns None if it captures tensors or variables, or registers gradients."""
    traced = function.get_concrete_function(*_specifications(tensors))
    graph = traced.graph.as_graph_def()
    if traced.captured_inputs or graph.library.gradient:
        return None
    inputs, outputs = ([tensor.name for tensor in tensors] for tensors in (traced.inputs, traced.outputs))
    return StableGraph(*with_stable_names(graph), inputs, outputs)


def _specifications(tensors: list[tf.Tensor]) -> list[tf.TensorSpec]:
    return [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in tensors]


def _without_gradient(result: Any) -> Any:
    if not isinstance(result, tf.Tensor):
        return None
    message = "compile_program does not keep gradients. Use tf.function."
    return tf.raw_ops.PreventGradient(input=result, message=message)


def import_program(stable: StableGraph) -> Program:
    """Returns the graph as a function from flat tensors to flat tensors."""
    compilation_cache.prepare(stable.digest)
    program = _programs_by_digest.get(stable.digest)
    if program is None:
        wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(stable.graph, name=""), [])
        inputs, outputs = (
            [wrapped.graph.as_graph_element(name) for name in names] for names in (stable.inputs, stable.outputs)
        )
        # Calling the concrete function takes a millisecond less than calling the wrapped graph.
        pruned = wrapped.prune(inputs, outputs)
        function = tf.function(lambda *tensors: pruned(*tensors), autograph=False)
        program = _programs_by_digest[stable.digest] = function.get_concrete_function(*_specifications(inputs))
    return program


def mappings_are_left() -> bool:
    """Returns whether XLA may compile another program; if not, logs a warning once."""
    global _warned_of_mappings
    number, limit = _num_mappings(), _mapping_limit()
    if number <= _SHARE_OF_MAPPINGS * limit:
        return True
    if not _warned_of_mappings:
        _warned_of_mappings = True
        _logger.warning(
            "This process has %d of at most %d memory mappings (/proc/sys/vm/max_map_count). XLA needs about a thousand for "
            "each program and never returns them, so further programs are run without XLA: their results are the same, but "
            "searches are slower. Start a new process, or use fewer different networks and batch sizes in one process.",
            number, limit,
        )  # fmt: skip
    return False


def _num_mappings() -> int:
    try:
        with _MAPPINGS_FILE.open("rb") as file:
            return sum(1 for _ in file)
    except OSError:
        return 0


def _mapping_limit() -> float:
    """Returns the largest number of mappings of a process; infinity if the system does not report it."""
    try:
        return int(_MAPPING_LIMIT_FILE.read_text())
    except (OSError, ValueError):
        return inf
