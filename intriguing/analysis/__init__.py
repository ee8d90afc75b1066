"""What networks answer, and how often images made for one fool another, with the uncertainty of the count."""

from intriguing.analysis.predictions import predict
from intriguing.analysis.proportions import Proportion
from intriguing.analysis.transfer import ErrorRates, error_rate, transfer_rates

__all__ = ["ErrorRates", "Proportion", "error_rate", "predict", "transfer_rates"]
