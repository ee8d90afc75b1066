"""SpectralAnalyzer: the bounds of one network, and the certificates of the images that were attacked on it."""

from __future__ import annotations

from components.artifacts import DistortedImages, SpectralBounds, TrainedModel
from components.contract import Component
from components.spectral_analyzer.executor import SpectralAnalyzerExecutor


class SpectralAnalyzer(Component[SpectralBounds]):
    """Takes no parameters. The images, their targets and the pixel box are those of the attack."""

    INPUTS = {"model": TrainedModel, "distorted": DistortedImages}
    OUTPUTS = {"bounds": SpectralBounds}
    EXECUTOR = SpectralAnalyzerExecutor
