"""What networks answer, how often images made for one fool another, what their units respond to, and what is certain."""

from intriguing.analysis import (  # noqa: F401 - their rules register themselves
    linear_norms,
    normalization_norms,
    pooling_norms,
    scale_norms,
    wrapper_norms,
)
from intriguing.analysis.attributes import Attributes, attributes_from_table, attributes_of_classes, attributes_of_kinds
from intriguing.analysis.basis_test import BasisTest, compare_bases, false_discovery_rates
from intriguing.analysis.certificate_checks import check_certifiable
from intriguing.analysis.certificates import CertifiedDistortion, certified_distortion
from intriguing.analysis.coherence import Coherence, Measured, measure_coherence
from intriguing.analysis.directions import fractional_rotations, haar_bases, random_directions
from intriguing.analysis.feature_moments import FeatureMoments, feature_covariance, feature_moments
from intriguing.analysis.lipschitz import LayerBound, SpectralBound, check_bounded, lipschitz_bound, register_activation
from intriguing.analysis.operator_norms import OperatorNorm, operator_norm, register_norm
from intriguing.analysis.predictions import predict
from intriguing.analysis.proportions import Proportion, sign_test
from intriguing.analysis.repetitions import Estimate, student_quantile
from intriguing.analysis.transfer import ErrorRates, error_rate, transfer_rates
from intriguing.analysis.unit_analysis import MEASURES, SCALINGS, TopImages, UnitAnalysis, UnitSettings, analyze_units
from intriguing.analysis.units import DirectionRecord, Projections, record_directions

__all__ = [
    "MEASURES",
    "SCALINGS",
    "Attributes",
    "BasisTest",
    "CertifiedDistortion",
    "Coherence",
    "DirectionRecord",
    "ErrorRates",
    "Estimate",
    "FeatureMoments",
    "LayerBound",
    "Measured",
    "OperatorNorm",
    "Projections",
    "Proportion",
    "SpectralBound",
    "TopImages",
    "UnitAnalysis",
    "UnitSettings",
    "analyze_units",
    "attributes_from_table",
    "attributes_of_classes",
    "attributes_of_kinds",
    "certified_distortion",
    "check_bounded",
    "check_certifiable",
    "compare_bases",
    "error_rate",
    "false_discovery_rates",
    "feature_covariance",
    "feature_moments",
    "fractional_rotations",
    "haar_bases",
    "lipschitz_bound",
    "measure_coherence",
    "operator_norm",
    "predict",
    "random_directions",
    "record_directions",
    "register_activation",
    "register_norm",
    "sign_test",
    "student_quantile",
    "transfer_rates",
]
