"""Loads pretrained weights from a PyTorch state dict, or from a file of named arrays.

A file is read once, so that the loaded bytes are the hashed bytes. No code in it is run. If an error is raised, the network is
not changed.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from intriguing.models.keras_internals import node_of
from intriguing.names import check_name

CHANNEL_ORDERS = ("RGB", "BGR")
"""The orders of the color channels that the first layer of a file may take."""

_BEGINNINGS = {b"<": "a web page, perhaps one that asks to log in", b"version https://git-lfs": "a pointer of Git LFS"}
_MOST_NAMES = 4  # maximum number of names in a message
_ELEMENTWISE = (keras.layers.Dropout, keras.layers.Activation, keras.layers.ReLU)
_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)

_Path = str | os.PathLike[str]


class _Target(NamedTuple):
    """The variable for an array of a file."""

    layer: keras.Layer
    variable: keras.Variable
    shape: tuple[int, ...]  # the shape of the array in the file
    converted: Callable[[np.ndarray], np.ndarray]  # from the layout in the file to that of the variable


def load_state_dict(model: keras.Model, path: _Path, *, names: Mapping[str, str], sha256: str | None = None) -> None:
    """Loads the weights of a network from a file that PyTorch saved.

    The axes of kernels are transposed from the order of PyTorch to that of Keras. The rows of a dense layer after `Flatten` are
    reordered, because PyTorch flattens channels first, and Keras flattens channels last.

    Args:
        model: A functional or sequential network of convolutional and dense layers, which is modified.
        path: A state dict. It is read by `torch.load(weights_only=True)`, which does not run code in the file.
        names: From the name of each layer with weights to its name in the file, such as `ONE_WEIRD_TRICK_IN_TORCHVISION`. With
            `{"conv1": "features.0"}`, the kernel of `conv1` is `features.0.weight`, and its bias is `features.0.bias`.
        sha256: The digest that the file must have, in hexadecimal; checked before anything is loaded.

    Raises:
        FileNotFoundError: If there is no such file.
        ModuleNotFoundError: If PyTorch is not installed.
        ValueError: If the digest is different, if the file cannot be read (a web page or a truncated file), or if its names or
            shapes are not those of the network.
        TypeError: If weights are not floating point.

    Example:
        >>> network = alexnet_one_weird_trick()  # doctest: +SKIP
        >>> load_state_dict(network, "alexnet-owt-7be5be79.pth", names=ONE_WEIRD_TRICK_IN_TORCHVISION)  # doctest: +SKIP

    References:
        PyTorch, torch.load and torch.nn.Module.state_dict. https://docs.pytorch.org/docs/stable/notes/serialization.html
    """
    targets = _targets_in_state_dict(model, names)
    content = _checked_content(path, sha256)
    torch = _imported_torch(path)

    def read() -> Any:
        # Tensors that were saved on a GPU are loaded to the CPU.
        return torch.load(io.BytesIO(content), map_location=lambda storage, location: storage, weights_only=True)

    state = _readable(read, path, "a PyTorch state dict", len(content))
    _assign(model, targets, _arrays_of_state_dict(state, path, torch), path)


def load_arrays(model: keras.Model, path: _Path, *, channel_order: str = "RGB", sha256: str | None = None) -> None:
    """Loads the weights of a network from a `.npz` file with arrays `layer/kernel` and `layer/bias` in the layout of Keras.

    A kernel of a convolution is `[height, width, inputs, outputs]`, `inputs` being those of one group; that of a dense layer is
    `[inputs, outputs]`. After `Flatten`, the channel is the fastest index of the rows.

    Args:
        model: A functional or sequential network, which is modified.
        path: A file as `save_arrays` writes it; nothing in it is unpickled.
        channel_order: "BGR" if the first layer in the file takes blue first, as networks of Caffe do. The input channels of its
            kernel are then reversed, so that this network takes red first.
        sha256: The digest that the file must have, in hexadecimal; checked before anything is loaded.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the digest is different, if the file cannot be read (a web page or a truncated file), or if its names or
            shapes are not those of the network.
        TypeError: If weights are not floating point.

    Example:
        >>> save_arrays(model, folder / "weights.npz")
        >>> load_arrays(build("FC100-100-10", image_shape=(6, 6, 1)), folder / "weights.npz")

    References:
        NumPy, numpy.lib.format. https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    check_name(channel_order, CHANNEL_ORDERS, "channel order")
    targets = _named_weights(model)
    if channel_order == "BGR":
        targets = _with_reversed_colors(targets)
    content = _checked_content(path, sha256)

    def read() -> dict[str, np.ndarray]:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return dict(file)

    arrays = _readable(read, path, "an .npz file of plain arrays", len(content))
    _assign(model, targets, arrays, path)


