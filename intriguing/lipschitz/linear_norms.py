"""The norms of linear layers with a kernel: dense layers, and convolutions of all kinds.

The lower bound is attained by a vector, and the upper bound is proved. A convolution with zero padding and strides is a part of
a circular convolution on a torus that is large enough to have no wrap-around. The Fourier transform decomposes the circular
convolution into a small matrix A for each frequency. A number is proved to be a bound if `bound**2 - A A^H` has a Cholesky
factorization at every frequency, and is thus positive definite. A layer that is small enough is unrolled to one such matrix.

The computation runs once, on the host, and in double precision, because it is a proof.

References:
    Sedghi, Gupta, Long, The singular values of convolutional layers, 2019, for the decomposition by frequencies. Delattre,
    Barthelemy, Araujo, Allauzen, Efficient bound of Lipschitz constant for convolutional layers by Gram iteration, 2023, for
    bounds of zero-padded convolutions by circular ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import ceil, frexp, pi, prod, sqrt
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from intriguing.lipschitz.operator_norms import ROUNDING, OperatorNorm, register_norm
from intriguing.lipschitz.singular_values import proved_bound, top_vector
from intriguing.models.layer_graph import described
from intriguing.models.layer_twins import inference_config

_LANCZOS_STEPS = 40
_MOST_GROUPS = 8  # of a layer that is computed group by group
_MATRIX_ENTRIES = 2**23  # in memory at a time
_UNROLLED_ENTRIES = 2**23  # of a layer that is unrolled to one matrix, in two seconds; twice as many entries take six


@register_norm(keras.layers.Dense)
def _norm_of_dense(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    return _norm_of_matrices(np.array(layer.kernel, np.float64)[np.newaxis])


def _check_equation(layer: Any, input_shape: tuple[int, ...]) -> None:
    _matrices_of_einsum(layer, input_shape)


@register_norm(keras.layers.EinsumDense, check=_check_equation)
def _norm_of_einsum_dense(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    matrices, num_summed = _matrices_of_einsum(layer, input_shape)
    lower, upper = _norm_of_matrices(matrices)
    return OperatorNorm(lower * sqrt(num_summed), upper * sqrt(num_summed))


def _matrices_of_einsum(layer: Any, input_shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """Returns matrices `[blocks, inputs, outputs]`, and the number of input values that are summed without weights.

    The matrix is repeated along axes that only the input and the output have. Along axes that the input, the kernel and the
    output have, there is one block for each index.
    """
    sources, kernel_axes, results = _axes_of_equation(layer)
    if sources[0] != results[0] or sources[0] in kernel_axes or any(len(set(axes)) < len(axes) for axes in (sources, results)):
        raise ValueError(
            f"{described(layer)}, with the equation {layer.equation!r} has no rule for its norm: the first axis must be "
            "the batch axis, and no letter may be repeated."
        )
    shared = [axis for axis in kernel_axes if axis in sources and axis in results]
    inputs = [axis for axis in kernel_axes if axis in sources and axis not in results]
    outputs = [axis for axis in kernel_axes if axis not in sources and axis in results]
    kernel = np.array(layer.kernel, np.float64)
    ordered = np.einsum(f"{kernel_axes}->{''.join(shared + inputs + outputs)}", kernel)
    sizes = dict(zip(kernel_axes, kernel.shape, strict=True))
    blocks, rows, columns = (prod(sizes[axis] for axis in axes) for axes in (shared, inputs, outputs))
    lengths = dict(zip(sources.replace("_", ""), (1, *input_shape), strict=False))
    summed = prod(lengths[axis] for axis in sources if axis not in kernel_axes and axis not in results)
    return ordered.reshape(blocks, rows, columns), summed


def _axes_of_equation(layer: Any) -> tuple[str, str, str]:
    """Returns the letters of the input, the kernel and the output; an ellipsis at the start of both is the batch axis, `_`."""
    left, results = layer.equation.replace(" ", "").split("->")
    sources, kernel_axes = left.split(",")
    if sources.startswith("...") and results.startswith("..."):
        sources, results = "_" + sources[3:], "_" + results[3:]
    return sources.replace("...", "__"), kernel_axes, results.replace("...", "__")


@register_norm(
    keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D, keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D
)
def _norm_of_convolution(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    return _norm_of_kernel(layer, type(layer), inference_config(layer), np.asarray(layer.kernel, np.float64), input_shape)


@register_norm(keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
def _norm_of_transposed_convolution(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    """Uses that the layer is the adjoint of the convolution with the same kernel from its output grid to its input grid."""
    kernel = np.asarray(layer.kernel, np.float64)
    return _norm_of_kernel(layer, type(layer), inference_config(layer), kernel, input_shape, transposed=True)


@register_norm(keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
def _norm_of_separable_convolution(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    """Uses that the layer is a convolution whose kernel is the product of the depthwise and the pointwise kernel."""
    by_channel, across = (np.asarray(kernel, np.float64) for kernel in (layer.depthwise_kernel, layer.pointwise_kernel))
    channels, multiplier = by_channel.shape[-2:]
    across = across.reshape(channels, multiplier, -1)
    kernel = np.einsum("...cm,cmo->...co", by_channel, across)
    kind = keras.layers.Conv1D if isinstance(layer, keras.layers.SeparableConv1D) else keras.layers.Conv2D
    shared = ("kernel_size", "strides", "padding", "data_format", "dilation_rate", "filters")
    config = {key: value for key, value in inference_config(layer).items() if key in shared}
    return _norm_of_kernel(layer, kind, config, kernel, input_shape)


def _norm_of_kernel(
    layer: Any, kind: Any, config: dict[str, Any], kernel: np.ndarray, input_shape: tuple[int, ...], *, transposed: bool = False
) -> OperatorNorm:
    """Bounds the norm of a convolution with a kernel, which is scaled so that single precision does not overflow.

    The kernel is rounded to single precision; this changes the norm by at most the norm of the rounding error.
    """
    scale = _scale_of(kernel)
    rounded = (kernel / scale).astype(np.float32)
    linear = _linear_copy(kind, config, rounded, input_shape)
    fine = tuple(linear.compute_output_shape((1, *input_shape)))[1:] if transposed else input_shape
    blocks = _frequency_blocks(_kernels_of_groups(linear), _grid(layer, fine), linear.strides, linear.dilation_rate)
    lower, upper = _bounds(linear, input_shape, blocks)
    lost = _schur_bound(kernel / scale - rounded)
    return OperatorNorm(max(lower - lost, 0.0) * scale, (upper + lost) * scale)


def _scale_of(values: np.ndarray) -> float:
    """Returns a power of two near the largest absolute value; dividing by it is exact."""
    return 2.0 ** (frexp(float(np.max(np.abs(values), initial=0.0)))[1] - 1)


def _schur_bound(kernel: np.ndarray) -> float:
    """Bounds the norm of a convolution by Schur's test: the root of the largest row sum times the largest column sum."""
    over_window = np.abs(kernel).sum(axis=tuple(range(kernel.ndim - 2)))
    rows, columns = (over_window.sum(axis=axis).max() for axis in (0, 1))
    return sqrt(float(rows) * float(columns))


