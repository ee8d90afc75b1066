"""Finds a layer by name, also in nested models, and builds models of the layers below it or above it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras

from intriguing.models.keras_internals import node_of
from intriguing.names import check_name


class LayerCall(NamedTuple):
    """The only call of a layer in the graph of a model.

    `layer.output` may belong to the graph of another model that used the layer earlier.
    """

    model: keras.Model
    node: Any
    mode: dict[str, bool]  # the `training` argument of the enclosing models if it was passed, as for a frozen backbone

    @property
    def layer(self) -> Any:
        """The layer that is called; it may be a model."""
        return self.node.operation

    @property
    def inputs(self) -> list[keras.KerasTensor]:
        """The inputs of the layer."""
        return self.node.input_tensors

    @property
    def output(self) -> keras.KerasTensor:
        """The output of the layer."""
        return self.node.output_tensors[0]


Path = tuple[LayerCall, ...]
"""The calls of the enclosing models of a layer, outermost first, and the call of the layer itself last."""


def is_wired(model: Any) -> bool:
    """Returns True for a functional or Sequential model that is built, so that its graph is known."""
    return isinstance(model, keras.Model) and bool(getattr(model, "inputs", None)) and bool(getattr(model, "outputs", None))


def check_wired(model: keras.Model) -> None:
    """Raises a `ValueError` unless the graph of a model is known."""
    if is_wired(model):
        return
    if isinstance(model, keras.Sequential):
        raise ValueError(
            f"the model {model.name!r} must be built, so that its graph is known. Begin it with a keras.Input, or "
            "call it on a batch of images first."
        )
    raise ValueError(
        f"the model {model.name!r} must be functional or Sequential, so that its graph is known; received a subclassed "
        "model. Pass a functional or Sequential Keras model that begins with a keras.Input."
    )


def find_path(model: keras.Model, layer_name: str, *, others: Sequence[str] = ()) -> Path:
    """Finds the call of a layer in a model, and the calls of its enclosing models.

    Args:
        model: A functional or Sequential model.
        layer_name: Name of one of its layers. For a layer of a nested model, its path, such as "backbone/conv2", or its name
            alone if only one nested model has a layer of that name.
        others: Additional valid names for the error message.

    Raises:
        TypeError: If the name is not a string.
        ValueError: If there is no such layer, if several nested models have a layer of that name, if the layer is called more
            than once or has several outputs, or if the graph of the model is not known.
    """
    check_wired(model)
    if not isinstance(layer_name, str):
        raise TypeError(
            f"the layer must be given by its name, a string; received {layer_name!r}. Pass one of "
            f"{', '.join(map(repr, _names(model)))}."
        )
    calls: list[LayerCall] = []
    mode: dict[str, bool] = {}
    for name in _full_name(model, layer_name, others).split("/"):
        node = _only_node(model, name, layer_name)
        calls.append(LayerCall(model, node, mode))
        model, mode = node.operation, {**mode, **_mode_of(node)}
    return tuple(calls)


def _mode_of(node: Any) -> dict[str, bool]:
    training = node.arguments.kwargs.get("training")
    return {} if training is None else {"training": training}


def _full_name(model: keras.Model, layer_name: str, others: Sequence[str]) -> str:
    known = list(_names(model))
    if layer_name in known:
        return layer_name
    same = [name for name in known if name.rpartition("/")[2] == layer_name]
    if len(same) > 1:
        raise ValueError(
            f"several nested models have a layer {layer_name!r}. Name one of them by its path: {', '.join(map(repr, same))}."
        )
    if not same:
        _check_inside(model, layer_name)
        check_name(layer_name, [*others, *known], "layer")
    return same[0]


def _names(model: keras.Model) -> Iterator[str]:
    for layer in model.layers:
        yield layer.name
        if is_wired(layer):
            yield from (f"{layer.name}/{name}" for name in _names(layer))


def _check_inside(model: keras.Model, layer_name: str) -> None:
    """Raises a `ValueError` if a path leads into a layer whose graph is not known."""
    for name in layer_name.split("/")[:-1]:
        layer = next((layer for layer in model.layers if layer.name == name), None)
        if layer is None:
            return
        if not is_wired(layer):
            raise ValueError(
                f"the layer {name!r} must be a functional or Sequential model, so that its layers are known; received a "
                f"{type(layer).__name__}. Name {name!r} itself or another layer."
            )
        model = layer


def _only_node(model: keras.Model, name: str, layer_name: str) -> Any:
    layer = model.get_layer(name)
    calls = [node for node in _nodes(model.outputs) if node.operation is layer]
    num_tensors = sum(len(node.output_tensors) for node in calls)
    if num_tensors != 1:
        raise ValueError(
            f"the model {model.name!r} cannot be cut at {layer_name!r}: the layer {name!r} returns {num_tensors} tensors; "
            "expected one. Name a layer that is used once and has one output."
        )
    return calls[0]


def _nodes(outputs: Sequence[keras.KerasTensor], *, above: keras.KerasTensor | None = None) -> list[Any]:
    """Returns all calls on which the given tensors depend; with `above`, without calls that only that tensor depends on."""
    nodes: list[Any] = []
    waiting, seen = list(outputs), set()
    while waiting:
        tensor = waiting.pop()
        if tensor is above:
            continue
        node = node_of(tensor)
        if id(node) not in seen:
            seen.add(id(node))
            nodes.append(node)
            waiting += node.input_tensors
    return nodes


def model_below(path: Path, tensors: Sequence[keras.KerasTensor] | None = None) -> keras.Model:
    """Returns a model from the images to the output of a layer, or to other tensors of its graph. The weights are shared."""
    *around, last = path
    parts = [_model(call.model.inputs, call.inputs) for call in around]
    parts.append(_model(last.model.inputs, [last.output] if tensors is None else tensors))
    return parts[0] if len(parts) == 1 else chained(parts, [call.mode for call in path])


def model_above(path: Path, *, name: str) -> keras.Model | None:
    """Returns a model from the output of a layer to the outputs, which shares the weights; None for the last layer.

    Raises:
        ValueError: If the outputs also depend on other tensors, because another path leads around the layer.
    """
    calls = [call for call in reversed(path) if call.output is not call.model.outputs[0]]
    for call in calls:  # Keras 3.10 does not reject such a part
        if not all(node.input_tensors for node in _nodes([call.model.outputs[0]], above=call.output)):
            raise ValueError(f"another path leads around the layer {call.layer.name!r}")
    if len(calls) == 1 and not calls[0].mode:
        return keras.Model(calls[0].output, calls[0].model.outputs[0], name=name)
    parts = [keras.Model(call.output, call.model.outputs[0]) for call in calls]
    return chained(parts, [call.mode for call in calls], name=name) if parts else None


def chained(parts: Sequence[Any], modes: Sequence[dict[str, bool]] | None = None, *, name: str | None = None) -> keras.Model:
    """Returns a model that calls the parts one after another; the first part is a model, the others are callables.

    It has a new input, because a call on a tensor of the first model would be recorded in the layers of that model.
    """
    inputs = [keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name) for tensor in parts[0].inputs]
    outputs: Any = inputs
    for part, mode in zip(parts, modes or [{}] * len(parts), strict=True):
        outputs = part(_one_or_all(outputs), **mode)
    return _model(inputs, outputs, name=name)


def _model(inputs: Sequence[keras.KerasTensor], outputs: Any, *, name: str | None = None) -> keras.Model:
    return keras.Model(_one_or_all(inputs), _one_or_all(outputs), name=name)


def _one_or_all(tensors: Any) -> Any:
    return tensors[0] if isinstance(tensors, list) and len(tensors) == 1 else tensors