def save_arrays(model: keras.Model, path: _Path) -> None:
    """Writes the weights of a network in the format of `load_arrays`, which does not require PyTorch.

    Args:
        model: A functional or sequential network.
        path: The new file, whose name ends in `.npz`.

    Example:
        >>> save_arrays(model, folder / "saved.npz")
        >>> load_arrays(model, folder / "saved.npz")

    References:
        NumPy, numpy.lib.format. https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    arrays: dict[str, Any] = {name: np.asarray(target.variable) for name, target in _named_weights(model).items()}
    np.savez(path, **arrays)


def _checked_content(path: _Path, sha256: str | None) -> bytes:
    """Returns the bytes of a file after a check of its kind and its digest."""
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file of weights {str(path)!r}. Download it, or correct the path.")
    content = file.read_bytes()
    for beginning, kind in _BEGINNINGS.items():
        if content[:200].lstrip(b"\xef\xbb\xbf \r\n\t").startswith(beginning):
            raise ValueError(f"{str(path)!r} must be a file of weights; received {kind}. Download the file itself.")
    if sha256 is not None:
        _check_digest(content, sha256, path)
    return content


def _check_digest(content: bytes, expected: str, path: _Path) -> None:
    if len(expected) != 64 or set(expected.lower()) - set("0123456789abcdef"):
        raise ValueError(f"sha256 must be 64 hexadecimal digits; received {expected!r}. `sha256sum` prints them.")
    received = hashlib.sha256(content).hexdigest()
    if received != expected.lower():
        raise ValueError(
            f"{str(path)!r} must have the SHA-256 {expected.lower()}; received {received}, of {len(content)} bytes. It was not "
            "loaded. Download it again, from a source that you trust."
        )


def _imported_torch(path: _Path) -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{str(path)!r} must be read by PyTorch, which is not installed. Run `pip install intriguing[peers]`, or convert "
            "the file on a machine with PyTorch: load_state_dict, then save_arrays."
        ) from error
    return torch


def _readable(read: Callable[[], Any], path: _Path, kind: str, num_bytes: int) -> Any:
    try:
        return read()
    except Exception as error:  # an invalid file may raise any error
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"{str(path)!r} must be {kind}; its {num_bytes} bytes cannot be read as such ({reason}). Download it again if it "
            "is truncated; a file that requires code to be run is refused."
        ) from error


def _arrays_of_state_dict(state: Any, path: _Path, torch: Any) -> dict[str, np.ndarray]:
    entries = state if isinstance(state, Mapping) else {}
    if state is not entries or not all(isinstance(n, str) and isinstance(value, torch.Tensor) for n, value in entries.items()):
        received = f"a mapping with the entries {_listed(map(str, entries))}" if entries else type(state).__name__
        raise ValueError(
            f"{str(path)!r} must be a state dict, from names to tensors; received {received}. Save only `module.state_dict()`."
        )
    # NumPy has no bfloat16.
    return {name: np.asarray(value.detach().float() if value.is_floating_point() else value) for name, value in entries.items()}


def _targets_in_state_dict(model: keras.Model, names: Mapping[str, str]) -> dict[str, _Target]:
    layers = {layer.name: layer for layer in _layers_with_weights(model)}
    if set(names) != set(layers):
        nameless, unknown = [name for name in layers if name not in names], [name for name in names if name not in layers]
        raise ValueError(
            f"names must have one entry for each layer of {model.name!r} with weights; missing: {_listed(nameless)}; unknown: "
            f"{_listed(unknown)}. Pass the names for this network."
        )
    if len(set(names.values())) < len(names):
        raise ValueError(f"names must be different for all layers; received {_listed(names.values())}. Correct them.")
    targets = {}
    for name, prefix in names.items():
        layer: Any = layers[name]
        if not isinstance(layer, (keras.layers.Dense, *_CONVOLUTIONS)):
            raise ValueError(
                f"a state dict can be loaded into convolutional and dense layers only; {name!r} is a {type(layer).__name__}. "
                "Convert its weights, and use load_arrays."
            )
        targets[f"{prefix}.weight"] = _kernel_in_state_dict(layer)
        if layer.use_bias:
            targets[f"{prefix}.bias"] = _Target(layer, layer.bias, tuple(layer.bias.shape), _unchanged)
    return targets


def _kernel_in_state_dict(layer: Any) -> _Target:
    """Returns the target of a kernel. Its axes in PyTorch are outputs, inputs, window; the order of groups is that of Keras."""
    kernel = layer.kernel
    window, (inputs, outputs) = tuple(kernel.shape[:-2]), tuple(kernel.shape[-2:])

    def converted(array: np.ndarray) -> np.ndarray:
        if isinstance(layer, keras.layers.Dense):
            *places, channels = _shape_before_flatten(layer)
            array = array.reshape(outputs, channels, *places)
        return np.moveaxis(array, (1, 0), (-2, -1)).reshape(kernel.shape)

    return _Target(layer, kernel, (outputs, inputs, *window), converted)


def _shape_before_flatten(layer: Any) -> tuple[int, ...]:
    """Returns the input shape of a dense layer, before a preceding `Flatten` layer if there is one."""
    before = node_of(layer.input).operation
    while isinstance(before, _ELEMENTWISE):
        before = node_of(before.input).operation
    return tuple(before.input.shape[1:] if isinstance(before, keras.layers.Flatten) else layer.kernel.shape[:1])


def _layers_with_weights(model: keras.Model) -> list[keras.Layer]:
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"the model {model.name!r} must be built, and functional or sequential, so that its layers are known. Pass such a "
            "Keras model."
        )
    return [layer for layer in model.layers if layer.weights]


def _named_weights(model: keras.Model) -> dict[str, _Target]:
    targets: dict[str, _Target] = {}
    for layer in _layers_with_weights(model):
        for variable in layer.weights:
            name = f"{layer.name}/{variable.name}"
            if name in targets:
                raise ValueError(
                    f"names of weights must be unique; {model.name!r} has two of {name!r}. Pass a model without nested models."
                )
            targets[name] = _Target(layer, variable, tuple(variable.shape), _unchanged)
    return targets


def _unchanged(array: np.ndarray) -> np.ndarray:
    return array


def _with_reversed_colors(targets: dict[str, _Target]) -> dict[str, _Target]:
    name, first = next(iter(targets.items()))
    if not isinstance(first.layer, _CONVOLUTIONS) or first.shape[-2] != len("BGR"):
        raise ValueError(
            f"channel_order 'BGR' requires a convolution of three colors as the first layer; {name!r} has the shape "
            f"{first.shape}. Omit channel_order."
        )
    return {**targets, name: first._replace(converted=lambda array: array[..., ::-1, :])}


def _assign(model: keras.Model, targets: Mapping[str, _Target], arrays: Mapping[str, np.ndarray], path: _Path) -> None:
    """Checks all arrays, then assigns them."""
    missing, superfluous = [name for name in targets if name not in arrays], [name for name in arrays if name not in targets]
    if missing or superfluous:
        raise ValueError(
            f"{str(path)!r} must hold the {len(targets)} weights of {model.name!r} and no others; missing: {_listed(missing)}; "
            f"superfluous: {_listed(superfluous)}. Load it into the network whose weights it contains."
        )
    wrong = [name for name, target in targets.items() if arrays[name].shape != target.shape]
    if wrong:
        target, received = targets[wrong[0]], arrays[wrong[0]].shape
        others = f", and {len(wrong) - 1} more disagree" if wrong[1:] else ""
        raise ValueError(
            f"{wrong[0]} in {str(path)!r} must have the shape {target.shape} of {target.layer.name!r} of {model.name!r}; "
            f"received {received}{others}. Load it into the network whose weights it contains: another variant, image size or "
            "number of classes."
        )
    for name, array in arrays.items():
        if not np.issubdtype(array.dtype, np.floating):
            raise TypeError(
                f"{name} in {str(path)!r} must be floating point; received {array.dtype}. Save the trained weights."
            )
        if not np.isfinite(array).all():
            raise ValueError(
                f"{name} in {str(path)!r} must be finite; received NaN or infinite values. Download the file again."
            )
    for name, target in targets.items():
        target.variable.assign(target.converted(arrays[name]).astype(np.float32))


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return (", ".join(names[:_MOST_NAMES]) or "none") + more
