"""Programs whose graph is stored on disk: tracing a search takes seconds, importing its graph takes less than one second."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Callable, Hashable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tensorflow as tf

from intriguing.distribution import compilation_cache
from intriguing.distribution.compilation import (
    Program,
    StableGraph,
    import_program,
    mappings_are_left,
    signature_of,
    trace_with_stable_names,
)
from intriguing.distribution.tensorflow_internals import gradients_are_recorded

_PACKAGES = ("keras", "tensorflow-probability", "tf-keras", "numpy")  # a trace may depend on their code


def keep_traces(function: Callable[..., Any], *, key: Callable[..., str], results: Callable[..., Any]) -> Program:
    """Compiles a function as `tf.function(function, autograph=False)` does, and stores its graph on disk.

    After `enable_cache()`, the graph is loaded if another process has traced the function. A function that captures tensors or
    variables, or that is called inside a `tf.function`, is traced in each process.

    Args:
        function: A function from tensors in tuples, lists and dictionaries to a `NamedTuple` of tensors.
        key: A function from the arguments to a text that identifies the computation: functions with equal keys must have equal
            graphs. The text need not contain shapes and dtypes of the arguments, versions of packages, and the code of this
            library.
        results: The type of the `NamedTuple`.

    Returns:
        A callable with the arguments and results of `function`.

    Example:
        >>> import tensorflow as tf
        >>> from typing import NamedTuple
        >>> class Sum(NamedTuple):
        ...     total: tf.Tensor
        >>> program = keep_traces(lambda x, y: Sum(x + y), key=lambda x, y: "sum", results=Sum)
        >>> program(tf.constant(1.0), tf.constant(2.0)).total
        <tf.Tensor: shape=(), dtype=float32, numpy=3.0>
    """
    return _KeptTraces(function, key, results)


class _KeptTraces:
    def __init__(self, function: Callable[..., Any], key: Callable[..., str], results: Callable[..., Any]) -> None:
        self._untraced = function
        self._function = tf.function(function, autograph=False)
        self._key = key
        self._results = results
        self._programs: dict[Hashable, Program] = {}
        self._lock = threading.RLock()

    def __call__(self, *arguments: Any) -> Any:
        tensors: list[tf.Tensor] = []
        signature = self._signature(arguments, tensors)
        if signature is None:
            return self._function(*arguments)
        if signature in self._programs:
            return self._programs[signature](arguments, tensors)
        with self._lock:
            if signature not in self._programs:
                self._programs[signature] = self._loaded_or_traced(signature, arguments, tensors)
        results = self._programs[signature](arguments, tensors)
        compilation_cache.collect()
        return results

    def experimental_get_tracing_count(self) -> int:
        """Returns the number of programs."""
        return len(self._programs) + self._function.experimental_get_tracing_count()

    def _signature(self, arguments: tuple[Any, ...], tensors: list[tf.Tensor]) -> Hashable:
        """Returns a key of the program for these arguments; None if `tf.function` is called instead."""
        if not compilation_cache.is_enabled() or gradients_are_recorded() or tf.config.functions_run_eagerly():
            return None
        if not tf.executing_eagerly():
            return None
        try:
            return signature_of(arguments, tensors)
        except TypeError:
            return None

    def _loaded_or_traced(self, signature: Hashable, arguments: tuple[Any, ...], tensors: list[tf.Tensor]) -> Program:
        if not mappings_are_left():  # a graph on disk may require XLA
            return lambda arguments, tensors: self._function(*arguments)
        name = _digest_of(self._key(*arguments), repr(signature), _versions())
        program = _loaded(name) or _traced(self._untraced, name, arguments, tensors)
        if program is None:
            return lambda arguments, tensors: self._function(*arguments)
        return lambda arguments, tensors: self._results(*program(*tensors))


def _loaded(name: str) -> Program | None:
    content = compilation_cache.read_trace(name)
    if content is None:
        return None
    header, _, serialized = content.partition(b"\n")
    return import_program(StableGraph(tf.compat.v1.GraphDef.FromString(serialized), **json.loads(header)))


def _traced(function: Callable[..., Any], name: str, arguments: tuple[Any, ...], tensors: list[tf.Tensor]) -> Program | None:
    """Traces a function and stores its graph; returns None if it captures tensors or variables, or registers gradients."""

    @tf.function(autograph=False)
    def flat_function(*flat: tf.Tensor) -> list[tf.Tensor]:
        return list(function(*tf.nest.pack_sequence_as(arguments, flat)))

    stable = trace_with_stable_names(flat_function, tensors)
    if stable is None:
        return None
    header = json.dumps({"digest": stable.digest, "inputs": stable.inputs, "outputs": stable.outputs})
    serialized = stable.graph.SerializeToString(deterministic=True)
    compilation_cache.keep_trace(name, header.encode() + b"\n" + serialized)
    return import_program(stable)


def _digest_of(*texts: str) -> str:
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=16).hexdigest()


@functools.cache
def _versions() -> str:
    """Returns digests of the code of this library, and the versions of the packages, on which a trace depends."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    code = [hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest() for file in files]
    return " ".join([*code, *(_version(package) for package in _PACKAGES)])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a nightly build has another name
        return "unknown"
