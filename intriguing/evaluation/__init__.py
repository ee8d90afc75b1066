"""Predictions of classifiers, error rates, and transfer between models."""

from intriguing.evaluation.attacked_images import AttackedImages
from intriguing.evaluation.cross_evaluation import transfer_matrix
from intriguing.evaluation.matrix import TransferMatrix, TransferRow
from intriguing.evaluation.predictions import predict
from intriguing.evaluation.transfer import ErrorRates, error_rate, transfer_rates

__all__ = [
    "AttackedImages",
    "ErrorRates",
    "TransferMatrix",
    "TransferRow",
    "error_rate",
    "predict",
    "transfer_matrix",
    "transfer_rates",
]
