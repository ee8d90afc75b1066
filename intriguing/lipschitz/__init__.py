"""Operator norms of layers, Lipschitz bounds of networks, and certified distortions."""

from intriguing.lipschitz import (  # noqa: F401 - importing them registers their rules
    linear_norms,
    normalization_norms,
    pooling_norms,
    scale_norms,
    wrapper_norms,
)
from intriguing.lipschitz.certificate_checks import check_certifiable
from intriguing.lipschitz.certificates import CertifiedDistortion, certified_distortion
from intriguing.lipschitz.network_bound import LayerBound, SpectralBound, check_bounded, lipschitz_bound, register_activation
from intriguing.lipschitz.operator_norms import OperatorNorm, operator_norm, register_norm

__all__ = [
    "CertifiedDistortion",
    "LayerBound",
    "OperatorNorm",
    "SpectralBound",
    "certified_distortion",
    "check_bounded",
    "check_certifiable",
    "lipschitz_bound",
    "operator_norm",
    "register_activation",
    "register_norm",
]
