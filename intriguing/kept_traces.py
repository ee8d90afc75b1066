"""Programs whose trace is kept on disk: to trace a search takes seconds, and to import its graph a fraction of one."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Callable, Hashable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tensorflow as tf

from intriguing import compilation_cache
from intriguing.compilation import (
    Program,
    gradients_are_recorded,
    import_program,
    mappings_are_left,
    names_of,
    signature_of,
    specifications,
)
from intriguing.stable_names import with_stable_names

_PACKAGES = ("keras", "tensorflow-probability", "tf-keras", "numpy")  # whose code a trace may contain, beside TensorFlow's


def keep_traces(function: Callable[..., Any], *, key: Callable[..., str], results: Callable[..., Any]) -> Program:
    """Returns `tf.function(function, autograph=False)`, whose graph is loaded if another process has traced it.

    That is so after `enable_cache()`, where the function is called eagerly. A function that captures tensors or variables is
    traced anew in each process.

    Args:
        function: From tensors in tuples, lists and dictionaries to a `NamedTuple` of tensors.
        key: From its arguments to a text that names what it computes, and differs wherever the graphs do. Shapes and dtypes of
            the arguments, versions, and the code of this library are added to it.
        results: The type of the `NamedTuple`.

    Returns:
        A callable with the arguments and results of `function`.
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
        """Returns how many programs there are."""
        return len(self._programs) + self._function.experimental_get_tracing_count()

    def _signature(self, arguments: tuple[Any, ...], tensors: list[tf.Tensor]) -> Hashable:
        """Returns what tells a call from calls of other programs; None if it is left to TensorFlow."""
        if not compilation_cache.is_enabled() or gradients_are_recorded() or tf.config.functions_run_eagerly():
            return None
        if not tf.executing_eagerly():
            return None
        try:
            return signature_of(arguments, tensors)
        except TypeError:
            return None

    def _loaded_or_traced(self, signature: Hashable, arguments: tuple[Any, ...], tensors: list[tf.Tensor]) -> Program:
        if not mappings_are_left():  # the trace of another process may want programs of XLA
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
    return import_program(tf.compat.v1.GraphDef.FromString(serialized), **json.loads(header))


def _traced(function: Callable[..., Any], name: str, arguments: tuple[Any, ...], tensors: list[tf.Tensor]) -> Program | None:
    """Traces and keeps a function; returns None if it captures something, or cannot be given stable names."""

    @tf.function(autograph=False)
    def flat_function(*flat: tf.Tensor) -> list[tf.Tensor]:
        packed = tf.nest.pack_sequence_as(arguments, flat)
        return list(function(*packed))

    traced = flat_function.get_concrete_function(*specifications(tensors))
    graph = traced.graph.as_graph_def()
    if traced.captured_inputs or graph.library.gradient:
        return None
    graph, digest = with_stable_names(graph)
    inputs, outputs = names_of(traced)
    header = json.dumps({"digest": digest, "inputs": inputs, "outputs": outputs})
    compilation_cache.keep_trace(name, header.encode() + b"\n" + graph.SerializeToString(deterministic=True))
    return import_program(graph, digest, inputs, outputs)


def _digest_of(*texts: str) -> str:
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=16).hexdigest()


@functools.cache
def _versions() -> str:
    """Returns what a trace depends on beside the function: the code of this library and of the packages that it calls."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    code = [hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest() for file in files]
    return " ".join([*code, *(version(package) for package in _PACKAGES)])
