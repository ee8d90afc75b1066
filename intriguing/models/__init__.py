"""The networks of the paper by name, layers that Keras lacks, and any classifier as a pure function of weights and images."""

from intriguing.models.activations import activations_at, features_at
from intriguing.models.autoencoder import classifier_on_autoencoder, sparse_autoencoder
from intriguing.models.convnet import convnet
from intriguing.models.fully_connected import fully_connected
from intriguing.models.logits import Architecture, Classifier, split_weights
from intriguing.models.normalizations import ContrastNormalization, LocalResponseNormalization
from intriguing.models.zoo import build

__all__ = [
    "Architecture",
    "Classifier",
    "ContrastNormalization",
    "LocalResponseNormalization",
    "activations_at",
    "build",
    "classifier_on_autoencoder",
    "convnet",
    "features_at",
    "fully_connected",
    "sparse_autoencoder",
    "split_weights",
]
