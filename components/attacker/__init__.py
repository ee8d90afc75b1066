"""Finds the nearest images that a network misclassifies."""
