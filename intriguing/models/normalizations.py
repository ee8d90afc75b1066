"""Layers that divide by the energy of their inputs: across channels, and over a whole image."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="intriguing")
class LocalResponseNormalization(keras.Layer):
    """Divides each value by a power of the energy of the same and the neighboring channels at the same position.

    `b[c] = a[c] / (bias + alpha * sum(a[j]**2)) ** beta`, over the existing ones of the `depth` channels j around c. In
    contrast to `tf.nn.local_response_normalization`, the layer has second derivatives and accepts inputs of any rank.

    Args:
        depth: Number of channels in the sum, with channel c in the middle; odd.
        bias: Constant that is added to the energy; positive.
        alpha: Weight of the energy; at least zero. In Caffe, `alpha` is divided by `depth`.
        beta: The exponent; at least zero.

    Call arguments:
        inputs: Floats `[batch, ..., channels]`.

    Returns:
        Floats of the same shape.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> LocalResponseNormalization()(tf.ones([1, 5, 5, 8])).shape  # as in the network of Krizhevsky et al.
        TensorShape([1, 5, 5, 8])

    References:
        Krizhevsky, Sutskever, Hinton, ImageNet classification with deep convolutional neural networks, 2012, section 3.3.
    """

    def __init__(self, depth: int = 5, bias: float = 2.0, alpha: float = 1e-4, beta: float = 0.75, **kwargs: Any):
        super().__init__(**kwargs)
        if depth < 1 or depth % 2 != 1:
            raise ValueError(f"depth must be odd and positive; received {depth}.")
        if not bias > 0:
            raise ValueError(f"bias must be positive, so that inputs of zeros are not divided by zero; received {bias}.")
        if not (alpha >= 0 and beta >= 0):
            raise ValueError(f"alpha and beta must be at least zero; received {alpha} and {beta}.")
        self.depth, self.bias, self.alpha, self.beta = int(depth), float(bias), float(alpha), float(beta)

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the normalized inputs."""
        side, channels = self.depth // 2, inputs.shape[-1]
        squares = keras.ops.pad(keras.ops.square(inputs), [(0, 0)] * (len(inputs.shape) - 1) + [(side, side)])
        energy = sum(squares[..., shift : shift + channels] for shift in range(self.depth))
        return inputs / (self.bias + self.alpha * energy) ** self.beta

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration of the layer."""
        own = {"depth": self.depth, "bias": self.bias, "alpha": self.alpha, "beta": self.beta}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="intriguing")
class ContrastNormalization(keras.Layer):
    """Divides an image by a power of its energy: `x / (epsilon + sum(x**2)) ** exponent`, over all values of one image.

    The contrast normalization of the paper, for exponents from 0.5 to 1. With exponent 0.5, images of low and high contrast
    have nearly the same norm. Its Lipschitz constant is `epsilon ** -exponent` for all exponents from 0 to 1; it is attained at
    the image of zeros.

    Args:
        epsilon: Constant that is added to the energy; positive.
        exponent: A number from 0, for which the outputs are the inputs, to 1.

    Call arguments:
        inputs: Floats `[batch, ...]`.

    Returns:
        Floats of the same shape.

    Raises:
        ValueError: If an argument is out of its range.

    References:
        Szegedy et al., Intriguing properties of neural networks, 2014, section 4.3.
    """

    def __init__(self, epsilon: float, exponent: float, **kwargs: Any):
        super().__init__(**kwargs)
        if not epsilon > 0:
            raise ValueError(f"epsilon must be positive, so that an image of zeros is not divided by zero; received {epsilon}.")
        if not 0 <= exponent <= 1:
            raise ValueError(f"exponent must lie in [0, 1]; received {exponent}. The paper uses [0.5, 1].")
        self.epsilon, self.exponent = float(epsilon), float(exponent)

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the inputs, divided by one number for each image."""
        energy = keras.ops.sum(keras.ops.square(inputs), axis=list(range(1, len(inputs.shape))), keepdims=True)
        return inputs / (self.epsilon + energy) ** self.exponent

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration of the layer."""
        return {**super().get_config(), "epsilon": self.epsilon, "exponent": self.exponent}