def _norm_of_matrices(matrices: np.ndarray) -> OperatorNorm:
    """Bounds the largest singular value of some matrices `[matrices, rows, columns]`, which it overwrites."""
    scale = _scale_of(matrices)
    matrices /= scale  # in place, because a kernel may have a gigabyte
    lower = max(_stretch_of_matrix(matrix) for matrix in matrices)
    upper = proved_bound(matrices, lower)
    return OperatorNorm(lower * scale * (1.0 - ROUNDING), upper * scale * (1.0 + ROUNDING))


def _stretch_of_matrix(matrix: np.ndarray) -> float:
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    top = top_vector(functools.partial(_matrix_forth_and_back, wide), len(wide), _LANCZOS_STEPS)
    return float(np.linalg.norm(top @ wide) / np.linalg.norm(top))


def _linear_copy(kind: Any, config: dict[str, Any], kernel: np.ndarray, input_shape: tuple[int, ...]) -> Any:
    """Returns a convolution with a kernel in single precision, without bias and activation function."""
    config = {**config, "use_bias": False, "name": "linear", "dtype": "float32"}
    config.pop("lora_rank", None)  # `layer.kernel` includes the low-rank addition
    linear = kind.from_config(config)
    linear.build((None, *input_shape))
    linear.set_weights([kernel])
    return linear


