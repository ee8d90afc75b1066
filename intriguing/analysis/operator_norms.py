"""The operator norm of a layer, from both sides: the most by which it can stretch a change of its input, in L2.

Below, a change that is stretched by so much; above, a proof that none is stretched by more. A convolution with zero padding and
strides is a part of one on a torus that is large enough for nothing to wrap around. There it falls into a small matrix for each
frequency, and a bound holds if a Cholesky factorization finds `bound**2 - A A^H` positive definite at every frequency. A layer
that is small enough is one such matrix itself.

All this is done once, on the host and in double precision, because it is a proof.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import ceil, pi, prod, sqrt
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from intriguing.analysis.singular_values import proved_bound, top_vector

_LANCZOS_STEPS = 40
_MOST_PARTS = 8  # of a layer with groups that is computed group by group
_ROUNDING = 1e-6  # of sums in single precision, outward on either side
_MATRIX_ENTRIES = 2**23  # in memory at once
_UNROLLED_ENTRIES = 2**23  # of a layer that is taken as the matrix that it is; two seconds, and twice as many take six


MOVERS = (
    keras.layers.Flatten, keras.layers.Reshape, keras.layers.Permute, keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D,
    keras.layers.ZeroPadding3D, keras.layers.Cropping1D, keras.layers.Cropping2D, keras.layers.Cropping3D, keras.layers.Dropout,
    keras.layers.SpatialDropout1D, keras.layers.SpatialDropout2D, keras.layers.SpatialDropout3D, keras.layers.GaussianNoise,
    keras.layers.GaussianDropout, keras.layers.InputLayer,
)  # fmt: skip


class OperatorNorm(NamedTuple):
    """Bounds of the L2 operator norm of a layer, output per input: `lower <= norm <= upper`."""

    lower: float
    upper: float


Rule = Callable[[Any, tuple[int, ...]], OperatorNorm]
"""From a layer and the shape of one input, without the batch axis, to its norm."""

_RULES: dict[type, Rule] = {}


def register_norm(*kinds: type) -> Callable[[Rule], Rule]:
    """Registers a rule for layers of some classes, and of those derived from them without a rule or a `call` of their own.

    A rule takes the layer and the shape of one input, and answers for what the layer does before its activation function.

    Example:
        >>> class Scaling(keras.Layer):
        ...     def __init__(self, factor):
        ...         super().__init__()
        ...         self.factor = factor
        ...     def call(self, inputs):
        ...         return self.factor * inputs
        >>> @register_norm(Scaling)
        ... def norm_of_scaling(layer, input_shape):
        ...     return OperatorNorm(abs(layer.factor), abs(layer.factor))
        >>> operator_norm(Scaling(-3.0), input_shape=(8,))
        OperatorNorm(lower=3.0, upper=3.0)
    """

    def register(rule: Rule) -> Rule:
        _RULES.update({kind: rule for kind in kinds})
        return rule

    return register


def operator_norm(layer: keras.Layer, input_shape: Sequence[int]) -> OperatorNorm:
    """Bounds the L2 operator norm of what a layer does before its activation function, in inference.

    For a layer that is not affine, such as max pooling, it is the least Lipschitz constant.

    Args:
        layer: A built Keras layer.
        input_shape: Shape of one input, without the batch axis.

    Returns:
        An `OperatorNorm`. The lower bound is attained by a change of the input; the upper one is proved in double precision.

    Raises:
        ValueError: If there is no rule for layers of this class; the message says how to register one.

    References:
        Szegedy et al., Intriguing properties of neural networks, 2014, section 4.3; its equation (1) has the wrong exponent and
        power of the stride, and samples too few frequencies. Sedghi, Gupta, Long, The singular values of convolutional layers,
        2019.
    """
    rule = _rule_of(layer)
    if rule is not None:
        return rule(layer, tuple(int(size) for size in input_shape))
    raise ValueError(
        f"no rule for the operator norm of the layer {layer.name!r}, a {type(layer).__name__}. Register one with "
        f"@register_norm({type(layer).__name__}), a function from the layer and the shape of one input to an OperatorNorm."
    )


def has_norm_rule(layer: Any) -> bool:
    """Whether `operator_norm` knows layers of this class."""
    return _rule_of(layer) is not None


def _rule_of(layer: Any) -> Rule | None:
    kind: Any = next((kind for kind in type(layer).__mro__ if kind in _RULES), None)
    # What is derived from a layer and computes something else is another layer.
    return _RULES[kind] if kind is not None and type(layer).call is kind.call else None


@register_norm(keras.layers.Dense)
def _norm_of_dense(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    kernel = np.asarray(layer.kernel, np.float64)
    return _bounds(_linear_copy(layer, input_shape[-1:]), input_shape[-1:], [kernel[np.newaxis]])


@register_norm(
    keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D, keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D
)
def _norm_of_convolution(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    linear = _linear_copy(layer, input_shape)
    blocks = _frequency_blocks(_kernels_of_groups(linear), _grid(layer, input_shape), layer.strides, layer.dilation_rate)
    return _bounds(linear, input_shape, blocks)


@register_norm(keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
def _norm_of_transposed_convolution(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    """The adjoint of the convolution with the same kernel, from the grid of the outputs to that of the inputs."""
    linear = _linear_copy(layer, input_shape)
    grid = _grid(layer, tuple(linear.compute_output_shape((1, *input_shape)))[1:])
    blocks = _frequency_blocks(_kernels_of_groups(linear), grid, layer.strides, layer.dilation_rate)
    return _bounds(linear, input_shape, blocks)


@register_norm(keras.layers.MaxPooling1D, keras.layers.MaxPooling2D, keras.layers.MaxPooling3D)
def _norm_of_max_pooling(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    """One pixel may be the maximum of every window that holds it, and all of them follow it."""
    windows = 1
    for size, pool, stride in zip(_grid(layer, input_shape), layer.pool_size, layer.strides, strict=True):
        windows *= _most_windows(size, pool, stride, layer.padding)
    return _exactly(sqrt(windows))


@register_norm(keras.layers.AveragePooling1D, keras.layers.AveragePooling2D, keras.layers.AveragePooling3D)
def _norm_of_average_pooling(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    """The mean over a box is that of one axis after another: a Kronecker product, whose norm is that of the factors."""
    norm = 1.0
    for size, pool, stride in zip(_grid(layer, input_shape), layer.pool_size, layer.strides, strict=True):
        rows = [np.isin(np.arange(size), list(window)) for window in _windows(size, pool, stride, layer.padding)]
        # Padding is not counted in the mean.
        norm *= np.linalg.norm(np.array([row / row.sum() for row in rows]), 2)
    return _exactly(float(norm))


@register_norm(keras.layers.GlobalAveragePooling1D, keras.layers.GlobalAveragePooling2D, keras.layers.GlobalAveragePooling3D)
def _norm_of_global_average_pooling(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    return _exactly(1.0 / sqrt(prod(_grid(layer, input_shape))))


@register_norm(keras.layers.GlobalMaxPooling1D, keras.layers.GlobalMaxPooling2D, keras.layers.GlobalMaxPooling3D)
def _norm_of_global_max_pooling(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    return OperatorNorm(1.0, 1.0)


@register_norm(keras.layers.BatchNormalization)
def _norm_of_batch_normalization(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    scales = 1.0 / np.sqrt(np.asarray(layer.moving_variance, np.float64) + layer.epsilon)
    if layer.scale:
        scales = scales * np.asarray(layer.gamma, np.float64)
    return _exactly(float(np.max(np.abs(scales))))


@register_norm(keras.layers.Normalization)
def _norm_of_normalization(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    deviations = np.maximum(np.sqrt(np.asarray(layer.variance, np.float64)), keras.config.epsilon())
    return _exactly(float(np.max(deviations if layer.invert else 1.0 / deviations)))


@register_norm(keras.layers.Rescaling)
def _norm_of_rescaling(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    return _exactly(float(np.max(np.abs(np.asarray(layer.scale, np.float64)))))


@register_norm(*MOVERS)
def _norm_of_moving_values(layer: Any, input_shape: tuple[int, ...]) -> OperatorNorm:
    """Values are moved, padded with zeros or left out; noise is absent in inference."""
    return OperatorNorm(1.0, 1.0)


def _exactly(norm: float) -> OperatorNorm:
    return OperatorNorm(norm * (1.0 - _ROUNDING), norm * (1.0 + _ROUNDING))


def _linear_copy(layer: Any, input_shape: tuple[int, ...]) -> Any:
    """Returns the layer with the same kernel, without offset and activation function."""
    config = {**layer.get_config(), "use_bias": False, "activation": None, "name": "linear"}
    zeros = {key: "zeros" for key in config if key.endswith("_initializer")}  # faster than random numbers
    config.pop("lora_rank", None)  # a low-rank addition is in the kernel already
    linear = type(layer).from_config({**config, **zeros})
    linear.build((None, *input_shape))
    linear.set_weights([np.asarray(layer.kernel)])
    return linear


def _group_by_group(linear: Any, input_shape: tuple[int, ...]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the layer, as so many without groups: on a CPU, TensorFlow takes several times as long for those with groups."""
    groups = getattr(linear, "groups", 1)
    if groups == 1 or groups > _MOST_PARTS or linear.data_format == "channels_first":
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
    """Returns the kernel as `[groups, *window, inputs, outputs]` of a group; which of the two is which makes no difference."""
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

    Nothing wraps around on a torus of at least the grid and the window less one, a multiple of the stride. Of the frequencies
    that a stride makes one, the matrices stand side by side, over the square root of their number.
    """
    window = kernels.shape[1:-2]
    reach = [dilation * (size - 1) + 1 for dilation, size in zip(dilations, window, strict=True)]
    sizes = [ceil((n + r - 1) / stride) * stride for n, r, stride in zip(grid, reach, strides, strict=True)]
    coarse = [size // stride for size, stride in zip(sizes, strides, strict=True)]
    places = np.indices(window).reshape(len(window), -1).T * np.array(dilations)
    aliases = np.indices(tuple(strides)).reshape(len(strides), -1).T * np.array(coarse)
    # A kernel is real: opposite frequencies have conjugate matrices.
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
            # Two real products, and not one with a kernel that NumPy would make complex.
            matrices = np.cos(angles) @ weights - 1j * (np.sin(angles) @ weights)
            yield matrices.reshape(len(those), len(aliases) * inputs, outputs)


def _bounds(linear: Any, input_shape: Sequence[int], blocks: Iterable[np.ndarray]) -> OperatorNorm:
    """Bounds a linear layer, given matrices none of whose singular values it exceeds."""
    symmetric = _forth_and_back(_group_by_group(linear, tuple(input_shape)), input_shape)
    if prod(input_shape) * prod(linear.compute_output_shape((1, *input_shape))) <= _UNROLLED_ENTRIES:
        basis = tf.reshape(tf.eye(prod(input_shape)), [-1, *input_shape])
        matrix = np.asarray(linear(basis), np.float64).reshape(prod(input_shape), -1)
        blocks = [matrix[np.newaxis]]
        # TensorFlow's gradient of a transposed convolution in three dimensions is wrong for strides beyond the window.
        symmetric = functools.partial(_matrix_forth_and_back, matrix)
    lower = _stretch(linear, top_vector(symmetric, prod(input_shape), _LANCZOS_STEPS).reshape(1, *input_shape))
    upper = lower
    for matrices in blocks:
        upper = proved_bound(matrices, upper)
    return OperatorNorm(lower * (1.0 - _ROUNDING), upper * (1.0 + _ROUNDING))


def _forth_and_back(linear: Callable[[tf.Tensor], tf.Tensor], input_shape: Sequence[int]) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the layer followed by its adjoint, as a map of flat arrays."""

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
    """Returns by how much the layer stretches a change of its input."""
    rounded = change.astype(np.float32)
    return float(np.linalg.norm(np.asarray(linear(rounded), np.float64)) / np.linalg.norm(rounded.astype(np.float64)))


def _windows(size: int, pool: int, stride: int, padding: str) -> Iterator[range]:
    """Yields the places of one axis that each window holds."""
    if padding == "same":
        number = ceil(size / stride)
        start = -(max((number - 1) * stride + pool - size, 0) // 2)
    else:
        number, start = (size - pool) // stride + 1, 0
    for index in range(number):
        begin = start + index * stride
        yield range(max(begin, 0), min(begin + pool, size))


def _most_windows(size: int, pool: int, stride: int, padding: str) -> int:
    """Returns how many windows hold the place that most of them hold."""
    held = np.zeros(size, int)
    for window in _windows(size, pool, stride, padding):
        held[window.start : window.stop] += 1
    return int(held.max())
