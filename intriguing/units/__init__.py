"""The selectivity of single units, compared with that of random directions of the same layer."""

from intriguing.units.attributes import Attributes, attributes_from_table, attributes_of_classes, attributes_of_kinds
from intriguing.units.basis_test import BasisTest, compare_bases
from intriguing.units.direction_records import DirectionRecord, Projections, record_directions
from intriguing.units.directions import fractional_rotations, haar_bases, random_directions
from intriguing.units.feature_moments import FeatureMoments, feature_covariance, feature_moments
from intriguing.units.selectivity import Measured, Selectivity, measure_selectivity
from intriguing.units.unit_analysis import MEASURES, SCALINGS, TopImages, UnitAnalysis, UnitSettings, analyze_units

__all__ = [
    "MEASURES",
    "SCALINGS",
    "Attributes",
    "BasisTest",
    "DirectionRecord",
    "FeatureMoments",
    "Measured",
    "Projections",
    "Selectivity",
    "TopImages",
    "UnitAnalysis",
    "UnitSettings",
    "analyze_units",
    "attributes_from_table",
    "attributes_of_classes",
    "attributes_of_kinds",
    "compare_bases",
    "feature_covariance",
    "feature_moments",
    "fractional_rotations",
    "haar_bases",
    "measure_selectivity",
    "random_directions",
    "record_directions",
]
