"""Counts how often changed images fool networks."""
