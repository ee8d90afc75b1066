"""Training by minibatches or by full-batch L-BFGS, in one compiled loop for every strategy; a penalty on operator norms."""

from intriguing.training.sparse_autoencoder import AutoencoderTraining, fit_on_autoencoder
from intriguing.training.spectral_regularizer import SpectralRegularizer, norm_bound
from intriguing.training.supervised import (
    FullBatchTraining,
    MinibatchTraining,
    TrainingRecord,
    cross_entropy,
    fit_full_batch,
    fit_minibatches,
)

__all__ = [
    "AutoencoderTraining",
    "FullBatchTraining",
    "MinibatchTraining",
    "SpectralRegularizer",
    "TrainingRecord",
    "cross_entropy",
    "fit_full_batch",
    "fit_minibatches",
    "fit_on_autoencoder",
    "norm_bound",
]