def _group_by_group(linear: Any, input_shape: tuple[int, ...]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the layer as one convolution for each group: on a CPU, TensorFlow is several times slower for grouped ones."""
    groups = getattr(linear, "groups", 1)
    if groups == 1 or groups > _MOST_GROUPS or linear.data_format == "channels_first":
        return linear
    shape = (*input_shape[:-1], input_shape[-1] // groups)
    config = {**linear.get_config(), "groups": 1, "filters": linear.filters // groups}
    parts = []
    for kernel in np.split(linear.get_weights()[0], groups, axis=-1):
        parts.append(type(linear).from_config(config))
        parts[-1].build((None, *shape))
        parts[-1].set_weights([kernel])
    return lambda change: tf.concat([part(piece) for part, piece in zip(parts, tf.split(change, groups, axis=-1))], axis=-1)


def _kernels_of_groups(layer: Any) -> np.ndarray:
    """Returns the kernel as `[groups, *window, inputs, outputs]`; exchanging inputs and outputs does not change the norm."""
    kernel = np.asarray(layer.get_weights()[0], np.float64)
    if isinstance(layer, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D):
        return np.moveaxis(kernel, -2, 0)[..., np.newaxis, :]
    groups = getattr(layer, "groups", 1)
    return np.moveaxis(kernel.reshape(*kernel.shape[:-1], groups, kernel.shape[-1] // groups), -2, 0)


def _grid(layer: Any, shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape[1:] if layer.data_format == "channels_first" else shape[:-1])


def _frequency_blocks(
    kernels: np.ndarray, grid: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Iterator[np.ndarray]:
    """Yields matrices `[frequencies, inputs, outputs]` whose largest singular value is the norm of the convolution on a torus.

    There is no wrap-around if the size of the torus is at least `grid + window - 1`; it is a multiple of the stride. The
    matrices of frequencies that are aliases of each other, because of the stride, are concatenated, and divided by the square
    root of their number.
    """
    window = kernels.shape[1:-2]
    reach = [dilation * (size - 1) + 1 for dilation, size in zip(dilations, window, strict=True)]
    sizes = [ceil((n + r - 1) / stride) * stride for n, r, stride in zip(grid, reach, strides, strict=True)]
    coarse = [size // stride for size, stride in zip(sizes, strides, strict=True)]
    places = np.indices(window).reshape(len(window), -1).T * np.array(dilations)
    aliases = np.indices(tuple(strides)).reshape(len(strides), -1).T * np.array(coarse)
    # The kernel is real, so that opposite frequencies have conjugate matrices.
    half = [coarse[0] // 2 + 1, *coarse[1:]]
    frequencies = np.indices(half).reshape(len(half), -1).T
    inputs, outputs = kernels.shape[-2:]
    at_once = max(1, _MATRIX_ENTRIES // (len(aliases) * inputs * outputs))
    for kernel in kernels:
        weights = kernel.reshape(-1, inputs * outputs) / sqrt(prod(strides))
        for start in range(0, len(frequencies), at_once):
            those = frequencies[start : start + at_once, np.newaxis] + aliases
            turns = (those / np.array(sizes)) @ places.T
            angles = (2.0 * pi * turns).reshape(-1, len(places))
            # Two real products are faster than one for which NumPy converts the kernel to complex numbers.
            matrices = np.cos(angles) @ weights - 1j * (np.sin(angles) @ weights)
            yield matrices.reshape(len(those), len(aliases) * inputs, outputs)


def _bounds(linear: Any, input_shape: Sequence[int], blocks: Iterable[np.ndarray]) -> OperatorNorm:
    """Bounds the norm of a linear layer, which is at most the largest singular value of the given matrices."""
    symmetric = _forth_and_back(_group_by_group(linear, tuple(input_shape)), input_shape)
    if prod(input_shape) * prod(linear.compute_output_shape((1, *input_shape))) <= _UNROLLED_ENTRIES:
        basis = tf.reshape(tf.eye(prod(input_shape)), [-1, *input_shape])
        matrix = np.asarray(linear(basis), np.float64).reshape(prod(input_shape), -1)
        blocks = [matrix[np.newaxis]]
        # TensorFlow's gradient of Conv3DTranspose is wrong if a stride is larger than the window.
        symmetric = functools.partial(_matrix_forth_and_back, matrix)
    lower = _stretch(linear, top_vector(symmetric, prod(input_shape), _LANCZOS_STEPS).reshape(1, *input_shape))
    upper = lower
    for matrices in blocks:
        upper = proved_bound(matrices, upper)
    return OperatorNorm(lower * (1.0 - ROUNDING), upper * (1.0 + ROUNDING))


def _forth_and_back(linear: Callable[[tf.Tensor], tf.Tensor], input_shape: Sequence[int]) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the layer followed by its adjoint, as a function of flat arrays."""

    @tf.function(autograph=False)
    def gradient(change: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(change)
            energy = 0.5 * tf.reduce_sum(linear(change) ** 2)
        return tape.gradient(energy, change)

    def symmetric(change: np.ndarray) -> np.ndarray:
        return np.asarray(gradient(tf.constant(change.reshape(1, *input_shape), tf.float32)), np.float64).ravel()

    return symmetric


def _matrix_forth_and_back(matrix: np.ndarray, change: np.ndarray) -> np.ndarray:
    return matrix @ (matrix.T @ change)


def _stretch(linear: Any, change: np.ndarray) -> float:
    """Returns the norm of the layer's output for a change of its input, divided by the norm of the change."""
    rounded = change.astype(np.float32)
    return float(np.linalg.norm(np.asarray(linear(rounded), np.float64)) / np.linalg.norm(rounded.astype(np.float64)))
