"""Training by minibatches or full-batch L-BFGS under every strategy, adversarial pools, and a penalty on operator norms."""

from intriguing.training.adversarial import AdversarialRecord, AdversarialTraining, Round, fit_adversarially
from intriguing.training.adversarial_pool import LayerPool
from intriguing.training.pooled_model import PooledModel, RenewPools
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
    "AdversarialRecord",
    "AdversarialTraining",
    "AutoencoderTraining",
    "FullBatchTraining",
    "LayerPool",
    "MinibatchTraining",
    "PooledModel",
    "RenewPools",
    "Round",
    "SpectralRegularizer",
    "TrainingRecord",
    "cross_entropy",
    "fit_adversarially",
    "fit_full_batch",
    "fit_minibatches",
    "fit_on_autoencoder",
    "norm_bound",
]
