"""The networks of the paper by name, pretrained weights, and any classifier as a pure function."""

from intriguing.models.activations import activations_at, features_at
from intriguing.models.functional import Architecture, Classifier, split_weights
from intriguing.models.loading import load_application, load_model
from intriguing.models.networks.alexnet import ONE_WEIRD_TRICK_IN_TORCHVISION, alexnet, alexnet_one_weird_trick
from intriguing.models.networks.autoencoder import classifier_on_autoencoder, sparse_autoencoder
from intriguing.models.networks.convnet import convnet
from intriguing.models.networks.fully_connected import fully_connected
from intriguing.models.networks.squeezenet import SQUEEZENET_IN_TORCHVISION, squeezenet, squeezenet_torchvision
from intriguing.models.networks.zoo import build
from intriguing.models.normalizations import ContrastNormalization, LocalResponseNormalization
from intriguing.models.preprocessing import with_preprocessing
from intriguing.models.pretrained import load_arrays, load_state_dict, save_arrays

__all__ = [
    "ONE_WEIRD_TRICK_IN_TORCHVISION",
    "SQUEEZENET_IN_TORCHVISION",
    "Architecture",
    "Classifier",
    "ContrastNormalization",
    "LocalResponseNormalization",
    "activations_at",
    "alexnet",
    "alexnet_one_weird_trick",
    "build",
    "classifier_on_autoencoder",
    "convnet",
    "features_at",
    "fully_connected",
    "load_application",
    "load_arrays",
    "load_model",
    "load_state_dict",
    "save_arrays",
    "sparse_autoencoder",
    "split_weights",
    "squeezenet",
    "squeezenet_torchvision",
    "with_preprocessing",
]
