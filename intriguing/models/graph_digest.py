"""A digest of the operations of a traced function: equal for two traces of one computation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def digest(function: Any) -> str:
    """Hashes a traced function by its operations and their connections, so that the names of layers do not matter.

    The result is equal for two traces of one classifier, even if they call functions, whose names contain numbers.
    """
    definition = function.graph.as_graph_def()
    library = {part.signature.name: part for part in definition.library.function}
    known: dict[str, str] = {}

    def of_function(name: str) -> str:
        if name not in library:
            return name
        if name not in known:
            known[name] = "itself"
            part = library[name]
            position = _positions(part.node_def, [argument.name for argument in part.signature.input_arg])
            returned = sorted(_renamed(source, position) for source in part.ret.values())
            content = _canonical(part.node_def, position, of_function) + ";".join(returned).encode()
            known[name] = hashlib.sha256(content).hexdigest()
        return known[name]

    position = _positions(definition.node)
    hashed = hashlib.sha256(_canonical(definition.node, position, of_function))
    hashed.update(",".join(_renamed(tensor.name, position) for tensor in function.outputs).encode())
    return hashed.hexdigest()


def _positions(nodes: Any, arguments: Sequence[str] = ()) -> dict[str, str]:
    positions = {name: f"argument{index}" for index, name in enumerate(arguments)}
    return positions | {node.name: str(index) for index, node in enumerate(nodes)}


def _renamed(source: str, position: Mapping[str, str]) -> str:
    name, colon, port = source.lstrip("^").partition(":")
    return position.get(name, name) + colon + port


def _canonical(nodes: Any, position: Mapping[str, str], of_function: Callable[[str], str]) -> bytes:
    """Serializes nodes; positions replace the names of nodes, and digests replace the names of functions."""
    parts = []
    for node in nodes:
        renamed = type(node)()
        renamed.CopyFrom(node)
        renamed.name = position[node.name]
        renamed.input[:] = [_renamed(source, position) for source in node.input]
        renamed.ClearField("experimental_debug_info")
        for private in [key for key in renamed.attr if key.startswith("_")]:
            del renamed.attr[private]
        for value in renamed.attr.values():
            for callee in [value.func] if value.HasField("func") else value.list.func:
                callee.name = of_function(callee.name)
        parts.append(renamed.SerializeToString(deterministic=True))
    return b"".join(parts)
