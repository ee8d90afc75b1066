"""Small random networks, images for them, and their predictions."""

from __future__ import annotations

from math import sqrt

import keras
import numpy as np

layers = keras.layers


def network(shape, *chain, seed=0, scale=2.0):
    """Returns a model with random weights of variance `scale**2` over the number of inputs, and balanced logits."""
    model = keras.Sequential([keras.Input(shape), *chain])
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        sizes = [scale / sqrt(np.prod(w.shape[:-1])) if len(w.shape) > 1 else 0.3 for w in layer.weights]
        layer.set_weights([rng.normal(size=w.shape, scale=size) for w, size in zip(layer.weights, sizes, strict=True)])
    last = next(layer for layer in reversed(model.layers) if isinstance(layer, layers.Dense))
    if last.activation is keras.activations.linear:
        last.bias.assign_sub(np.mean(model(images_for(model, 50, seed=9)), axis=0))
    return model


def images_for(model, number=4, seed=0):
    return np.random.default_rng(seed).uniform(size=(number, *model.inputs[0].shape[1:])).astype(np.float32)


def predictions(model, images):
    return np.argmax(model(images), axis=1).astype(np.int32)


def lengths(model, distortions):
    """Converts root-mean-square distortions to L2 norms."""
    return np.asarray(distortions, np.float64) * sqrt(np.prod(model.inputs[0].shape[1:]))


def chain_of(activation, depth):
    chosen = [layers.LeakyReLU(0.2) if activation == "leaky layer" else layers.Activation(activation) for _ in range(depth)]
    return [layer for activate in chosen for layer in (layers.Dense(12), activate)] + [layers.Dense(4)]
