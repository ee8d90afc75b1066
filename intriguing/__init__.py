"""A laboratory for the intriguing properties of neural networks: nearest errors, transfer, and the networks to study.

References:
    Szegedy et al., Intriguing properties of neural networks, 2014. https://arxiv.org/abs/1312.6199
"""

from intriguing import accelerators, analysis, attack, data, distortion, models, pixels, reporting, training

__all__ = ["accelerators", "analysis", "attack", "data", "distortion", "models", "pixels", "reporting", "training"]
