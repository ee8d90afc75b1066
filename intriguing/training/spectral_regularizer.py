"""A penalty on the operator norm of a layer, as section 4.3 of the paper suggests.

The penalty uses a proved upper bound that is differentiable and cheap enough for every training step. The bound depends only on
the kernel. `lipschitz.operator_norms` also uses the size of the image, and is tighter for convolutions; it runs once, on the
host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, isfinite, prod, sqrt
from typing import Any

import keras
import tensorflow as tf

from intriguing.models.keras_internals import all_layers

_SQUARINGS = 2  # of the Gram matrix: the bound of n equal singular values is n**(1 / 16) too large; each costs 0.1 steps
_UNIT = 2.0**-24  # the relative rounding of one operation in single precision
_OUTWARD = 1.0 + 2.0**-20  # covers the rounding of a few scalar operations
_TINY = 1e-30  # covers underflow, and makes the gradient of a kernel of zeros finite


@keras.saving.register_keras_serializable(package="intriguing")
class SpectralRegularizer(keras.regularizers.Regularizer):
    """Adds `factor * norm_bound(kernel)**2` to the loss: a weight decay of the largest singular value.

    The square is bounded below and smooth at zero. The logarithm of the norm, whose sum over the layers is the logarithm of the
    bound of the network, is neither: its gradient would grow without limit as a kernel shrinks.

    For the kernels of Dense, Conv1D, Conv2D, Conv3D and their transposes.

    Example:
        >>> layer = keras.layers.Dense(100, kernel_regularizer=SpectralRegularizer(1e-3))

    References:
        Szegedy et al., Intriguing properties of neural networks, 2014, section 4.3. Yoshida, Miyato, Spectral norm
        regularization for improving the generalizability of deep learning, 2017. https://arxiv.org/abs/1705.10941
    """

    def __init__(self, factor: float, *, strides: int | Sequence[int] = 1):
        """Stores the settings.

        Args:
            factor: Weight of the penalty.
            strides: Strides of the convolution; the bound for 1 holds for all strides.

        Raises:
            ValueError: If the factor is negative or not finite, or a stride is not positive.
        """
        if not (isfinite(factor) and factor >= 0.0):
            raise ValueError(f"factor must be finite and not negative; received {factor}.")
        self.factor = float(factor)
        self.strides = strides if isinstance(strides, int) else tuple(int(stride) for stride in strides)
        _check_strides(self.strides)

    def __call__(self, kernel: Any) -> tf.Tensor:
        """Returns the penalty of a kernel, a float32 scalar."""
        return self.factor * norm_bound(kernel, strides=self.strides) ** 2

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {"factor": self.factor, "strides": self.strides}


SpectralPenalties = Callable[[Sequence[tf.Tensor]], list[tf.Tensor]]
"""From the values of `model.trainable_variables` to one penalty for each kernel."""

_PENALIZED = (
    keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D, keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose,
)  # fmt: skip


def spectral_penalties(model: keras.Model, factor: float) -> SpectralPenalties:
    """Returns the penalties of the trainable kernels of all dense and convolutional layers, including nested ones.

    Args:
        model: A built model. It is not changed, so that a saved model does not require a class of this library.
        factor: As in `SpectralRegularizer`; zero for no penalties.

    Returns:
        A pure function of the trainable weights.

    Raises:
        ValueError: If there is no kernel to penalize.
    """
    if not factor:
        return lambda trainable: []
    layers = [layer for layer in all_layers(model) if isinstance(layer, _PENALIZED)]
    strides = {id(layer.kernel): getattr(layer, "strides", 1) for layer in layers}
    if not any(id(variable) in strides for variable in model.trainable_variables):
        raise ValueError(
            "the spectral penalty requires a trainable kernel of a dense or convolutional layer; the model "
            f"{model.name!r} has none. Set the penalty to zero."
        )

    def penalties(trainable: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        # Evaluated at each call, because the positions in `trainable_variables` change with `trainable`.
        return [
            SpectralRegularizer(factor, strides=strides[id(variable)])(value)
            for variable, value in zip(model.trainable_variables, trainable, strict=True)
            if id(variable) in strides
        ]

    return penalties


def norm_bound(kernel: Any, *, strides: int | Sequence[int] = 1) -> tf.Tensor:
    """Returns an upper bound of the L2 operator norm of a dense or convolutional layer that includes the rounding of float32.

    A convolution multiplies the patches of its input by one matrix, and a pixel lies in at most `prod(ceil(window / stride))`
    patches: the bound is that of the matrix, times the square root of that number. It holds for every image size, padding and
    dilation, for transposed convolutions, and for any number of groups, each of which is a part of the columns of the matrix.
    The bound is attained by a constant kernel; it is 1.4 times the norm for the kernels of the trained ConvNet, and two to
    three times the norm for random kernels. Without groups, the ratio is never much larger than that square root.

    The matrix is bounded by Gram iteration: with G = W^T W, `|W| <= norm(G**(2**k), "fro")**(1 / 2**(k + 1))` for every k.
    The bound does not cover the rounding of TensorFloat-32 and bfloat16, nor of sums over a matrix whose shorter side exceeds
    2,896.

    Args:
        kernel: Float32 `[inputs, outputs]` or `[*window, inputs, outputs]` with one to three spatial axes.
        strides: Strides of the convolution, one number for all axes or one for each; the bound for 1 holds for all strides.

    Returns:
        The bound, a float32 scalar; differentiable.

    Raises:
        ValueError: If the rank of the kernel or the number of strides is wrong.

    Example:
        >>> kernel = tf.random.stateless_normal([100, 10], seed=[0, 0])
        >>> bool(norm_bound(kernel) >= np.linalg.norm(kernel, 2))
        True

    References:
        Delattre et al., Efficient bound of Lipschitz constant for convolutional layers by Gram iteration, 2023.
        https://arxiv.org/abs/2305.16173
    """
    weights = keras.ops.cast(keras.ops.convert_to_tensor(kernel), "float32")
    shape = tuple(int(size) for size in weights.shape)
    if not 2 <= len(shape) <= 5:
        raise ValueError(
            "the kernel must be that of a Dense layer, [inputs, outputs], or of a convolution, [*window, inputs, outputs] with "
            f"one to three spatial axes; received the shape {list(shape)}. Use the regularizer for such kernels only."
        )
    overlap = prod(ceil(size / stride) for size, stride in zip(shape[:-2], _strides(strides, shape[:-2]), strict=True))
    return sqrt(overlap) * _matrix_bound(tf.reshape(weights, [-1, shape[-1]])) * _OUTWARD


def _matrix_bound(matrix: tf.Tensor) -> tf.Tensor:
    """Returns a bound of the largest singular value.

    Applies `|X|**2 <= |Y| + error`, where Y is the computed Gram matrix of the rows of X, first to the matrix, then to Y
    scaled.
    """
    rows, columns = matrix.shape
    short = matrix if rows <= columns else tf.transpose(matrix)
    gram, error = _gram_and_error(short)
    first_error, levels = error, []
    for _ in range(_SQUARINGS):
        # The bound does not depend on the scale, so that the gradient of the scale can be omitted.
        scale = tf.stop_gradient(tf.reduce_max(tf.abs(gram))) + _TINY
        gram, error = _gram_and_error(gram / scale)
        levels.append((scale, error))
    bound = tf.sqrt(tf.reduce_sum(gram**2) * (1.0 + 2.0 * gram.shape[0] ** 2 * _UNIT) + _TINY)
    for scale, error in reversed(levels):
        bound = scale * tf.sqrt(bound + error)
    return tf.sqrt(bound + first_error)


def _gram_and_error(matrix: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the Gram matrix of the rows, and an upper limit for the decrease of its norm by rounding.

    The error of a sum of n products is at most n roundings of the sum of their absolute values; these errors sum to a multiple
    of the trace. The factor 1.02 covers the rounding of the trace, and `_TINY` covers products that underflow.
    """
    gram = _gram(matrix)
    return gram, 1.02 * (matrix.shape[1] + 8) * _UNIT * tf.stop_gradient(tf.linalg.trace(gram)) + _TINY


@tf.custom_gradient
def _gram(matrix: tf.Tensor) -> Any:
    """Returns `matrix matrix^T`, with a gradient that takes one matrix product instead of TensorFlow's two.

    The Gram matrix is that of the rows, because XLA on a CPU is half as fast if the left factor is transposed.
    """
    return tf.matmul(matrix, matrix, transpose_b=True), lambda upstream: tf.matmul(upstream + tf.transpose(upstream), matrix)


def _strides(strides: int | Sequence[int], window: Sequence[int]) -> tuple[int, ...]:
    _check_strides(strides)
    each = (strides,) * len(window) if isinstance(strides, int) else tuple(strides)
    if len(each) != len(window):
        raise ValueError(
            f"strides must be one number, or one for each of the {len(window)} spatial axes of the kernel; received {strides}."
        )
    return each


def _check_strides(strides: int | Sequence[int]) -> None:
    if any(stride < 1 for stride in ([strides] if isinstance(strides, int) else strides)):
        raise ValueError(f"strides must be positive; received {strides}.")
