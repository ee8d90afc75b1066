"""Compares single units of the layers of a network with random directions."""
