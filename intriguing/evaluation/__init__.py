"""Predictions of classifiers, error rates, and transfer between models."""

from intriguing.evaluation.predictions import predict
from intriguing.evaluation.transfer import ErrorRates, error_rate, transfer_rates

__all__ = [
    "ErrorRates",
    "error_rate",
    "predict",
    "transfer_rates",
]
