"""Bounds a network layer by layer, and compares certified distortions with those of an attack."""
