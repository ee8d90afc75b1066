"""Graphs whose names depend on their content alone, so that XLA recognizes a program that another process has compiled.

TensorFlow numbers functions in the whole process: the body of a loop is `while_body_4243`, where 4243 is the number of objects
that the process has created before. XLA hashes these names into the key of its cache. `with_stable_names` replaces them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

# Attributes that name other functions or Python objects by number, and are not needed unless gradients are taken.
_REMOVED_ATTRIBUTES = (
    "_class", "_gradient_op_type", "_user_specified_name", "forward_function_name", "backward_function_name",
)  # fmt: skip
_DIGEST_BYTES = 16


def with_stable_names(graph: Any) -> tuple[Any, str]:
    """Returns an equal graph in which the names of functions, and all names inside them, depend on the content alone.

    Functions are numbered in the order in which the graph refers to them, and so are the arguments and nodes of each. The names
    of the functions begin with a digest of the result, so that two graphs never give one name to different functions.

    Args:
        graph: A `tf.compat.v1.GraphDef`; it is not changed. The nodes outside of functions keep their names.

    Returns:
        The new `GraphDef`, and the digest: 32 hexadecimal digits. Every function is called `program_<digest>_<number>`.

    Raises:
        ValueError: If the graph has gradients of functions registered by name, which this function cannot rename.

    Example:
        >>> import tensorflow as tf
        >>> @tf.function(autograph=False)
        ... def double(x):
        ...     return tf.function(lambda y: 2.0 * y)(x)
        >>> graph, digest = with_stable_names(double.get_concrete_function(tf.TensorSpec([3])).graph.as_graph_def())
        >>> graph.library.function[0].signature.name == f"program_{digest}_0"
        True
    """
    if graph.library.gradient:
        raise ValueError(
            f"the graph registers gradients of {len(graph.library.gradient)} functions by name; expected none. Compile it "
            "without stable names."
        )
    stable = _with_functions_in_order(graph)
    functions = list(stable.library.function)
    parts = [stable.node, *(function.node_def for function in functions)]
    for nodes in parts:
        _clean(nodes)
    for function in functions:
        _rename_inside(function)
    references = [reference for nodes in parts for reference in _references(nodes)]
    _rename_functions(functions, references, "program")
    digest = hashlib.blake2b(stable.SerializeToString(deterministic=True), digest_size=_DIGEST_BYTES).hexdigest()
    _rename_functions(functions, references, f"program_{digest}")
    return stable, digest


def _with_functions_in_order(graph: Any) -> Any:
    """Returns a copy whose library holds the functions in use, directly or through one another, in order of first reference."""
    known = {function.signature.name: function for function in graph.library.function}
    found: dict[str, Any] = {}
    waiting = [graph.node]
    while waiting:
        for reference in _references(waiting.pop(0)):
            if reference.name in known and reference.name not in found:
                found[reference.name] = known[reference.name]
                waiting.append(known[reference.name].node_def)
    ordered = type(graph)(node=graph.node, versions=graph.versions)
    ordered.library.function.extend(found.values())
    return ordered


def _references(nodes: Iterable[Any]) -> Iterator[Any]:
    """Yields every `NameAttrList` in the attributes of the nodes, including nested ones."""
    waiting = [node.attr[name] for node in nodes for name in sorted(node.attr)]
    while waiting:
        value = waiting.pop(0)
        for reference in [value.func] if value.HasField("func") else value.list.func:
            yield reference
            waiting += [reference.attr[name] for name in sorted(reference.attr)]


def _clean(nodes: Iterable[Any]) -> None:
    for node in nodes:
        node.ClearField("device")  # the program runs on the device of its caller
        node.ClearField("experimental_debug_info")
        for name in _REMOVED_ATTRIBUTES:
            node.attr.pop(name, None)


def _rename_functions(functions: list[Any], references: list[Any], prefix: str) -> None:
    names = {function.signature.name: f"{prefix}_{number}" for number, function in enumerate(functions)}
    for reference in references:
        reference.name = names.get(reference.name, reference.name)
    for function in functions:
        function.signature.name = names[function.signature.name]


def _rename_inside(function: Any) -> None:
    """Renames the arguments, nodes and results of a function by their order."""
    names = {argument.name: f"argument_{number}" for number, argument in enumerate(function.signature.input_arg)}
    names |= {node.name: f"node_{number}" for number, node in enumerate(function.node_def)}
    for argument in function.signature.input_arg:
        argument.name = names[argument.name]
    for node in function.node_def:
        node.name = names[node.name]
        node.input[:] = [_renamed(name, names) for name in node.input]
    _rename_results(function, names)
    for attributes in (function.attr, *(function.arg_attr[number].attr for number in sorted(function.arg_attr))):
        for name in _REMOVED_ATTRIBUTES:
            attributes.pop(name, None)


def _rename_results(function: Any, names: dict[str, str]) -> None:
    results = [_renamed(function.ret[result.name], names) for result in function.signature.output_arg]
    controls = [names[function.control_ret[name]] for name in function.signature.control_output]
    function.ret.clear()
    function.control_ret.clear()
    for number, (result, source) in enumerate(zip(function.signature.output_arg, results)):
        result.name = f"result_{number}"
        function.ret[result.name] = source
    function.signature.control_output[:] = [f"control_{number}" for number in range(len(controls))]
    function.control_ret.update(zip(function.signature.control_output, controls))


def _renamed(reference: str, names: dict[str, str]) -> str:
    """Renames the node of `node`, `node:output:0` or `^node`."""
    control, name = ("^", reference[1:]) if reference.startswith("^") else ("", reference)
    node, *output = name.split(":")
    return control + ":".join([names[node], *output])
