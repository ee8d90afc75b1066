"""Finds the nearest images that a network gets wrong."""
