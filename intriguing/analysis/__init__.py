"""What networks answer, how often images made for one fool another, and what their units respond to."""

from intriguing.analysis.attributes import Attributes, attributes_from_table, attributes_of_classes
from intriguing.analysis.basis_test import BasisTest, compare_bases, false_discovery_rates
from intriguing.analysis.coherence import Coherence, Measured, measure_coherence
from intriguing.analysis.directions import fractional_rotations, haar_bases, random_directions
from intriguing.analysis.predictions import predict
from intriguing.analysis.proportions import Proportion
from intriguing.analysis.transfer import ErrorRates, error_rate, transfer_rates
from intriguing.analysis.unit_analysis import MEASURES, SCALINGS, TopImages, UnitAnalysis, UnitSettings, analyze_units
from intriguing.analysis.units import (
    DirectionRecord,
    FeatureMoments,
    Projections,
    feature_covariance,
    feature_moments,
    record_directions,
)

__all__ = [
    "MEASURES",
    "SCALINGS",
    "Attributes",
    "BasisTest",
    "Coherence",
    "DirectionRecord",
    "ErrorRates",
    "FeatureMoments",
    "Measured",
    "Projections",
    "Proportion",
    "TopImages",
    "UnitAnalysis",
    "UnitSettings",
    "analyze_units",
    "attributes_from_table",
    "attributes_of_classes",
    "compare_bases",
    "error_rate",
    "false_discovery_rates",
    "feature_covariance",
    "feature_moments",
    "fractional_rotations",
    "haar_bases",
    "measure_coherence",
    "predict",
    "random_directions",
    "record_directions",
    "transfer_rates",
]
