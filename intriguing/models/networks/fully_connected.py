"""The "FC" networks of the paper: sigmoid layers and a softmax; their names contain the widths."""

from __future__ import annotations

from collections.abc import Sequence

import keras


def fully_connected(
    widths: Sequence[int],
    *,
    weight_decay: Sequence[float],
    dropout: Sequence[float] = (),
    image_shape: Sequence[int] = (28, 28, 1),
    seed: int = 0,
    name: str | None = None,
) -> keras.Model:
    """Builds a network of sigmoid layers `hidden1`, `hidden2`, ... and a linear layer `logits`.

    Weight decay adds `lambda / 2 * sum(w**2)` over the kernel of each layer to the loss. The formula in the paper divides by
    the number of units instead. A softmax that is trained to convergence has the errors of Table 1 with lambda / 2, but not
    with that formula.

    Args:
        widths: Number of units of each layer; the last one is the number of classes.
        weight_decay: The lambda of the paper, one for each layer.
        dropout: Empty, or the dropout rate of the inputs of each layer: `dropout0` drops pixels, `dropout1` units of `hidden1`,
            and so on. For a rate of zero, there is no dropout layer.
        image_shape: Shape of one image; pixels are flattened first.
        seed: Seed of the initial weights and of dropout.
        name: The name of the model.

    Returns:
        A built Keras model from images `[batch, *image_shape]` to logits `[batch, widths[-1]]`.

    Raises:
        ValueError: If there is not one lambda, or not one dropout rate, for each layer.

    Example:
        >>> network = fully_connected((100, 100, 10), weight_decay=(1e-5, 1e-5, 1e-6))
        >>> [layer.name for layer in network.layers if layer.weights]
        ['hidden1', 'hidden2', 'logits']
    """
    if len(weight_decay) != len(widths):
        raise ValueError(
            f"weight_decay must have one lambda for each of the {len(widths)} layers; received {len(weight_decay)}."
        )
    dropout = dropout or [0.0] * len(widths)
    if len(dropout) != len(widths):
        raise ValueError(f"dropout must have one rate for each of the {len(widths)} layers; received {len(dropout)}.")
    layers = [keras.Input(tuple(image_shape), name="images"), keras.layers.Flatten(name="pixels")]
    for index, (width, decay, dropped) in enumerate(zip(widths, weight_decay, dropout, strict=True), start=1):
        last = index == len(widths)
        if dropped:
            layers.append(keras.layers.Dropout(dropped, seed=seed + 1000 + index, name=f"dropout{index - 1}"))
        layers.append(
            keras.layers.Dense(
                width,
                activation=None if last else "sigmoid",
                kernel_initializer=keras.initializers.GlorotUniform(seed=seed + index),
                kernel_regularizer=keras.regularizers.L2(decay / 2),
                name="logits" if last else f"hidden{index}",
            )
        )
    return keras.Sequential(layers, name=name)
